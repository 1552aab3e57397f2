"""Labelled rows -> what is measured on them: metrics, calibration, coverage and slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sentiflow.data.manifest_types import Settings
from sentiflow.evaluation import mistakes, slice_metrics, slice_search, slices
from sentiflow.evaluation.evaluated_rows import WHOLE, headline_split, predicted_of
from sentiflow.evaluation.slice_metrics import SliceMetrics
from sentiflow.evaluation.slice_search import SearchSample
from sentiflow.metrics import abstention, classification
from sentiflow.metrics.calibration import CalibrationError, calibration_test
from sentiflow.metrics.intervals import Interval, right_interval
from sentiflow.metrics.predicted import Predicted


@dataclass(frozen=True)
class UnsureMetrics:
    """Whether a model that leaves some texts to people kept its promise."""

    max_error: float
    """The largest share of wrong answers that was promised."""
    threshold: float
    """The confidence up to which predictions are unsure."""
    fraction: float
    """Share of the rows that are unsure."""
    num_rows: int
    """Rows that are answered."""
    error: float | None
    """Share of wrong answers; it and its interval are None if nothing is answered."""
    error_low: float | None
    """Lower end of the exact 95% interval."""
    error_high: float | None

    @property
    def verdict(self) -> str:
        """Say whether the promise held on these rows."""
        if self.error is None or self.error_low is None:
            return "nothing is answered"
        if self.error <= self.max_error:
            return f"as promised, at most {self.max_error:.1%}"
        excess = "beyond chance" if self.error_low > self.max_error else "within chance"
        return f"more than the promised {self.max_error:.1%}, {excess}"


@dataclass(frozen=True)
class Measurements:
    """Measurements of labelled predictions.

    ``figures`` to ``calibration_error`` are by split; all other fields are of the headline split.
    """

    split: str
    """The headline split: its numbers stand first in the report, see ``headline_split``."""
    figures: dict[str, classification.Metrics]
    """Metrics of the labelled rows, by split."""
    intervals: dict[str, dict[str, Interval]]
    """Intervals by split and metric, see ``classification.find_intervals``."""
    no_intervals: dict[str, dict[str, str]]
    """Why a metric has no interval, by split and metric."""
    calibration_error: dict[str, CalibrationError]
    """Calibration error by split: of the probability of positive; if the classes are not negative
    and positive, of the predicted class."""
    calibration: dict[str, Any] | None
    """As in the package's manifest, measured on the rows that it was fitted to; None if it is not
    known."""
    coverage: Sequence[abstention.CoveragePoint]
    unsure: UnsureMetrics | None
    """None if the model leaves no text to people."""
    label_errors: mistakes.LabelErrors
    slices: Sequence[SliceMetrics]
    """User-defined slices, slices found by a search, then others, each the least accurate first.
    Without texts, slices by column only."""

    @property
    def metrics(self) -> classification.Metrics:
        """Return the metrics of the headline split."""
        return self.figures[self.split]

    def describe_interval(self, name: str, form: str) -> str:
        """Write the interval of a metric of the headline split, or why it has none."""
        ends = self.intervals[self.split].get(name)
        if ends:
            low, high = ends
            return f"95% interval {form.format(low)} to {form.format(high)}"
        return f"no interval: {self.no_intervals[self.split][name]}"

    @property
    def classes(self) -> list[str]:
        """List the classes of the model, then the classes that only the labels have."""
        return list(self.metrics.confusion)

    @property
    def can_judge_labels(self) -> bool:
        """Say whether the model is right often enough to question labels."""
        metrics = self.metrics
        if metrics.accuracy < mistakes.MIN_ACCURACY:
            return False
        return metrics.accuracy_low > metrics.most_frequent.share


def measure(
    by_split: Mapping[str, pa.Table],
    sample: SearchSample,
    *,
    model: Mapping[str, Any],
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
    searched: Sequence[str] = (),
    class_values: Mapping[str, float] | None = None,
) -> Measurements:
    """Measure labelled rows.

    Args:
        by_split: Rows of each split, as ``evaluated_rows.divide_by_split`` returns them; rows of
            the headline split as ``text_traits.describe`` returns them.
        sample: Rows of the headline split that are searched for slices.
        model: The model as an input of the scored manifest, with ``settings`` and ``calibration``.
        patterns: User-defined slices: a regular expression by name.
        columns: User-defined slices: columns with a slice for each value.
        searched: Other columns whose values are searched for slices, where the rows have them.
        class_values: The numbers of ordered classes; None: the classes have no order.
    """
    predicted = {split: predicted_of(part, class_values) for split, part in by_split.items()}
    figures = {}
    intervals = {}
    no_intervals = {}
    calibration_error = {}
    for split, part in predicted.items():
        figures[split] = classification.measure(part)
        found = classification.find_intervals(part, figures[split])
        intervals[split] = found.bounds
        no_intervals[split] = found.reasons
        calibration_error[split] = calibration_test(
            label=part.outcome, probability=part.probability, groups=part.groups
        )
    headline = headline_split(list(by_split))
    headline_rows = by_split[headline]
    headline_answers = predicted[headline]
    return Measurements(
        split=headline,
        figures=figures,
        intervals=intervals,
        no_intervals=no_intervals,
        calibration_error=calibration_error,
        calibration=_find_calibration(model),
        coverage=abstention.accuracy_by_coverage(
            right=headline_answers.right,
            confidence=headline_answers.confidence,
            groups=headline_answers.groups,
        ),
        unsure=_measure_unsure(headline_rows, headline_answers, model["settings"]),
        label_errors=mistakes.count_label_errors(headline_answers),
        slices=_measure_slices(
            headline_rows,
            headline_answers,
            sample,
            patterns=patterns,
            columns=columns,
            searched=searched,
        ),
    )


def _find_calibration(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the calibration of a model, with an empty ``bias`` if it has none.

    Returns:
        None if the manifest of the model has no temperature.
    """
    calibration = model.get("calibration")
    if not calibration or "temperature" not in calibration:
        return None
    return {"bias": {}} | calibration


