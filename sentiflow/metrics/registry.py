"""Every metric, of a whole model and of one class: name, title, value, interval.

A metric of the whole model also has the difference between two models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sentiflow.metrics import intervals, ordered, paired
from sentiflow.metrics.average_precision import AveragePrecision
from sentiflow.metrics.macro_f1 import (
    MAX_RARE_FRACTION,
    MIN_CLASS_ROWS,
    MacroF1,
    macro_f1,
    macro_f1_interval,
)
from sentiflow.metrics.matthews import correlate, matthews_interval, matthews_slopes
from sentiflow.metrics.one_vs_rest import OneVsRest
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted


@dataclass(frozen=True)
class Metric:
    """A metric that ``metrics.json``, report, model card, MLflow and ``compare`` show.

    The sources of the formulas stand below ``METRICS``.

    Example:
        >>> import numpy as np
        >>> label = np.array([0, 1, 1, 1])
        >>> rows = Predicted.of_positive(
        ...     label=label, probability=np.array([0.5, 0.5, 0.9, 0.9]), prediction=label
        ... )
        >>> values = {each.name: each.value(rows) for each in METRICS if not each.of_ordered}
        >>> # the labels have the probabilities 0.5, 0.5, 0.9, 0.9
        >>> round(values["log_loss"], 4), round(values["brier"], 4)  # -ln 0.45 / 2, 0.52 / 4
        (0.3993, 0.13)
    """

    name: str
    title: str
    meaning: str
    """In a few words."""
    form: str
    """The format of its value."""
    value: Callable[[Predicted], float | None]
    """None where it is undefined."""
    interval: Callable[[Predicted], intervals.Interval | str]
    """Its 95% interval, or the reason why it has none."""
    difference: Callable[[Predicted, Predicted], paired.Difference | None] | None = None
    """The second model's metric minus the first's; it returns None where that is undefined. A
    metric without this function is not shown by ``compare``."""
    higher_is_better: bool = True
    of_two: bool = False
    """Whether only binary models have it. If not, it is also logged to the MLflow run of the
    training."""
    of_ordered: bool = False
    """Whether only models of ordered classes have it."""
    of_probabilities: bool = False
    """Whether it needs probabilities."""
    uniform_value: Callable[[int], float] | None = None
    """Its value for C equally probable classes, given C. For the Brier score of binary models, take
    half of this value."""

    @property
    def phrase(self) -> str:
        """The title inside a sentence: ``macro F1``."""
        return self.title[0].lower() + self.title[1:]

    def gain(self, difference: float) -> float:
        """Return a difference in the direction of the metric: above 0 the second is better."""
        return difference if self.higher_is_better else -difference

    def is_of(self, predicted: Predicted) -> bool:
        """Say whether models of these classes have the metric."""
        if self.of_ordered:
            return predicted.class_values is not None
        return predicted.is_binary or not self.of_two


@dataclass(frozen=True)
class ClassMetric:
    """A metric of one class that ``metrics.json``, report, model card and MLflow show."""

    name: str
    title: str
    """As it is written inside a sentence: ``precision``, ``F1``."""
    meaning: str
    """In a few words, with ``{name}`` for the class."""
    explanation: str
    """The report's text about it below the table of classes; empty: none."""
    form: str
    """The format of its value."""
    short_form: str
    """The format of its value in a table of classes."""
    value: Callable[[OneVsRest], np.ndarray]
    """By class; NaN where it is undefined."""
    interval: Callable[[OneVsRest], tuple[np.ndarray, np.ndarray]] | None = None
    """Its 95% intervals, by class; None: it has none."""
    rows: Literal["prediction", "label", "either"] = "either"
    """The rows that its interval counts: they have the class as their prediction, as their label,
    or as one of the two."""
    is_main: bool = False
    """Whether it is the main one: tables of classes show its interval; narrow screens keep it."""
    of_probabilities: bool = False
    """Whether it needs probabilities. If so, the model card leaves it out, and so do the results of
    binary models."""


def _measure_accuracy(predicted: Predicted) -> float:
    return float(predicted.right.mean())


def _bound_accuracy(predicted: Predicted) -> intervals.Interval:
    return intervals.right_interval(predicted.right, predicted.groups)


def _compare_accuracy(first: Predicted, second: Predicted) -> paired.Difference:
    return paired.compare_accuracy(first.right, second.right, first.groups)[0]


