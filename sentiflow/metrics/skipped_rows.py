"""Rows of a sample that an annotator has left out -> wider intervals, which allow for them.

People leave out the texts that are hard to label, so these texts differ from the others. The share
s among the texts that they would label is estimated. With m the fraction of the other texts, of
which all may be of a class or none, the share among all texts is from (1 - m) s to (1 - m) s + m:
the worst case of C. F. Manski, "Nonparametric bounds on treatment effects", American Economic
Review 80 (1990).

Both s and m are measured on the sample. The bounds of their combination are by G. Y. Zou and A.
Donner (see ``strata.join``), with the variation of each by itself: with l and u the bounds of s,
and v the upper bound of m,

    low  = (1 - m) s - √(((1 - m) (s - l))² + (s (v - m))²)
    high = (1 - m) s + m + √(((1 - m) (u - s))² + ((1 - s) (v - m))²)
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.shares import CORRECTED, COUNTED, Shares

SKIPPED = "skipped_w"
"""The sum of ``sampling.add_up`` that is there only if rows were skipped."""
_HALF_WIDTH = 1.96
"""Half of a 95% interval in standard errors."""


class SkippedFraction(NamedTuple):
    """The fraction of the rows of G groups that would be skipped: ``(G, 1)`` each."""

    fraction: np.ndarray
    high: np.ndarray
    """The upper bound of its 95% interval."""


def measure(sums: pd.DataFrame, group_of_row: np.ndarray, method: np.ndarray) -> SkippedFraction:
    """Measure which fraction of the rows of each group would be skipped.

    Groups with few labels take the fraction of all groups, or their own if it is greater. Rows that
    are only counted have a label.

    Args:
        sums: R rows of sums; rows of a group may be of several models.
        group_of_row: The number of the group of each row, R integers.
        method: The method of each of G groups.
    """
    names = ["w", "square", SKIPPED, "skipped_ww", "population", "rows"]
    of_rows = pd.DataFrame({name: sums[name, 0] for name in names}).groupby(group_of_row).sum()
    is_small = ~np.isin(method, (CORRECTED, COUNTED))
    population = of_rows["population"] / of_rows["rows"]
    own = (of_rows[SKIPPED] / (of_rows["w"] + of_rows[SKIPPED])).fillna(0)
    of_rows[is_small] = of_rows.sum().to_numpy()
    reached = of_rows["w"] + of_rows[SKIPPED]
    fraction = np.maximum(of_rows[SKIPPED] / reached, own)
    size = reached**2 / (of_rows["square"] + of_rows["skipped_ww"])  # effective, by Kish
    _, high = share_interval((fraction * size).to_numpy(), size.to_numpy())
    return SkippedFraction(
        fraction=np.asarray(fraction * population)[:, None],
        high=np.asarray(high * population)[:, None],
    )


def widen(found: Shares, skipped: SkippedFraction) -> Shares:
    """Widen the intervals of G groups by the fraction of rows that would be skipped.

    The error by which groups are compared grows by half of it. NaN stays NaN.

    Example:
        A tenth of the texts would be skipped, with an upper bound of 0.13: the bounds without it
        are 0.27 and 0.55.

        >>> share = np.array([[0.4]])
        >>> found = Shares(
        ...     rows=np.array([100]), labelled=np.array([50]), measured=np.array([50]),
        ...     method=np.array([CORRECTED]),
        ...     predicted=share, share=share, low=share - 0.1, high=share + 0.1,
        ...     compared=share, error=share / 8, spread=np.ones((1, 1)),
        ... )
        >>> wider = widen(found, SkippedFraction(np.array([[0.1]]), np.array([[0.13]])))
        >>> [round(float(each[0, 0]), 3) for each in (wider.low, wider.share, wider.high)]
        [0.269, 0.4, 0.552]
    """
    fraction = skipped.fraction
    kept = 1 - fraction
    above = skipped.high - fraction
    share = found.share
    below = np.hypot(kept * (share - found.low), share * above)
    over = np.hypot(kept * (found.high - share), (1 - share) * above)
    return replace(
        found,
        low=np.clip(kept * share - below, 0, 1),
        high=np.clip(kept * share + fraction + over, 0, 1),
        error=found.error + fraction / _HALF_WIDTH,
    )
