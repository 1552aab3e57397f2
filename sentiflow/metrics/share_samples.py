"""Sums of groups of rows -> statistics of their samples, and Wilson's interval of a share.

``metrics.shares`` has the formulas and their sources.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from sentiflow.metrics import sampling

_PSEUDO_ERRORS = 2
"""Errors of predictions, +1 and -1, that are added to the errors of the labelled rows."""
_MIN_VARIANCE = 1e-12
"""Labels of a smaller variance are equal, up to rounding."""


@dataclass(frozen=True)
class Samples:
    """Statistics of the samples of G groups, and the shares that they estimate.

    Shape: (G groups, C classes)
        - share: ``(G, C)``, estimated for the population.
        - label_mean: ``(G, C)``, over the sample.
        - probability_mean: ``(G, C)``, over the sample and the drawn rows that were skipped.
        - label_variance, covariance, probability_variance: ``(G, C)``, of label y and probability p
          over the rows or clusters of the sample.
        - spread: ``(G, C)``, the variance of y by y (1 - y), the largest variance that numbers from
          0 to 1 have with this mean: 1 for classes, and less for values of ordered classes.
        - wrong: ``(G, 1)``, the part of the sample whose predicted mean value is nearer to another
          value than that of the label; 1 for classes, for which it does not matter.
        - tuning: ``(G, 1)``, the factor t.
        - size, num_rows: ``(G, 1)``, the effective number of clusters and of rows: (Σ w)² / Σ w²
          (L. Kish, Survey Sampling, 1965).
        - finite_correction: ``(G, 1)``, the fraction of the population that is not in the sample.
        - step: ``(G, 1)``, the size of an error that is added: 1 for classes, or the mean distance
          between neighboring values of ordered classes, ``RatingScale.step``.
    """

    share: np.ndarray
    label_mean: np.ndarray
    probability_mean: np.ndarray
    label_variance: np.ndarray
    covariance: np.ndarray
    probability_variance: np.ndarray
    spread: np.ndarray
    wrong: np.ndarray
    tuning: np.ndarray
    size: np.ndarray
    num_rows: np.ndarray
    finite_correction: np.ndarray
    step: np.ndarray

    def take(self, groups: np.ndarray | int) -> "Samples":
        """Return the samples of some groups; of one group given as an int, without the axis G."""
        return Samples(**{field.name: getattr(self, field.name)[groups] for field in fields(self)})

    def residual(self, tuning: np.ndarray) -> np.ndarray:
        """Return the variance of y - tuning p, ``(G, C)``."""
        variance = (
            self.label_variance
            - 2 * tuning * self.covariance
            + tuning**2 * self.probability_variance
        )
        return np.asarray(np.maximum(variance, 0))

    def add_errors(self, residual: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
        """Add the variance of ``_PSEUDO_ERRORS`` to that of the labelled rows, ``(G, C)``.

        A sample may contain no error of an accurate model, or too few. For classes the size of an
        error is 1. The errors of values of ordered classes are as large as those of the labelled
        rows: s² = (Σ e² + spread) / (k + 1), where e are the errors, and k predictions are wrong.
        With no wrong prediction this is the spread, which is large; the more there are, the less it
        counts. The size is at least ``step``. Labels alone have no larger variance.

        Args:
            residual: The variance of y - t p.
            factor: By how much the errors count.
        """
        variance = factor * (_PSEUDO_ERRORS * self.size / self.num_rows**2)
        squares = self.num_rows**2 * residual / self.size
        square = (squares + self.spread) / (self.wrong * self.num_rows + 1)
        square = np.maximum(np.fmin(square, self.spread), self.step**2)
        of_labels = np.maximum(residual, self.label_variance) + self.step**2 * variance
        return np.minimum(residual + square * variance, of_labels)

    @property
    def variance(self) -> np.ndarray:
        """Return the variance of the share, ``(G, C)``; added errors count by t."""
        residual = self.add_errors(self.residual(self.tuning), self.tuning)
        return np.asarray(self.finite_correction * residual / self.size)


class Estimates(NamedTuple):
    """Shares of C classes in G groups, with bounds and variances: ``(G, C)`` each."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    variance: np.ndarray

    def where(self, is_own: np.ndarray, others: "Estimates") -> "Estimates":
        """Keep the estimates of some groups, ``(G, 1)`` bools, and take others for the rest."""
        pairs = zip(self, others, strict=True)
        return Estimates(*(np.where(is_own, own, other) for own, other in pairs))

    def put(self, groups: np.ndarray, new: "Estimates") -> "Estimates":
        """Put the estimates of some groups, N places, in the place of the ones that they have."""
        pairs = zip(self, new, strict=True)
        return Estimates(*(put(values, groups, of_groups) for values, of_groups in pairs))


