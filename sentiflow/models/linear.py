"""N-grams of texts -> logits of a linear model, which is trained apart from the network."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from sentiflow.data.arrays import find_sorted
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokenizer import Tokens

PREFIX = "linear."
"""With what the names of its tensors in a package begin."""


@dataclass(frozen=True)
class LinearModel:
    """Weights of A n-grams for C classes.

    The logits of a text are the sum of the weights of its n-grams, divided by the length of the
    vector of their idf, plus a bias: logistic regression on TF-IDF of length 1. An n-gram that
    occurs more than once in a text counts as several, which makes sums over words enough.
    """

    hashes: torch.Tensor
    """``(A,)`` int64, ascending: see :class:`models.ngrams.Ngrams`."""
    weights: torch.Tensor
    """``(A, C)`` float32, each multiplied by the idf of its n-gram."""
    squares: torch.Tensor
    """``(A,)`` float32: squares of the idf."""
    bias: torch.Tensor
    """``(C,)`` float32."""

    def logits(self, tokens: Tokens) -> np.ndarray:
        """Compute the logits of N texts, ``(N, C)`` float32."""
        return self.answer(tokens)[0]

    def answer(self, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """Compute the logits of N texts, and whether it knows an n-gram of each, N bool."""
        ngrams, table = Ngrams.of(tokens), torch.column_stack([self.weights, self.squares])
        of_words = self._add(table, ngrams.of_words, ngrams.word_offsets)
        ids, offsets = torch.tensor(tokens.ids), torch.tensor(tokens.offsets)
        sums = embedding_bag(ids.long(), of_words, offsets, mode="sum", include_last_offset=True)
        sums = sums + self._add(table, ngrams.of_texts, ngrams.text_offsets)
        length = sums[:, -1:].clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        return (sums[:, :-1] / length + self.bias).numpy(), (sums[:, -1] > 0).numpy()

    def _add(self, table: torch.Tensor, hashes: np.ndarray, offsets: np.ndarray) -> torch.Tensor:
        """Add up the rows of the n-grams of each word or text; others than those trained are 0."""
        is_known, places = find_sorted(self.hashes.numpy(), hashes)
        offsets = np.append(0, np.cumsum(is_known))[offsets]
        return embedding_bag(
            torch.from_numpy(places[is_known]), table, torch.from_numpy(offsets),
            mode="sum", include_last_offset=True,
        )  # fmt: skip

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], *, num_classes: int) -> "LinearModel":
        """Take the tensors of :meth:`tensors`.

        Raises:
            ValueError: They do not fit each other, or are others.
        """
        found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        shapes = {name: (str(t.dtype), *t.shape) for name, t in found.items()}
        number = len(found["hashes"]) if "hashes" in found and found["hashes"].ndim else 0
        expected = {
            "hashes": ("torch.int64", number),
            "weights": ("torch.float32", number, num_classes),
            "squares": ("torch.float32", number),
            "bias": ("torch.float32", num_classes),
        }
        if shapes != expected or not bool((found["hashes"].diff() > 0).all()):
            raise ValueError(f"a linear model of {shapes}")
        return cls(**found)

    def scale(self, factor: float, bias: np.ndarray) -> "LinearModel":
        """Multiply the logits by a factor, and add a bias to them."""
        shifted = factor * self.bias + torch.from_numpy(bias.astype(np.float32))
        return LinearModel(self.hashes, factor * self.weights, self.squares, shifted)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name the tensors as a package has them."""
        return {f"{PREFIX}{name}": tensor for name, tensor in vars(self).items()}
