"""N-grams of texts -> logits of a linear model, which is trained apart from the network.

This module does not import torch.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from sentiflow.data.arrays import find_sorted, sum_rows
from sentiflow.models import weight_shapes
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokens import Tokens

PREFIX = "linear."
"""Prefix of the names of a linear model's tensors in a package."""
_HASHES = f"{PREFIX}hashes"
_MANY = 1 << 12
"""Hashes for which it is worth to make an index of the known ones."""
_MAX_IN_BUCKET = 64
"""Known hashes of a bucket above which they are not evenly distributed, so an index is slow."""


@dataclass(frozen=True)
class LinearModel:
    """Weights of A n-grams for C classes.

    The logits of a text are the sum of the weights of its n-grams, divided by the norm of their idf
    values, plus a bias: logistic regression on normalized TF-IDF. An n-gram that occurs more than
    once in a text counts as several n-grams, also in the norm. So sums over words are enough.
    """

    hashes: np.ndarray
    """``(A,)`` int64, ascending: see :class:`models.ngrams.Ngrams`."""
    weights: np.ndarray
    """``(A, C)`` float32: the learned weights, each multiplied by the idf of its n-gram."""
    squares: np.ndarray
    """``(A,)`` float32: the square of the idf of each n-gram."""
    bias: np.ndarray
    """``(C,)`` float32."""

    def logits(self, tokens: Tokens) -> np.ndarray:
        """Compute the logits of N texts, ``(N, C)`` float32."""
        logits, _ = self.answer(tokens)
        return logits

    def answer(self, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """Compute the logits of N texts.

        Returns:
            The logits, ``(N, C)`` float32; and whether the model knows an n-gram of each text, N
            bool. Without one the logits are the bias.
        """
        ngrams = Ngrams.of(tokens)
        of_words = self._sum(ngrams.of_words, ngrams.word_offsets)
        of_texts = self._sum(ngrams.of_texts, ngrams.text_offsets)
        sums = sum_rows(of_words, tokens.ids, tokens.offsets) + of_texts
        squares = sums[:, -1:]
        # Without a known n-gram, the sums and the squares are 0: the quotient is 0, not NaN.
        norm = np.sqrt(squares.clip(min=np.finfo(np.float32).tiny))
        return sums[:, :-1] / norm + self.bias, sums[:, -1] > 0

    def _sum(self, hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Sum the weights and squares of the known n-grams of each word or text."""
        is_known, places = self._find(hashes)
        known_offsets = np.append(0, np.cumsum(is_known))[offsets]
        return sum_rows(self._table, places[is_known], known_offsets)

    def _find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find n-grams among the known ones, as :func:`find_sorted` does."""
        if len(hashes) >= _MANY and self._index is not None:
            return self._index.find(self.hashes, hashes)
        return find_sorted(self.hashes, hashes)

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """``(A, C + 1)``: the weights and the squares."""
        return np.column_stack([self.weights, self.squares])

    @functools.cached_property
    def _index(self) -> "_HashIndex | None":
        """An index of the known hashes; None if they are not evenly distributed."""
        index = _HashIndex.of(self.hashes)
        if np.diff(index.starts).max(initial=0) > _MAX_IN_BUCKET:
            return None
        return index

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], *, num_classes: int) -> "LinearModel":
        """Make a model from its tensors, as :meth:`tensors` names them.

        Raises:
            ValueError: The tensors do not fit together, or have other names; the message names the
                first one.
        """
        num_ngrams = 0
        if _HASHES in tensors and tensors[_HASHES].ndim:
            num_ngrams = len(tensors[_HASHES])
        shapes = {
            _HASHES: (num_ngrams,),
            f"{PREFIX}weights": (num_ngrams, num_classes),
            f"{PREFIX}squares": (num_ngrams,),
            f"{PREFIX}bias": (num_classes,),
        }
        weight_shapes.check(tensors, shapes)
        for name, tensor in tensors.items():
            expected = np.int64 if name == _HASHES else np.float32
            if tensor.dtype != expected:
                raise ValueError(f"{name} is not {np.dtype(expected)}")
        hashes = tensors[_HASHES]
        if not bool((hashes[1:] > hashes[:-1]).all()):
            raise ValueError(f"{_HASHES} is not in ascending order")
        return cls(**{name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})

    def scale(self, factor: float, bias: np.ndarray) -> "LinearModel":
        """Multiply the logits by a factor, and add a bias to them."""
        by = np.float32(factor)
        shifted = by * self.bias + bias.astype(np.float32)
        return replace(self, weights=by * self.weights, bias=shifted)

    def tensors(self) -> dict[str, np.ndarray]:
        """Name the tensors as a package names them."""
        return {f"{PREFIX}{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class _HashIndex:
    """Where hashes begin among ascending ones, by their first bits."""

    shift: np.uint64
    """Number of the other bits."""
    starts: np.ndarray
    """For each value of the first bits, and one more: position of the first hash that has them."""

    @classmethod
    def of(cls, hashes: np.ndarray) -> "_HashIndex":
        """Index hashes, int64 in ascending order; there are about two buckets for each."""
        num_bits = max(1, len(hashes).bit_length() + 1)
        shift = np.uint64(64 - num_bits)
        counts = np.bincount(_to_bucket(hashes, shift), minlength=1 << num_bits)
        return cls(shift, np.append(0, np.cumsum(counts)))

    def find(self, hashes: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find keys among the hashes, as :func:`find_sorted` does."""
        bucket = _to_bucket(keys, self.shift)
        places = self.starts.take(bucket)
        ends = self.starts[1:].take(bucket)
        is_known = np.zeros(len(keys), bool)
        left = np.flatnonzero(places < ends)
        while len(left):
            place = places.take(left)
            is_found = hashes.take(place) == keys.take(left)
            is_known[left[is_found]] = True
            left = left[~is_found & (place + 1 < ends.take(left))]
            places[left] += 1
        return is_known, places


def _to_bucket(hashes: np.ndarray, shift: np.uint64) -> np.ndarray:
    """Return the first bits of hashes, so that buckets ascend with the hashes."""
    unsigned = hashes.view(np.uint64) ^ np.uint64(1 << 63)  # negative numbers come first
    return (unsigned >> shift).astype(np.int64)
