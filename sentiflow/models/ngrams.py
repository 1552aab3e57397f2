"""Tokens -> hashes of the n-grams of each text: n-grams of words, and of characters in a word.

N-grams of characters are made once for each distinct word, not for each token: real tweets have ten
tokens for each distinct word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, hash_strings
from sentiflow.models.tokens import Tokens

_KEY = "sentiflow-ngrams"
"""Key of the hashes of words; models depend on it."""
_MAX_WORDS = 3
"""Words of the longest n-gram, in scripts with spaces."""
_MAX_CHARACTERS = 5
"""Characters of the longest n-gram within a word."""
_BORDER = ord("\n")
"""Stands before and after each word; no word contains it."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd number that mixes bits in products: 2**64 divided by the golden ratio."""
_SHIFT = np.uint64(32)
"""Moves the high half of a number to the low half."""


class Runs(NamedTuple):
    """All n-grams of one number of words, in N texts."""

    size: int
    """Number of words of each."""
    starts: np.ndarray
    """The position of the first word of each among all tokens, in rising order."""
    hashes: np.ndarray
    """int64."""


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of N texts with W distinct words, as hashes."""

    tokens: Tokens
    """The words of each text."""
    of_words: np.ndarray
    """int64: each word itself and its n-grams of characters, word by word."""
    word_offsets: np.ndarray
    """W + 1 positions of the words' first n-grams in ``of_words``."""
    of_texts: np.ndarray
    """int64: the n-grams of two words and more, text by text."""
    text_offsets: np.ndarray
    """N + 1 positions of the texts' first n-grams in ``of_texts``."""

    @classmethod
    def of(cls, tokens: Tokens) -> "Ngrams":
        """Make the n-grams of 1 to 3 words, and of 2 to 5 characters of a word and its borders.

        In a script without spaces a token is a character, so n-grams have up to 5 tokens.

        Example:
            The word "so" has 7: itself, and 3 of 2, 2 of 3 and 1 of 4 characters of "|so|".

            >>> tokens = Tokens.from_lists(pa.array([["so", "good"], ["so"]]))
            >>> ngrams = Ngrams.of(tokens)
            >>> len(ngrams.of_words), ngrams.word_offsets.tolist(), ngrams.text_offsets.tolist()
            (22, [0, 7, 22], [0, 1, 1])
        """
        words = np.asarray(hash_strings(tokens.words, key=_KEY))
        of_words, word_offsets = _split_words(tokens.words, words)
        of_texts, text_offsets = _join_words(words[tokens.ids], are_letters(tokens), tokens.offsets)
        return cls(
            tokens=tokens,
            of_words=of_words,
            word_offsets=word_offsets,
            of_texts=of_texts,
            text_offsets=text_offsets,
        )

    def list_runs(self) -> Iterator[Runs]:
        """List the n-grams of two words and more by their size, with their positions."""
        hashes = self.of_words[self.word_offsets[:-1]].view(np.uint64)  # of the words themselves
        tokens = self.tokens
        return _list_runs(hashes[tokens.ids], are_letters(tokens), tokens.offsets)


def are_letters(tokens: Tokens) -> np.ndarray:
    """Say which tokens are letters of a script without spaces, bool."""
    is_letter = pc.match_substring_regex(tokens.words, f"^[{UNSPACED}]")
    return np.asarray(is_letter)[tokens.ids]


def _split_words(words: pa.Array, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the n-grams within each of W words; the hash of the word itself is the first of them.

    Returns:
        The n-grams word by word, int64; and W + 1 positions of the words' first n-grams.
    """
    text = "\n".join(["", *words.to_pylist(), ""])
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    is_border = codes == _BORDER
    borders = np.flatnonzero(is_border)
    starts = borders[:-1]
    # Row i has the n-grams that begin at character i, the one of n characters in column n - 1. The
    # first column has the hash of a word, in the row of the border before it.
    table = np.zeros((len(codes), _MAX_CHARACTERS), np.uint64)
    exists = np.zeros(table.shape, bool)
    table[starts, 0] = hashes
    exists[starts, 0] = True
    hashed = _mix(codes)
    is_within = np.ones(len(codes), bool)
    for n in range(2, _MAX_CHARACTERS + 1):
        hashed = _mix(hashed[:-1] + codes[n - 1 :] * _FACTOR)
        is_within = is_within[:-1]
        if n > 2:  # only the first or the last character of an n-gram may be a border
            is_within = is_within & ~is_border[n - 2 : -1]
        table[: len(hashed), n - 1] = hashed
        exists[: len(hashed), n - 1] = is_within
    num_before = np.append(0, np.cumsum(exists.sum(axis=1)))  # n-grams before each character
    return table[exists].view(np.int64), num_before[borders]


def _join_words(
    words: np.ndarray, is_letter: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make the n-grams of two words and more, of N texts; arguments as in :func:`_list_runs`.

    Returns:
        The n-grams text by text, int64; and N + 1 positions of the texts' first n-grams.
    """
    num_texts = len(offsets) - 1
    rows = np.repeat(np.arange(num_texts), np.diff(offsets))
    hashes = [np.zeros(0, np.int64)]
    texts = [np.zeros(0, np.int64)]
    for runs in _list_runs(words, is_letter, offsets):
        hashes.append(runs.hashes)
        texts.append(rows[runs.starts])
    text_of_ngram = np.concatenate(texts)
    by_text = np.argsort(text_of_ngram, kind="stable")
    counts = np.bincount(text_of_ngram, minlength=num_texts)
    return np.concatenate(hashes)[by_text], np.append(0, np.cumsum(counts))


def _list_runs(words: np.ndarray, is_letter: np.ndarray, offsets: np.ndarray) -> Iterator[Runs]:
    """List the n-grams of two words and more of N texts, by their size.

    Args:
        words: Hash of each token, uint64.
        is_letter: Whether each token is a letter of a script without spaces.
        offsets: N + 1 positions of the texts' first tokens.
    """
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    hashed = words
    are_letters = is_letter  # all tokens of the n-gram
    for n in range(2, _MAX_CHARACTERS + 1):
        hashed = _mix(hashed[:-1] + words[n - 1 :] * _FACTOR)
        are_letters = are_letters[:-1] & is_letter[n - 1 :]
        row_of_last = rows[n - 1 :]
        is_in_one_text = rows[: len(row_of_last)] == row_of_last
        exists = is_in_one_text & (are_letters | (n <= _MAX_WORDS))
        yield Runs(n, np.flatnonzero(exists), hashed[exists].view(np.int64))


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Hash unsigned 64-bit numbers."""
    numbers = (numbers ^ (numbers >> _SHIFT)) * _FACTOR
    return numbers ^ (numbers >> _SHIFT)


def count(ngrams: Ngrams) -> tuple[np.ndarray, np.ndarray]:
    """Count how often each n-gram occurs in all texts.

    Returns:
        The hashes of A n-grams in ascending order, int64; and their counts, int64.
    """
    word_counts = np.bincount(ngrams.tokens.ids, minlength=len(ngrams.tokens.words))
    counts_within = np.repeat(word_counts, np.diff(ngrams.word_offsets))
    ones = np.ones(len(ngrams.of_texts), np.int64)
    hashes = np.append(ngrams.of_words, ngrams.of_texts)
    return add_counts(hashes, np.append(counts_within, ones))


def add_counts(hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the counts of equal hashes."""
    distinct, places = np.unique(hashes, return_inverse=True)
    return distinct, np.bincount(places, counts, len(distinct)).astype(np.int64)
