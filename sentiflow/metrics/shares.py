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
linearization, divided by the sample's size, with the correction for a finite population: the share
of a group whose rows are all labelled is known, and its interval is this share. Rows that are only
counted are added with their labels. If the sums are of clusters (``sampling.join_clusters``), the
variance and the sample size are, too.

A group with few labels takes t and the mean error from its pool, or from all groups if the pool
also has few: ``metrics.small_groups``.

A mean rating is the same for the values of ordered classes, from 0 to 1 (``rating_scale``): y is
the value of the label, and p the mean value by the probabilities.

The interval is Wilson's, with the number of labels that would have the same variance without
predictions, and with the quantile of Student's t: the normal interval contains the share of a rare
class too seldom. For a pooled error Student's t has Satterthwaite's degrees of freedom (F. E.
Satterthwaite, Biometrics Bulletin 2, 1946).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.metrics import sampling, small_groups
from sentiflow.metrics.share_samples import Estimates, Samples, bound, measure, quantile

CORRECTED = "corrected"
POOLED = "pooled"
COUNTED = "counted"
UNCORRECTED = "uncorrected"
UNLABELLED = "unlabelled"
PREDICTED = "predicted"
UNBOUNDED = "unbounded"
METHODS = {
    CORRECTED: "mean probability, plus the mean error on labelled rows of the group",
    POOLED: "few labelled rows in the group: its mean probability, plus the error that the "
    "labelled rows of all groups, or of all periods of the group, show for such a mean, plus a "
    "part of the error on its own labelled rows",
    UNLABELLED: "no row of the group has a label to measure the error by: the error of all groups "
    "is used, and the group is never said to be higher or lower",
    PREDICTED: "few labelled rows in the group: the share of predicted labels, which is nearer to "
    "the labels of all groups here than a corrected share, moved towards its own labels",
    UNBOUNDED: "too few labels for groups: as pooled, but fewer than two labels in a labelled "
    "group do not tell how much the groups differ, so there is no interval",
    COUNTED: "every row is labelled: the share is known, and its interval is the share itself",
    UNCORRECTED: "there are too few labelled rows to measure the error: the share of predicted "
    "labels; of mean ratings, the mean of the expected ratings",
}
"""What each method means, in the order in which the page of shares explains them."""
FROM_BEST = (COUNTED, CORRECTED, POOLED, UNLABELLED, PREDICTED, UNBOUNDED, UNCORRECTED)
"""The same methods, from the strongest to the weakest."""
MIN_LABELLED = 30
"""With a smaller effective sample a group takes the error of its pool, or of all groups."""
MIN_CORRECTED = 10
"""With a smaller effective sample of all groups together, no share is corrected."""
MIN_COMPARED_ROWS = 30
"""A group or period with fewer rows is never ranked or said to differ. One row more or less of a
class would change its share by more than 3 points."""
MIN_COMPARED_LABELS = 10
"""The same with fewer labelled rows that measure the error: a statement about a group needs as many
labels of its own as a statement about all rows, ``MIN_CORRECTED``."""

_NORMAL = 1.959964
"""Quantile of the normal distribution for a 95% interval."""


