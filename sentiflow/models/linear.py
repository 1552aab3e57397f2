"""N-grams of texts -> logits of a linear model, which is trained apart from the network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from sentiflow.data.arrays import find_sorted
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokens import Tokens

PREFIX = "linear."
"""Prefix of the names of a linear model's tensors in a package."""


@dataclass(frozen=True)
class LinearModel:
    """Weights of A n-grams for C classes.

    The logits of a text are the sum of the weights of its n-grams, divided by the norm of their idf
    values, plus a bias: logistic regression on normalized TF-IDF. An n-gram that occurs more than
    once in a text counts as several n-grams, also in the norm. So sums over words are enough.
    """

    hashes: torch.Tensor
    """``(A,)`` int64, ascending: see :class:`models.ngrams.Ngrams`."""
    weights: torch.Tensor
    """``(A, C)`` float32: the learned weights, each multiplied by the idf of its n-gram."""
    squares: torch.Tensor
    """``(A,)`` float32: the square of the idf of each n-gram."""
    bias: torch.Tensor
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
        table = torch.column_stack([self.weights, self.squares])
        of_words = self._sum_rows(table, ngrams.of_words, ngrams.word_offsets)
        of_texts = self._sum_rows(table, ngrams.of_texts, ngrams.text_offsets)
        sums = embedding_bag(
            torch.tensor(tokens.ids).long(),
            of_words,
            torch.tensor(tokens.offsets),
            mode="sum",
            include_last_offset=True,
        )
        sums = sums + of_texts
        squares = sums[:, -1:]
        # Without a known n-gram, the sums and the squares are 0: the quotient is 0, not NaN.
        norm = squares.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        logits = sums[:, :-1] / norm + self.bias
        return logits.numpy(), (sums[:, -1] > 0).numpy()

    def _sum_rows(
        self, table: torch.Tensor, hashes: np.ndarray, offsets: np.ndarray
    ) -> torch.Tensor:
        """Sum the rows of ``table`` over the n-grams of each word or text, known ones only."""
        is_known, places = find_sorted(self.hashes.numpy(), hashes)
        known_offsets = np.append(0, np.cumsum(is_known))[offsets]
        return embedding_bag(
            torch.from_numpy(places[is_known]),
            table,
            torch.from_numpy(known_offsets),
            mode="sum",
            include_last_offset=True,
        )

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], *, num_classes: int) -> "LinearModel":
        """Make a model from its tensors, as :meth:`tensors` names them.

        Raises:
            ValueError: The tensors do not fit together, or have other names.
        """
        found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        shapes = {name: (str(tensor.dtype), *tensor.shape) for name, tensor in found.items()}
        num_ngrams = 0
        if "hashes" in found and found["hashes"].ndim:
            num_ngrams = len(found["hashes"])
        expected = {
            "hashes": ("torch.int64", num_ngrams),
            "weights": ("torch.float32", num_ngrams, num_classes),
            "squares": ("torch.float32", num_ngrams),
            "bias": ("torch.float32", num_classes),
        }
        if shapes != expected or not bool((found["hashes"].diff() > 0).all()):
            raise ValueError(f"a linear model of {shapes}")
        return cls(**found)

    def scale(self, factor: float, bias: np.ndarray) -> "LinearModel":
        """Multiply the logits by a factor, and add a bias to them."""
        shifted = factor * self.bias + torch.from_numpy(bias.astype(np.float32))
        return replace(self, weights=factor * self.weights, bias=shifted)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name the tensors as a package names them."""
        return {f"{PREFIX}{name}": tensor for name, tensor in vars(self).items()}
