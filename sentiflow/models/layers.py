"""Layers of the networks: pooling of states, the linear n-gram model, tables of weights."""

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


class NgramBag(nn.Module):
    """A linear model of a tweet's words and word n-grams, beside the network.

    The weights of an n-gram are in the bucket of its hash (Joulin et al. 2017). All weights start
    at zero. Their sum is divided by the square root of the number of n-grams, so that it is as
    large for long tweets as for short ones.

    The hash is that of the words' keys, ``(V,)`` int64, which are their ids at first. A model that
    was trained on from another vocabulary keeps the keys of the words, and so their n-grams.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - returns: ``(B, C)`` logits.
    """

    def __init__(
        self, vocabulary_size: int, *, max_n: int, num_buckets: int, num_classes: int
    ) -> None:
        """Make the table of weights; with ``max_n`` 0 there is none."""
        super().__init__()
        self.max_n, self.first_bucket, self.num_buckets = max_n, vocabulary_size, num_buckets
        if max_n:
            self.weights = make_table(vocabulary_size + num_buckets, num_classes)
            nn.init.zeros_(self.weights.weight)
            self.bias = nn.Parameter(torch.zeros(num_classes))
        self.keys: torch.Tensor | None
        self.register_buffer("keys", None)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Compute the logits of each tweet."""
        rows = self.find(token_ids)
        count = (rows != PAD_ID).sum(dim=1, keepdim=True).clamp(min=1)
        return self.weights(rows).sum(dim=1) / count.sqrt() + self.bias

    def find(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Find each tweet's words and n-grams in the table; ``PAD_ID`` stands for padding."""
        keys = token_ids if self.keys is None else self.keys[token_ids]
        rows, hashed = [token_ids], keys
        for n in range(2, self.max_n + 1):
            last = keys[:, n - 1 :]
            hashed = (hashed[:, :-1] * 1_000_003 + last) % 2_147_483_647
            bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % self.num_buckets
            rows.append(torch.where(last == PAD_ID, PAD_ID, bucket + self.first_bucket))
        return torch.cat(rows, dim=1)


def make_table(num_rows: int, dim: int) -> nn.Embedding:
    """Make a table with PyTorch's own initial weights; on the meta device nothing is drawn.

    To draw there, PyTorch would import its compiler and sympy, which takes a second.
    """
    weight = torch.empty(num_rows, dim)
    if not weight.is_meta:
        nn.init.normal_(weight)
        weight[PAD_ID] = 0
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=PAD_ID)
