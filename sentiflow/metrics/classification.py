"""Labels, predictions and probabilities -> accuracy, F1, log loss and other metrics."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from sentiflow.config.class_names import BINARY, set_apart
from sentiflow.errors import MOST_LISTED, few
from sentiflow.metrics import intervals
from sentiflow.metrics.calibration import expected_calibration_error
from sentiflow.metrics.macro_f1 import macro_f1_of_labelled
from sentiflow.metrics.one_vs_rest import OneVsRest
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import CLASS_METRICS, METRICS, ClassMetric

MIN_ROWS = 30
"""Classes and slices of fewer rows are listed last: their figures are too uncertain."""


@dataclass(frozen=True)
class ClassMetrics:
    """How well the texts of one class are found among the texts of all classes."""

    num_rows: int
    """Rows that have the label."""
    num_predicted: int
    """Rows that have the prediction."""
    values: dict[str, float | None]
    """The metrics of ``registry.CLASS_METRICS``, by name; None where a metric is undefined."""

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        return self.values["f1"]

    @property
    def is_small(self) -> bool:
        """Whether fewer than ``MIN_ROWS`` rows have the label."""
        return self.num_rows < MIN_ROWS

    @property
    def of_predictions(self) -> dict[str, float | None]:
        """The metrics that need no probabilities, by name."""
        names = [metric.name for metric in CLASS_METRICS if not metric.of_probabilities]
        return {name: self.values[name] for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return metrics of predictions, counts, and metrics of probabilities."""
        counts = {"num_rows": self.num_rows, "num_predicted": self.num_predicted}
        names = [metric.name for metric in CLASS_METRICS if metric.of_probabilities]
        of_probabilities = {name: self.values[name] for name in names}
        return {**self.of_predictions, **counts, **of_probabilities}


class MetricIntervals(NamedTuple):
    """The 95% intervals of metrics, by the name of the metric.

    A metric of a class is named ``precision_<class>`` etc.
    """

    bounds: dict[str, intervals.Interval]
    reasons: dict[str, str]
    """Why a metric of the whole model has no interval."""


class MostFrequent(NamedTuple):
    """The most frequent label."""

    name: str
    share: float
    """Share of the rows with it: the accuracy of always predicting it."""


class ConfusedPair(NamedTuple):
    """Two classes that are predicted for each other's texts."""

    num_texts: int
    """Mistakes in both directions."""
    first: str
    second: str
    num_first: int
    """Texts labelled as the first and predicted as the second, at least ``num_second``."""
    num_second: int