def _bound_macro_f1(predicted: Predicted) -> intervals.Interval | str:
    counts = predicted.confusion
    parts = MacroF1.of(counts)

    def find_effects(part: Predicted) -> np.ndarray:
        return parts.effects(part.label, part.prediction)

    factor = predicted.factor(lambda: predicted.compute(find_effects))
    low, high, num_rare = macro_f1_interval(counts, factor=factor)
    if num_rare <= MAX_RARE_FRACTION * len(counts):
        return low, high
    have = "has" if num_rare == 1 else "have"
    return (
        f"{num_rare:,} of {len(counts):,} classes {have} fewer than {MIN_CLASS_ROWS} labelled texts"
    )


def compare_macro_f1(
    first: Predicted, second: Predicted, *, num_resamples: int = 10_000
) -> paired.Difference | None:
    """Compare the macro F1 of two models.

    Args:
        first: Predictions of the first model.
        second: Predictions of the second model.
        num_resamples: As for ``paired.f1_macro_difference``. The p-value is at least 1 / (it + 1).
    """
    return paired.f1_macro_difference(
        label=first.label,
        first=first.prediction,
        second=second.prediction,
        num_classes=len(first.classes),
        num_resamples=num_resamples,
        groups=first.groups,
    )


def _measure_matthews(predicted: Predicted) -> float | None:
    """Compute the Matthews correlation; None unless each class is labelled and predicted."""
    counts = predicted.confusion
    occurs = counts.any(axis=0) & counts.any(axis=1)
    if not occurs.all():
        return None
    return float(correlate(counts.ravel()))


def _bound_matthews(predicted: Predicted) -> intervals.Interval:
    counts = predicted.confusion.ravel()
    slopes = matthews_slopes(counts)
    mean = (counts * slopes).sum() / counts.sum()

    def find_effects(part: Predicted) -> np.ndarray:
        cells = 2 * part.label.astype(np.int64) + part.prediction
        return np.asarray(slopes[cells] - mean)

    factor = predicted.factor(lambda: predicted.compute(find_effects))
    low, high = matthews_interval(predicted.confusion, factor=factor)
    return low, high


def _average_areas(predicted: Predicted) -> float | None:
    """Average the classes' areas under the ROC curve; two classes have equal areas."""
    areas = [area for area in predicted.areas if area is not None]
    return sum(areas) / len(areas) if areas else None


def _compare_areas(first: Predicted, second: Predicted) -> paired.Difference | None:
    if not first.is_binary:
        return None
    return paired.roc_auc_difference(
        label=first.label, first=first.positive, second=second.positive, groups=first.groups
    )


def _measure_average_precision(predicted: Predicted) -> float | None:
    if predicted.areas[0] is None:  # all labels are of one class
        return None
    return AveragePrecision.of(predicted).value


def _bound_log_loss(predicted: Predicted) -> intervals.Interval | str:
    losses = predicted.log_losses
    return intervals.mean_interval(
        losses,
        largest=-math.log(PROBABILITY_FLOOR),
        step=intervals.log_loss_step(predicted),
        factor=predicted.factor(lambda: losses - losses.mean()),
    )


def _compare_log_loss(first: Predicted, second: Predicted) -> paired.Difference | None:
    step = max(intervals.log_loss_step(first), intervals.log_loss_step(second))
    losses = second.log_losses - first.log_losses
    return paired.mean_difference(losses, step=step, groups=first.groups)


def _bound_brier(predicted: Predicted) -> intervals.Interval | str:
    step = intervals.brier_step(predicted)
    # One more row can change the sum by the largest error.
    errors = predicted.squared_errors
    factor = predicted.factor(lambda: errors - errors.mean())
    return intervals.mean_interval(errors, largest=step, step=step, factor=factor)


def _compare_brier(first: Predicted, second: Predicted) -> paired.Difference | None:
    step = intervals.brier_step(first)  # it depends on the classes only: both models have the same
    errors = second.squared_errors - first.squared_errors
    return paired.mean_difference(errors, step=step, groups=first.groups)