@dataclass(frozen=True)
class Shares:
    """Shares of C classes among the rows of G groups.

    Shape: (G groups, C classes)
        - rows, labelled, measured, method: ``(G,)``; ``method`` is one of ``METHODS``.
        - labelled: rows of the sample, and rows that are only counted.
        - measured: rows of the sample; or all, if all are labelled.
        - predicted: ``(G, C)``, the share of predicted labels, not corrected.
        - share, low, high: ``(G, C)``, the corrected share and the bounds of its 95% interval; NaN
          if the method is ``UNCORRECTED``. The bounds are also NaN if it is ``UNBOUNDED``.
        - compared: ``(G, C)``, the share by which groups are compared: it has no error of other
          groups, also where ``share`` leans on them. Without a label of the group it is ``share``.
        - error: ``(G, C)``, the standard error of ``compared`` among these rows; 0 if all are
          labelled, NaN if the method is ``UNCORRECTED``.
        - spread: ``(G, C)``, the variance of a label by that of a label of 0 or 1 with the same
          mean: 1 for classes, at most 1 for values of ordered classes.
    """

    rows: np.ndarray
    labelled: np.ndarray
    measured: np.ndarray
    method: np.ndarray
    predicted: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    compared: np.ndarray
    error: np.ndarray
    spread: np.ndarray

    @property
    def is_comparable(self) -> np.ndarray:
        """Say which groups may be ranked or said to differ, ``(G,)``."""
        is_weak = np.isin(self.method, (UNCORRECTED, UNBOUNDED, UNLABELLED))
        is_large = (self.rows >= MIN_COMPARED_ROWS) & (self.measured >= MIN_COMPARED_LABELS)
        return np.asarray(is_large & ~is_weak)


