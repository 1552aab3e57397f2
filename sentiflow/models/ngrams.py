"""Token ids -> logits of a linear model of their n-grams."""

import torch
from torch import nn

from sentiflow.models.vocabulary import PAD_ID

NUM_CLASSES = 2


class NgramBag(nn.Module):
    """A linear model of a tweet's words and word n-grams, beside the network.

    The weights of an n-gram are in the bucket of its hash (Joulin et al. 2017). All weights start
    at zero. Their sum is divided by the square root of the number of n-grams, so that it is as
    large for long tweets as for short ones.

    Shape: (B tweets, T steps after padding, C classes)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - returns: ``(B, C)`` logits.
    """

    def __init__(self, vocabulary_size: int, *, max_n: int, num_buckets: int) -> None:
        """Make the table of weights; with ``max_n`` 0 there is none."""
        super().__init__()
        self.max_n, self.first_bucket, self.num_buckets = max_n, vocabulary_size, num_buckets
        if max_n:
            self.weights = nn.Embedding(vocabulary_size + num_buckets, NUM_CLASSES, PAD_ID)
            nn.init.zeros_(self.weights.weight)
            self.bias = nn.Parameter(torch.zeros(NUM_CLASSES))

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Compute the logits of each tweet."""
        rows = self.find(token_ids)
        count = (rows != PAD_ID).sum(dim=1, keepdim=True).clamp(min=1)
        return self.weights(rows).sum(dim=1) / count.sqrt() + self.bias

    def find(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Find each tweet's words and n-grams in the table; ``PAD_ID`` stands for padding."""
        found, hashed = [token_ids], token_ids
        for n in range(2, self.max_n + 1):
            last = token_ids[:, n - 1 :]
            hashed = (hashed[:, :-1] * 1_000_003 + last) % 2_147_483_647
            bucket = (hashed * 2_654_435_761 % 4_294_967_296 >> 8) % self.num_buckets
            found.append(torch.where(last == PAD_ID, PAD_ID, bucket + self.first_bucket))
        return torch.cat(found, dim=1)
