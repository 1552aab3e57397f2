"""Tokens of texts -> the words that a reader sees; letters of scripts without spaces are joined."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import find_sorted
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams, are_letters
from sentiflow.models.tokens import Tokens

_NEVER_FIRST = "ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々ゝゞヽヾะาๅๆະາໆ"
"""Letters that belong to the letter before them: the sign of a long vowel, small kana and signs of
repetition (Unicode Annex 14, classes CJ and NS); vowels of Thai and Lao after their consonant."""
_NEVER_LAST = "เแโใไເແໂໃໄ"
"""Vowels of Thai and Lao that are written before their consonant (the Unicode Standard, 16.1)."""
_PREFIXES = "おご"
"""Hiragana that stand before a word out of politeness."""
_PENALTY = 1e6
"""Cost of several letters that begin within a syllable: more than all pieces of a long text. One
letter costs no more, as it is joined to the piece before it."""


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
    white space or from hiragana to kanji, nor begins or ends within a syllable: where the model
    knows no such n-grams, pieces are joined, and may have more letters.

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
    is_letter = are_letters(tokens) | _begin_with(tokens, _NEVER_FIRST)
    begins = after_blank | _find_ends_of_hiragana(tokens)
    is_within = _find_within_syllable(tokens, is_letter) & ~begins
    if model is not None and is_letter.any():
        is_first = _find_first_letters(Ngrams.of(tokens), model, is_letter, begins, is_within)
    is_first &= ~is_within
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


def _begin_with(tokens: Tokens, letters: str) -> np.ndarray:
    """Say which tokens begin with one of some letters, bool."""
    return np.asarray(pc.match_substring_regex(tokens.words, f"^[{letters}]"), bool)[tokens.ids]


def _find_ends_of_hiragana(tokens: Tokens) -> np.ndarray:
    """Say which tokens are kanji or katakana after hiragana, bool: a word of Japanese begins there.

    Only the prefixes of politeness are hiragana before kanji in one word.
    """
    is_hiragana = _begin_with(tokens, r"\p{Hiragana}") & ~_begin_with(tokens, _PREFIXES)
    return np.append(False, is_hiragana)[:-1] & _begin_with(tokens, r"\p{Han}\p{Katakana}")


def _find_within_syllable(tokens: Tokens, is_letter: np.ndarray) -> np.ndarray:
    """Say which letters belong to the syllable of the letter before them, bool."""
    follows = np.append(False, is_letter)[:-1]  # a letter
    follows[tokens.offsets[:-1][np.diff(tokens.offsets) > 0]] = False  # the first of a text
    after_vowel = np.append(False, _begin_with(tokens, _NEVER_LAST))[:-1]
    return follows & is_letter & (after_vowel | _begin_with(tokens, _NEVER_FIRST))


def _find_first_letters(
    ngrams: Ngrams,
    model: LinearModel,
    is_letter: np.ndarray,
    begins: np.ndarray,
    is_within: np.ndarray,
) -> np.ndarray:
    """Say which tokens begin a piece, bool: the cheapest pieces by idf, see :func:`join`.

    Args:
        ngrams: The n-grams of P tokens.
        model: The linear model.
        is_letter: Which tokens may be joined.
        begins: Which tokens begin a piece in any case.
        is_within: Which tokens should begin none.
    """
    costs = _list_costs(ngrams, model, is_letter, begins, np.where(is_within, _PENALTY, 0.0))
    sizes = _cut_cheapest(costs, len(is_letter))
    is_first = np.zeros(len(is_letter), bool)
    end = len(is_letter)
    while end:
        end -= sizes[end - 1]
        is_first[end] = True
    return is_first


def _list_costs(
    ngrams: Ngrams,
    model: LinearModel,
    is_letter: np.ndarray,
    begins: np.ndarray,
    penalties: np.ndarray,
) -> list[list[float]]:
    """List the cost of each possible piece: of one token, of two, and so on, by its first token.

    Args:
        ngrams: As for :func:`_find_first_letters`, and also the next three.
        model: The linear model.
        is_letter: Which tokens may be joined.
        begins: Which tokens begin a piece in any case.
        penalties: What it costs to begin a piece of several tokens at each token.
    """
    idf = np.sqrt(np.asarray(model.squares))
    known = np.asarray(model.hashes)
    single = ngrams.of_words[ngrams.word_offsets[:-1]][ngrams.tokens.ids]
    costs = [_find_costs(single, known, idf, unknown=idf.max(initial=1.0) + 1).tolist()]
    num_letters = np.append(0, np.cumsum(is_letter))
    num_begun = np.append(0, np.cumsum(begins))
    for runs in ngrams.list_runs():
        of_starts = np.full(len(is_letter), np.inf)
        found = _find_costs(runs.hashes, known, idf, unknown=np.inf)
        ends = runs.starts + runs.size
        is_of_letters = num_letters[ends] - num_letters[runs.starts] == runs.size
        is_piece = is_of_letters & (num_begun[ends] == num_begun[runs.starts + 1])
        of_starts[runs.starts[is_piece]] = found[is_piece]
        costs.append((of_starts + penalties).tolist())
    return costs


def _cut_cheapest(costs: list[list[float]], num_tokens: int) -> list[int]:
    """Find the cheapest cut of all tokens up to each one: how many tokens its last piece has."""
    cheapest = [0.0]  # cost of the best pieces of all tokens before each position
    sizes = []
    for end in range(1, num_tokens + 1):
        totals = []
        for size in range(1, min(len(costs), end) + 1):
            start = end - size
            totals.append(cheapest[start] + costs[size - 1][start])
        least = min(totals)
        cheapest.append(least)
        sizes.append(totals.index(least) + 1)
    return sizes


def _find_costs(
    hashes: np.ndarray, known: np.ndarray, idf: np.ndarray, *, unknown: float
) -> np.ndarray:
    """Look up the idf of each n-gram; an unknown one costs ``unknown``."""
    is_known, places = find_sorted(known, hashes)
    costs = np.full(len(hashes), unknown)
    costs[is_known] = idf[places[is_known]]
    return costs
