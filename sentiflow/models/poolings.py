"""States of a tweet's steps -> one vector for the tweet.

Shape: (T steps, B tweets, H of the states)
    - states: ``(T, B, H)``.
    - valid: ``(T, B)`` bool, the steps that hold a token.
    - lengths: ``(B,)`` int64, number of tokens.
"""

import torch
from torch import nn

from sentiflow.models import cpu


class LastState(nn.Module):
    """The state after the last token; for the backward half, the state after the first token."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Set the sizes of the states and of the forward half."""
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
        """Set the size of the states."""
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


Pooling = LastState | MeanMax | Attention

POOLINGS: dict[str, type[Pooling]] = {
    "last": LastState,
    "mean_max": MeanMax,
    "attention": Attention,
}
"""By ``train.model.pooling``."""
