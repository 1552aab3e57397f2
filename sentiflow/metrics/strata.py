"""Shares of strata, such as the rows of one model -> the shares of the groups they make up."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sentiflow.metrics import sampling
from sentiflow.metrics.share_samples import Estimates
from sentiflow.metrics.shares import (
    CORRECTED,
    COUNTED,
    POOLED,
    PREDICTED,
    UNBOUNDED,
    UNCORRECTED,
    UNLABELLED,
    Shares,
    add_counted,
)

_FROM_BEST = (COUNTED, CORRECTED, POOLED, UNLABELLED, PREDICTED, UNBOUNDED, UNCORRECTED)
"""The methods, from the strongest to the weakest."""
_UNKNOWN_ERROR = 0.5 / 1.96
"""Standard error of a share of which nothing is known: its 95% interval reaches from 0 to 1."""


def bound_unknown(sums: pd.DataFrame, found: Shares, is_minor: np.ndarray) -> Shares:
    """Bound the shares of a stratum by 0 and 1 in groups with too few labels for an interval.

    So the stratum widens the interval of a group by its part of the rows, and does not leave the
    group without one. The bounds are for the rows that are not counted. With too few labels to
    correct a share, the share is the mean probability, also where groups are compared.

    Args:
        sums: Sums of the rows of G groups in the stratum.
        found: Their estimates.
        is_minor: ``(G,)``, whether each may be bounded.

    Returns:
        The estimates; the method of a bounded group is ``UNLABELLED``.
    """
    is_minor = is_minor[:, None]
    is_uncorrected = is_minor & (found.method == UNCORRECTED)[:, None]
    is_bounded = is_uncorrected | (is_minor & (found.method == UNBOUNDED)[:, None])
    of = sampling.by_name(sums)
    population = np.maximum(of["population"], 1)
    mean = of["p"] / population
    every = np.ones_like(mean)
    unknown = Estimates(share=mean, low=0 * every, high=every, variance=every)
    of_all = add_counted(sums, unknown)
    return replace(
        found,
        method=np.where(is_bounded[:, 0], UNLABELLED, found.method),
        share=np.where(is_uncorrected, of_all.share, found.share),
        low=np.where(is_bounded, of_all.low, found.low),
        high=np.where(is_bounded, of_all.high, found.high),
        compared=np.where(is_uncorrected, of_all.share, found.compared),
        error=np.where(is_bounded, _UNKNOWN_ERROR * np.sqrt(of_all.variance), found.error),
    )


def join(strata: Sequence[tuple[np.ndarray, Shares]]) -> Shares:
    """Join the shares of strata, such as the rows that one model has predicted.

    The share of a group is the mean of the shares of its strata, weighted by rows: the stratified
    estimator (W. G. Cochran, Sampling Techniques, 1977, section 5.3). The bounds combine the bounds
    of independent estimates (G. Y. Zou and A. Donner, "Construction of confidence limits about
    effect measures: A general approach", Statistics in Medicine 27, 2008): with W the weight of a
    stratum,

        low = share - √(Σ W² (share of the stratum - its low)²)

    and the upper bound follows from the upper bounds in the same way. The method of a group is the
    weakest method of its strata.

    Args:
        strata: For each stratum the numbers of its groups among all G groups, each once; and their
            shares.

    Example:
        50% of 100 rows of one stratum are positive, and 20% of 300 rows of another: together 110 of
        400. The intervals reach 0.1 and 0.04 to each side, and 0.025 and 0.03 after weighting.

        >>> def stratum(rows, share, reach):
        ...     one = np.array([[share]])
        ...     return Shares(
        ...         rows=np.array([rows]), labelled=np.array([50]), measured=np.array([50]),
        ...         method=np.array([CORRECTED]), predicted=one, share=one,
        ...         low=one - reach, high=one + reach, compared=one, error=one * 0,
        ...     )
        >>> both = [stratum(100, 0.5, 0.1), stratum(300, 0.2, 0.04)]
        >>> found = join([(np.array([0]), each) for each in both])
        >>> [round(float(ends[0, 0]), 4) for ends in (found.low, found.share, found.high)]
        [0.2359, 0.275, 0.3141]
    """
    groups = [numbers for numbers, _ in strata]
    parts = [part for _, part in strata]
    num_groups = 1 + max(int(numbers.max(initial=-1)) for numbers in groups)
    num_classes = parts[0].share.shape[1]

    def add(of_strata: Iterable[np.ndarray], *shape: int) -> np.ndarray:
        total = np.zeros((num_groups, *shape))
        for numbers, values in zip(groups, of_strata, strict=True):
            total[numbers] += values
        return total

    rows = add(part.rows for part in parts)
    weights = [(part.rows / rows[numbers])[:, None] for numbers, part in strata]
    weighted = list(zip(weights, parts, strict=True))
    share = add((w * part.share for w, part in weighted), num_classes)
    below = add((w**2 * (part.share - part.low) ** 2 for w, part in weighted), num_classes)
    above = add((w**2 * (part.share - part.high) ** 2 for w, part in weighted), num_classes)
    variance = add((w**2 * part.error**2 for w, part in weighted), num_classes)
    worst = np.zeros(num_groups, np.int64)
    for numbers, part in strata:
        worst[numbers] = np.maximum(worst[numbers], _rank_methods(part.method))
    return Shares(
        rows=rows,
        labelled=add(part.labelled for part in parts),
        measured=add(part.measured for part in parts),
        method=np.array(_FROM_BEST, object)[worst],
        predicted=add((w * part.predicted for w, part in weighted), num_classes),
        share=share,
        low=np.clip((share - np.sqrt(below)).round(12), 0, 1),
        high=np.clip((share + np.sqrt(above)).round(12), 0, 1),
        compared=add((w * part.compared for w, part in weighted), num_classes),
        error=np.sqrt(variance),
    )


def _rank_methods(methods: np.ndarray) -> np.ndarray:
    """Return the place of each method in ``_FROM_BEST``."""
    code, names = pd.factorize(methods)
    return pd.Index(_FROM_BEST).get_indexer(pd.Index(names))[code]
