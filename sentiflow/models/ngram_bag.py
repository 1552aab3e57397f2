"""Padded token ids -> logits of a linear model of words and n-grams, and tables of weights."""

import torch
from torch import nn

from sentiflow.models.vocabulary import PAD_ID


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
        found, hashed = [token_ids], keys
        for n in range(2, self.max_n + 1):
            last = keys[:, n - 1 :]
            hashed = (hashed[:, :-1] * 1_000_003 + last) % 2_147_483_647
            bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % self.num_buckets
            found.append(torch.where(last == PAD_ID, PAD_ID, bucket + self.first_bucket))
        return torch.cat(found, dim=1)


def make_table(num_rows: int, dim: int) -> nn.Embedding:
    """Make a table with PyTorch's own initial weights; on the meta device nothing is drawn.

    To draw there, PyTorch would import its compiler and sympy, which takes a second.
    """
    weight = torch.empty(num_rows, dim)
    if not weight.is_meta:
        nn.init.normal_(weight)
        weight[PAD_ID] = 0
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=PAD_ID)
