"""Predictions of all rows, labels of some -> the share of each class, with intervals.

The share of predicted labels is biased: a model makes more errors in one direction, most of all if
the shares of the classes differ from its training data. Prediction-powered inference adds the mean
error on labelled rows that the model has not seen: A. N. Angelopoulos et al., "Prediction-powered
inference", Science 382 (2023), with the tuning of A. N. Angelopoulos, J. C. Duchi and T. Zrnic,
"PPI++: Efficient prediction-powered inference", arXiv:2311.01453 (2023). In surveys it is the
regression estimator. With L the sample, U the population, y the label (1 or 0) and p the
probability of a class, and means over L weighted by w,

    share = mean_L(y) + t (mean_U(p) - mean_L(p))

The tuning t minimizes the sum of the classes' variances. It is the same for all classes, so the
shares add up to 1. The variance of a share is the variance of y - t p over the sample, by
linearization, divided by the sample's size, with the correction for a finite population: a group
whose rows are all labelled has no error. Rows that are only counted are added with their labels. If
the sums are of clusters (``sampling.join_clusters``), the variance and the sample size are, too.

A group with few labels takes t and the mean error from its pool, or from all groups if the pool
also has few. Two parts are added to its variance: the variance between the groups of the pool, by
the analysis of variance and rather too large than too small, and the variance of its own rows.

The interval is Wilson's, with the number of labels that would have the same variance without
predictions, and with the quantile of Student's t: the normal interval contains the share of a rare
class too seldom. For a pooled error Student's t has Satterthwaite's degrees of freedom (F. E.
Satterthwaite, Biometrics Bulletin 2, 1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse, special

CORRECTED = "corrected"
POOLED = "pooled"
COUNTED = "counted"
UNCORRECTED = "uncorrected"
UNLABELLED = "unlabelled"
METHODS = {
    CORRECTED: "mean probability, plus the mean error on labelled rows of the group",
    POOLED: "few labelled rows in the group: its mean probability, plus the mean error on the "
    "labelled rows of all groups, or of all periods of the group",
    UNLABELLED: "no row of the group has a label to measure the error by: the error of all groups "
    "is used, and the group is never said to be higher or lower",
    COUNTED: "every row is labelled",
    UNCORRECTED: "there are too few labelled rows to measure the error: the share of predicted "
    "labels",
}
"""What each method means, as the page of shares explains it."""
_FROM_BEST = (COUNTED, CORRECTED, POOLED, UNLABELLED, UNCORRECTED)
"""The methods, from the strongest to the weakest."""
MIN_LABELLED = 30
"""With a smaller effective sample a group takes the error of its pool, or of all groups."""
_PSEUDO_ERRORS = 2
"""Errors of predictions, +1 and -1, that are added to the errors of the labelled rows."""
MIN_CORRECTED = 10
"""With a smaller effective sample of all groups together, no share is corrected."""


@dataclass(frozen=True)
class Shares:
    """Shares of C classes among the rows of G groups.

    Shape: (G groups, C classes)
        - rows, labelled, method: ``(G,)``; ``method`` is one of ``METHODS``.
        - labelled: rows of the sample, and rows that are only counted.
        - predicted: ``(G, C)``, the share of predicted labels, not corrected.
        - share, low, high: ``(G, C)``, the corrected share and the bounds of its 95% interval; NaN
          if the method is ``UNCORRECTED``.
        - error: ``(G, C)``, the standard error of the share if the rows are a sample of further
          texts, for comparing groups; NaN like the share.
    """

    rows: np.ndarray
    labelled: np.ndarray
    method: np.ndarray
    predicted: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class _Samples:
    """Statistics of the samples of G groups, and the shares that they estimate.

    Shape: (G groups, C classes)
        - share: ``(G, C)``, estimated for the population.
        - label_mean, probability_mean: ``(G, C)``, over the sample.
        - label_variance, covariance, probability_variance: ``(G, C)``, of label y and probability p
          over the rows or clusters of the sample.
        - tuning: ``(G, 1)``, the factor t.
        - size, num_rows: ``(G, 1)``, the effective number of clusters and of rows: (Σ w)² / Σ w²
          (L. Kish, Survey Sampling, 1965).
        - left: ``(G, 1)``, the correction for a finite population: the fraction of the population
          that is not in the sample.
    """

    share: np.ndarray
    label_mean: np.ndarray
    probability_mean: np.ndarray
    label_variance: np.ndarray
    covariance: np.ndarray
    probability_variance: np.ndarray
    tuning: np.ndarray
    size: np.ndarray
    num_rows: np.ndarray
    left: np.ndarray

    def take(self, groups: np.ndarray | int) -> "_Samples":
        """Return the samples of some groups; of one group given as an int, without the axis G."""
        return _Samples(**{field.name: getattr(self, field.name)[groups] for field in fields(self)})

    def residual(self, tuning: np.ndarray) -> np.ndarray:
        """Return the variance of y - tuning p, ``(G, C)``."""
        variance = (
            self.label_variance
            - 2 * tuning * self.covariance
            + tuning**2 * self.probability_variance
        )
        return np.asarray(np.maximum(variance, 0))

    @property
    def pseudo_variance(self) -> np.ndarray:
        """Return the variance that ``_PSEUDO_ERRORS`` add, ``(G, 1)``.

        A sample may contain no error of an accurate model.
        """
        return np.asarray(_PSEUDO_ERRORS * self.size / self.num_rows**2)

    @property
    def variance(self) -> np.ndarray:
        """Return the variance of the share, ``(G, C)``, with t times the pseudo-variance."""
        residual = self.residual(self.tuning) + self.tuning * self.pseudo_variance
        return np.asarray(self.left * residual / self.size)


class _Pools(NamedTuple):
    """The pool of each of G groups; it may be all groups together."""

    sample: _Samples
    """The sample of the pool."""
    between: np.ndarray
    """``(G, C)``, the variance of the mean error between the groups of the pool."""
    freedom: np.ndarray
    """``(G, 1)``, the degrees of freedom of ``between``."""


class _Estimates(NamedTuple):
    """Shares of C classes in G groups, with bounds and variances: ``(G, C)`` each."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    variance: np.ndarray


