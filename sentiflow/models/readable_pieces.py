"""Tokens of texts -> the words that a reader sees; letters of scripts without spaces are joined."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import find_sorted
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams, are_letters
from sentiflow.models.tokens import Tokens


@dataclass(frozen=True)
class Pieces:
    """The P words of N texts, as a reader sees them: tokens, or neighboring letters together."""

    words: pa.Array
    """P strings, text by text."""
    after_blank: np.ndarray
    """P bool: whether white space stands before the word in its text."""
    of_tokens: np.ndarray
    """The number of the word that each token belongs to, int64."""
    offsets: np.ndarray
    """N + 1 numbers of the texts' first words."""

    @property
    def texts(self) -> np.ndarray:
        """The number of the text of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def join(tokens: Tokens, model: LinearModel | None, *, after_blank: np.ndarray) -> Pieces:
    """Join the letters of scripts without spaces to pieces of at most five; other tokens stay.

    The pieces of a text are n-grams that the linear model knows. Of all ways to cut a text into
    such n-grams, the chosen one has the lowest sum of their idf values, which is the most probable
    one if n-grams follow each other independently, as in the unigram model of Kudo, "Subword
    regularization" (ACL 2018). Without a linear model every letter is a piece. No piece goes across
    white space.

    Args:
        tokens: The tokens of N texts.
        model: A linear model that knows n-grams of these texts.
        after_blank: Before which tokens white space stands, bool.

    Example:
        >>> tokens = Tokens.from_lists(pa.array([["so", "good"], ["so"]]))
        >>> join(tokens, None, after_blank=np.array([False, True, False])).offsets.tolist()
        [0, 2, 3]
    """
    is_first = np.ones(len(tokens.ids), bool)
    is_letter = are_letters(tokens)
    if model is not None and is_letter.any():
        is_first = _find_first_letters(Ngrams.of(tokens), model, is_letter, after_blank)
    starts = np.flatnonzero(is_first)
    ends = np.append(starts, len(tokens.ids))
    listed = tokens.words.take(pa.array(tokens.ids))
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), listed)
    return Pieces(
        words=pc.binary_join(lists, ""),
        after_blank=after_blank[starts],
        of_tokens=np.cumsum(is_first) - 1,
        offsets=np.append(0, np.cumsum(is_first))[tokens.offsets],
    )


def _find_first_letters(
    ngrams: Ngrams, model: LinearModel, is_letter: np.ndarray, after_blank: np.ndarray
) -> np.ndarray:
    """Say which tokens begin a piece, bool: the cheapest pieces by idf, see :func:`join`."""
    idf = np.sqrt(np.asarray(model.squares))
    known = np.asarray(model.hashes)
    num_tokens = len(is_letter)
    single = ngrams.of_words[ngrams.word_offsets[:-1]][ngrams.tokens.ids]
    costs = [_find_costs(single, known, idf, unknown=idf.max(initial=1.0) + 1).tolist()]
    num_letters = np.append(0, np.cumsum(is_letter))
    num_blanks = np.append(0, np.cumsum(after_blank))
    for runs in ngrams.list_runs():
        of_starts = np.full(num_tokens, np.inf)
        found = _find_costs(runs.hashes, known, idf, unknown=np.inf)
        ends = runs.starts + runs.size
        is_of_letters = num_letters[ends] - num_letters[runs.starts] == runs.size
        is_piece = is_of_letters & (num_blanks[ends] == num_blanks[runs.starts + 1])
        of_starts[runs.starts[is_piece]] = found[is_piece]
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
