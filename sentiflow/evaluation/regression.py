"""Checks of two models -> the checks in which the second model is worse, beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sentiflow.metrics import paired


@dataclass(frozen=True)
class Check:
    """One number of both models."""

    name: str
    """``accuracy``, ``macro F1`` or ``slice NAME``."""
    num_rows: int
    first: float
    """The number of the first model; of a slice, its accuracy."""
    second: float
    difference: paired.Difference
    """Of a metric that should be low, see ``higher_is_better``, a rise is a drop in quality."""
    p_adjusted: float = 1.0
    """The p-value of a drop no larger than the margin, adjusted for all checks (Holm)."""
    is_worse: bool = False
    """Whether the drop is larger than the margin, and ``p_adjusted`` is below
    ``paired.SIGNIFICANCE``."""
    higher_is_better: bool = True
    """False for the mean absolute error."""

    @property
    def gain(self) -> paired.Difference:
        """Return the difference in the direction of the metric: below 0 the second is worse."""
        found = self.difference
        if self.higher_is_better:
            return found
        return replace(found, value=-found.value, low=-found.high, high=-found.low)


@dataclass(frozen=True)
class Regression:
    """Whether the second of two models is worse; ``dataclasses.asdict`` of it is JSON."""

    margin: float
    """Largest accepted drop of a metric."""
    checks: list[Check]
    """All checks, by adjusted p-value."""

    @property
    def worse(self) -> list[Check]:
        """List the checks in which the second model is worse, beyond chance."""
        return [check for check in self.checks if check.is_worse]


def find_regression(checks: Sequence[Check], *, margin: float) -> Regression:
    """Find the checks in which the second model is worse, beyond chance and a margin.

    Without a margin, a check has the p-value of its difference. With a margin, it has the p-value
    of the normal approximation: the distance between the middle of the interval and a drop by the
    margin, in standard errors. All are adjusted for the number of checks, so at most 1 of 20
    comparisons with a model that is no worse fails.

    Args:
        checks: Their ``p_adjusted`` and ``is_worse`` are not used.
        margin: Largest accepted drop, from 0 to 1.
    """
    adjusted = paired.adjust([_find_p_value(check.gain, margin) for check in checks])
    judged = []
    for check, p_adjusted in zip(checks, adjusted, strict=True):
        is_worse = check.gain.value < -margin and p_adjusted < paired.SIGNIFICANCE
        judged.append(replace(check, p_adjusted=p_adjusted, is_worse=is_worse))
    return Regression(margin, sorted(judged, key=lambda check: check.p_adjusted))


def _find_p_value(difference: paired.Difference, margin: float) -> float:
    """Compute the two-sided p-value for the hypothesis that the drop equals the margin."""
    if not margin:
        assert difference.p_value is not None, "every checked difference has a test"
        return difference.p_value
    middle = (difference.low + difference.high) / 2
    standard_error = (difference.high - difference.low) / (2 * paired.Z)
    distance = abs(middle + margin)
    if not standard_error:  # the drop is certain: it is the margin, or it is not
        return float(distance == 0)
    # erfc(x / sqrt(2)) is the chance that a normal value is more than x from 0.
    return math.erfc(distance / standard_error / math.sqrt(2))
