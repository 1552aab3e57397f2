"""Tokens of texts -> the words that a reader sees; letters of scripts without spaces are joined."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, find_sorted
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams, are_letters
from sentiflow.models.tokens import Tokens


@dataclass(frozen=True)
class Pieces:
    """The P words of N texts, as a reader sees them: tokens, or neighboring letters together."""

    words: pa.Array
    """P strings, text by text."""
    of_tokens: np.ndarray
    """The number of the word that each token belongs to, int64."""
    offsets: np.ndarray
    """N + 1 numbers of the texts' first words."""

    @property
    def texts(self) -> np.ndarray:
        """The number of the text of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def join(tokens: Tokens, model: LinearModel | None) -> Pieces:
    """Join the letters of scripts without spaces to pieces of at most five; other tokens stay.

    The pieces of a text are n-grams that the linear model knows. Of all ways to cut a text into
    such n-grams, the chosen one has the lowest sum of their idf values, which is the most probable
    one if n-grams follow each other independently, as in the unigram model of Kudo, "Subword
    regularization" (ACL 2018). Without a linear model every letter is a piece.

    Example:
        >>> tokens = Tokens.from_lists(pa.array([["so", "good"], ["so"]]))
        >>> join(tokens, None).offsets.tolist()
        [0, 2, 3]
    """
    is_first = np.ones(len(tokens.ids), bool)
    is_letter = are_letters(tokens)
    if model is not None and is_letter.any():
        is_first = _find_first_letters(Ngrams.of(tokens), model, is_letter)
    starts = np.flatnonzero(is_first)
    ends = np.append(starts, len(tokens.ids))
    listed = tokens.words.take(pa.array(tokens.ids))
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), listed)
    return Pieces(
        words=pc.binary_join(lists, ""),
        of_tokens=np.cumsum(is_first) - 1,
        offsets=np.append(0, np.cumsum(is_first))[tokens.offsets],
    )


def _find_first_letters(ngrams: Ngrams, model: LinearModel, is_letter: np.ndarray) -> np.ndarray:
    """Say which tokens begin a piece, bool: the cheapest pieces by idf, see :func:`join`."""
    idf = np.sqrt(np.asarray(model.squares))
    known = np.asarray(model.hashes)
    num_tokens = len(is_letter)
    single = ngrams.of_words[ngrams.word_offsets[:-1]][ngrams.tokens.ids]
    costs = [_find_costs(single, known, idf, unknown=idf.max(initial=1.0) + 1).tolist()]
    for runs in ngrams.list_runs():
        of_starts = np.full(num_tokens, np.inf)
        found = _find_costs(runs.hashes, known, idf, unknown=np.inf)
        num_letters = np.append(0, np.cumsum(is_letter))
        are_all = num_letters[runs.starts + runs.size] - num_letters[runs.starts] == runs.size
        of_starts[runs.starts[are_all]] = found[are_all]
        costs.append(of_starts.tolist())
    cheapest = [0.0]  # cost of the best pieces of all tokens before each position
    sizes = []  # of the last one of these pieces
    for end in range(1, num_tokens + 1):
        totals = []
        for size in range(1, min(len(costs), end) + 1):
            start = end - size
            totals.append(cheapest[start] + costs[size - 1][start])
        least = min(totals)
        cheapest.append(least)
        sizes.append(totals.index(least) + 1)
    is_first = np.zeros(num_tokens, bool)
    end = num_tokens
    while end:
        end -= sizes[end - 1]
        is_first[end] = True
    return is_first


def _find_costs(
    hashes: np.ndarray, known: np.ndarray, idf: np.ndarray, *, unknown: float
) -> np.ndarray:
    """Look up the idf of each n-gram; an unknown one costs ``unknown``."""
    is_known, places = find_sorted(known, hashes)
    costs = np.full(len(hashes), unknown)
    costs[is_known] = idf[places[is_known]]
    return costs


def are_separate(words: pa.Array) -> np.ndarray:
    """Say before which words a reader expects a blank, bool: not beside a letter without spaces.

    Example:
        >>> are_separate(pa.array(["so", "good", "映画", "。"])).tolist()
        [False, True, False, False]
    """
    begins = np.asarray(pc.match_substring_regex(words, f"^[{UNSPACED}]"), bool)
    separate = ~begins
    separate[1:] &= ~begins[:-1]
    separate[:1] = False
    return separate
