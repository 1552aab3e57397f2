"""Dropout masks that follow from the seed, the step and the shard alone."""

from collections.abc import Sequence

import numpy as np
import torch

from sentiflow.training.objectives import STREAMS


def draw_dropout_mask(
    shard_sizes: Sequence[int],
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
        shard_sizes: Rows of each shard of the slice, in order.
        dropout: Dropout rate of each feature, ``(F,)`` float32.
        seed: Seed of the training.
        step: Optimizer step of the training.
        first_shard: Number of the first of these shards.

    Returns:
        ``(B, F)`` float32 on the CPU, B the sum of ``shard_sizes``.
    """
    masks = [np.zeros((0, len(dropout)), bool)]
    for shard, num_rows in enumerate(shard_sizes, first_shard):
        stream = step * STREAMS + shard
        random = np.random.Generator(np.random.Philox(key=[seed, stream]))
        numbers = random.random((num_rows, len(dropout)), np.float32)
        masks.append(numbers >= dropout)
    kept = np.concatenate(masks)
    return torch.from_numpy(kept / (1 - dropout))
