"""Predictions of all rows, labels of some -> the share of each class, with intervals and tests.

The share of predicted labels is biased: a model errs more to one side, and most where a corpus has
another share of classes than its training. Prediction-powered inference adds the mean error on
labelled rows that the model has not seen: A. N. Angelopoulos et al., "Prediction-powered
inference", Science 382 (2023), with the tuning of A. N. Angelopoulos, J. C. Duchi and T. Zrnic,
"PPI++" (2023). Surveys know it as the regression estimator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from sentiflow.metrics.paired import adjust

CORRECTED, POOLED, COUNTED, UNCORRECTED = "corrected", "pooled", "counted", "uncorrected"
METHODS = {
    CORRECTED: "mean probability, plus the mean error on labelled rows of the group",
    POOLED: "few labelled rows: mean probability, plus the mean error on those of all groups, or "
    "of all periods of the group",
    COUNTED: "every row is labelled",
    UNCORRECTED: "no row is labelled: the share of predicted labels alone",
}
MIN_LABELLED = 30
"""With fewer labelled rows a group's share takes the error of all groups."""
LEVEL = 0.95
_FEWEST = 10
"""Labelled rows without which nothing is corrected."""


@dataclass(frozen=True)
class ShareSums:
    """Sums over the rows of G groups, for C classes. Those of parts of the rows can be added.

    Some labelled rows are a *sample*: drawn at random, not seen by the model. The labels of others,
    such as those that it was trained on, say nothing of its errors: they are only *counted*. The
    sample stands for all rows but these, the *population*. A weight w is the inverse of the
    probability with which a row was drawn, or 1 if all rows have the same. y is 1 for rows of the
    class and 0 for others, p their probability.

    Shape: (G groups, C classes)
        - rows, population, labelled, w, ww: ``(G,)``. ``labelled`` is the size of the sample.
        - others: ``(G, C)``. ``predicted`` are rows with this prediction, ``counted`` with this
          label outside of the population. ``p`` and ``pp`` (of p²) are over the population, those
          that begin with w over the sample.
    """

    rows: np.ndarray
    population: np.ndarray
    labelled: np.ndarray
    w: np.ndarray
    ww: np.ndarray
    predicted: np.ndarray
    counted: np.ndarray
    p: np.ndarray
    pp: np.ndarray
    wy: np.ndarray
    wp: np.ndarray
    wyp: np.ndarray
    wwy: np.ndarray
    wwp: np.ndarray
    wwyp: np.ndarray
    wwpp: np.ndarray

    def __add__(self, other: "ShareSums") -> "ShareSums":
        """Add the sums of other rows; groups that are only there come after those of here."""
        size = max(len(self.rows), len(other.rows))
        return ShareSums(*(_pad(a, size) + _pad(b, size) for a, b in zip(self, other, strict=True)))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (getattr(self, field.name) for field in fields(self))

    def merge(self, code: np.ndarray, num_groups: int) -> "ShareSums":
        """Merge groups into those that ``code`` names, from 0 to ``num_groups`` - 1."""
        merged = []
        for values in self:
            total = np.zeros((num_groups, *values.shape[1:]))
            np.add.at(total, code, values)
            merged.append(total)
        return ShareSums(*merged)


def _pad(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, [(0, size - len(values)), *[(0, 0)] * (values.ndim - 1)])


