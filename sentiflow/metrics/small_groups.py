"""Groups with few labelled rows -> their shares, by the labels of all groups of a pool.

A group with few labels cannot measure the error of the model by itself. It takes t and the mean
error of its pool (``metrics.shares`` has the formulas). Two more parts bring it nearer to its own
share. Together they are the nested error model of G. E. Battese, R. M. Harter and W. A. Fuller
(Journal of the American Statistical Association 83, 1988) with the mean of a group as a regressor.
For row j of group i, with y the label and p the probability of a class,

    y_ij = m + t p_ij + k d_i + v_i + e_ij

- d_i is the *level* of the group: how far its mean probability is from the pool's. A model
  underestimates how much groups differ, as it sees one text at a time. So the error of a group
  depends on its level, and k corrects this. A group of few texts has a high or low mean
  probability by chance, so its level is shrunk towards 0.
- v_i is the difference that is left. It is estimated from the labels of the group, shrunk towards 0
  the more, the fewer labels there are: the composite estimator of R. E. Fay and R. A. Herriot
  (Journal of the American Statistical Association 74, 1979). J. N. K. Rao and I. Molina, Small Area
  Estimation (2015), chapters 5 to 7, have both models.

k and v_i are the same weights for all classes, so the shares add up to 1. A group without labels
has v = 0. A group all of whose rows are labelled has the share of its labels.

The variance of v between groups is estimated by the analysis of variance, rather too large than too
small. It widens the intervals.

The share of predicted labels may be nearer to the truth than this estimate where there are too few
labels for k. Then it takes the place of m + t p + k d for all groups of the pool.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from sentiflow.metrics import sampling
from sentiflow.metrics.share_samples import Estimates, Samples, bound, measure, put, quantile

MIN_GROUPS = 30
"""Minimum number of groups with labels in a pool for an estimate of k, and for a choice of the
share of predicted labels. A slope through fewer groups would mostly follow their noise."""
MIN_PER_GROUP = 2
"""Below so many labels in a labelled group on average, it is checked whether the variance between
groups can be estimated."""
MIN_REPEATED = 10
"""Then it needs so many labels beyond the first of their group: only labels of the same group tell
differences within a group from differences between groups."""
MAX_INEQUALITY = 2
"""And the groups must have similar numbers of rows: at most so many times the square of the mean
number is the mean square. Otherwise the labels are in the few large groups, and say little of the
small ones; intervals of real authors held in 90% only. Labels that are spread by size do not help:
then the intervals of authors with 30 texts or more held in 76% (one class, 3,000 labels)."""
_CERTAINTY = 0.7
"""Chance that the estimate of the variance between groups is above the true variance."""
_CERTAINTY_OF_VALUES = 0.82
"""The same for the mean of values of ordered classes, whose interval is not widened by that of a
rare class: with 0.7, 92% of the intervals of 20 groups with 5 labels each held the mean."""
_CERTAINTY_OF_SINGLES = 0.93
"""This chance if all labelled groups have one label. The variance within groups then comes from few
labels, and the normal distribution flatters it."""
_EVIDENCE = 1
"""Standard errors that are taken off the variance between groups before it decides how much the own
labels of groups count. Without, groups that are alike would mostly get the noise of their labels:
the mean error by month was 2.6 points in place of 2.4. With 2, groups that differ would get too
little: the mean error of 20 films with 15 labels each was 6.2 points in place of 5.3."""


class SmallGroups(NamedTuple):
    """Estimates of G groups by the labels of their pools."""

    estimates: Estimates
    pool_samples: Samples
    """The sample of the pool of each group."""
    is_predicted: np.ndarray
    """``(G,)``, whether the estimate begins with the share of predicted labels."""
    is_bounded: np.ndarray
    """``(G,)``, whether the interval is known; the bounds of the others are NaN."""


class _Base(NamedTuple):
    """What the pool says of the share of each group, before its own labels are used."""

    share: np.ndarray
    """``(G, C)``."""
    variance: np.ndarray
    """``(G, C)``, of this share, due to the sample of the pool."""
    cost: np.ndarray
    """``(K, 1)`` for K pools, the squared distance from the groups' own shares, plus what the
    estimated parts of the base add to it: C. L. Mallows, "Some comments on Cp", Technometrics 15,
    1973."""
    num_parts: np.ndarray
    """``(K, 1)``, the number of estimated parts."""


class _Between(NamedTuple):
    """The variance of v between the groups of K pools."""

    bound: np.ndarray
    """``(K, C)``, usually too large."""
    least: np.ndarray
    """``(K, 1)``, the sum over the classes, usually too small."""
    freedom: np.ndarray
    """``(K, 1)``, groups with labels, minus the estimated parts."""


class _Pooled:
    """G groups in K pools: their samples, and sums over the groups of each pool.

    Shape: (G groups, C classes, K pools)
        - of: the sums by name, ``(G, 1)`` or ``(G, C)``.
        - pool: ``(G,)``, the number of each group's pool, from 0 to K - 1.
        - num_pools: K.
        - pool_samples: the sample of each group's pool.
        - probability: ``(G, C)``, the mean probability over the population.
        - own: ``(G, C)``, the share by the labels of the group alone; NaN without labels.
        - labelled, total, repeated: ``(K, 1)``, groups with labels, effective labels, and labels
          beyond the first of their group.
    """

    def __init__(self, sums: pd.DataFrame, samples: Samples, pool: np.ndarray, step: float) -> None:
        self.of = sampling.by_name(sums)
        self.samples = samples
        self.pool = pool
        self.certainty = _CERTAINTY if step == 1 else _CERTAINTY_OF_VALUES
        of_pools = measure(sampling.merge([sums.set_axis(pd.Index(pool))]), step)
        self.num_pools = len(of_pools.size)
        self.pool_samples = of_pools.take(pool)
        self.population = np.maximum(self.of["population"], 1)
        self.probability = self.of["p"] / self.population
        change = self.probability - samples.probability_mean
        self.own = samples.label_mean + self.pool_samples.tuning * change
        self.labelled = self.add(samples.size > 0)
        self.total = self.add(samples.size)
        self.repeated = self.total - self.labelled

    def add(self, values: np.ndarray) -> np.ndarray:
        """Add up values of groups, ``(G, C)`` or ``(G, 1)``, by pool; NaN counts as 0."""
        of_classes = np.nan_to_num(values).T
        columns = [np.bincount(self.pool, column, self.num_pools) for column in of_classes]
        return np.stack(columns, axis=1)

    def average(self, values: np.ndarray) -> np.ndarray:
        """Average values of groups by pool, with the effective labels as weights."""
        return np.asarray(self.add(self.samples.size * values) / self.total)


@np.errstate(invalid="ignore", divide="ignore")
def estimate_small(
    sums: pd.DataFrame,
    samples: Samples,
    *,
    min_labelled: int,
    pool: np.ndarray | None,
    step: float = 1.0,
) -> SmallGroups:
    """Estimate the share of each class in each group by the labels of its pool.

    Args:
        sums: Sums of G groups, see :mod:`sampling`.
        samples: The sample of each group.
        min_labelled: Minimum effective size of a pool's sample. The pool of a group with a smaller
            one is all groups together.
        pool: The number of each group's pool, from 0; pools without groups may have numbers, too.
            None: one pool.
        step: The size of an error that is added, see :class:`Samples`.
    """
    of_all = _estimate(_Pooled(sums, samples, np.zeros(len(sums), np.int64), step))
    if pool is None:
        return of_all
    of = sampling.by_name(sums)
    w = np.bincount(pool, of["w"][:, 0])
    ww = np.bincount(pool, of["ww"][:, 0])
    is_large = np.where(ww > 0, w**2 / ww, 0) >= min_labelled
    in_large = np.flatnonzero(is_large[pool])
    if not len(in_large):
        return of_all
    large_pool = np.unique(pool[in_large], return_inverse=True)[1]
    of_large = _estimate(_Pooled(sums.iloc[in_large], samples.take(in_large), large_pool, step))
    columns = {}
    for name, values in vars(of_all.pool_samples).items():
        columns[name] = put(values, in_large, getattr(of_large.pool_samples, name))
    return SmallGroups(
        estimates=of_all.estimates.put(in_large, of_large.estimates),
        pool_samples=Samples(**columns),
        is_predicted=put(of_all.is_predicted, in_large, of_large.is_predicted),
        is_bounded=put(of_all.is_bounded, in_large, of_large.is_bounded),
    )


def _estimate(groups: _Pooled) -> SmallGroups:
    """Estimate the shares from the base and the labels of each group.

    The interval includes Wilson's interval of one group with all labels of the pool, which is wider
    for rare classes.
    """
    pool = groups.pool
    samples = groups.samples
    pool_samples = groups.pool_samples
    base, is_predicted = _choose_base(groups)
    between = _vary_between(groups, base)
    between_bound = between.bound[pool]
    least = between.least[pool]

    # The variance q (1 - q) of a class without a label, with q = 1 / (n + 2) by Laplace's rule.
    unseen = pool_samples.spread * (pool_samples.size + 1) / (pool_samples.size + 2) ** 2
    residual = np.maximum(pool_samples.residual(pool_samples.tuning), unseen)
    own_variance = residual.sum(axis=1, keepdims=True) / samples.size
    trust = np.where(samples.size > 0, least / (least + own_variance), 0)
    gap = np.nan_to_num(groups.own - base.share)
    # Labelled rows have their labels; the other rows have the base, and what these labels add.
    share = np.clip(base.share + (1 - samples.finite_correction * (1 - trust)) * gap, 0, 1)

    of_own = np.where(samples.size > 0, trust**2 * residual / samples.size, 0)
    from_base = samples.finite_correction**2 * (1 - trust) ** 2
    within = (
        samples.finite_correction * residual / groups.population
        + samples.finite_correction**2 * of_own
    )
    within += from_base * base.variance
    of_between = from_base * between_bound
    variance = within + of_between
    is_bounded = _is_bounded(groups)[pool, 0]
    known = np.flatnonzero(is_bounded)
    freedom = variance[known] ** 2 / (
        within[known] ** 2 / np.maximum(pool_samples.size[known] - 2, 1)
        + of_between[known] ** 2 / np.maximum(between.freedom[pool[known]], 1)
    )  # by Satterthwaite
    reach = quantile(freedom) * np.sqrt(variance[known])
    of_known = share[known]
    low, high = bound(replace(pool_samples.take(known), share=of_known))
    unknown = np.full_like(share, np.nan)
    return SmallGroups(
        estimates=Estimates(
            share=share,
            low=put(unknown, known, np.fmin(of_known - reach, low)),
            high=put(unknown, known, np.fmax(of_known + reach, high)),
            variance=variance,
        ),
        pool_samples=pool_samples,
        is_predicted=is_predicted[pool, 0],
        is_bounded=is_bounded,
    )


def _is_bounded(groups: _Pooled) -> np.ndarray:
    """Say for each pool whether the variance between its groups can be estimated, ``(K, 1)``."""
    rows = groups.of["population"]
    inequality = groups.add(rows > 0) * groups.add(rows**2) / groups.add(rows) ** 2
    is_known = (groups.repeated >= MIN_REPEATED) & (inequality <= MAX_INEQUALITY)
    return np.asarray(is_known | (groups.total >= MIN_PER_GROUP * groups.labelled))


def _choose_base(groups: _Pooled) -> tuple[_Base, np.ndarray]:
    """Choose the base with the smaller error for each pool: corrected, or predicted.

    Returns:
        The base; and whether it is predicted, ``(K, 1)``.
    """
    corrected = _correct(groups)
    predicted = _take_predicted(groups)
    is_predicted = (groups.labelled >= MIN_GROUPS) & (predicted.cost < corrected.cost)
    of_group = is_predicted[groups.pool]
    base = _Base(
        share=np.where(of_group, predicted.share, corrected.share),
        variance=np.where(of_group, predicted.variance, corrected.variance),
        cost=np.where(is_predicted, predicted.cost, corrected.cost),
        num_parts=np.where(is_predicted, predicted.num_parts, corrected.num_parts),
    )
    return base, is_predicted


def _correct(groups: _Pooled) -> _Base:
    """Correct the mean probability of each group by the mean error and the slope of its pool."""
    pool = groups.pool
    samples = groups.pool_samples
    level = _find_levels(groups)
    w = groups.of["w"]
    level -= (groups.add(w * level) / groups.add(w))[pool]
    distance = groups.probability - samples.probability_mean
    plain = samples.label_mean + samples.tuning * distance
    slope, slope_variance = _fit_slope(groups, level, groups.own - plain)
    share = plain + slope[pool] * level
    num_parts = 1.0 + (slope > 0)
    squares = groups.add(groups.samples.size * (groups.own - share) ** 2)
    squares = squares.sum(axis=1, keepdims=True)
    of_one = squares / np.maximum(groups.labelled - num_parts, 1)
    of_mean = samples.residual(samples.tuning) / samples.size
    return _Base(
        share=share,
        variance=of_mean + level**2 * slope_variance[pool],
        cost=squares + 2 * num_parts * of_one,
        num_parts=num_parts,
    )


def _find_levels(groups: _Pooled) -> np.ndarray:
    """Estimate how far the mean probability of each group would be from the pool's, ``(G, C)``.

    If the group had any number of texts: the mean of its texts is shrunk by its reliability, the
    part of its variance that is between groups. Both variances by the analysis of variance (S. R.
    Searle, G. Casella and C. E. McCulloch, Variance Components, 1992, chapter 3).
    """
    rows = groups.of["population"]
    of_pool = groups.add(rows)
    number = groups.add(rows > 0)
    mean = groups.add(rows * groups.probability) / of_pool
    difference = np.where(rows > 0, groups.probability - mean[groups.pool], 0)
    between = groups.add(rows * difference**2).sum(axis=1, keepdims=True)
    squares = groups.of["pp"] - rows * groups.probability**2
    within = groups.add(squares).sum(axis=1, keepdims=True) / np.maximum(of_pool - number, 1)
    mean_rows = of_pool - groups.add(rows**2) / of_pool
    of_groups = np.maximum(between - (number - 1) * within, 0) / mean_rows
    reliability = of_groups[groups.pool] / (
        of_groups[groups.pool] + within[groups.pool] / groups.population
    )
    return np.asarray(np.nan_to_num(reliability) * difference)


def _fit_slope(
    groups: _Pooled, level: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the slope k of the groups' errors over their levels, for all classes together.

    Its variance is that of H. White (Econometrica 48, 1980). Slopes below 0 do not occur: the model
    would overestimate how much groups differ, which t corrects.

    Returns:
        ``(K, 1)`` each: k, shrunk towards 0 by its variance (W. James and C. Stein, 1961), and its
        variance. Both are 0 with fewer than ``MIN_GROUPS`` groups.
    """
    size = groups.samples.size
    x = level - groups.average(level)[groups.pool]
    y = error - groups.average(error)[groups.pool]
    spread = groups.add(size * x**2).sum(axis=1, keepdims=True)
    slope = groups.add(size * x * y).sum(axis=1, keepdims=True) / spread
    effect = (size * x * (y - slope[groups.pool] * x)).sum(axis=1, keepdims=True)
    number = groups.labelled
    variance = groups.add(effect**2) / spread**2 * number / (number - 2)
    shrinkage = np.maximum(1 - variance / slope**2, 0)
    is_fitted = (number >= MIN_GROUPS) & (slope > 0) & (shrinkage > 0)
    return np.where(is_fitted, slope * shrinkage, 0), np.where(is_fitted, variance, 0)


