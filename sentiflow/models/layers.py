"""Layers of the networks: pooling of states, tables of weights."""

import torch
from torch import nn

from sentiflow.models import cpu
from sentiflow.models.vocabulary import PAD_ID


class Attention(nn.Module):
    """Weighted mean of the valid states, weights by additive attention (Bahdanau et al. 2015)."""

    def __init__(self, state_size: int, hidden_size: int) -> None:
        """Build the scoring layers."""
        super().__init__()
        self.hidden = nn.Linear(state_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self, states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Pool the states ``(T, B, H)`` of the steps that hold a token to ``(B, H)``."""
        hidden = cpu.tanh(cpu.affine(states, self.hidden.weight, self.hidden.bias))
        scores = self.score(hidden).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=0)
        return (weights[:, :, None] * states).sum(dim=0)


def pool_last(
    states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor, *, hidden_size: int
) -> torch.Tensor:
    """Take the state after the last token; for the backward half, the state after the first."""
    rows = torch.arange(len(lengths), device=lengths.device)
    last = states[lengths - 1, rows, :hidden_size]
    return torch.cat([last, states[0, :, hidden_size:]], dim=-1)


def pool_mean_max(states: torch.Tensor, valid: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Put the mean and the maximum of the valid states side by side, ``(B, 2 H)``."""
    mask = valid[:, :, None]
    mean = (states * mask).sum(dim=0) / lengths[:, None]
    return torch.cat([mean, states.masked_fill(~mask, -torch.inf).amax(dim=0)], dim=-1)


def make_table(num_rows: int, dim: int) -> nn.Embedding:
    """Make a table with PyTorch's own initial weights; on the meta device nothing is drawn.

    To draw there, PyTorch would import its compiler and sympy, which takes a second.
    """
    weight = torch.empty(num_rows, dim)
    if not weight.is_meta:
        nn.init.normal_(weight)
        weight[PAD_ID] = 0
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=PAD_ID)
