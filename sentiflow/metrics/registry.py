"""Every metric of a whole model: its name, its title, its interval, and how two models differ."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sentiflow.metrics import intervals, paired
from sentiflow.metrics.classification import Metrics
from sentiflow.metrics.intervals import Interval
from sentiflow.metrics.predicted import Predicted


@dataclass(frozen=True)
class Metric:
    """A metric that report, model card, MLflow and ``compare`` show; ``Metrics`` has its value."""

    name: str
    """A field of ``Metrics``."""
    title: str
    meaning: str
    """In a few words."""
    form: str
    """How its value is written."""
    interval: Callable[[Predicted], Interval | str]
    """Its 95 % interval, or why it has none."""
    difference: Callable[[Predicted, Predicted], paired.Difference | None] | None = None
    """The second model's metric minus the first's; None: ``compare`` does not show it. It gives
    None where the metric is undefined."""
    higher_is_better: bool = True
    is_headline: bool = True
    """Whether the MLflow run of the training has it, too."""
    of_probabilities: bool = False
    of_equal: Callable[[int], float] | None = None
    """Its value if all of C classes are equally probable."""
    hub: dict[str, Any] = field(default_factory=dict)
    """``type`` and ``args`` in the metadata of the Hugging Face Hub; empty where it has none."""


def _bound_macro_f1(predicted: Predicted) -> Interval | str:
    counts = predicted.confusion
    low, high, num_rare = intervals.macro_f1_interval(counts)
    if num_rare <= intervals.MAX_RARE_FRACTION * len(counts):
        return low, high
    have = "has" if num_rare == 1 else "have"
    texts = f"fewer than {intervals.FEWEST} labelled texts"
    return f"{num_rare:,} of {len(counts):,} classes {have} {texts}"


def _compare_areas(first: Predicted, second: Predicted) -> paired.Difference | None:
    if not first.is_binary:
        return None
    return paired.roc_auc_difference(
        label=first.label, first=first.positive, second=second.positive
    )


METRICS = (
    Metric(
        "accuracy",
        "Accuracy",
        "share labelled correctly",
        "{:.1%}",
        lambda predicted: intervals.share_interval(predicted.right.sum(), len(predicted.right)),
        lambda first, second: paired.compare_accuracy(first.right, second.right)[0],
        hub={"type": "accuracy"},
    ),
    Metric(
        "f1_macro",
        "Macro F1",
        "mean F1 of the classes that occur",
        "{:.4f}",
        _bound_macro_f1,
        lambda first, second: paired.f1_macro_difference(
            label=first.label,
            first=first.prediction,
            second=second.prediction,
            num_classes=len(first.classes),
        ),
        hub={"type": "f1", "args": {"average": "macro"}},
    ),
    Metric(
        "matthews",
        "Matthews correlation",
        "1 is perfect, 0 is chance",
        "{:.4f}",
        lambda predicted: intervals.matthews_interval(predicted.confusion),
        is_headline=False,
        hub={"type": "matthews_correlation"},
    ),
    Metric(
        "roc_auc",
        "ROC AUC",
        "chance that a text of a class ranks above the others",
        "{:.4f}",
        intervals.area_interval,
        _compare_areas,
        of_probabilities=True,
        hub={"type": "roc_auc"},
    ),
    Metric(
        "average_precision",
        "Average precision",
        "area under the precision-recall curve of positive",
        "{:.4f}",
        intervals.average_precision_interval,
        is_headline=False,
        of_probabilities=True,
    ),
    Metric(
        "log_loss",
        "Log loss",
        "lower is better",
        "{:.4f}",
        intervals.log_loss_interval,
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
        intervals.brier_interval,
        lambda first, second: paired.mean_difference(
            second.squared_errors - first.squared_errors, step=intervals.brier_step(first)
        ),
        higher_is_better=False,
        of_probabilities=True,
        of_equal=lambda size: 1 - 1 / size,
    ),
)


def find_intervals(
    predicted: Predicted, metrics: Metrics
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Bound all metrics that are defined.

    Returns:
        Intervals by name of the metric, those of a class as ``precision_<class>`` and so on; and by
        name why there is none.
    """
    found, missing = dict[str, Interval](), dict[str, str]()

    def add(name: str, ends: Interval | str, value: float) -> None:
        if isinstance(ends, str):
            missing[name] = ends
        else:
            found[name] = float(min(ends[0], value)), float(max(ends[1], value))

    for label, of_class in metrics.by_class.items():
        right = metrics.confusion[label][label]
        totals = {"precision": of_class.num_predicted, "recall": of_class.num_rows}
        for name, total in totals.items():
            if total:
                add(f"{name}_{label}", intervals.share_interval(right, total), right / total)
        if of_class.f1 is not None:
            wrong = sum(totals.values()) - 2 * right
            add(f"f1_{label}", intervals.f1_interval(right, wrong), of_class.f1)
    for metric in METRICS:
        if (value := getattr(metrics, metric.name)) is not None:
            add(metric.name, metric.interval(predicted), value)
    return found, missing