@dataclass(frozen=True)
class Metrics:
    """Predictions of C classes measured against labels.

    A metric is None where it is undefined, such as the precision of a class that is never
    predicted.
    """

    num_rows: int
    accuracy_low: float
    """Lower end of the exact 95% interval; 0 if there is none."""
    accuracy_high: float
    """Its upper end; 1 if there is none."""
    values: dict[str, float | None]
    """The metrics of ``registry.METRICS`` that models of these classes have, by name."""
    expected_calibration_error: float | None
    """For the probability of positive; with other classes, of the prediction (Guo et al. 2017)."""
    by_class: dict[str, ClassMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""
    no_interval: str = ""
    """Why the accuracy has no interval; empty if it has one."""

    @property
    def interval(self) -> str:
        """Write the interval of the accuracy, or why there is none."""
        if self.no_interval:
            return f"no interval: {self.no_interval}"
        return f"95% interval {self.accuracy_low:.1%} to {self.accuracy_high:.1%}"

    @property
    def ends(self) -> dict[str, float | None]:
        """The ends of the interval of the accuracy by name; None if there is no interval."""
        has_interval = not self.no_interval
        return {
            "accuracy_low": self.accuracy_low if has_interval else None,
            "accuracy_high": self.accuracy_high if has_interval else None,
        }

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return self.values["accuracy"] or 0.0

    @property
    def f1_macro(self) -> float | None:
        """Mean of the F1 of the classes that occur in the labels or predictions."""
        return self.values["f1_macro"]

    @property
    def f1_macro_of_labelled(self) -> float | None:
        """Mean of the F1 of the classes that occur in the labels."""
        rows = [list(counts.values()) for counts in self.confusion.values()]
        return macro_f1_of_labelled(np.array(rows))

    @property
    def only_predicted(self) -> dict[str, int]:
        """The predictions of each class that has predictions, but no label: its F1 is 0."""
        return {
            name: of_class.num_predicted
            for name, of_class in self.by_class.items()
            if of_class.num_predicted and not of_class.num_rows
        }

    @property
    def f1_macro_remark(self) -> str:
        """Say what the macro F1 is without the classes that are only predicted; empty: none is."""
        names = []
        for name, count in self.only_predicted.items():
            predictions = "1 prediction" if count == 1 else f"{count:,} predictions"
            names.append(f"{set_apart(name)} ({predictions}, no label)")
        if not names:
            return ""
        return f"without {', '.join(few(names))} it is {self.f1_macro_of_labelled:.4f}"

    @property
    def is_binary(self) -> bool:
        """Whether the classes are negative and positive."""
        return tuple(self.confusion) == BINARY

    @property
    def most_frequent(self) -> MostFrequent:
        """Find the most frequent label; of equally frequent ones it is the last."""
        counts = {name: of_class.num_rows for name, of_class in reversed(self.by_class.items())}
        name = max(counts, key=lambda name: counts[name])
        return MostFrequent(name, counts[name] / self.num_rows)

    @property
    def has_many(self) -> bool:
        """Whether there are more classes than a summary lists."""
        return len(self.by_class) > MOST_LISTED

    @property
    def worst_first(self) -> list[str]:
        """Name the classes by their F1, the lowest first; small ones and those without F1 last."""

        def rank(name: str) -> tuple[bool, float]:
            of_class = self.by_class[name]
            f1 = 2.0 if of_class.f1 is None else of_class.f1  # 2 is above any F1
            return of_class.is_small, f1

        return sorted(self.by_class, key=rank)

    @property
    def confused_pairs(self) -> list[ConfusedPair]:
        """List the pairs of classes with mistakes between them, the most mistakes first."""
        pairs = []
        for first, second in permutations(self.confusion, 2):
            num_first = self.confusion[first][second]
            num_second = self.confusion[second][first]
            is_in_order = num_first > num_second or (num_first == num_second and first < second)
            if num_first and is_in_order:
                pairs.append(
                    ConfusedPair(
                        num_texts=num_first + num_second,
                        first=first,
                        second=second,
                        num_first=num_first,
                        num_second=num_second,
                    )
                )
        return sorted(pairs, key=lambda pair: -pair.num_texts)

    @property
    def scalars(self) -> dict[str, Any]:
        """The metrics that are one number, by name; for a class the name is ``f1_<class>`` etc."""
        scalars: dict[str, Any] = {
            "num_rows": self.num_rows,
            **self.ends,
            "expected_calibration_error": self.expected_calibration_error,
            **self.values,
        }
        for label, of_class in self.by_class.items():
            shown = of_class.of_predictions if self.is_binary else of_class.to_json()
            for name, value in shown.items():
                scalars[f"{name}_{label}"] = value
        if self.is_binary:
            scalars |= self._count_outcomes()
        return scalars

    def _count_outcomes(self) -> dict[str, Any]:
        """Count the four outcomes of negative and positive."""
        negative, positive = BINARY
        of_negative = self.confusion[negative]
        of_positive = self.confusion[positive]
        return {
            "positive_fraction": sum(of_positive.values()) / self.num_rows,
            "true_positive": of_positive[positive],
            "false_positive": of_negative[positive],
            "true_negative": of_negative[negative],
            "false_negative": of_positive[negative],
        }

    def to_json(self) -> dict[str, Any]:
        """Return the metrics; with negative and positive each is one number."""
        if self.is_binary:
            return self.scalars
        return {
            **self.values,
            "num_rows": self.num_rows,
            **self.ends,
            "expected_calibration_error": self.expected_calibration_error,
            "by_class": {name: of_class.to_json() for name, of_class in self.by_class.items()},
            "confusion": self.confusion,
        }


def measure(predicted: Predicted, *, has_probabilities: bool = True) -> Metrics:
    """Measure predictions against labels.

    Without ``has_probabilities`` the metrics of probabilities are None.

    The formulas and their sources: ``registry.METRICS``, ``registry.CLASS_METRICS`` and, for the
    interval, ``intervals.right_interval``.

    Example:
        >>> label, prediction = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
        >>> found = measure(Predicted(("a", "b"), label, prediction, np.eye(2)[prediction]))
        >>> found.accuracy, found.by_class["b"].values["recall"], found.confusion["a"]
        (0.8, 1.0, {'a': 2, 'b': 1})
    """
    counts = predicted.confusion
    num_rows = len(predicted.label)
    low, high = intervals.right_interval(predicted.right, predicted.groups)
    calibration_error = None
    if has_probabilities:
        calibration_error = expected_calibration_error(
            label=predicted.outcome, probability=predicted.probability
        )
    confusion = {
        name: dict(zip(predicted.classes, row, strict=True))
        for name, row in zip(predicted.classes, counts.tolist(), strict=True)
    }
    return Metrics(
        num_rows=num_rows,
        accuracy_low=low,
        accuracy_high=high,
        values=_measure_model(predicted, has_probabilities),
        expected_calibration_error=calibration_error,
        by_class=_measure_classes(predicted, has_probabilities),
        confusion=confusion,
        no_interval=predicted.no_interval,
    )


def _measure_model(predicted: Predicted, has_probabilities: bool) -> dict[str, float | None]:
    """Measure the metrics of the whole model that models of these classes have."""
    values = {}
    for metric in METRICS:
        if not metric.is_of(predicted):
            continue
        is_known = has_probabilities or not metric.of_probabilities
        values[metric.name] = metric.value(predicted) if is_known else None
    return values


def _measure_classes(predicted: Predicted, has_probabilities: bool) -> dict[str, ClassMetrics]:
    """Measure each class against all others."""
    areas = np.array(predicted.areas, float) if has_probabilities else None  # None becomes NaN
    rows = OneVsRest.of(predicted.confusion, areas)
    values = {metric.name: metric.value(rows).tolist() for metric in CLASS_METRICS}
    by_class = {}
    for code, label in enumerate(predicted.classes):
        of_class: dict[str, float | None] = {}
        for name, by_code in values.items():
            value = by_code[code]
            of_class[name] = None if math.isnan(value) else value
        by_class[label] = ClassMetrics(
            num_rows=int(rows.labelled[code]),
            num_predicted=int(rows.predicted[code]),
            values=of_class,
        )
    return by_class


def measure_probabilities(predicted: Predicted) -> dict[str, float]:
    """Measure how good probabilities are, whatever threshold is applied to them.

    Log loss (Good 1952), Brier score (Brier 1950) and ``calibration.expected_calibration_error``.

    Example:
        >>> label, probability = np.array([1, 0]), np.array([0.9, 0.4])
        >>> found = measure_probabilities(
        ...     Predicted.of_positive(label=label, probability=probability, prediction=label)
        ... )
        >>> {name: round(value, 4) for name, value in found.items()}
        {'log_loss': 0.3081, 'brier': 0.085, 'expected_calibration_error': 0.25}
    """
    return {
        "log_loss": float(predicted.log_losses.mean()),
        "brier": float(predicted.squared_errors.mean()),
        "expected_calibration_error": expected_calibration_error(
            label=predicted.outcome, probability=predicted.probability
        ),
    }


def find_intervals(predicted: Predicted, metrics: Metrics) -> MetricIntervals:
    """Bound all metrics that are defined.

    Example:
        Precision and recall are shares of rows, bounded as by Clopper and Pearson (1934).

        >>> label, prediction = np.repeat([0, 0, 1], [8, 2, 5]), np.repeat([0, 1, 1], [8, 2, 5])
        >>> rows = Predicted(("a", "b"), label, prediction, np.eye(2)[prediction])
        >>> low, high = find_intervals(rows, measure(rows)).bounds["recall_a"]  # 8 of 10
        >>> f"{low:.4f} {high:.4f}"
        '0.4439 0.9748'
    """
    if predicted.no_interval:
        defined = [name for name, value in metrics.values.items() if value is not None]
        return MetricIntervals({}, dict.fromkeys(defined, predicted.no_interval))
    bounds = _bound_classes(predicted, metrics)
    reasons = {}
    for metric in METRICS:
        value = metrics.values.get(metric.name)
        if value is None:
            continue
        ends = metric.interval(predicted)
        if isinstance(ends, str):
            reasons[metric.name] = ends
        else:
            bounds[metric.name] = _include(value, *ends)
    return MetricIntervals(bounds, reasons)


def _bound_classes(predicted: Predicted, metrics: Metrics) -> dict[str, intervals.Interval]:
    """Bound the metrics of each class that are defined and have an interval."""
    rows = OneVsRest.of(predicted.confusion)
    ends = {}
    with np.errstate(invalid="ignore"):  # 0 / 0 for a class without rows
        for metric in CLASS_METRICS:
            if metric.interval:
                factors = _find_factors(predicted, metric)
                ends[metric.name] = metric.interval(rows.divide_by(factors))
    bounds = {}
    for code, (label, of_class) in enumerate(metrics.by_class.items()):
        for name, (low, high) in ends.items():
            value = of_class.values[name]
            if value is not None:
                bounds[f"{name}_{label}"] = _include(value, low[code], high[code])
    return bounds


def _find_factors(predicted: Predicted, metric: ClassMetric) -> np.ndarray:
    """Find the factor of dependent rows for a metric of each class; see ``dependence``."""
    factors = np.ones(len(predicted.classes))
    if predicted.groups is None:
        return factors
    for code in range(len(factors)):
        chosen = _find_counted(predicted, metric, code)
        right = predicted.right[chosen]
        if len(right):
            factors[code] = predicted.factor(partial(_center, right), chosen)
    return factors


def _find_counted(predicted: Predicted, metric: ClassMetric, code: int) -> np.ndarray:
    """Find the rows that the interval of a metric of a class counts, as N bools."""
    if metric.rows == "label":
        return np.asarray(predicted.label == code)
    if metric.rows == "prediction":
        return np.asarray(predicted.prediction == code)
    return np.asarray((predicted.label == code) | (predicted.prediction == code))


def _center(values: np.ndarray) -> np.ndarray:
    """Subtract the mean from values."""
    return np.asarray(values - values.mean())


def _include(value: float, low: float, high: float) -> intervals.Interval:
    """Widen an interval that leaves out its value by a rounding error."""
    return float(min(low, value)), float(max(high, value))
