"""Labelled rows of ordered classes, such as stars -> how far the ratings are from the labels.

The quadratic kappa is by J. Cohen, "Weighted kappa", Psychological Bulletin 70 (1968), with the
squared difference of the classes' numbers as the weight. Its interval is that of the mean of its
linear approximation: what each row adds to it (the influence function).
"""

from typing import NamedTuple

import numpy as np

from sentiflow.data.ratings import average_values, find_medians
from sentiflow.metrics import intervals, paired
from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.predicted import Predicted

_REASON = "there are fewer than 2 texts with a rating"


class RatedRows(NamedTuple):
    """The rows whose label has a number: N of them."""

    label: np.ndarray
    """The number of each label, float64."""
    median: np.ndarray
    """The number of the median class."""
    mean: np.ndarray
    """The mean of the numbers by probability."""
    groups: RowGroups | None
    """Groups of rows that depend on each other."""
    span: float
    """From the lowest number of a class to the highest: the largest possible error."""

    @classmethod
    def of(cls, predicted: Predicted) -> "RatedRows":
        """Rate rows by their probabilities.

        Example:
            >>> rows = Predicted(
            ...     classes=("1", "2", "5"),
            ...     label=np.array([2]),
            ...     prediction=np.array([0]),
            ...     probabilities=np.array([[0.4, 0.2, 0.4]]),
            ...     class_values=(1, 2, 5),
            ... )
            >>> rated = RatedRows.of(rows)
            >>> rated.median.tolist(), rated.mean.round(2).tolist(), rated.span
            ([2.0], [2.8], 4.0)
        """
        assert predicted.class_values is not None, "only ordered classes are rated"
        values = np.array(predicted.class_values, np.float64)
        known = np.nan_to_num(values)  # a class without a number has the probability 0

        def find_median(part: Predicted) -> np.ndarray:
            return np.asarray(values[find_median_classes(part.matrix, values)])

        label = values[predicted.label]
        is_rated = np.isfinite(label)
        groups = predicted.groups
        if groups is not None and not is_rated.all():
            groups = groups.take(is_rated)
        median = predicted.compute(find_median)
        mean = predicted.compute(lambda part: average_values(part.matrix, known.tolist()))
        return cls(
            label=label[is_rated],
            median=median[is_rated],
            mean=mean[is_rated],
            groups=groups,
            span=float(np.nanmax(values) - np.nanmin(values)),
        )


