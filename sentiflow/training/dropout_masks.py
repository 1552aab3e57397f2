"""Seed, step and shards -> the dropout mask of a slice of a batch."""

from collections.abc import Sequence

import numpy as np
import torch


def draw_dropout_mask(
    shape: Sequence[int],
    *,
    dropout: np.ndarray,
    seed: int,
    step: int,
    first_shard: int,
) -> torch.Tensor:
    """Draw the dropout mask of a slice, the same in any worker.

    Each value is 0 or 1 / (1 - dropout). Each row has one mask for all of its tokens (variational
    dropout, Gal and Ghahramani 2016). It costs less than a mask for each token and trains a
    recurrent network as well.

    Args:
        shape: Rows of each shard of the slice, in order.
        dropout: Dropout rate of each feature, ``(F,)`` float32.
        seed: Seed of the training.
        step: Optimizer step of the training.
        first_shard: Number of the first shard in ``shape``.

    Returns:
        ``(B, F)`` float32 on the CPU, B the sum of ``shape``.
    """
    masks = [
        np.random.Generator(np.random.Philox(key=[seed, step * 256 + shard])).random(
            (num_rows, len(dropout)), np.float32
        )
        >= dropout
        for shard, num_rows in enumerate(shape, first_shard)
    ]
    kept = np.concatenate([*masks, np.zeros((0, len(dropout)), bool)])
    return torch.from_numpy(kept / (1 - dropout))