@np.errstate(invalid="ignore", divide="ignore")
def estimate(
    sums: pd.DataFrame,
    *,
    min_labelled: int = MIN_LABELLED,
    pool: np.ndarray | None = None,
    step: float = 1.0,
) -> Shares:
    """Estimate the share of each class in each group; see the module for formulas and sources.

    Args:
        sums: Sums of groups that have no row in common, see :mod:`sampling`.
        min_labelled: Minimum effective size of a group's own sample.
        pool: The number of each group's pool, from 0: such as the number of the airline, where
            groups are the weeks of each airline. Default: one pool.
        step: For the sums of values of ordered classes: ``RatingScale.step``. Default: the sums are
            of classes.

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
    of = sampling.by_name(sums)
    rows = of["rows"]
    num_labelled = of["labelled"]
    samples = measure(sums, step)
    small = small_groups.estimate_small(
        sums, samples, min_labelled=min_labelled, pool=pool, step=step
    )
    is_counted = num_labelled == of["population"]
    is_large = is_counted | (samples.size >= min_labelled)
    large = np.flatnonzero(is_large)
    alone = _estimate_alone(samples.take(large), small.pool_samples.take(large))
    of_all = add_counted(sums, small.estimates.put(large, alone))
    of_own = _estimate_compared(sums, samples, small).put(large, alone)
    compared = add_counted(sums, of_own)
    error = np.where(is_counted, 0, np.sqrt(compared.variance))
    is_corrected = small.pool_samples.size.max() >= MIN_CORRECTED
    method = _name_methods(
        small,
        has_labels=num_labelled[:, 0] > 0,
        is_large=is_large[:, 0],
        is_counted=is_counted[:, 0],
        is_corrected=is_corrected,
    )
    low = np.where(is_counted, of_all.share, of_all.low)
    high = np.where(is_counted, of_all.share, of_all.high)
    _leave_out(method == UNBOUNDED, low, high)
    _leave_out(method == UNCORRECTED, of_all.share, low, high, compared.share, error)
    num_counted = of["counted"].sum(axis=1)
    return Shares(
        rows=rows[:, 0],
        labelled=num_labelled[:, 0] + num_counted,
        measured=np.where(is_counted[:, 0], rows[:, 0], num_labelled[:, 0]),
        method=method,
        predicted=of["predicted"] / rows,
        share=of_all.share,
        low=low,
        high=high,
        compared=compared.share,
        error=error,
        spread=_choose_spread(samples, small.pool_samples),
    )


def _leave_out(groups: np.ndarray, *columns: np.ndarray) -> None:
    """Set what is not known of some groups to NaN, in place."""
    for values in columns:
        values[groups] = np.nan


def _choose_spread(samples: Samples, pool_samples: Samples) -> np.ndarray:
    """Return the spread of the labels of each group, rather too large than too small, ``(G, C)``.

    It is that of its own labels or that of its pool, whichever is larger.
    """
    own = np.where(samples.size > 0, samples.spread, 0)
    of_pool = np.where(pool_samples.size > 0, pool_samples.spread, 1)
    return np.maximum(own, of_pool)


def _name_methods(
    small: small_groups.SmallGroups,
    *,
    has_labels: np.ndarray,
    is_large: np.ndarray,
    is_counted: np.ndarray,
    is_corrected: bool,
) -> np.ndarray:
    """Name the method of each group, given reasons as ``(G,)`` bools.

    From the weakest to the strongest reason: a later one overrides an earlier one.
    """
    method = np.full(len(is_large), UNLABELLED, dtype=object)
    method[has_labels] = POOLED
    method[small.is_predicted] = PREDICTED
    method[~small.is_bounded] = UNBOUNDED
    method[is_large] = CORRECTED
    if not is_corrected:
        method[:] = UNCORRECTED
    method[is_counted] = COUNTED
    return method


def add_counted(sums: pd.DataFrame, of_population: Estimates) -> Estimates:
    """Estimate the shares among all rows: the population and the rows that are only counted.

    A share of the population is between 0 and 1, so no interval goes beyond what the counted rows
    allow.
    """
    of = sampling.by_name(sums)
    rows = of["rows"]
    counted = of["counted"] / rows
    weight = of["population"] / rows

    def add(share: np.ndarray) -> np.ndarray:
        possible = np.clip(np.nan_to_num(share), 0, 1)
        return np.minimum(counted + weight * possible, 1)  # rounding may exceed 1

    return Estimates(
        share=add(of_population.share),
        low=add(of_population.low),
        high=add(of_population.high),
        variance=weight**2 * of_population.variance,
    )


@np.errstate(invalid="ignore", divide="ignore")
def _estimate_alone(samples: Samples, pool_samples: Samples) -> Estimates:
    """Estimate each group from its own sample.

    The variance is for tests, and rather too large than too small. A group that lacks a rare class
    by chance has a low share and also a low variance, so it would seem to differ. Therefore the
    pseudo-errors count in full, and the variance of its rows is at least the pool's.
    """
    low, high = bound(samples)
    own = samples.add_errors(samples.residual(samples.tuning), 1.0)
    residual = np.fmax(own, pool_samples.residual(samples.tuning))
    variance = samples.finite_correction * residual / samples.size
    # Tests are normal. Of values of ordered classes, fewer errors are added, which would not make
    # up for a variance that is estimated.
    is_of_values = samples.step < 1
    variance = variance * np.where(is_of_values, (quantile(samples.size - 2) / _NORMAL) ** 2, 1)
    return Estimates(share=samples.share, low=low, high=high, variance=variance)


@np.errstate(invalid="ignore", divide="ignore")
def _estimate_compared(
    sums: pd.DataFrame, samples: Samples, small: small_groups.SmallGroups
) -> Estimates:
    """Estimate the shares by which groups with few labels are compared; each by its own labels.

    A pooled share leans on the error of the model in other groups. Where the model errs otherwise
    in one group, this group would seem to differ. A group with few labels takes only t from its
    pool: any t gives a share without bias. Its variance is at least the pool's.
    """
    labelled = np.flatnonzero(samples.size > 0)
    own_samples = samples.take(labelled)
    pool_samples = small.pool_samples.take(labelled)
    tuning = pool_samples.tuning
    of = sampling.by_name(sums)
    mean = of["p"][labelled] / of["population"][labelled]
    share = own_samples.label_mean + tuning * (mean - own_samples.probability_mean)
    residual = np.fmax(own_samples.residual(tuning), pool_samples.residual(tuning))
    residual = own_samples.add_errors(residual, tuning)
    variance = own_samples.finite_correction * residual / own_samples.size
    own = Estimates(share=share, low=share, high=share, variance=variance)  # nobody reads bounds
    return small.estimates.put(labelled, own)
