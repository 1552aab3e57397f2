"""Padded token ids -> logits: `TweetRNN`."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from sentiflow import cpu, inference, recurrence
from sentiflow.vocabulary import PAD_ID

NUM_CLASSES = 2

_USES_OF_A_WORD = 3
"""From so many tokens for each word on a table of all words pays."""
_MAX_TABLE_BYTES = 200 << 20
_GATES_IN_CACHE, _MIN_BATCH, _MAX_BATCH, _MAX_BATCH_ON_GPU = 1 << 18, 128, 2048, 4096

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class TweetRNN(nn.Module):
    """Embedding, recurrent layers, pooling over the valid states, and a linear layer.

    Padding never changes a logit: a tweet scored alone or in company gives the same answer up to
    rounding. Inside, steps come before tweets: ``(T, B, H)``.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 1 to T, in any order.
        - noise: ``(B, F)`` float, what the features of the layers' inputs are multiplied with in
          training, see :mod:`sentiflow.noise`.
        - returns: ``(B, C)`` unnormalized logits.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        cell: str,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        ngrams: int = 0,
        ngram_buckets: int = 1 << 20,
    ) -> None:
        """Build the layers, with PyTorch's own initial weights."""
        super().__init__()
        state_size = hidden_size * (2 if bidirectional else 1)
        sizes = [embedding_dim] + [state_size] * (num_layers - 1)
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=PAD_ID)
        self.forward_layers = _stack(cell, sizes, hidden_size)
        self.backward_layers = _stack(cell, sizes if bidirectional else [], hidden_size)
        self.pooling = _POOLINGS[pooling](state_size, hidden_size)
        self.output = nn.Linear(self.pooling.output_size, NUM_CLASSES)
        self.ngrams = NgramBag(vocabulary_size, max_n=ngrams, num_buckets=ngram_buckets)
        self._noise_sizes = [*sizes, self.pooling.output_size]

    def dropout_of_features(self, *, inputs: float, output: float) -> np.ndarray:
        """Say how probable it is that each of the ``F`` features of the noise is dropped.

        Args:
            inputs: Of what the recurrent layers read.
            output: Of the pooled state.
        """
        *layers, last = self._noise_sizes
        parts = [np.full(sum(layers), inputs), np.full(last, output)]
        return np.concatenate(parts).astype(np.float32)

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        states, ngrams = self.answer_apart(token_ids, lengths, noise)
        return states if ngrams is None else states + ngrams

    def answer_apart(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute the logits of the recurrent part, and those of the n-grams if there are any."""
        ngrams = self.ngrams(token_ids) if self.ngrams.max_n else None
        valid, masks = _find_valid(token_ids, lengths), self._masks(noise)
        states = self._read_on(self.embedding(token_ids.T), valid, masks)
        pooled, mask = self.pooling(states, valid, lengths), next(masks)
        return self.output(pooled if mask is None else pooled * mask), ngrams

    @property
    def scoring_batch_size(self) -> int:
        """Rows in a batch that are answered quickest: on a CPU, if a step's gates fit its cache."""
        weight = self.forward_layers[0].weight_hh_l0
        if weight.is_cuda:
            return _MAX_BATCH_ON_GPU
        rows = _GATES_IN_CACHE // weight.shape[0]
        return int(2 ** np.floor(np.log2(np.clip(rows, _MIN_BATCH, _MAX_BATCH))))

    def answering(self, num_tokens: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Make a function like :meth:`forward` for batches of ``num_tokens`` tokens altogether.

        Where that pays, what each word gives to the gates of the first layer is computed once.
        """
        layers = [*self.forward_layers[:1], *self.backward_layers[:1]]
        words = self.embedding.weight
        bytes_of_table = len(words) * sum(layer.weight_hh_l0.shape[0] for layer in layers) * 4
        if (
            num_tokens < _USES_OF_A_WORD * len(words)
            or bytes_of_table > _MAX_TABLE_BYTES
            or not all(inference.can_read(layer, words) for layer in layers)
        ):
            return self
        tables = [inference.to_gates(layer, words) for layer in layers]
        return functools.partial(self._answer_by_tables, tables)

    def _answer_by_tables(
        self, tables: list[torch.Tensor], token_ids: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        valid = _find_valid(token_ids, lengths)
        layers = [*self.forward_layers[:1], *self.backward_layers[:1]]
        halves = []
        for backward, (layer, table) in enumerate(zip(layers, tables, strict=True)):
            gates = nn.functional.embedding(token_ids.T, table)
            mask = recurrence.mask_of(valid, backward=bool(backward))
            halves.append(inference.read(layer, gates, mask, backward=bool(backward)))
        states = halves[0] if len(halves) == 1 else torch.cat(halves, dim=-1)
        states = self._read_on(states, valid, itertools.repeat(None), first=1)
        logits = self.output(self.pooling(states, valid, lengths))
        return logits + self.ngrams(token_ids) if self.ngrams.max_n else logits

    def read_first(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the states of the first recurrent layer, ``(T, B, H)``, forward half first."""
        valid, mask = _find_valid(token_ids, lengths), next(self._masks(noise))
        return self._read(0, self.embedding(token_ids.T), valid, mask)

    def _read_on(
        self,
        states: torch.Tensor,
        valid: torch.Tensor,
        masks: Iterator[torch.Tensor | None],
        *,
        first: int = 0,
    ) -> torch.Tensor:
        """Let all layers from the ``first`` on read what is below them."""
        for number in range(first, len(self.forward_layers)):
            states = self._read(number, states, valid, next(masks))
        return states

    def _read(
        self, number: int, inputs: torch.Tensor, valid: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Let one layer read its inputs, in each direction."""
        if mask is not None:
            inputs = inputs * mask
        states = recurrence.read(self.forward_layers[number], inputs, valid)
        if not self.backward_layers:
            return states
        backward = recurrence.read(self.backward_layers[number], inputs, valid, backward=True)
        return torch.cat([states, backward], dim=-1)

    def _masks(self, noise: torch.Tensor | None) -> Iterator[torch.Tensor | None]:
        """Cut the noise into what belongs to each layer."""
        if noise is None:
            return iter([None] * len(self._noise_sizes))
        return iter(torch.split(noise, self._noise_sizes, dim=1))


class NgramBag(nn.Module):
    """Weights of a tweet's words and word n-grams, added up: a linear model beside the network.

    An n-gram's weights are those of the bucket that its hash names (Joulin et al. 2017). All begin
    at zero. The sum is divided by the square root of the number of n-grams, so that it is as large
    for long tweets as for short ones.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - returns: ``(B, C)`` logits.
    """

    def __init__(self, vocabulary_size: int, *, max_n: int, num_buckets: int) -> None:
        """Make the table; without n-grams there is none."""
        super().__init__()
        self.max_n, self.first_bucket, self.num_buckets = max_n, vocabulary_size, num_buckets
        if max_n:
            self.weights = nn.Embedding(vocabulary_size + num_buckets, NUM_CLASSES, PAD_ID)
            nn.init.zeros_(self.weights.weight)
            self.bias = nn.Parameter(torch.zeros(NUM_CLASSES))

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Compute the logits of each tweet."""
        found = self.find(token_ids)
        count = (found != PAD_ID).sum(dim=1, keepdim=True)
        return self.weights(found).sum(dim=1) / count.sqrt() + self.bias

    def find(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Number each tweet's words and n-grams in the table; ``PAD_ID`` where there is none."""
        found, hashed = [token_ids], token_ids
        for n in range(2, self.max_n + 1):
            last = token_ids[:, n - 1 :]
            hashed = (hashed[:, :-1] * 1_000_003 + last) % 2_147_483_647
            bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % self.num_buckets
            found.append(torch.where(last == PAD_ID, PAD_ID, bucket + self.first_bucket))
        return torch.cat(found, dim=1)


class LastState(nn.Module):
    """The state after the last token; of a backward half, that after the first."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Note where the forward half ends."""
        super().__init__()
        self.output_size = state_size
        self.hidden_size = hidden_size

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool ``(T, B, H)`` states to ``(B, H)``."""
        rows = torch.arange(len(lengths), device=lengths.device)
        last = states[lengths - 1, rows, : self.hidden_size]
        return torch.cat([last, states[0, :, self.hidden_size :]], dim=-1)


class MeanMax(nn.Module):
    """Mean and maximum of the valid states, side by side."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Note the size of the pooled vector."""
        super().__init__()
        self.output_size = 2 * state_size

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool ``(T, B, H)`` states to ``(B, 2 H)``."""
        mask = valid[:, :, None]
        mean = (states * mask).sum(dim=0) / lengths[:, None]
        return torch.cat([mean, states.masked_fill(~mask, -torch.inf).amax(dim=0)], dim=-1)


class Attention(nn.Module):
    """Weighted mean of the valid states, weights by additive attention (Bahdanau et al. 2015)."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Build the scoring layers."""
        super().__init__()
        self.output_size = state_size
        self.hidden = nn.Linear(state_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool ``(T, B, H)`` states to ``(B, H)``."""
        scores = self.score(cpu.tanh(cpu.linear(self.hidden, states))).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=0)
        return (weights[:, :, None] * states).sum(dim=0)


_POOLINGS: dict[str, Any] = {"last": LastState, "mean_max": MeanMax, "attention": Attention}


def build(settings: dict[str, Any], *, vocabulary_size: int, embedding_dim: int) -> nn.Module:
    """Build the network that a ``train.model`` section describes."""
    return TweetRNN(
        vocabulary_size=vocabulary_size,
        embedding_dim=embedding_dim,
        cell=settings["cell"],
        hidden_size=settings["hidden_size"],
        num_layers=settings["num_layers"],
        bidirectional=settings["bidirectional"],
        pooling=settings["pooling"],
        ngrams=settings.get("ngrams", 0),
        ngram_buckets=settings.get("ngram_buckets", 1),
    )


def _stack(cell: str, sizes: list[int], hidden_size: int) -> nn.ModuleList:
    return nn.ModuleList(_CELLS[cell](size, hidden_size) for size in sizes)


def _find_valid(token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Say which steps of which tweets hold a token, ``(T, B)``."""
    steps = torch.arange(token_ids.shape[1], device=token_ids.device)
    return steps[:, None] < lengths