@np.errstate(invalid="ignore", divide="ignore")
def estimate(
    sums: pd.DataFrame, *, min_labelled: int = MIN_LABELLED, pool: pd.Index | None = None
) -> Shares:
    """Estimate the share of each class in each group; see the module for formulas and sources.

    Args:
        sums: Sums of groups that have no row in common, see :mod:`sampling`.
        min_labelled: Minimum effective size of a group's own sample.
        pool: The name of each group's pool, such as the airline, where groups are the weeks of
            each airline. Default: one pool.

    Example:
        500 of 1,000 texts have the probability 0.8 of being positive, and 500 have 0.2. 100 texts
        are labelled: 44 with probability 0.8, of which 32 are positive, and 56 with 0.2, of which 8
        are positive. So mean_L(y) = 0.4, mean_L(p) = 0.464 and mean_U(p) = 0.5; t is the covariance
        over the variance, 0.0864 / 0.09009 = 0.959, and the share is 0.4 + 0.959 · 0.036.

        >>> from sentiflow.metrics import sampling
        >>> positive = np.repeat([0.8, 0.2, 0.8, 0.2], [44, 56, 456, 444])
        >>> sums = sampling.add_up(
        ...     pd.DataFrame({"corpus": np.zeros(1000)}),
        ...     prediction=(positive > 0.5).astype(int),
        ...     probabilities=np.stack([1 - positive, positive], axis=1),
        ...     label=np.repeat([1, 0, 1, 0, -1], [32, 12, 8, 48, 900]),
        ...     weight=np.ones(1000),
        ... )
        >>> found = estimate(sums)
        >>> [round(float(ends[0, 1]), 4) for ends in (found.share, found.low, found.high)]
        [0.4345, 0.3572, 0.5152]
    """
    rows = sums["rows"].to_numpy()
    num_labelled = sums["labelled"].to_numpy()
    samples = _measure(sums)
    pools = _measure_pools(sums, samples, min_labelled, pool)
    is_counted = num_labelled == sums["population"].to_numpy()
    is_large = is_counted | (samples.size >= min_labelled)
    alone = _estimate_alone(samples, pools.sample)
    pooled = _estimate_by_pool(sums, pools)
    of_population = _choose(is_large, alone, pooled)
    of_all = _add_counted(sums, of_population)
    variance = np.where(is_counted, 0, of_all.variance)
    error = np.sqrt(variance + of_all.share * (1 - of_all.share) / rows)

    # From the weakest to the strongest reason: a later one overrides an earlier one.
    method = np.full(len(sums), UNLABELLED, dtype=object)
    method[num_labelled[:, 0] > 0] = POOLED
    method[is_large[:, 0]] = CORRECTED
    if pools.sample.size.max() < MIN_CORRECTED:
        method[:] = UNCORRECTED
    method[is_counted[:, 0]] = COUNTED
    for values in (of_all.share, of_all.low, of_all.high, error):
        values[method == UNCORRECTED] = np.nan
    return Shares(
        rows=rows[:, 0],
        labelled=num_labelled[:, 0] + sums["counted"].to_numpy().sum(axis=1),
        method=method,
        predicted=sums["predicted"].to_numpy() / rows,
        share=of_all.share,
        low=of_all.low,
        high=of_all.high,
        error=error,
    )


