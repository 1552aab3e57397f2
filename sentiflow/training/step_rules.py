"""Seed, schedule and step -> learning rate and dropout mask, the same in any worker."""

import math
from collections.abc import Sequence

import numpy as np
import torch

_WARM_UP_FRACTION = 0.3
"""Share of the steps in which the learning rate of ``one_cycle`` rises."""
_FIRST_RATE, _LAST_RATE = 1 / 25, 1e-5
"""Factors on the learning rate where ``one_cycle`` begins, and after the last step."""


def rate_factor(schedule: str, step: int, num_steps: int) -> float:
    """Compute the factor on the learning rate of a step, counted from 0.

    ``constant``: 1. ``cosine``: along half a cosine from 1 down to 1e-5 (Loshchilov and Hutter
    2017, without restarts). ``one_cycle``: along a cosine from 1/25 up to 1 in the first 30 % of
    the steps, then down to 1e-5 (Smith 2018, with the defaults of PyTorch's OneCycleLR except for
    the last step).
    """
    if schedule == "constant":
        return 1.0
    peak = max(1.0, _WARM_UP_FRACTION * num_steps) if schedule == "one_cycle" else 0.0
    if step < peak:
        return _interpolate(_FIRST_RATE, step / peak)
    return _interpolate(_LAST_RATE, max(0.0, (num_steps - step) / max(1.0, num_steps - peak)))


def _interpolate(low: float, fraction: float) -> float:
    """Interpolate from ``low`` to 1 along half a cosine."""
    return low + (1 - low) * (1 - math.cos(math.pi * fraction)) / 2


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
