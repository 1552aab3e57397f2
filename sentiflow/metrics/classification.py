"""Labels, predictions and probabilities -> accuracy, F1, log loss and the like.

And lines that name the classes that are predicted too often or too seldom.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.class_names import BINARY
from sentiflow.data.manifest_types import ModelInput
from sentiflow.errors import MOST_LISTED
from sentiflow.metrics import intervals
from sentiflow.metrics.calibration import expected_calibration_error
from sentiflow.metrics.paired import SURE, accuracy_difference, adjust
from sentiflow.metrics.predicted import Predicted, label_shares
from sentiflow.metrics.registry import METRICS

_LEAST_POINTS, _MAX_NAMED = 3, 3
"""Fewest points between two shares that are worth a line; most classes with one."""


@dataclass(frozen=True)
class ClassMetrics:
    """How well the texts of one class are found among those of all classes.

    None where a share is one of nothing.
    """

    precision: float | None
    """Share of the texts with this prediction that have the label."""
    recall: float | None
    """Share of the texts with the label that have this prediction."""
    f1: float | None
    """Harmonic mean of the two."""
    num_rows: int
    """Rows that have the label."""
    num_predicted: int
    """Rows that have the prediction."""
    roc_auc: float | None
    """Area under the ROC curve of this class against the others."""


class ConfusedPair(NamedTuple):
    """Two classes that are predicted for each other's texts."""

    num_texts: int
    """Mistakes in both directions."""
    first: str
    second: str
    num_first: int
    """Texts labelled as the first that are predicted to be of the second: as many or more."""
    num_second: int


