"""Every metric of a whole model: name, title, value, interval, and how two models differ."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sentiflow.metrics import intervals, paired
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted, macro_f1


@dataclass(frozen=True)
class Metric:
    """A metric that ``metrics.json``, report, model card, MLflow and ``compare`` show."""

    name: str
    title: str
    meaning: str
    """In a few words."""
    form: str
    """How its value is written."""
    value: Callable[[Predicted], float | None]
    """None where it is undefined."""
    interval: Callable[[Predicted], intervals.Interval | str]
    """Its 95 % interval, or why it has none."""
    difference: Callable[[Predicted, Predicted], paired.Difference | None] | None = None
    """The second model's metric minus the first's; None: ``compare`` does not show it. It gives
    None where the metric is undefined."""
    higher_is_better: bool = True
    of_two: bool = False
    """Whether only models of negative and positive have it. Others are metrics of the training's
    run in MLflow, too."""
    of_probabilities: bool = False
    of_equal: Callable[[int], float] | None = None
    """Its value if all of C classes are equally probable."""


def _bound_macro_f1(predicted: Predicted) -> intervals.Interval | str:
    counts = predicted.confusion
    low, high, num_rare = intervals.macro_f1_interval(counts)
    if num_rare <= intervals.MAX_RARE_FRACTION * len(counts):
        return low, high
    have = "has" if num_rare == 1 else "have"
    return (
        f"{num_rare:,} of {len(counts):,} classes {have} fewer than {intervals.FEWEST} labelled "
        "texts"
    )


def _correlate(predicted: Predicted) -> float | None:
    counts = predicted.confusion
    if not (counts.any(axis=0) & counts.any(axis=1)).all():
        return None
    return float(intervals.correlate(counts.ravel()))


def _average_areas(predicted: Predicted) -> float | None:
    """Average the areas of the classes that have one; that of positive, if there are two."""
    areas = [area for area in predicted.areas if area is not None]
    return sum(areas) / len(areas) if areas else None


def _measure_average_precision(predicted: Predicted) -> float | None:
    from sklearn.metrics import average_precision_score

    if predicted.areas[0] is None:
        return None
    return float(average_precision_score(predicted.label, predicted.positive))


METRICS = (
    Metric(
        "accuracy",
        "Accuracy",
        "share labelled correctly",
        "{:.1%}",
        lambda predicted: float(predicted.right.mean()),
        lambda predicted: intervals.share_interval(predicted.right.sum(), len(predicted.right)),
        lambda first, second: paired.compare_accuracy(first.right, second.right)[0],
    ),
    Metric(
        "f1_macro",
        "Macro F1",
        "mean F1 of the classes that occur",
        "{:.4f}",
        lambda predicted: macro_f1(predicted.confusion),
        _bound_macro_f1,
        lambda first, second: paired.f1_macro_difference(
            label=first.label,
            first=first.prediction,
            second=second.prediction,
            num_classes=len(first.classes),
        ),
    ),
    Metric(
        "matthews",
        "Matthews correlation",
        "1 is perfect, 0 is chance",
        "{:.4f}",
        _correlate,
        lambda predicted: intervals.matthews_interval(predicted.confusion),
        of_two=True,
    ),
    Metric(
        "roc_auc",
        "ROC AUC",
        "chance that a text of a class ranks above the others",
        "{:.4f}",
        _average_areas,
        intervals.area_interval,
        lambda first, second: (
            paired.roc_auc_difference(
                label=first.label, first=first.positive, second=second.positive
            )
            if first.is_binary
            else None
        ),
        of_probabilities=True,
    ),
    Metric(
        "average_precision",
        "Average precision",
        "area under the precision-recall curve of positive",
        "{:.4f}",
        _measure_average_precision,
        intervals.average_precision_interval,
        of_two=True,
        of_probabilities=True,
    ),
    Metric(
        "log_loss",
        "Log loss",
        "lower is better",
        "{:.4f}",
        lambda predicted: float(predicted.log_losses.mean()),
        lambda predicted: intervals.mean_interval(
            predicted.log_losses,
            largest=-math.log(PROBABILITY_FLOOR),
            step=intervals.log_loss_step(predicted),
        ),
        lambda first, second: paired.mean_difference(
            second.log_losses - first.log_losses,
            step=max(map(intervals.log_loss_step, (first, second))),
        ),
        higher_is_better=False,
        of_probabilities=True,
        of_equal=math.log,
    ),
    Metric(
        "brier",
        "Brier score",
        "lower is better",
        "{:.4f}",
        lambda predicted: float(predicted.squared_errors.mean()),
        lambda predicted: intervals.mean_interval(
            predicted.squared_errors,
            largest=intervals.brier_step(predicted),
            step=intervals.brier_step(predicted),
        ),
        lambda first, second: paired.mean_difference(
            second.squared_errors - first.squared_errors, step=intervals.brier_step(first)
        ),
        higher_is_better=False,
        of_probabilities=True,
        of_equal=lambda size: 1 - 1 / size,
    ),
)
