"""Sums of predictions and a wanted half-width of intervals -> how many labels it needs.

The sample of a draw is expected, not drawn: with N rows in a cell and c the chance of each to be
drawn, the sample has the sums c N of rows, N of weights 1 / c, and N / c of squared weights. So the
expected sums give the statistics of :mod:`share_samples`, whose interval of a share is the interval
that the labels will give: the variance of the difference between labels and probabilities (W. G.
Cochran, Sampling Techniques, 1977, section 7.5), the correction for a finite population, Student's
t, and the design effect of the weights (L. Kish, Survey Sampling, 1965, section 11.7).

What the labels will say is unknown. If the probabilities are right, the label of a row with the
probability p of a class has the variance p (1 - p), and the sums of labels are sums of p. If there
are labels, they measure by which factors the variances of labels and probabilities and their
covariance differ from that (:func:`find_factors`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.metrics import sampling
from sentiflow.metrics.share_samples import Samples, bound, measure_named
from sentiflow.metrics.shares import MIN_CORRECTED, MIN_LABELLED

UNKNOWN = 0.5
"""Half-width of the interval of a share of which nothing is known."""
_NUM_STEPS = 60
"""Halvings that find any number of labels."""


class Factors(NamedTuple):
    """How measured statistics of G samples differ from the expected ones, ``(G, C)`` each."""

    label_shift: np.ndarray
    """The mean of the labels, minus the mean of the probabilities."""
    label_variance: np.ndarray
    covariance: np.ndarray
    probability_variance: np.ndarray

    def take(self, groups: np.ndarray) -> "Factors":
        """Return the factors of some groups."""
        return Factors(*(values[groups] for values in self))

    def where(self, is_own: np.ndarray, others: "Factors") -> "Factors":
        """Keep the factors of some groups, ``(G, 1)`` bools, and take others for the rest."""
        pairs = zip(self, others, strict=True)
        return Factors(*(np.where(is_own, own, other) for own, other in pairs))


@np.errstate(invalid="ignore", divide="ignore")
def expect(
    sums: pd.DataFrame, chance: np.ndarray, group: np.ndarray, factors: Factors | None = None
) -> Samples:
    """Expect the samples of G groups of cells; see the module for the formula and its sources.

    Args:
        sums: Sums of N cells, see :mod:`sampling`. Their labels do not matter.
        chance: ``(N,)``, the chance of the rows of each cell to be in the sample, above 0.
        group: ``(N,)``, the number of each cell's group, from 0.
        factors: Of the G groups. Default: the probabilities are right.

    Example:
        10,000 rows, half with probability 0.9 and half with 0.1. The variance of the difference is
        0.9 · 0.1, so 1,000 labels give about 1.96 · √(0.09 / 1000 · 0.9).

        >>> p, pp = 0.5 * 10_000, (0.9**2 + 0.1**2) / 2 * 10_000
        >>> names = [("rows", 0), ("population", 0), ("p", 0), ("p", 1), ("pp", 0), ("pp", 1)]
        >>> sums = pd.DataFrame([[10_000, 10_000, p, p, pp, pp]], columns=pd.Index(names))
        >>> expect_reach(expect(sums, np.array([0.1]), np.array([0]))).round(4).tolist()
        [[0.0178, 0.0178]]
    """
    of = sampling.by_name(sums)
    c = chance[:, None]
    rows, p, pp = of["population"], of["p"], of["pp"]
    values = {
        "population": rows,
        "clusters": c * rows,
        "square": rows / c,
        "w": rows,
        "ww": rows / c,
        "p": p,
        "pp": pp,
        "wy": p,
        "wp": p,
        "wyp": pp,
        "wwy": p / c,
        "wwp": p / c,
        "wwyy": p / c,
        "wwyp": pp / c,
        "wwpp": pp / c,
    }
    num_groups = int(group.max(initial=-1)) + 1
    added = {}
    for name, each in values.items():
        columns = [np.bincount(group, column, num_groups) for column in each.T]
        added[name] = np.stack(columns, axis=1)
    expected = measure_named(added)
    # Two degrees of freedom, which a measured variance makes up for, are not lost here.
    n = added["clusters"]
    return _apply(expected, np.maximum(n - 2, 1) / n, factors)


@np.errstate(invalid="ignore", divide="ignore")
def _apply(expected: Samples, scale: np.ndarray, factors: Factors | None) -> Samples:
    """Multiply the expected variances by a scale, ``(G, 1)``, and by the factors of the labels."""
    share = expected.share
    of_labels = expected.label_variance * scale
    covariance = expected.covariance * scale
    of_probabilities = expected.probability_variance * scale
    if factors is not None:
        share = np.clip(share + factors.label_shift, 0, 1)
        of_labels = of_labels * factors.label_variance
        covariance = covariance * factors.covariance
        of_probabilities = of_probabilities * factors.probability_variance
    total = covariance.sum(axis=1, keepdims=True)
    spread = of_probabilities.sum(axis=1, keepdims=True)
    tuning = np.clip(total / spread, 0, 1 / expected.finite_correction)
    return replace(
        expected,
        share=share,
        label_mean=share,
        label_variance=of_labels,
        covariance=covariance,
        probability_variance=of_probabilities,
        tuning=np.nan_to_num(tuning),
    )


def find_factors(measured: Samples, expected: Samples) -> Factors:
    """Find the factors by which measured statistics differ from the expected ones.

    Statistics of groups without a sample, or that are expected to be 0, do not differ.
    """

    def divide(name: str) -> np.ndarray:
        of_labels = np.nan_to_num(getattr(measured, name), nan=-1)
        of_model = getattr(expected, name)
        is_known = has_sample & (of_model > 0)
        return np.divide(of_labels, of_model, out=np.ones_like(of_model), where=is_known)

    has_sample = (measured.size > 0) & np.ones_like(expected.share, bool)
    shift = np.where(has_sample, measured.label_mean - expected.label_mean, 0)
    return Factors(
        label_shift=np.nan_to_num(shift),
        label_variance=divide("label_variance"),
        covariance=divide("covariance"),
        probability_variance=divide("probability_variance"),
    )


def without_predictions(samples: Samples) -> Samples:
    """Return what the samples tell without the probabilities: the labels alone."""
    return replace(samples, tuning=np.zeros_like(samples.tuning))


@np.errstate(invalid="ignore", divide="ignore")
def expect_bounds(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Expect by how much the bounds are below and above the shares, ``(G, C)`` each.

    With fewer than ``shares.MIN_CORRECTED`` labels any share of the group is possible. If all rows
    are labelled, the share is known.
    """
    low, high = bound(samples)
    share = np.clip(samples.share, 0, 1)
    is_known = samples.finite_correction <= 0
    is_unknown = (samples.size < MIN_CORRECTED) & ~is_known
    found = []
    for distance in (share - low, high - share):
        found.append(np.where(is_known, 0, np.where(is_unknown, UNKNOWN, distance)))
    return found[0], found[1]


