"""Tokens -> hashes of the n-grams of each text: of its words, and of the characters in them.

N-grams of characters are made once for each distinct word, not for each token: in real tweets one
token in ten is a new word.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import UNSPACED, hash_strings
from sentiflow.models.tokenizer import Tokens

_KEY = "sentiflow-ngrams"
_MAX_WORDS, _MAX_CHARACTERS = 3, 5
_BORDER = ord("\n")
"""Stands before and after each word; no word has one."""
_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


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

        In a script without spaces a token is a character: there n-grams have up to 5 of them.

        Example:
            >>> tokens = Tokens.from_lists(pa.array([["so", "good"], ["so"]]))
            >>> ngrams = Ngrams.of(tokens)
            >>> len(ngrams.of_words), ngrams.word_offsets.tolist(), ngrams.text_offsets.tolist()
            (22, [0, 7, 22], [0, 1, 1])
        """
        words = np.asarray(hash_strings(tokens.words, key=_KEY))
        is_letter = pc.match_substring_regex(tokens.words, f"^[{UNSPACED}]")
        of_texts, text_offsets = _join_words(
            words[tokens.ids], np.asarray(is_letter)[tokens.ids], tokens.offsets
        )
        return cls(tokens, *_split_words(tokens.words, words), of_texts, text_offsets)


def _split_words(words: pa.Array, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the n-grams within each word; the hash of the word itself is the first of them."""
    text = "\n".join(["", *words.to_pylist(), ""])
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    is_border = codes == _BORDER
    # column n - 1 has the n-grams of n characters by where they begin; the first has the words
    table = np.zeros((len(codes), _MAX_CHARACTERS), np.uint64)
    exists = np.zeros(table.shape, bool)
    starts = np.flatnonzero(is_border)[:-1]
    table[starts, 0], exists[starts, 0] = hashes, True
    hashed, is_within = _mix(codes), np.ones(len(codes), bool)
    for n in range(2, _MAX_CHARACTERS + 1):
        hashed = _mix(hashed[:-1] + codes[n - 1 :] * _FACTOR)
        is_within = is_within[:-1] & (n == 2 or ~is_border[n - 2 : -1])
        table[: len(hashed), n - 1], exists[: len(hashed), n - 1] = hashed, is_within
    ends = np.cumsum(exists.sum(axis=1))
    return table[exists].view(np.int64), np.append(0, ends)[[*starts, len(codes) - 1]]


def _join_words(
    words: np.ndarray, is_letter: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make the n-grams of two words and more, of N texts.

    Args:
        words: Hash of each token.
        is_letter: Whether it is a letter of a script without spaces.
        offsets: N + 1 positions of the texts' first tokens.
    """
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    hashed, are_letters = words, is_letter
    hashes, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for n in range(2, _MAX_CHARACTERS + 1):
        last = rows[n - 1 :]
        hashed = _mix(hashed[:-1] + words[n - 1 :] * _FACTOR)
        are_letters = are_letters[:-1] & is_letter[n - 1 :]
        exists = (rows[: len(last)] == last) & (are_letters | (n <= _MAX_WORDS))
        hashes.append(hashed[exists])
        places.append(last[exists])
    by_row = np.concatenate(places)
    order = np.argsort(by_row, kind="stable")
    counts = np.bincount(by_row, minlength=len(offsets) - 1)
    return np.concatenate(hashes)[order].view(np.int64), np.append(0, np.cumsum(counts))


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Hash 64-bit numbers to others."""
    numbers = (numbers ^ (numbers >> _SHIFT)) * _FACTOR
    return numbers ^ (numbers >> _SHIFT)


def count(ngrams: Ngrams) -> tuple[np.ndarray, np.ndarray]:
    """Count how often each n-gram occurs in all texts.

    Returns:
        A hashes that ascend, int64, and their counts, int64.
    """
    of_words = np.bincount(ngrams.tokens.ids, minlength=len(ngrams.tokens.words))
    counts = np.repeat(of_words, np.diff(ngrams.word_offsets))
    ones = np.ones(len(ngrams.of_texts), np.int64)
    return add_counts(np.append(ngrams.of_words, ngrams.of_texts), np.append(counts, ones))


def add_counts(hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the counts of equal hashes."""
    distinct, places = np.unique(hashes, return_inverse=True)
    return distinct, np.bincount(places, counts, len(distinct)).astype(np.int64)