@dataclass(frozen=True)
class Metrics:
    """Predictions of C classes measured against labels.

    A metric is None where it is undefined, as is the precision of a class that is never predicted.
    """

    num_rows: int
    accuracy_low: float
    """Lower end of the exact 95 % interval."""
    accuracy_high: float
    values: dict[str, float | None]
    """The metrics of ``registry.METRICS`` that models of these classes have, by name."""
    expected_calibration_error: float | None
    """Of positive; with other classes of the one that is predicted (Guo et al. 2017)."""
    by_class: dict[str, ClassMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return self.values["accuracy"] or 0.0

    @property
    def f1_macro(self) -> float | None:
        """Mean of the F1 of the classes that occur in the labels or predictions."""
        return self.values["f1_macro"]

    @property
    def is_binary(self) -> bool:
        """Say whether the classes are negative and positive."""
        return tuple(self.confusion) == BINARY

    @property
    def most_frequent(self) -> tuple[str, float]:
        """Name the most frequent label and its share: the accuracy of always predicting it."""
        counts = {name: of_class.num_rows for name, of_class in reversed(self.by_class.items())}
        name = max(counts, key=lambda name: counts[name])
        return name, counts[name] / self.num_rows

    @property
    def has_many(self) -> bool:
        """Say whether there are more classes than a summary lists."""
        return len(self.by_class) > MOST_LISTED

    @property
    def worst_first(self) -> list[str]:
        """Name the classes by their F1, the lowest first; those without one come last."""
        f1 = {n: 2.0 if each.f1 is None else each.f1 for n, each in self.by_class.items()}
        return sorted(f1, key=lambda name: f1[name])

    @property
    def confused_pairs(self) -> list[ConfusedPair]:
        """List the pairs of classes with mistakes between them, those with most mistakes first."""
        counts = self.confusion
        pairs = [
            ConfusedPair(counts[a][b] + counts[b][a], a, b, counts[a][b], counts[b][a])
            for a in counts
            for b in counts
            if counts[a][b] > counts[b][a] or (counts[a][b] == counts[b][a] > 0 and a < b)
        ]
        return sorted(pairs, key=lambda pair: -pair.num_texts)

    @property
    def scalars(self) -> dict[str, Any]:
        """The metrics that are one number; those of a class end with its name."""
        scalars: dict[str, Any] = {
            "num_rows": self.num_rows,
            "accuracy_low": self.accuracy_low,
            "accuracy_high": self.accuracy_high,
            "expected_calibration_error": self.expected_calibration_error,
            **self.values,
        }
        for label, metrics in self.by_class.items():
            of_class = vars(metrics)
            shown = ("precision", "recall", "f1") if self.is_binary else of_class
            scalars |= {f"{name}_{label}": of_class[name] for name in shown}
        if self.is_binary:
            (tn, fp), (fn, tp) = (counts.values() for counts in self.confusion.values())
            scalars |= {
                "positive_fraction": (tp + fn) / self.num_rows,
                "true_positive": tp,
                "false_positive": fp,
                "true_negative": tn,
                "false_negative": fn,
            }
        return scalars

    def to_json(self) -> dict[str, Any]:
        """Write the metrics; those of negative and positive are one number each."""
        if self.is_binary:
            return self.scalars
        content = asdict(self)
        return content.pop("values") | content


def measure(predicted: Predicted, *, has_probabilities: bool = True) -> Metrics:
    """Measure predictions against labels; without probabilities their metrics are None."""
    classes, num_rows = predicted.classes, len(predicted.label)
    counts = predicted.confusion
    shares = label_shares(counts)
    by_class = [
        ClassMetrics(*of_class, *numbers)
        for of_class, *numbers in zip(
            np.where(np.isnan(shares), np.array(None), shares).T.tolist(),
            counts.sum(axis=1).tolist(),
            counts.sum(axis=0).tolist(),
            predicted.areas if has_probabilities else [None] * len(classes),
            strict=True,
        )
    ]
    return Metrics(
        num_rows,
        *intervals.share_interval(int(counts.trace()), num_rows),
        {
            m.name: m.value(predicted) if has_probabilities or not m.of_probabilities else None
            for m in METRICS
            if predicted.is_binary or not m.of_two
        },
        expected_calibration_error(label=predicted.outcome, probability=predicted.probability)
        if has_probabilities
        else None,
        by_class=dict(zip(classes, by_class, strict=True)),
        confusion={
            name: dict(zip(classes, row, strict=True))
            for name, row in zip(classes, counts.tolist(), strict=True)
        },
    )


def measure_probabilities(predicted: Predicted) -> dict[str, float]:
    """Measure how good probabilities are, whatever threshold is applied to them."""
    return {
        "log_loss": float(predicted.log_losses.mean()),
        "brier": float(predicted.squared_errors.mean()),
        "expected_calibration_error": expected_calibration_error(
            label=predicted.outcome, probability=predicted.probability
        ),
    }


def find_intervals(
    predicted: Predicted, metrics: Metrics
) -> tuple[dict[str, intervals.Interval], dict[str, str]]:
    """Bound all metrics that are defined.

    Returns:
        Intervals by name of the metric, those of a class as ``precision_<class>`` and so on; and by
        name why there is none.
    """
    bounds: dict[str, tuple[intervals.Interval | str, float]] = {}
    for label, of_class in metrics.by_class.items():
        right = metrics.confusion[label][label]
        totals = {"precision": of_class.num_predicted, "recall": of_class.num_rows}
        for name, total in totals.items():
            if total:
                ends = intervals.share_interval(right, total)
                bounds[f"{name}_{label}"] = ends, right / total
        if of_class.f1 is not None:
            wrong = sum(totals.values()) - 2 * right
            bounds[f"f1_{label}"] = intervals.f1_interval(right, wrong), of_class.f1
    for metric in METRICS:
        if (value := metrics.values.get(metric.name)) is not None:
            bounds[metric.name] = metric.interval(predicted), value
    return {
        name: (float(min(ends[0], value)), float(max(ends[1], value)))
        for name, (ends, value) in bounds.items()
        if not isinstance(ends, str)
    }, {name: ends for name, (ends, _) in bounds.items() if isinstance(ends, str)}


def compare_shares(confusion: Mapping[str, Mapping[str, int]], texts: str) -> list[tuple[str, str]]:
    """Tell the classes that a model predicts too often or too seldom, the largest gap first.

    The two shares are of the same rows, so that only mistakes count: the test is McNemar's,
    adjusted by Holm over the classes, the interval that of Bonett and Price.

    Args:
        confusion: Labelled rows by label, then by prediction.
        texts: What to call the rows.

    Returns:
        For each class the predicted share, and what it means.
    """
    counts = pd.DataFrame(confusion).T
    names = list(dict.fromkeys([*counts.index, *counts.columns]))
    counts = counts.reindex(index=names, columns=names).fillna(0).astype(int)
    labelled, predicted, num_rows = counts.sum(axis=1), counts.sum(), int(counts.to_numpy().sum())
    gaps = {
        name: accuracy_difference(
            only_first=int(labelled[name] - counts.loc[name, name]),
            only_second=int(predicted[name] - counts.loc[name, name]),
            num_rows=num_rows,
        )
        for name in names
    }
    adjusted = adjust([gap.p_value for gap in gaps.values() if gap.p_value is not None])
    sure = [
        name
        for name, p_value in zip(names, adjusted, strict=True)
        if p_value < SURE and 100 * abs(gaps[name].value) >= _LEAST_POINTS
    ]
    lines = []
    for name in sorted(sure, key=lambda name: -abs(gaps[name].value))[:_MAX_NAMED]:
        gap, share = gaps[name], predicted[name] / num_rows
        ends = sorted([100 * abs(gap.low), 100 * abs(gap.high)])
        meaning = (
            f"of the {texts} are predicted {name}, but {share - gap.value:.1%} are: "
            f"{100 * abs(gap.value):.1f} points too {'many' if gap.value > 0 else 'few'} "
            f"(95 % interval {ends[0]:.1f} to {ends[1]:.1f})"
        )
        lines.append((f"{share:.1%}", meaning))
    return lines


def compare_unseen(
    confusion: Mapping[str, Mapping[str, int]], model: ModelInput
) -> list[tuple[str, str]]:
    """Compare the shares in the texts that tell most, see :func:`compare_shares`.

    Args:
        confusion: That of the labelled texts of a corpus that the model has not seen.
        model: The model, which knows its validation texts. Those of an average are not its own.
    """
    if confusion:
        return compare_shares(confusion, "labelled texts that the model has not seen")
    if model.get("members") or not (profile := model.get("reference")):
        return []
    return compare_shares(profile.get("confusion", {}), "validation texts of the model")