def expect_reach(samples: Samples) -> np.ndarray:
    """Expect the half-width of the intervals, ``(G, C)``."""
    below, above = expect_bounds(samples)
    return (below + above) / 2


def join_reach(samples: Samples, weight: np.ndarray) -> np.ndarray:
    """Expect the half-width of the interval of all strata together, ``(C,)``.

    As ``strata.join`` does. Below ``shares.MIN_LABELLED`` labels nothing is promised.

    Args:
        samples: The expected sample of each of S strata.
        weight: ``(S,)``, the part of all rows that each stratum's population is.
    """
    is_open = samples.finite_correction > 0
    if is_open.any() and samples.size.sum() < MIN_LABELLED:
        return np.full(samples.share.shape[1], UNKNOWN)
    below, above = expect_bounds(samples)
    squares = weight[:, None] ** 2
    both = [np.sqrt((squares * distance**2).sum(axis=0)) for distance in (below, above)]
    return np.asarray((both[0] + both[1]) / 2)


def count_labels(
    reach: Callable[[np.ndarray], np.ndarray], wanted: float, most: np.ndarray
) -> np.ndarray:
    """Count the labels that the wanted half-width needs, by halving.

    Args:
        reach: Number of labels of G groups -> their largest half-width, ``(G,)``. It falls as the
            labels grow.
        wanted: The half-width.
        most: ``(G,)``, the numbers of rows.

    Returns:
        ``(G,)``; ``most`` where only all rows are enough.

    Example:
        >>> count_labels(lambda n: 1 / np.sqrt(n), 0.1, np.array([1000, 50])).tolist()
        [100, 50]
    """
    too_few = np.zeros(len(most), np.int64)
    enough = most.astype(np.int64)
    for _ in range(_NUM_STEPS):
        if (enough - too_few <= 1).all():
            break
        middle = np.maximum((too_few + enough + 1) // 2, 1)
        is_enough = reach(middle) <= wanted
        enough = np.where(is_enough, np.minimum(middle, enough), enough)
        too_few = np.where(is_enough, too_few, np.minimum(middle, enough - 1))
    return enough