def _choose(is_first: np.ndarray, first: _Estimates, second: _Estimates) -> _Estimates:
    """Take the first estimates for some groups, and the second ones for the others."""
    return _Estimates(
        share=np.where(is_first, first.share, second.share),
        low=np.where(is_first, first.low, second.low),
        high=np.where(is_first, first.high, second.high),
        variance=np.where(is_first, first.variance, second.variance),
    )


def _add_counted(sums: pd.DataFrame, of_population: _Estimates) -> _Estimates:
    """Estimate the shares among all rows: the population and the rows that are only counted."""
    rows = sums["rows"].to_numpy()
    counted = sums["counted"].to_numpy() / rows
    weight = sums["population"].to_numpy() / rows

    def add(share: np.ndarray) -> np.ndarray:
        return np.clip(counted + weight * np.nan_to_num(share), 0, 1)

    return _Estimates(
        share=add(of_population.share),
        low=add(of_population.low),
        high=add(of_population.high),
        variance=weight**2 * of_population.variance,
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
        strata: For each stratum the numbers of its groups among all G groups; and their shares.

    Example:
        50% of 100 rows of one stratum are positive, and 20% of 300 rows of another: together 110 of
        400. The intervals reach 0.1 and 0.04 to each side, and 0.025 and 0.03 after weighting.

        >>> def stratum(rows, share, reach):
        ...     one = np.array([[share]])
        ...     return Shares(
        ...         rows=np.array([rows]), labelled=np.array([50]), method=np.array([CORRECTED]),
        ...         predicted=one, share=one, low=one - reach, high=one + reach, error=one * 0,
        ...     )
        >>> both = [stratum(100, 0.5, 0.1), stratum(300, 0.2, 0.04)]
        >>> found = join([(np.array([0]), each) for each in both])
        >>> [round(float(ends[0, 0]), 4) for ends in (found.low, found.share, found.high)]
        [0.2359, 0.275, 0.3141]
    """
    group = np.concatenate([numbers for numbers, _ in strata])
    part = _concatenate([shares for _, shares in strata])
    membership = sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))))
    rows = membership @ part.rows
    weight = membership * part.rows / rows[:, None]
    square = weight.power(2)
    share = weight @ part.share
    below = np.sqrt(square @ (part.share - part.low) ** 2)
    above = np.sqrt(square @ (part.share - part.high) ** 2)
    worst = np.zeros(len(rows), np.int64)
    np.maximum.at(worst, group, [_FROM_BEST.index(method) for method in part.method])
    return Shares(
        rows=rows,
        labelled=membership @ part.labelled,
        method=np.array(_FROM_BEST, object)[worst],
        predicted=weight @ part.predicted,
        share=share,
        low=np.clip((share - below).round(12), 0, 1),
        high=np.clip((share + above).round(12), 0, 1),
        error=np.sqrt(square @ part.error**2),
    )


def _concatenate(parts: Sequence[Shares]) -> Shares:
    """Put the groups of several results one after the other."""
    columns = {}
    for field in fields(Shares):
        columns[field.name] = np.concatenate([getattr(part, field.name) for part in parts])
    return Shares(**columns)


@np.errstate(invalid="ignore", divide="ignore")
def _measure(sums: pd.DataFrame) -> _Samples:
    """Measure each sample by itself; means and variances are NaN where a sample is empty.

    ``sampling.add_up`` explains the sums: ``wy`` is the sum of w y, ``wwyp`` of w² y p.
    """
    of = {name: sums[name].to_numpy() for name in sums.columns.unique(level=0)}
    total = of["population"]
    n = of["clusters"]
    w = of["w"]
    ww = of["ww"]
    size = np.where(n > 0, w**2 / ww, 0)
    num_rows = np.where(n > 0, w**2 / of["square"], 0)
    left = np.maximum(1 - num_rows / total, 0)

    y = of["wy"] / w
    p = of["wp"] / w
    population_mean = of["p"] / total
    covariance = (of["wyp"] / w - y * p).sum(axis=1, keepdims=True)
    spread = (of["pp"] / total - population_mean**2) * total / (total - 1)
    spread = spread.sum(axis=1, keepdims=True)
    # U includes L. PPI++ compares L with the other rows of U: its tuning is left · t, from 0 to 1.
    tuning = np.nan_to_num(np.clip(left * covariance / spread, 0, 1) / left)

    # Sums of w² (y - mean)² and so on; the mean and the tuning take two degrees of freedom.
    per_row = n / np.maximum(n - 2, 1) / ww
    yy = of["wwyy"] - 2 * y * of["wwy"] + y**2 * ww
    yp = of["wwyp"] - p * of["wwy"] - y * of["wwp"] + y * p * ww
    pp = of["wwpp"] - 2 * p * of["wwp"] + p**2 * ww
    return _Samples(
        share=y + tuning * (population_mean - p),
        label_mean=y,
        probability_mean=p,
        label_variance=yy * per_row,
        covariance=yp * per_row,
        probability_variance=pp * per_row,
        tuning=tuning,
        size=size,
        num_rows=num_rows,
        left=left,
    )


@np.errstate(invalid="ignore", divide="ignore")
def _estimate_alone(samples: _Samples, pool: _Samples) -> _Estimates:
    """Estimate each group from its own sample.

    The variance is for tests, and rather too large than too small. A group that lacks a rare class
    by chance has a low share and also a low variance, so it would seem to differ. Therefore the
    pseudo-errors count in full, and the variance of its rows is at least the pool's.
    """
    low, high = _bound(samples)
    own = samples.residual(samples.tuning) + samples.pseudo_variance
    residual = np.fmax(own, pool.residual(samples.tuning))
    variance = samples.left * residual / samples.size
    return _Estimates(share=samples.share, low=low, high=high, variance=variance)


@np.errstate(invalid="ignore", divide="ignore")
def _estimate_by_pool(sums: pd.DataFrame, pools: _Pools) -> _Estimates:
    """Estimate each group from the sample of its pool.

    The interval includes Wilson's interval of one group with all labels of the pool, which is wider
    for rare classes.
    """
    pool = pools.sample
    population = np.maximum(sums["population"].to_numpy(), 1)
    probability_mean = sums["p"].to_numpy() / population
    share = pool.label_mean + pool.tuning * (probability_mean - pool.probability_mean)

    # The variance q (1 - q) of a class without a label, with q = 1 / (n + 2) by Laplace's rule.
    unseen = (pool.size + 1) / (pool.size + 2) ** 2
    residual = np.maximum(pool.residual(pool.tuning), unseen)
    within = residual * (1 / pool.size + 1 / population)
    variance = within + pools.between
    of_within = within**2 / np.maximum(pool.size - 2, 1)
    of_between = pools.between**2 / np.maximum(pools.freedom, 1)
    freedom = variance**2 / (of_within + of_between)  # by Satterthwaite
    reach = _quantile(freedom) * np.sqrt(variance)

    low, high = _bound(replace(pool, share=share))
    low = np.fmin(share - reach, low)
    high = np.fmax(share + reach, high)
    return _Estimates(share=share, low=low, high=high, variance=variance)


@np.errstate(invalid="ignore", divide="ignore")
def _measure_pools(
    sums: pd.DataFrame, samples: _Samples, min_labelled: int, names: pd.Index | None
) -> _Pools:
    """Measure the pool of each group, or all groups together where the pool is too small.

    Args:
        sums: Sums of G groups.
        samples: The sample of each group.
        min_labelled: Minimum effective size of a pool's sample.
        names: The name of each group's pool. None: one pool.
    """
    everything = np.zeros(len(sums), np.int64)
    pool = everything if names is None else pd.factorize(names)[0]
    num_pools = int(pool.max()) + 1
    pool_sums = sums.groupby(pool).sum()
    pools = _measure(pd.concat([pool_sums, sums.groupby(everything).sum()]))
    is_large = pools.size[pool, 0] >= min_labelled
    # The last row of ``pools`` is all groups together.
    chosen = np.where(is_large, pool, num_pools)
    between = np.zeros_like(samples.share)
    freedom = np.zeros((len(pool), 1))
    for number in np.unique(chosen):
        inside = chosen == number
        is_member = pool == number
        if number == num_pools:
            is_member = np.ones(len(pool), bool)
        members = samples.take(np.flatnonzero(is_member))
        between[inside], freedom[inside] = _vary_between(members, pools.take(int(number)))
    return _Pools(sample=pools.take(chosen), between=between, freedom=freedom)


def _vary_between(members: _Samples, pool: _Samples) -> tuple[np.ndarray, int]:
    """Estimate the variance of the mean error between the groups of a pool; usually too large.

    Too large a variance is safe: intervals become wider.

    The analysis of variance of one factor with unequal groups (S. R. Searle, G. Casella and C. E.
    McCulloch, Variance Components, 1992, chapter 3), by sums of squares between and within groups.

    Returns:
        The variance for each class, and the degrees of freedom.
    """
    errors = members.label_mean - pool.tuning * members.probability_mean
    mean = pool.label_mean - pool.tuning * pool.probability_mean
    sizes = members.size
    total = sizes.sum()
    freedom = (sizes > 0).sum() - 1  # groups with labels, minus 1
    squares = (sizes * np.nan_to_num(errors - mean) ** 2).sum(axis=0)
    within = (pool.residual(pool.tuning) * total - squares) / (total - freedom - 1)
    mean_size = (total - (sizes**2).sum() / total) / freedom
    # With few groups, the unbiased estimate of the variance between groups is too small in more
    # than half of all cases, and often 0. This one is above the true variance in 70% of cases.
    low_chi_square = special.chdtri(max(freedom, 1), 0.7)
    variance = np.maximum(squares / low_chi_square - np.maximum(within, 0), 0) / mean_size
    return np.nan_to_num(variance, posinf=0), freedom


def _quantile(freedom: np.ndarray) -> np.ndarray:
    """Return the quantile of Student's t for a 95% interval."""
    return np.asarray(special.stdtrit(np.maximum(freedom, 1), 0.975))


@np.errstate(invalid="ignore", divide="ignore")
def _bound(sample: _Samples) -> tuple[np.ndarray, np.ndarray]:
    """Bound the shares among the populations by the interval of E. B. Wilson (1927).

    Journal of the American Statistical Association 22. With s the share, n the number of labels
    that would have the same variance without predictions, and t the quantile of Student's t,

        (s + t² / 2n ± t √(s (1 - s) / n + t² / 4n²)) / (1 + t² / n)
    """
    size = sample.size
    y = sample.label_mean
    share = np.clip(sample.share, 0, 1)
    label_variance = y * (1 - y) * size / (size - 1)
    # The few rows of a rare class may have small weights by chance, and then a small variance. So
    # the labels are also counted by a label variance with these weights; the smaller count is used.
    weighted_variance = sample.num_rows * sample.residual(np.zeros(1)) / size
    labels = np.fmin(label_variance / sample.variance, weighted_variance / sample.variance)
    labels = np.where(label_variance > 0, labels, size)
    square = _quantile(size - 2) ** 2 / labels  # t² / n
    middle = (share + square / 2) / (1 + square)
    reach = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return middle - reach, middle + reach
