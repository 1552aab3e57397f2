"""Tokens of texts, as columns: positions in a list of distinct words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


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

    def cut(self, max_length: int) -> "Tokens":
        """Keep the first ``max_length`` tokens of each tweet."""
        lengths = np.diff(self.offsets)
        starts = np.repeat(self.offsets[:-1], lengths)
        place = np.arange(len(self.ids)) - starts
        offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
        return Tokens(self.words, self.ids[place < max_length], offsets)

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