def add_up(
    *,
    group: np.ndarray,
    num_groups: int,
    prediction: np.ndarray,
    probabilities: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
) -> ShareSums:
    """Add up N rows.

    Args:
        group: N numbers of groups, from 0 to ``num_groups`` - 1.
        num_groups: G.
        prediction: N positions among the C classes.
        probabilities: ``(N, C)``; 0 for classes that the model does not have.
        label: N positions among the classes; negative for none.
        weight: Of labelled rows: the weight in the sample, 0 if the label is only counted.
    """
    num_classes = probabilities.shape[1]

    def count(chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        if values is None or values.ndim == 1:
            found = np.bincount(group[chosen], weights=values, minlength=num_groups)
            return found.astype(np.float64)
        columns = [np.bincount(group[chosen], v, num_groups) for v in values.T]
        return np.stack(columns, axis=1)

    def count_classes(chosen: np.ndarray, value: np.ndarray) -> np.ndarray:
        cell = group[chosen] * num_classes + value[chosen]
        counts = np.bincount(cell, minlength=num_groups * num_classes)
        return counts.reshape(num_groups, num_classes).astype(np.float64)

    every, is_labelled = np.ones(len(group), bool), label >= 0
    counted, sample = is_labelled & (weight == 0), is_labelled & (weight > 0)
    p_of_all = probabilities[~counted].astype(np.float64)
    w = weight[sample].astype(np.float64)
    y = (label[sample, None] == np.arange(num_classes)).astype(np.float64)
    p, w_column = probabilities[sample].astype(np.float64), w[:, None]
    return ShareSums(
        rows=count(every),
        population=count(~counted),
        labelled=count(sample),
        w=count(sample, w),
        ww=count(sample, w**2),
        predicted=count_classes(every, prediction),
        counted=count_classes(counted, label),
        p=count(~counted, p_of_all),
        pp=count(~counted, p_of_all**2),
        wy=count(sample, w_column * y),
        wp=count(sample, w_column * p),
        wyp=count(sample, w_column * y * p),
        wwy=count(sample, w_column**2 * y),
        wwp=count(sample, w_column**2 * p),
        wwyp=count(sample, w_column**2 * y * p),
        wwpp=count(sample, w_column**2 * p**2),
    )


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
        - share: ``(G, C)``; ``variance`` is that of the share.
        - label_mean, probability_mean: ``(G, C)``, over the sample.
        - residual: ``(G, C)``, the variance of y - tuning p over rows.
        - tuning, size: ``(G, 1)``; ``size`` is the effective one (Kish 1965).
    """

    share: np.ndarray
    variance: np.ndarray
    label_mean: np.ndarray
    probability_mean: np.ndarray
    residual: np.ndarray
    tuning: np.ndarray
    size: np.ndarray


@np.errstate(invalid="ignore", divide="ignore")
def estimate(
    sums: ShareSums, *, min_labelled: int = MIN_LABELLED, pool: np.ndarray | None = None
) -> Shares:
    """Estimate the share of each class in each group.

    With L the sample, U the population, and means weighted by w,

        share = mean_L(y) + t (mean_U(p) - mean_L(p))

    The tuning t, one for all classes so that shares add up to 1, is that of PPI++: it makes the
    sum of the classes' variances smallest. The variance is that of y - t p over the sample, by
    linearization, with the correction for a finite population: a group whose rows are all
    labelled has no error. Labels that are only counted are added as they are.

    A group with an effective sample below ``min_labelled`` has t and the mean error of its pool, or
    of all groups if that of the pool is below, too; to its variance come that between the groups of
    the pool, by the analysis of variance and rather too large, and that of its own rows.

    The interval is Wilson's for as many labels as would have the same variance without
    predictions, with the quantile of Student's t: the normal interval covers rare classes too
    seldom. That of a pooled error takes Student's t with Satterthwaite's degrees of freedom.

    Args:
        sums: Those of groups that have no row in common.
        min_labelled: Minimum size of a group's own sample.
        pool: G numbers of pools from 0, such as that of the airline, where groups are the weeks of
            each airline. Default: one pool.
    """
    own = _measure(sums)
    whole, between, freedom = _measure_pools(sums, own, min_labelled, pool)
    is_counted = sums.labelled == sums.population
    is_own = is_counted | (own.size[:, 0] >= min_labelled)
    pooled = _pool(sums, whole, between, freedom)
    parts = np.where(
        is_own[:, None], np.stack([own.share, *_bound(own), own.variance]), np.stack(pooled)
    )
    weight = (sums.population / sums.rows)[:, None]
    share, low, high = (
        np.clip(sums.counted / sums.rows[:, None] + weight * np.nan_to_num(part), 0, 1)
        for part in parts[:3]
    )
    variance = np.where(is_counted[:, None], 0, weight**2 * parts[3])
    error = np.sqrt(variance + share * (1 - share) / sums.rows[:, None])
    method = np.where(is_counted, COUNTED, np.where(is_own, CORRECTED, POOLED)).astype(object)
    if whole.size.max() < _FEWEST:
        method[~is_counted] = UNCORRECTED
        for values in (share, low, high, error):
            values[~is_counted] = np.nan
    labelled = sums.labelled + sums.counted.sum(axis=1)
    predicted = sums.predicted / sums.rows[:, None]
    return Shares(sums.rows, labelled, method, predicted, share, low, high, error)


@np.errstate(invalid="ignore", divide="ignore")
def _measure(sums: ShareSums) -> _Sample:
    """Measure each sample by itself; what fewer than two rows do not tell is NaN."""
    total, n, w, ww = (
        values[:, None] for values in (sums.population, sums.labelled, sums.w, sums.ww)
    )
    size = np.where(n > 0, w**2 / ww, 0)
    left = np.maximum(1 - size / total, 0)
    y, p, mean = sums.wy / w, sums.wp / w, sums.p / total
    covariance = (sums.wyp / w - y * p).sum(axis=1, keepdims=True)
    spread = ((sums.pp / total - mean**2) * total / (total - 1)).sum(axis=1, keepdims=True)
    tuning = np.nan_to_num(np.clip(left * covariance / spread, 0, 1) / left)
    squares_y = sums.wwy - 2 * y * sums.wwy + y**2 * ww
    products = sums.wwyp - p * sums.wwy - y * sums.wwp + y * p * ww
    squares_p = sums.wwpp - 2 * p * sums.wwp + p**2 * ww
    squares = np.maximum(squares_y - 2 * tuning * products + tuning**2 * squares_p, 0)
    residual = squares / ww * n / np.maximum(n - 2, 1)
    share = y + tuning * (mean - p)
    return _Sample(share, left * residual / size, y, p, residual, tuning, size)


@np.errstate(invalid="ignore", divide="ignore")
def _pool(
    sums: ShareSums, whole: _Sample, between: np.ndarray, freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimate each group from its pool: share, bounds and variance, ``(G, C)`` each."""
    population = np.maximum(sums.population, 1)[:, None]
    share = whole.label_mean + whole.tuning * (sums.p / population - whole.probability_mean)
    rare = (whole.size + 1) / (whole.size + 2) ** 2  # of a class that no label has
    within = np.maximum(whole.residual, rare) * (1 / whole.size + 1 / population)
    variance = within + between
    uncertain = within**2 / np.maximum(whole.size - 2, 1) + between**2 / np.maximum(freedom, 1)
    reach = _quantile(variance**2 / uncertain) * np.sqrt(variance)
    return share, share - reach, share + reach, variance


@np.errstate(invalid="ignore", divide="ignore")
def _measure_pools(
    sums: ShareSums, own: _Sample, min_labelled: int, pool: np.ndarray | None
) -> tuple[_Sample, np.ndarray, np.ndarray]:
    """Measure the pool of each group, and how the error differs between the pool's groups.

    Returns:
        The pool's sample; the variance between groups ``(G, C)``, and its degrees of freedom
        ``(G, 1)``.
    """
    every = np.zeros(len(sums.rows), int)
    pool = every if pool is None else pool
    num_pools = int(pool.max()) + 1
    pools = _measure(sums.merge(pool, num_pools) + _shift(sums.merge(every, 1), num_pools))
    chosen = np.where(pools.size[pool, 0] >= min_labelled, pool, num_pools)
    between, groups = np.zeros_like(own.share), np.zeros((len(pool), 1))
    for one in np.unique(chosen):
        inside = chosen == one
        members = np.flatnonzero(pool == one) if one < num_pools else np.arange(len(pool))
        errors = own.label_mean[members] - pools.tuning[one] * own.probability_mean[members]
        mean = pools.label_mean[one] - pools.tuning[one] * pools.probability_mean[one]
        sizes, num_rows = own.size[members], own.size[members].sum()
        freedom = (sizes > 0).sum() - 1
        squares = (sizes * np.nan_to_num(errors - mean) ** 2).sum(axis=0)
        within = (pools.residual[one] * num_rows - squares) / (num_rows - freedom - 1)
        usual = (num_rows - (sizes**2).sum() / num_rows) / freedom
        found = np.maximum(squares / _lowest(freedom) - np.maximum(within, 0), 0) / usual
        between[inside] = np.nan_to_num(found, posinf=0)
        groups[inside] = freedom
    values = (getattr(pools, item.name)[chosen] for item in fields(pools))
    return _Sample(*values), between, groups


def _lowest(freedom: int) -> float:
    """Return what a sum of squares with variance 1 exceeds with 70 %.

    Few groups tell little of the variance between groups; its unbiased estimate is too small in
    more than half of all cases, and often 0.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(0.3, max(freedom, 1)))


def _shift(sums: ShareSums, by: int) -> ShareSums:
    """Put groups without rows before those of sums."""
    return ShareSums(*(np.pad(v, [(by, 0), *[(0, 0)] * (v.ndim - 1)]) for v in sums))


def _quantile(freedom: np.ndarray) -> np.ndarray:
    """Return the quantile of Student's t for an interval."""
    from scipy.stats import t

    return np.asarray(t.ppf((1 + LEVEL) / 2, np.maximum(freedom, 1)))


@np.errstate(invalid="ignore", divide="ignore")
def _bound(sample: _Sample) -> tuple[np.ndarray, np.ndarray]:
    """Bound the shares among the populations by Wilson's interval."""
    size, y = sample.size, sample.label_mean
    share, spread = np.clip(sample.share, 0, 1), y * (1 - y) * size / (size - 1)
    labels = np.where(spread > 0, spread / sample.variance, size)
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


def compare_with(shares: Shares, one: int, number: int) -> np.ndarray:
    """Test a group against each other one, for the class ``number``: G p-values, NaN for its own.

    If all are below 0.05 and its share is the highest, it is the highest beyond noise: the largest
    p-value of the best against each other decides (K. Hung and W. Fithian, "Rank verification for
    exponential families", Annals of Statistics 47, 2019).
    """
    share, error = shares.share[:, number], shares.error[:, number]
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = _test(share[one] - share, np.hypot(error[one], error))
    p_values[one] = np.nan
    return p_values


def _test(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    from scipy.stats import norm

    return np.asarray(2 * norm.sf(np.abs(difference) / error))
