"""Shares of strata, such as the rows of one model -> the shares of the groups they make up."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.metrics import sampling
from sentiflow.metrics.share_samples import Estimates
from sentiflow.metrics.shares import (
    FROM_BEST,
    UNBOUNDED,
    UNCORRECTED,
    UNLABELLED,
    Shares,
    add_counted,
)

_UNKNOWN_ERROR = 0.5 / 1.96
"""Standard error of a share of which nothing is known: its 95% interval reaches from 0 to 1."""
_DIGITS = 12
"""Bounds are rounded to so many digits: an interval from 0 to 1 is recognized by its ends, which
may have errors of rounding."""


class Stratum(NamedTuple):
    """Rows of G groups, such as the rows that one model has predicted."""

    group: np.ndarray
    """The numbers of the G groups among all groups, each once."""
    shares: Shares
    """The shares among these rows, by group."""


def bound_unknown(sums: pd.DataFrame, found: Shares, may_bound: np.ndarray) -> Shares:
    """Bound the shares of a stratum by 0 and 1 in groups with too few labels for an interval.

    So the stratum widens the interval of a group by its part of the rows, and does not leave the
    group without one. The bounds are for the rows that are not counted. With too few labels to
    correct a share, the share is the mean probability, also where groups are compared.

    Args:
        sums: Sums of the rows of G groups in the stratum.
        found: Their estimates.
        may_bound: ``(G,)``, whether each may be bounded.

    Returns:
        The estimates; the method of a bounded group is ``UNLABELLED``.
    """
    may_bound = may_bound[:, None]
    is_uncorrected = may_bound & (found.method == UNCORRECTED)[:, None]
    is_bounded = is_uncorrected | (may_bound & (found.method == UNBOUNDED)[:, None])
    of = sampling.by_name(sums)
    population = np.maximum(of["population"], 1)
    mean = of["p"] / population
    unknown = Estimates(
        share=mean,
        low=np.zeros_like(mean),
        high=np.ones_like(mean),
        variance=np.full_like(mean, _UNKNOWN_ERROR**2),
    )
    of_all = add_counted(sums, unknown)
    # The root of the variance, without the errors of rounding of a square and its root.
    error = _UNKNOWN_ERROR * (of["population"] / of["rows"])
    return replace(
        found,
        method=np.where(is_bounded[:, 0], UNLABELLED, found.method),
        share=np.where(is_uncorrected, of_all.share, found.share),
        low=np.where(is_bounded, of_all.low, found.low),
        high=np.where(is_bounded, of_all.high, found.high),
        compared=np.where(is_uncorrected, of_all.share, found.compared),
        error=np.where(is_bounded, error, found.error),
    )


def join(strata: Sequence[Stratum]) -> Shares:
    """Join the shares of strata, such as the rows that one model has predicted.

    The share of a group is the mean of the shares of its strata, weighted by rows: the stratified
    estimator (W. G. Cochran, Sampling Techniques, 1977, section 5.3). The bounds combine the bounds
    of independent estimates (G. Y. Zou and A. Donner, "Construction of confidence limits about
    effect measures: A general approach", Statistics in Medicine 27, 2008): with W the weight of a
    stratum,

        low = share - √(Σ W² (share of the stratum - its low)²)

    and the upper bound follows from the upper bounds in the same way. The method of a group is the
    weakest method of its strata.

    Example:
        50% of 100 rows of one stratum are positive, and 20% of 300 rows of another: together 110 of
        400. The intervals reach 0.1 and 0.04 to each side, and 0.025 and 0.03 after weighting.

        >>> def stratum(rows, share, reach):
        ...     one = np.array([[share]])
        ...     return Shares(
        ...         rows=np.array([rows]), labelled=np.array([50]), measured=np.array([50]),
        ...         method=np.array(["corrected"]), predicted=one, share=one,
        ...         low=one - reach, high=one + reach, compared=one, error=one * 0, spread=one**0,
        ...     )
        >>> both = [stratum(100, 0.5, 0.1), stratum(300, 0.2, 0.04)]
        >>> found = join([Stratum(np.array([0]), each) for each in both])
        >>> [round(float(ends[0, 0]), 4) for ends in (found.low, found.share, found.high)]
        [0.2359, 0.275, 0.3141]
    """
    parts = [stratum.shares for stratum in strata]
    num_groups = 1 + max(int(stratum.group.max(initial=-1)) for stratum in strata)
    num_classes = parts[0].share.shape[1]

    def add(of_strata: Iterable[np.ndarray], *shape: int) -> np.ndarray:
        total = np.zeros((num_groups, *shape))
        for stratum, values in zip(strata, of_strata, strict=True):
            total[stratum.group] += values
        return total

    rows = add(part.rows for part in parts)
    weights = [(part.rows / rows[group])[:, None] for group, part in strata]
    weighted = list(zip(weights, parts, strict=True))
    share = add((w * part.share for w, part in weighted), num_classes)
    below = add((w**2 * (part.share - part.low) ** 2 for w, part in weighted), num_classes)
    above = add((w**2 * (part.share - part.high) ** 2 for w, part in weighted), num_classes)
    variance = add((w**2 * part.error**2 for w, part in weighted), num_classes)
    worst = np.zeros(num_groups, np.int64)
    spread = np.zeros((num_groups, num_classes))
    for group, part in strata:
        worst[group] = np.maximum(worst[group], _rank_methods(part.method))
        spread[group] = np.maximum(spread[group], part.spread)
    return Shares(
        rows=rows,
        labelled=add(part.labelled for part in parts),
        measured=add(part.measured for part in parts),
        method=np.array(FROM_BEST, object)[worst],
        predicted=add((w * part.predicted for w, part in weighted), num_classes),
        share=share,
        low=np.clip((share - np.sqrt(below)).round(_DIGITS), 0, 1),
        high=np.clip((share + np.sqrt(above)).round(_DIGITS), 0, 1),
        compared=add((w * part.compared for w, part in weighted), num_classes),
        error=np.sqrt(variance),
        spread=spread,
    )


def _rank_methods(methods: np.ndarray) -> np.ndarray:
    """Return the place of each method in ``FROM_BEST``."""
    code, names = pd.factorize(methods)
    return pd.Index(FROM_BEST).get_indexer(pd.Index(names))[code]
