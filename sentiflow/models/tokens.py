"""Tokens of texts, as columns: positions in a list of distinct words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.config.text_units import END, MIDDLE, Cut


@dataclass(frozen=True)
class Tokens:
    """Tokens of N tweets, as positions in a list of their distinct words.

    Every token is hashed once. Counting and encoding words are then look-ups in small arrays.
    """

    words: pa.Array
    """W distinct strings."""
    ids: np.ndarray
    """The position in ``words`` of each token, int32."""
    offsets: np.ndarray
    """N + 1 positions of the tweets' first tokens in ``ids``."""

    @classmethod
    def from_lists(cls, tokens: pa.ListArray) -> "Tokens":
        """Read a column of lists of words; null is an empty list."""
        coded = tokens.flatten().dictionary_encode()
        offsets = tokens.offsets.to_numpy().astype(np.int64)
        return cls(coded.dictionary, coded.indices.to_numpy(), offsets - offsets[0])

    def count(self, rows: np.ndarray) -> np.ndarray:
        """Count each word in the tweets for which ``rows``, N bool, is true: W int64."""
        chosen = np.repeat(rows, np.diff(self.offsets))
        return np.bincount(self.ids[chosen], minlength=len(self.words))

    def cut(self, max_length: int, cut: Cut = END) -> "Tokens":
        """Keep at most ``max_length`` tokens of each tweet, see :func:`find_kept`."""
        kept = find_kept(self.offsets, max_length=max_length, cut=cut)
        lengths = np.diff(self.offsets)
        offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
        return Tokens(self.words, self.ids[kept], offsets)

    def take(self, rows: np.ndarray) -> "Tokens":
        """Return the tokens of some tweets, given by positions, without the words of others."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.append(0, np.cumsum(lengths))
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        ids = self.ids[places]
        is_used = np.zeros(len(self.words), bool)
        is_used[ids] = True
        number = np.cumsum(is_used, dtype=np.int32) - 1
        return Tokens(self.words.filter(pa.array(is_used)), number[ids], offsets)

    @classmethod
    def join(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Join the tweets of several parts, at least one; each word is listed once."""
        coded = pa.concat_arrays([part.words for part in parts]).dictionary_encode()
        number = coded.indices.to_numpy()
        ids = []
        lengths = []
        num_words = 0
        for part in parts:
            ids.append(number[num_words : num_words + len(part.words)][part.ids])
            lengths.append(np.diff(part.offsets))
            num_words += len(part.words)
        offsets = np.append(0, np.cumsum(np.concatenate(lengths)))
        return cls(coded.dictionary, np.concatenate(ids), offsets)

    def to_lists(self) -> pa.ListArray:
        """Return a column of lists of words, dictionary-encoded."""
        words = pa.DictionaryArray.from_arrays(pa.array(self.ids, pa.int32()), self.words)
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), words)

    def replace_words(self, parts: "Tokens") -> "Tokens":
        """Replace each token by several: a token with id w by the tokens in row w of ``parts``."""
        lists = pa.ListArray.from_arrays(pa.array(parts.offsets, pa.int32()), pa.array(parts.ids))
        taken = lists.take(pa.array(self.ids))
        offsets = taken.offsets.to_numpy()[self.offsets].astype(np.int64)
        return Tokens(parts.words, taken.flatten().to_numpy(), offsets)


def find_kept(offsets: np.ndarray, *, max_length: int, cut: Cut) -> np.ndarray:
    """Mark the tokens that are left when tweets are cut to ``max_length`` tokens, bool.

    Args:
        offsets: As in :class:`Tokens`, from 0.
        max_length: Maximum number of tokens of a tweet.
        cut: ``END``: the first tokens are kept. ``MIDDLE``: the first and the last half are; the
            first half has one more if the number is odd.
    """
    num_last = max_length // 2 if cut == MIDDLE else 0
    num_first = max_length - num_last
    lengths = np.diff(offsets)
    place = np.arange(offsets[-1])
    number_from_start = place - np.repeat(offsets[:-1], lengths)
    number_from_end = np.repeat(offsets[1:], lengths) - place
    return (number_from_start < num_first) | (number_from_end <= num_last)