METRICS = (
    Metric(
        name="accuracy",
        title="Accuracy",
        meaning="share labelled correctly",
        form="{:.1%}",
        value=_measure_accuracy,
        interval=_bound_accuracy,
        difference=_compare_accuracy,
    ),
    Metric(
        name="f1_macro",
        title="Macro F1",
        meaning="mean F1 of the classes in labels or predictions",
        form="{:.4f}",
        value=lambda predicted: macro_f1(predicted.confusion),
        interval=_bound_macro_f1,
        difference=compare_macro_f1,
    ),
    Metric(
        name="matthews",
        title="Matthews correlation",
        meaning="1 is perfect, 0 is chance",
        form="{:.4f}",
        value=_measure_matthews,
        interval=_bound_matthews,
        of_two=True,
    ),
    Metric(
        name="roc_auc",
        title="ROC AUC",
        meaning="chance that a text of a class ranks above the others",
        form="{:.4f}",
        value=_average_areas,
        interval=intervals.area_interval,
        difference=_compare_areas,
        of_probabilities=True,
    ),
    Metric(
        name="average_precision",
        title="Average precision",
        meaning="area under the precision-recall curve of positive",
        form="{:.4f}",
        value=_measure_average_precision,
        interval=intervals.average_precision_interval,
        of_two=True,
        of_probabilities=True,
    ),
    Metric(
        name="log_loss",
        title="Log loss",
        meaning="lower is better",
        form="{:.4f}",
        value=lambda predicted: float(predicted.log_losses.mean()),
        interval=_bound_log_loss,
        difference=_compare_log_loss,
        higher_is_better=False,
        of_probabilities=True,
        uniform_value=math.log,
    ),
    Metric(
        name="brier",
        title="Brier score",
        meaning="lower is better",
        form="{:.4f}",
        value=lambda predicted: float(predicted.squared_errors.mean()),
        interval=_bound_brier,
        difference=_compare_brier,
        higher_is_better=False,
        of_probabilities=True,
        uniform_value=lambda size: 1 - 1 / size,
    ),
    Metric(
        name="mae",
        title="Mean absolute error",
        meaning="of the median label, in units of the ratings; lower is better",
        form="{:.3f}",
        value=ordered.measure_median_error,
        interval=ordered.bound_median_error,
        difference=ordered.compare_median_errors,
        higher_is_better=False,
        of_ordered=True,
        of_probabilities=True,
    ),
    Metric(
        name="mae_expected_rating",
        title="Mean absolute error of the expected rating",
        meaning="lower is better",
        form="{:.3f}",
        value=ordered.measure_mean_error,
        interval=ordered.bound_mean_error,
        difference=ordered.compare_mean_errors,
        higher_is_better=False,
        of_ordered=True,
        of_probabilities=True,
    ),
    Metric(
        name="quadratic_kappa",
        title="Quadratic kappa",
        meaning="of the median label; 1 is perfect, 0 is chance",
        form="{:.4f}",
        value=ordered.measure_kappa,
        interval=ordered.bound_kappa,
        difference=ordered.compare_kappas,
        of_ordered=True,
        of_probabilities=True,
    ),
)
"""The metrics of a whole model, in the order of the report.

Sources: Buckley and Voorhees (2000) for average precision, Good (1952) for log loss, Brier (1950)
for the Brier score; for the others see the modules ``macro_f1``, ``roc_area``, ``matthews`` and
``ordered``.
"""


def find_metric(name: str) -> Metric:
    """Find a metric of the whole model by its name.

    Example:
        >>> find_metric("mae").phrase, find_metric("mae").gain(-0.25)
        ('mean absolute error', 0.25)
    """
    return next(metric for metric in METRICS if metric.name == name)


def _bound_f1(rows: OneVsRest) -> tuple[np.ndarray, np.ndarray]:
    wrong = rows.labelled + rows.predicted - 2 * rows.right
    return intervals.f1_interval(rows.right, wrong)


CLASS_METRICS = (
    ClassMetric(
        name="precision",
        title="precision",
        meaning="of the texts predicted {name}, the share labelled {name}",
        explanation="Precision: of the texts predicted to be of a class, the share labelled so.",
        form="{:.1%}",
        short_form="{:.1%}",
        value=lambda rows: rows.precision,
        interval=lambda rows: intervals.share_interval(rows.right, rows.predicted),
        rows="prediction",
    ),
    ClassMetric(
        name="recall",
        title="recall",
        meaning="of the texts labelled {name}, the share predicted {name}",
        explanation="Recall: of the texts labelled with a class, the share predicted to be of it.",
        form="{:.1%}",
        short_form="{:.1%}",
        value=lambda rows: rows.recall,
        interval=lambda rows: intervals.share_interval(rows.right, rows.labelled),
        rows="label",
    ),
    ClassMetric(
        name="f1",
        title="F1",
        meaning="harmonic mean of precision and recall",
        explanation="F1 is their harmonic mean.",
        form="{:.4f}",
        short_form="{:.3f}",
        value=lambda rows: rows.f1,
        interval=_bound_f1,
        rows="either",
        is_main=True,
    ),
    ClassMetric(
        name="roc_auc",
        title="ROC AUC",
        meaning="chance that a text of {name} ranks above the others",
        explanation="",
        form="{:.4f}",
        short_form="{:.4f}",
        value=lambda rows: rows.area,
        of_probabilities=True,
    ),
)
"""The metrics of one class, in the order of the report.

F1: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
"""
