"""Tokens of texts, as columns: positions in a list of distinct words."""

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