def find_median_classes(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find the median class of each text, as a position among classes in any order.

    Args:
        probabilities: ``(N, C)``.
        values: The numbers of the C classes; a class without a number (NaN) has the probability 0.

    Example:
        >>> find_median_classes(np.array([[0.3, 0.4, 0.3]]), np.array([5.0, 1.0, 3.0])).tolist()
        [2]
    """
    order = _order_classes(values)
    return np.asarray(order[find_medians(probabilities[:, order])])


def _order_classes(values: np.ndarray) -> np.ndarray:
    """Order classes as their model does: rising or falling, and classes without a number last."""
    falls = len(values) > 1 and values[0] > values[1]
    return np.argsort(-values if falls else values, kind="stable")


def measure_median_error(predicted: Predicted) -> float | None:
    """Measure the mean absolute error of the median class; None without a row with a rating."""
    rated = RatedRows.of(predicted)
    return _average(np.abs(rated.median - rated.label))


def measure_mean_error(predicted: Predicted) -> float | None:
    """Measure the mean absolute error of the expected rating."""
    rated = RatedRows.of(predicted)
    return _average(np.abs(rated.mean - rated.label))


def _average(errors: np.ndarray) -> float | None:
    return float(errors.mean()) if len(errors) else None


def bound_median_error(predicted: Predicted) -> intervals.Interval | str:
    """Bound the mean absolute error of the median class."""
    rated = RatedRows.of(predicted)
    return _bound(np.abs(rated.median - rated.label), rated)


def bound_mean_error(predicted: Predicted) -> intervals.Interval | str:
    """Bound the mean absolute error of the expected rating."""
    rated = RatedRows.of(predicted)
    return _bound(np.abs(rated.mean - rated.label), rated)


def _bound(errors: np.ndarray, rated: RatedRows) -> intervals.Interval | str:
    if len(errors) < 2:
        return _REASON
    factor = rated.groups.factor(errors - errors.mean()) if rated.groups else 1.0
    return intervals.mean_interval(errors, largest=rated.span, step=rated.span, factor=factor)


def compare_median_errors(first: Predicted, second: Predicted) -> paired.Difference | None:
    """Compare the mean absolute errors of the median classes."""
    one = RatedRows.of(first)
    other = RatedRows.of(second)
    errors = np.abs(other.median - other.label) - np.abs(one.median - one.label)
    return paired.mean_difference(errors, step=one.span, groups=one.groups)


def compare_mean_errors(first: Predicted, second: Predicted) -> paired.Difference | None:
    """Compare the mean absolute errors of the expected ratings."""
    one = RatedRows.of(first)
    other = RatedRows.of(second)
    errors = np.abs(other.mean - other.label) - np.abs(one.mean - one.label)
    return paired.mean_difference(errors, step=one.span, groups=one.groups)


class QuadraticKappa(NamedTuple):
    """The quadratic kappa of N rows."""

    value: float
    """1 is perfect, 0 is chance."""
    effects: np.ndarray
    """What each row adds to it, (N,); their mean is 0."""
    step: float
    """What one more row adds at most: it is wrong by the largest possible error."""

    @classmethod
    def of(cls, label: np.ndarray, guess: np.ndarray, span: float) -> "QuadraticKappa | None":
        """Measure how far ratings agree; None if all are equal.

        Args:
            label: N ratings.
            guess: N other ratings of the same texts.
            span: The largest possible error.

        Example:
            >>> found = QuadraticKappa.of(np.array([1.0, 2, 3, 3]), np.array([1.0, 2, 3, 2]), 2)
            >>> round(found.value, 4)  # 1 - 0.25 / 1.25
            0.8
        """
        if not len(label):
            return None
        errors = np.square(guess - label)
        squares = np.square(guess).mean() + np.square(label).mean()
        of_chance = squares - 2 * guess.mean() * label.mean()
        if of_chance <= 0:
            return None
        ratio = errors.mean() / of_chance
        # What a row adds to the error by chance: as label, and as guess.
        added = np.square(guess) + np.square(label)
        added = added - 2 * (guess * label.mean() + label * guess.mean())
        added = added - added.mean()
        effects = (ratio * added - (errors - errors.mean())) / of_chance
        return cls(value=float(1 - ratio), effects=effects, step=span**2 / float(of_chance))


def measure_kappa(predicted: Predicted) -> float | None:
    """Measure the quadratic kappa of the median classes."""
    rated = RatedRows.of(predicted)
    kappa = QuadraticKappa.of(rated.label, rated.median, rated.span)
    return kappa.value if kappa else None


def bound_kappa(predicted: Predicted) -> intervals.Interval | str:
    """Bound the quadratic kappa of the median classes."""
    rated = RatedRows.of(predicted)
    kappa = QuadraticKappa.of(rated.label, rated.median, rated.span)
    if kappa is None or len(rated.label) < 2:
        return _REASON
    found = paired.mean_difference(kappa.effects, step=kappa.step, groups=rated.groups)
    assert found is not None, "there are two rows or more"
    return max(-1.0, kappa.value + found.low), min(1.0, kappa.value + found.high)


def compare_kappas(first: Predicted, second: Predicted) -> paired.Difference | None:
    """Compare the quadratic kappas of the median classes."""
    one = RatedRows.of(first)
    other = RatedRows.of(second)
    of_one = QuadraticKappa.of(one.label, one.median, one.span)
    of_other = QuadraticKappa.of(other.label, other.median, other.span)
    if of_one is None or of_other is None:
        return None
    effects = of_other.effects - of_one.effects + (of_other.value - of_one.value)
    step = max(of_one.step, of_other.step)
    return paired.mean_difference(effects, step=step, groups=one.groups)
