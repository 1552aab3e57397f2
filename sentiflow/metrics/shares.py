"""Predictions of all rows, labels of some -> the share of each class, with intervals and tests.

The share of predicted labels is biased: a model errs more to one side, and most where a corpus has
another share of classes than its training. Prediction-powered inference adds the mean error on
labelled rows that the model has not seen: A. N. Angelopoulos et al., "Prediction-powered
inference", Science 382 (2023), with the tuning of A. N. Angelopoulos, J. C. Duchi and T. Zrnic,
"PPI++" (2023). Surveys know it as the regression estimator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from scipy import sparse, special

from sentiflow.metrics.paired import adjust

CORRECTED, POOLED, COUNTED, UNCORRECTED = "corrected", "pooled", "counted", "uncorrected"
UNLABELLED = "unlabelled"
METHODS = {
    CORRECTED: "mean probability, plus the mean error on labelled rows of the group",
    POOLED: "few labelled rows in the group: its mean probability, plus the mean error on the "
    "labelled rows of all groups, or of all periods of the group",
    UNLABELLED: "no row of the group has a label to measure the error by: it takes that of all "
    "groups, and is never said to be higher or lower",
    COUNTED: "every row is labelled",
    UNCORRECTED: "too few labelled rows, or none, tell the error: the share of predicted labels",
}
_WORSE = (COUNTED, CORRECTED, POOLED, UNLABELLED, UNCORRECTED)
MIN_LABELLED = 30
"""With fewer labelled rows a group's share takes the error of all groups."""
_PSEUDO_ERRORS = 2
"""Errors of predictions, +1 and -1, that are added to those of the labelled rows."""
_FEWEST = 10
"""Labelled rows without which nothing is corrected."""