def _take_predicted(groups: _Pooled) -> _Base:
    """Take the share of predicted labels of each group."""
    share = groups.of["predicted"] / groups.of["rows"]
    squares = groups.add(groups.samples.size * (groups.own - share) ** 2)
    nothing = np.zeros_like(groups.total)
    return _Base(
        share=share,
        variance=np.zeros_like(share),
        cost=squares.sum(axis=1, keepdims=True),
        num_parts=nothing,
    )


def _vary_between(groups: _Pooled, base: _Base) -> _Between:
    """Estimate the variance of the groups' shares around their base.

    The analysis of variance of one factor with unequal groups (Searle, Casella and McCulloch 1992,
    chapter 3), by mean squares between groups (MSB) and within groups (MSW). The unbiased estimate,
    in proportion to MSB - MSW, is too small in more than half of all cases, and often 0, with few
    groups or with about one label in a group. Two estimates are above the true variance in about
    70% of cases; the larger is used. One allows for the noise of MSB, by its chi-square
    distribution. The other allows for the noise of both, which have the variances 2 MSB² / f and
    2 MSW² / f with f degrees of freedom, by the normal distribution.
    """
    size = groups.samples.size
    number = groups.labelled
    freedom = number - np.maximum(base.num_parts, 1)
    within = np.maximum(_add_squares_within(groups) / groups.repeated, 0)
    squares = groups.add(size * (groups.own - base.share) ** 2)
    mean_size = (groups.total - groups.add(size**2) / groups.total) / (number - 1)
    low_chi_square = special.chdtri(np.maximum(freedom, 1), groups.certainty)
    by_chi_square = squares / low_chi_square - within
    mean_square = squares / np.maximum(freedom, 1)
    noise = np.sqrt(
        2 * (mean_square**2 / np.maximum(freedom, 1) + within**2 / np.maximum(groups.repeated, 1))
    )
    singles = groups.add((size > 0) & (size < MIN_PER_GROUP)) / number
    certainty = groups.certainty + singles * (_CERTAINTY_OF_SINGLES - groups.certainty)
    by_both = mean_square - within + special.ndtri(certainty) * noise
    least = (mean_square - within - _EVIDENCE * noise).sum(axis=1, keepdims=True)
    upper = np.maximum(by_chi_square, by_both)
    return _Between(
        bound=np.nan_to_num(np.maximum(upper, 0) / mean_size, posinf=0),
        least=np.nan_to_num(np.maximum(least, 0) / mean_size, posinf=0),
        freedom=freedom,
    )


def _add_squares_within(groups: _Pooled) -> np.ndarray:
    """Add up the squares of y - t p around the mean of each group, ``(K, C)``.

    These are the squares around the mean of the pool, minus the squares between groups. In both, a
    group counts by its effective labels. ``--sample`` draws more labels in small groups, and gives
    them smaller weights. If rows counted by these, the first squares would be those of the large
    groups, and the second those of the small ones.
    """
    of = groups.of
    size = groups.samples.size
    tuning = groups.pool_samples.tuning
    w = of["w"]
    ww = of["ww"]
    error = (of["wy"] - tuning * of["wp"]) / w
    mean = groups.average(error)[groups.pool]
    between = groups.add(size * (error - mean) ** 2)
    products = of["wwy"] - tuning * of["wwp"]
    squares = of["wwyy"] - 2 * tuning * of["wwyp"]
    squares = squares + tuning**2 * of["wwpp"]
    around = squares - 2 * mean * products + mean**2 * ww
    number = groups.add(of["clusters"])
    per_label = number / np.maximum(number - 2, 1)  # the mean and the tuning take two
    return np.asarray(per_label * groups.add(size * around / ww) - between)
