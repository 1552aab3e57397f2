"""Padded token ids -> logits: `TweetRNN`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sentiflow.vocabulary import PAD_ID

NUM_CLASSES = 2

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class TweetRNN(nn.Module):
    """Embedding, recurrent layers, pooling over the valid states, and a linear layer.

    Padding never changes a logit: a tweet scored alone or in company gives the same answer up to
    rounding. The backward direction reads each tweet from its own last token, so no packing is
    needed (on short rows it is several times slower than padding).

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, each from 1 to T, in any order.
        - noise: ``(B, F)`` float, what ``num_noise_features`` features are multiplied with in
          training; see :mod:`sentiflow.noise`.
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
        self._noise_sizes = [*sizes, self.pooling.output_size]

    @property
    def num_noise_features(self) -> int:
        """Inputs of the recurrent layers and of the last one, together."""
        return sum(self._noise_sizes)

    def forward(
        self,
        token_ids: torch.Tensor,
        lengths: torch.Tensor,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the logits of each tweet."""
        steps = torch.arange(token_ids.shape[1], device=token_ids.device)
        valid = steps < lengths[:, None]
        mirrored = torch.where(valid, lengths[:, None] - 1 - steps, steps)
        masks = self._masks(noise)
        states = self.embedding(token_ids)
        for number, layer in enumerate(self.forward_layers):
            mask = next(masks)
            inputs = states if mask is None else states * mask[:, None, :]
            states = layer(inputs)[0]
            if self.backward_layers:
                backward = self.backward_layers[number](_permute_steps(inputs, mirrored))[0]
                states = torch.cat([states, _permute_steps(backward, mirrored)], dim=-1)
        pooled, mask = self.pooling(states, valid, lengths), next(masks)
        return self.output(pooled if mask is None else pooled * mask)

    def _masks(self, noise: torch.Tensor | None) -> Iterator[torch.Tensor | None]:
        """Cut the noise into what belongs to each layer."""
        if noise is None:
            return iter([None] * len(self._noise_sizes))
        return iter(torch.split(noise, self._noise_sizes, dim=1))


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
        """Pool ``(B, T, H)`` states to ``(B, H)``."""
        rows = torch.arange(len(lengths), device=lengths.device)
        last = states[rows, lengths - 1, : self.hidden_size]
        return torch.cat([last, states[:, 0, self.hidden_size :]], dim=-1)


class MeanMax(nn.Module):
    """Mean and maximum of the valid states, side by side."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Note the size of the pooled vector."""
        super().__init__()
        self.output_size = 2 * state_size

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool ``(B, T, H)`` states to ``(B, 2 H)``."""
        mask = valid[:, :, None]
        mean = (states * mask).sum(dim=1) / lengths[:, None]
        return torch.cat([mean, states.masked_fill(~mask, -torch.inf).amax(dim=1)], dim=-1)


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
        """Pool ``(B, T, H)`` states to ``(B, H)``."""
        scores = self.score(torch.tanh(self.hidden(states))).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=1)
        return torch.bmm(weights[:, None, :], states).squeeze(1)


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
    )


def _stack(cell: str, sizes: list[int], hidden_size: int) -> nn.ModuleList:
    return nn.ModuleList(_CELLS[cell](size, hidden_size, batch_first=True) for size in sizes)


def _permute_steps(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Reorder ``(B, T, H)`` states: step t of row b comes from step ``places[b, t]``."""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))