@dataclass(frozen=True)
class Shares:
    """Shares of C classes among the rows of G groups.

    Shape: (G groups, C classes)
        - rows, labelled, method: ``(G,)``; ``method`` is one of ``METHODS``.
        - predicted: ``(G, C)``, the uncorrected share: that of predicted labels.
        - share, low, high: ``(G, C)``, the corrected share and the bounds of its 95 % interval; NaN
          without any labelled row.
        - error: ``(G, C)``, its standard error if the rows are a sample of further texts: with it
          groups are compared.
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
class _Sample:
    """What the samples of G groups say of the populations they stand for.

    Shape: (G groups, C classes)
        - share: ``(G, C)``.
        - label_mean, probability_mean: ``(G, C)``, over the sample.
        - moments: ``(G, C, 3)``, the variance of y, the covariance with p, and the variance of p
          over rows or clusters.
        - tuning, size, num_rows: ``(G, 1)``; the effective size (Kish 1965), of clusters and rows.
        - left: ``(G, 1)``, the correction for a finite population.
    """

    share: np.ndarray
    label_mean: np.ndarray
    probability_mean: np.ndarray
    moments: np.ndarray
    tuning: np.ndarray
    size: np.ndarray
    num_rows: np.ndarray
    left: np.ndarray

    def residual(self, tuning: np.ndarray) -> np.ndarray:
        """Return the variance of y - tuning p, ``(G, C)``."""
        of_y, covariance, of_p = np.moveaxis(self.moments, -1, 0)
        return np.asarray(np.maximum(of_y - 2 * tuning * covariance + tuning**2 * of_p, 0))

    @property
    def more(self) -> np.ndarray:
        """Return the variance of two errors of rows, +1 and -1: an accurate model makes few."""
        return np.asarray(_PSEUDO_ERRORS * self.size / self.num_rows**2)

    @property
    def variance(self) -> np.ndarray:
        """Return the variance of the share, ``(G, C)``; the more errors keep it above 0."""
        residual = self.residual(self.tuning) + self.tuning * self.more
        return np.asarray(self.left * residual / self.size)


@np.errstate(invalid="ignore", divide="ignore")
def estimate(
    sums: pd.DataFrame, *, min_labelled: int = MIN_LABELLED, pool: pd.Index | None = None
) -> Shares:
    """Estimate the share of each class in each group.

    With L the sample, U the population, and means weighted by w,

        share = mean_L(y) + t (mean_U(p) - mean_L(p))

    The tuning t, one for all classes so that shares add up to 1, is that of PPI++: it makes the
    sum of the classes' variances smallest. The variance is that of y - t p over the sample, by
    linearization, with the correction for a finite population: a group whose rows are all
    labelled has no error. Labels that are only counted are added as they are.

    Where the sums are of clusters (``sampling.join_clusters``), so are variance and sample size.

    A group with an effective sample below ``min_labelled`` has t and the mean error of its pool, or
    of all groups if that of the pool is below, too; to its variance come that between the groups of
    the pool, by the analysis of variance and rather too large, and that of its own rows.

    The interval is Wilson's for as many labels as would have the same variance without
    predictions, with the quantile of Student's t: the normal interval covers rare classes too
    seldom. That of a pooled error takes Student's t with Satterthwaite's degrees of freedom.

    Args:
        sums: Those of groups that have no row in common, see :mod:`sampling`.
        min_labelled: Minimum size of a group's own sample.
        pool: Of each group the name of its pool, such as the airline, where groups are the weeks of
            each airline. Default: one pool.
    """
    rows, population, num_labelled, counted, predicted = (
        sums[name].to_numpy() for name in ("rows", "population", "labelled", "counted", "predicted")
    )
    samples = _measure(sums)
    whole, between, freedom = _measure_pools(sums, samples, min_labelled, pool)
    is_counted = num_labelled == population
    is_large = is_counted | (samples.size >= min_labelled)
    parts = np.where(
        is_large,
        np.stack([samples.share, *_bound(samples), _guard(samples, whole)]),
        np.stack(_pool(sums, whole, between, freedom)),
    )
    weight = population / rows
    share, low, high = (
        np.clip(counted / rows + weight * np.nan_to_num(part), 0, 1) for part in parts[:3]
    )
    variance = np.where(is_counted, 0, weight**2 * parts[3])
    error = np.sqrt(variance + share * (1 - share) / rows)
    method = np.where(is_large, CORRECTED, np.where(num_labelled > 0, POOLED, UNLABELLED))
    method = np.where(is_counted, COUNTED, method).astype(object)[:, 0]
    if whole.size.max() < _FEWEST:
        method[~is_counted[:, 0]] = UNCORRECTED
        for values in (share, low, high, error):
            values[~is_counted[:, 0]] = np.nan
    labelled = num_labelled[:, 0] + counted.sum(axis=1)
    return Shares(rows[:, 0], labelled, method, predicted / rows, share, low, high, error)


def join(strata: Sequence[tuple[np.ndarray, Shares]]) -> Shares:
    """Join the shares of strata, such as the rows that one model has predicted.

    The share of a group is the mean of those of its strata, weighted by rows. The bounds are those
    of independent estimates (G. Y. Zou and A. Donner, "Construction of confidence limits about
    effect measures", Statistics in Medicine 27, 2008). A group is corrected if all its strata are.

    Args:
        strata: For each of the S groups of a stratum the number of its group among all; and shares.
    """
    place = np.concatenate([numbers for numbers, _ in strata])
    of = Shares(*(np.concatenate([getattr(s, f.name) for _, s in strata]) for f in fields(Shares)))
    is_of = sparse.csr_array((np.ones(len(place)), (place, np.arange(len(place)))))
    rows = is_of @ of.rows
    weight = is_of * of.rows / rows[:, None]
    share, square = weight @ of.share, weight.power(2)
    below, above = (np.sqrt(square @ (of.share - end) ** 2) for end in (of.low, of.high))
    worst = np.zeros(len(rows), np.int64)
    np.maximum.at(worst, place, [_WORSE.index(method) for method in of.method])
    return Shares(
        rows=rows,
        labelled=is_of @ of.labelled,
        method=np.array(_WORSE, object)[worst],
        predicted=weight @ of.predicted,
        share=share,
        low=np.clip((share - below).round(12), 0, 1),
        high=np.clip((share + above).round(12), 0, 1),
        error=np.sqrt(square @ of.error**2),
    )


@np.errstate(invalid="ignore", divide="ignore")
def _measure(sums: pd.DataFrame) -> _Sample:
    """Measure each sample by itself; what fewer than two rows do not tell is NaN."""
    of = {name: sums[name].to_numpy() for name in sums.columns.unique(level=0)}
    total, n, w, ww = (of[name] for name in ("population", "clusters", "w", "ww"))
    size = np.where(n > 0, w**2 / ww, 0)
    num_rows = np.where(n > 0, w**2 / of["square"], 0)
    left = np.maximum(1 - num_rows / total, 0)
    y, p, mean = of["wy"] / w, of["wp"] / w, of["p"] / total
    covariance = (of["wyp"] / w - y * p).sum(axis=1, keepdims=True)
    spread = ((of["pp"] / total - mean**2) * total / (total - 1)).sum(axis=1, keepdims=True)
    tuning = np.nan_to_num(np.clip(left * covariance / spread, 0, 1) / left)
    squares = [
        of["wwyy"] - 2 * y * of["wwy"] + y**2 * ww,
        of["wwyp"] - p * of["wwy"] - y * of["wwp"] + y * p * ww,
        of["wwpp"] - 2 * p * of["wwp"] + p**2 * ww,
    ]
    moments = np.stack(squares, axis=-1) * (n / np.maximum(n - 2, 1) / ww)[..., None]
    return _Sample(y + tuning * (mean - p), y, p, moments, tuning, size, num_rows, left)


@np.errstate(invalid="ignore", divide="ignore")
def _guard(samples: _Sample, whole: _Sample) -> np.ndarray:
    """Bound the variance of groups' shares for tests, ``(G, C)``.

    A group that lacks a rare class by chance has a low share, and a low variance too, so that it
    would seem to differ: it has two errors more, and no smaller variance than its pool.
    """
    alone = samples.residual(samples.tuning) + samples.more
    return np.asarray(samples.left * np.fmax(alone, whole.residual(samples.tuning)) / samples.size)


@np.errstate(invalid="ignore", divide="ignore")
def _pool(
    sums: pd.DataFrame, whole: _Sample, between: np.ndarray, freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimate each group from its pool: share, bounds and variance, ``(G, C)`` each.

    The interval holds that of a group of its own with as many labels as the pool: Wilson's is wider
    for rare classes.
    """
    population = np.maximum(sums["population"].to_numpy(), 1)
    probability_mean = sums["p"].to_numpy() / population
    share = whole.label_mean + whole.tuning * (probability_mean - whole.probability_mean)
    rare = (whole.size + 1) / (whole.size + 2) ** 2  # of a class that no label has
    within = np.maximum(whole.residual(whole.tuning), rare) * (1 / whole.size + 1 / population)
    variance = within + between
    uncertain = within**2 / np.maximum(whole.size - 2, 1) + between**2 / np.maximum(freedom, 1)
    reach = _quantile(variance**2 / uncertain) * np.sqrt(variance)
    low, high = _bound(replace(whole, share=share))
    return share, np.fmin(share - reach, low), np.fmax(share + reach, high), variance


@np.errstate(invalid="ignore", divide="ignore")
def _measure_pools(
    sums: pd.DataFrame, samples: _Sample, min_labelled: int, names: pd.Index | None
) -> tuple[_Sample, np.ndarray, np.ndarray]:
    """Measure the pool of each group, and how the error differs between the pool's groups.

    Returns:
        The pool's sample; the variance between groups ``(G, C)``, and its degrees of freedom
        ``(G, 1)``.
    """
    every = np.zeros(len(sums), np.int64)
    pool = every if names is None else pd.factorize(names)[0]
    num_pools = int(pool.max()) + 1
    pools = _measure(pd.concat([sums.groupby(pool).sum(), sums.groupby(every).sum()]))
    chosen = np.where(pools.size[pool, 0] >= min_labelled, pool, num_pools)
    residual = pools.residual(pools.tuning)
    between, groups = np.zeros_like(samples.share), np.zeros((len(pool), 1))
    for one in np.unique(chosen):
        inside = chosen == one
        members = np.flatnonzero(pool == one) if one < num_pools else np.arange(len(pool))
        errors = samples.label_mean[members] - pools.tuning[one] * samples.probability_mean[members]
        mean = pools.label_mean[one] - pools.tuning[one] * pools.probability_mean[one]
        sizes, num_rows = samples.size[members], samples.size[members].sum()
        freedom = (sizes > 0).sum() - 1
        squares = (sizes * np.nan_to_num(errors - mean) ** 2).sum(axis=0)
        within = (residual[one] * num_rows - squares) / (num_rows - freedom - 1)
        usual = (num_rows - (sizes**2).sum() / num_rows) / freedom
        # Few groups tell little of the variance between groups; its unbiased estimate is too small
        # in more than half of all cases, and often 0. This is what it exceeds with 70 %.
        lowest = special.chdtri(max(freedom, 1), 0.7)
        variance = np.maximum(squares / lowest - np.maximum(within, 0), 0) / usual
        between[inside] = np.nan_to_num(variance, posinf=0)
        groups[inside] = freedom
    return _Sample(*(getattr(pools, item.name)[chosen] for item in fields(pools))), between, groups


def _quantile(freedom: np.ndarray) -> np.ndarray:
    """Return the quantile of Student's t for a 95 % interval."""
    return np.asarray(special.stdtrit(np.maximum(freedom, 1), 0.975))


@np.errstate(invalid="ignore", divide="ignore")
def _bound(sample: _Sample) -> tuple[np.ndarray, np.ndarray]:
    """Bound the shares among the populations by Wilson's interval."""
    size, y = sample.size, sample.label_mean
    share, spread = np.clip(sample.share, 0, 1), y * (1 - y) * size / (size - 1)
    # Of a rare class the weights of few rows decide: with usual ones it would have fewer labels.
    usual = sample.num_rows * sample.residual(np.zeros(1)) / size / sample.variance
    labels = np.where(spread > 0, np.fmin(spread / sample.variance, usual), size)
    square = _quantile(size - 2) ** 2 / labels
    middle = (share + square / 2) / (1 + square)
    reach = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return middle - reach, middle + reach


def compare_with_others(shares: Shares) -> np.ndarray:
    """Test each group against all others together: ``(G, C)`` p-values, adjusted by Holm.

    NaN where there is no other group, or no corrected share.
    """
    rows, weighted = shares.rows[:, None], shares.rows[:, None] * shares.share
    variance = (rows * shares.error) ** 2
    others = rows.sum() - rows
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = (weighted.sum(axis=0) - weighted) / others
        error = np.sqrt(shares.error**2 + (variance.sum(axis=0) - variance) / others**2)
        p_values = _test(shares.share - rest, error)
    adjusted = [adjust(column) for column in p_values.T]
    return np.where(np.isnan(p_values), np.nan, np.array(adjusted).T)


def compare_with(share: np.ndarray, error: np.ndarray, one: int) -> np.ndarray:
    """Test a group against each other one: G p-values, NaN for its own.

    If all are below 0.05 and its share is the highest, it is the highest beyond noise: the largest
    p-value of the best against each other decides (K. Hung and W. Fithian, "Rank verification for
    exponential families", Annals of Statistics 47, 2019).

    Args:
        share: The share of a class in each of G groups.
        error: Its standard errors, see :class:`Shares`.
        one: The number of the group.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = _test(share[one] - share, np.hypot(error[one], error))
    p_values[one] = np.nan
    return p_values


def _test(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.asarray(2 * special.ndtr(-np.abs(difference) / error))