def put(values: np.ndarray, groups: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Copy the values of groups, with new ones for some groups, given by their places."""
    copy = values.copy()
    copy[groups] = new
    return copy


@np.errstate(invalid="ignore", divide="ignore")
def measure(sums: pd.DataFrame, step: float = 1.0) -> Samples:
    """Measure each sample by itself; means and variances are NaN where a sample is empty.

    ``metrics.sampling`` explains the sums: ``wy`` is the sum of w y, ``wwyp`` of w² y p. Most of
    many groups have no sample, so only the others are computed.

    Args:
        sums: Sums of G groups.
        step: The size of an error that is added, see :class:`Samples`.
    """
    of = sampling.by_name(sums)
    has_sample = of["clusters"][:, 0] > 0
    if "skipped_w" in of:
        has_sample = has_sample | (of["skipped_w"][:, 0] > 0)
    groups = np.flatnonzero(has_sample)
    if len(groups) == len(sums):
        return measure_named(of, step)
    found = measure_named({name: values[groups] for name, values in of.items()}, step)
    empty = _find_empty(of, step)
    columns = {}
    for field in fields(Samples):
        columns[field.name] = put(getattr(empty, field.name), groups, getattr(found, field.name))
    return Samples(**columns)


def _find_empty(of: dict[str, np.ndarray], step: float) -> Samples:
    """Return what is known of G groups whose samples are empty, given their sums."""
    population = of["population"]
    unknown = np.full((len(population), of["wy"].shape[1]), np.nan)
    nothing = np.zeros_like(population)
    return Samples(
        share=unknown,
        label_mean=unknown,
        probability_mean=unknown,
        label_variance=unknown,
        covariance=unknown,
        probability_variance=unknown,
        spread=np.ones_like(unknown),
        wrong=np.ones_like(nothing),
        tuning=nothing,
        size=nothing,
        num_rows=nothing,
        finite_correction=np.where(population > 0, 1.0, np.nan),
        step=np.full_like(nothing, step),
    )


@np.errstate(invalid="ignore", divide="ignore")
def measure_named(of: dict[str, np.ndarray], step: float = 1.0) -> Samples:
    """Measure samples, given the sums of G groups by name; each group has a sample."""
    total = of["population"]
    n = of["clusters"]
    w = of["w"]
    ww = of["ww"]
    size = np.where(n > 0, w**2 / ww, 0)
    num_rows = np.where(n > 0, w**2 / of["square"], 0)
    finite_correction = np.maximum(1 - num_rows / total, 0)

    y = of["wy"] / w
    p = of["wp"] / w
    population_mean = of["p"] / total
    covariance = (of["wyp"] / w - y * p).sum(axis=1, keepdims=True)
    reached = p
    if "skipped_w" in of:
        # All drawn rows up to the last label. So the share is of texts that are not skipped: it
        # follows the skipped texts' probabilities no more than the texts' of the population.
        reached = (of["wp"] + of["skipped_wp"]) / (w + of["skipped_w"])
    spread = (of["pp"] / total - population_mean**2) * total / (total - 1)
    spread = spread.sum(axis=1, keepdims=True)
    # U includes L. PPI++ compares L with the other rows of U: its tuning is t times the finite
    # correction, from 0 to 1.
    tuning_of_others = np.clip(finite_correction * covariance / spread, 0, 1)
    tuning = np.nan_to_num(tuning_of_others / finite_correction)

    # Sums of w² (y - mean)² and so on; the mean and the tuning take two degrees of freedom.
    per_row = n / np.maximum(n - 2, 1) / ww
    yy = of["wwyy"] - 2 * y * of["wwy"] + y**2 * ww
    yp = of["wwyp"] - p * of["wwy"] - y * of["wwp"] + y * p * ww
    pp = of["wwpp"] - 2 * p * of["wwp"] + p**2 * ww
    return Samples(
        share=y + tuning * (population_mean - reached),
        label_mean=y,
        probability_mean=reached,
        label_variance=yy * per_row,
        covariance=yp * per_row,
        probability_variance=pp * per_row,
        spread=measure_spread(of),
        wrong=of["wrong"] / w if "wrong" in of else np.ones_like(w),
        tuning=tuning,
        size=size,
        num_rows=num_rows,
        finite_correction=finite_correction,
        step=np.full_like(size, step),
    )


@np.errstate(invalid="ignore", divide="ignore")
def measure_spread(of: dict[str, np.ndarray]) -> np.ndarray:
    """Return the variance of y by y (1 - y), ``(G, C)``: see :class:`Samples`.

    It is 1 for classes, whose sums have no ``wyy``, and if all labels are equal.
    """
    y = of["wy"] / of["w"]
    if "wyy" not in of:
        return np.ones_like(y)
    largest = y * (1 - y)
    variance = of["wyy"] / of["w"] - y**2
    return np.asarray(np.where(variance > _MIN_VARIANCE, np.minimum(variance / largest, 1), 1))


@np.errstate(invalid="ignore", divide="ignore")
def bound(sample: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Bound the shares among the populations by the interval of E. B. Wilson (1927).

    Journal of the American Statistical Association 22. With s the share, n the number of labels
    that would have the same variance without predictions, and t the quantile of Student's t,

        (s + t² / 2n ± t √(s (1 - s) / n + t² / 4n²)) / (1 + t² / n)

    Values of ordered classes have a smaller variance than s (1 - s). For them n is the number of
    labels of a class that would have the same variance.
    """
    size = sample.size
    y = sample.label_mean
    share = np.clip(sample.share, 0, 1)
    label_variance = y * (1 - y) * size / (size - 1)
    # The few rows of a rare class may have small weights by chance, and then a small variance. So
    # the labels are also counted by a label variance with these weights; the smaller count is used.
    weighted_variance = sample.num_rows * sample.residual(np.zeros(1)) / size
    are_equal = weighted_variance < _MIN_VARIANCE
    weighted_variance = weighted_variance / sample.spread
    labels = np.fmin(label_variance / sample.variance, weighted_variance / sample.variance)
    labels = np.where(are_equal, size, labels)
    square = quantile(size - 2) ** 2 / labels  # t² / n
    middle = (share + square / 2) / (1 + square)
    reach = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return middle - reach, middle + reach


def quantile(freedom: np.ndarray) -> np.ndarray:
    """Return the quantile of Student's t for a 95% interval."""
    return np.asarray(special.stdtrit(np.maximum(freedom, 1), 0.975))
