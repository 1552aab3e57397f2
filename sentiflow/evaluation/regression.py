"""Numbers of two models -> whether the second is worse, beyond chance and a margin."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sentiflow.metrics import paired


@dataclass(frozen=True)
class Check:
    """One number of both models."""

    name: str
    """``accuracy``, ``macro F1``, ``slice NAME`` or ``behavior NAME``."""
    num_rows: int
    """Rows, or cases of a behavior test."""
    first: float
    second: float
    difference: paired.Difference
    p_adjusted: float = 1.0
    """The p-value of a drop no larger than the margin, adjusted for all checks (Holm)."""
    is_worse: bool = False
    """Whether the drop is larger than the margin, and ``p_adjusted`` is below ``paired.SURE``."""


@dataclass(frozen=True)
class Regression:
    """Whether the second of two models is worse; ``dataclasses.asdict`` of it is JSON."""

    margin: float
    """A drop up to this is accepted."""
    checks: list[Check]
    """All that was looked at, by adjusted p-value."""
    not_asked: str
    """Why behavior tests are not among them; empty if they are."""

    @property
    def worse(self) -> list[Check]:
        """List the checks in which the second model is worse, beyond chance."""
        return [check for check in self.checks if check.is_worse]


def check_behavior(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> list[Check]:
    """Compare the behavior tests that both models have taken, given which cases each passes."""
    checks = []
    for name, passed in first.items():
        difference, _ = paired.compare_accuracy(passed, second[name])
        rates = float(passed.mean()), float(second[name].mean())
        checks.append(Check(f"behavior {name}", len(passed), *rates, difference))
    return checks


def find_regression(checks: Sequence[Check], *, margin: float, not_asked: str = "") -> Regression:
    """Say which checks show a worse second model, beyond chance and a margin.

    A p-value is that of the difference itself, and with a margin that of the normal approximation:
    how far the middle of the interval is from a drop by the margin, in standard errors. All are
    adjusted for the number of checks, so of 20 comparisons with a model that is no worse at most
    one fails.

    Args:
        checks: Their ``p_adjusted`` and ``is_worse`` are not used.
        margin: From 0 to 1; a drop up to this is accepted.
        not_asked: Why there are no behavior tests.
    """
    adjusted = paired.adjust([_find_p(check.difference, margin) for check in checks])
    judged = [
        replace(check, p_adjusted=p, is_worse=check.difference.value < -margin and p < paired.SURE)
        for check, p in zip(checks, adjusted, strict=True)
    ]
    return Regression(margin, sorted(judged, key=lambda check: check.p_adjusted), not_asked)


def _find_p(difference: paired.Difference, margin: float) -> float:
    """Compute the two-sided p-value of a drop by the margin."""
    if not margin:
        assert difference.p_value is not None, "all that is checked has a test"
        return difference.p_value
    middle = (difference.low + difference.high) / 2
    error = (difference.high - difference.low) / (2 * paired.Z)
    distance = abs(middle + margin)
    return math.erfc(distance / error / math.sqrt(2)) if error else float(distance == 0)