def _measure_slices(
    rows: pa.Table,
    predicted: Predicted,
    sample: SearchSample,
    *,
    patterns: Mapping[str, str],
    columns: Sequence[str],
    searched: Sequence[str],
) -> list[SliceMetrics]:
    """Find the slices that have a name, search for others, and measure all."""
    named = slices.find(rows, patterns=patterns, columns=columns)
    categories = [name for name in searched if slices.OWN + name in rows.column_names]
    candidates = slice_search.search(
        named,
        slices.by_columns(rows, categories, is_own=False),
        sample=sample,
        right=predicted.right,
    )
    return slice_metrics.measure(
        [*named, *candidates],
        label=predicted.label,
        probability=predicted.positive if predicted.is_binary else None,
        prediction=predicted.prediction,
        classes=predicted.classes,
        groups=predicted.groups,
    )


def _measure_unsure(
    rows: pa.Table, predicted: Predicted, settings: Settings
) -> UnsureMetrics | None:
    """Measure the rows that are answered; None if the model leaves no text to people."""
    if "unsure" not in rows.column_names:
        return None
    answered = ~rows["unsure"].to_numpy()
    num_rows = int(answered.sum())
    error = error_low = error_high = None
    if num_rows:
        is_wrong = ~predicted.right[answered]
        groups = predicted.groups.take(answered) if predicted.groups else None
        error = int(is_wrong.sum()) / num_rows
        error_low, error_high = right_interval(is_wrong, groups)
    return UnsureMetrics(
        max_error=settings["unsure"]["max_error"],
        threshold=settings["unsure"]["threshold"],
        fraction=float(1 - answered.mean()),
        num_rows=num_rows,
        error=error,
        error_low=error_low,
        error_high=error_high,
    )


def name_texts(split: str) -> str:
    """Name the texts of a split, or of a corpus without splits."""
    return "texts" if split == WHOLE else f"{split} texts"
