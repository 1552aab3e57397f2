"""Schedules of the learning rate: step -> the factor on ``train.learning_rate``."""

import math

_WARM_UP_FRACTION = 0.3
"""Share of the steps in which the learning rate of ``one_cycle`` rises."""
_FIRST_RATE = 1 / 25
"""Factor on the learning rate where ``one_cycle`` begins."""
_LAST_RATE = 1e-5
"""Factor on the learning rate after the last step."""


def rate_factor(schedule: str, step: int, num_steps: int) -> float:
    """Compute the factor on the learning rate of a step, counted from 0.

    ``constant``: 1. ``cosine``: along half a cosine from 1 down to 1e-5 (Loshchilov and Hutter
    2017, without restarts). ``one_cycle``: along a cosine from 1/25 up to 1 in the first 30% of
    the steps, then down to 1e-5 (Smith 2018, with the defaults of PyTorch's OneCycleLR except for
    the last step).
    """
    if schedule == "constant":
        return 1.0
    peak = 0.0
    if schedule == "one_cycle":
        peak = max(1.0, _WARM_UP_FRACTION * num_steps)
    if step < peak:
        return _interpolate(_FIRST_RATE, step / peak)
    remaining = (num_steps - step) / max(1.0, num_steps - peak)
    return _interpolate(_LAST_RATE, max(0.0, remaining))


def _interpolate(low: float, fraction: float) -> float:
    """Interpolate from ``low`` to 1 along half a cosine."""
    return low + (1 - low) * (1 - math.cos(math.pi * fraction)) / 2
