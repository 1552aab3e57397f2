"""Labelled rows -> everything that is measured on them, and the few lines to remember."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import hash_strings, normalize_text
from sentiflow.data.manifest_types import Manifest, Settings
from sentiflow.errors import UserError
from sentiflow.evaluation import mistakes, other_models, slice_search, slices
from sentiflow.evaluation.evaluated_rows import (
    EVALUATED,
    WHOLE,
    classes_of,
    headline_split,
    of_split,
    predicted_of,
)
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.other_models import Baseline, TeacherComparison
from sentiflow.evaluation.slices import SliceMetrics
from sentiflow.metrics import classification, confidence
from sentiflow.metrics.calibration import CalibrationError, calibration_test
from sentiflow.metrics.intervals import Interval, share_interval
from sentiflow.metrics.predicted import Predicted
from sentiflow.storage import parquet
from sentiflow.tracking import training_rows

NUM_WORST = 20
"""Number of classes that a confusion matrix shows one by one: the ones with the lowest F1."""


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
    """What labelled predictions show; from ``calibration`` on about the headline split."""

    split: str
    """The headline split."""
    figures: dict[str, classification.Metrics]
    """Metrics of the labelled rows, by split."""
    intervals: dict[str, dict[str, Interval]]
    """Intervals by split and metric, see ``classification.find_intervals``."""
    no_intervals: dict[str, dict[str, str]]
    """Why a metric has no interval, by split and metric."""
    calibration_error: dict[str, CalibrationError]
    """By split: of positive, or of the predicted class if there are other classes."""
    calibration: dict[str, Any] | None
    """As in the package's manifest, measured on the rows that it was fitted to; None if it is not
    known."""
    coverage: Sequence[confidence.CoveragePoint]
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
        """Name the classes of the model, then others of the labels."""
        return list(self.metrics.confusion)

    @property
    def can_judge_labels(self) -> bool:
        """Say whether the model is right often enough to question labels."""
        metrics = self.metrics
        if metrics.accuracy < mistakes.MIN_ACCURACY:
            return False
        return metrics.accuracy_low > metrics.most_frequent.share


@dataclass(frozen=True)
class CrossValidated:
    """Answers of the models of all folds, each to the rows of its fold."""

    metrics: classification.Metrics
    """Metrics of all answers. Macro F1 has no interval: a bootstrap of the rows ignores the
    variation between trainings, and its interval missed the macro F1 of the model too often
    (benchmarks/LOG.md, 2026-11-29)."""
    f1_of_folds: list[float]
    """Macro F1 of each fold."""
    baselines: Sequence[Baseline]
    """Simple models over the same folds."""

    @property
    def origin(self) -> str:
        """Say where the figures come from."""
        num_folds = len(self.f1_of_folds)
        return f"cross-validated over {num_folds} folds, {self.metrics.num_rows:,} rows"

    def to_json(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says."""
        return {
            **self.metrics.to_json(),
            "f1_macro_of_folds": self.f1_of_folds,
            "baselines": [asdict(each) for each in self.baselines],
        }


class Highlight(NamedTuple):
    """A number and what it means: ``0.706``, ``is the macro F1``."""

    number: str
    meaning: str
    """Continues the sentence that the number begins."""
    section: str
    """Section of the report with the details."""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation finds."""

    name: str
    """Name of the experiment."""
    measured: Measurements
    checks: ModelChecks
    is_unseen: bool
    """Whether it is certain that the model was trained on, or chosen by, none of the rows."""
    notes: Sequence[str]
    """What a reader should know first."""
    highlights: Sequence[Highlight]
    baselines: Sequence[Baseline] = ()
    """Simple models on the same rows; the most frequent label is in the metrics."""
    no_baseline: str = ""
    """Why there is none; empty if there is one."""
    teacher: TeacherComparison | None = None
    """The model compared with its teachers, if it is distilled."""
    no_teacher: str = ""
    """Why a distilled model is not compared with its teachers."""
    cross_validated: CrossValidated | None = None
    """If the training has folds."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "name": self.name,
            "classes": self.measured.classes,
            **asdict(self.measured),
            "figures": {
                split: metrics.to_json() for split, metrics in self.measured.figures.items()
            },
            "is_unseen": self.is_unseen,
            "notes": self.notes,
            **asdict(self.checks),
            "most_frequent": self.measured.metrics.most_frequent,
            "baselines": [asdict(each) for each in self.baselines],
            "no_baseline": self.no_baseline,
            "teacher": asdict(self.teacher) if self.teacher else None,
            "no_teacher": self.no_teacher,
            "cross_validated": self.cross_validated.to_json() if self.cross_validated else None,
            "conclusions": self.highlights,
        }


def measure(
    rows: pa.Table,
    *,
    model: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str] = (),
    searched: Sequence[str] = (),
    with_words: bool = True,
) -> Measurements:
    """Measure labelled rows.

    Args:
        rows: As ``evaluated_rows.add_unknown_classes`` returns them; at least one has a class.
        model: The model as an input of the scored manifest, with ``settings`` and ``calibration``.
        patterns: User-defined slices: a regular expression by name.
        columns: User-defined slices: columns with a slice for each value.
        searched: Other columns whose values are searched for slices.
        with_words: Whether words are searched, too.
    """
    by_split = _split(rows)
    predicted = {split: predicted_of(part) for split, part in by_split.items()}
    figures = {}
    intervals = {}
    no_intervals = {}
    calibration_error = {}
    for split, part in predicted.items():
        figures[split] = classification.measure(part)
        intervals[split], no_intervals[split] = classification.find_intervals(part, figures[split])
        calibration_error[split] = calibration_test(
            label=part.outcome, probability=part.probability
        )
    headline = headline_split(list(by_split))
    chosen = by_split[headline]
    of_headline = predicted[headline]
    return Measurements(
        split=headline,
        figures=figures,
        intervals=intervals,
        no_intervals=no_intervals,
        calibration_error=calibration_error,
        calibration=_find_calibration(model),
        coverage=confidence.accuracy_by_coverage(
            right=of_headline.right, confidence=of_headline.confidence
        ),
        unsure=_measure_unsure(chosen, of_headline.right, model["settings"]),
        label_errors=mistakes.count_label_errors(of_headline),
        slices=_measure_slices(
            chosen,
            of_headline,
            settings=model["settings"],
            patterns=patterns,
            columns=columns,
            searched=searched,
            with_words=with_words,
        ),
    )


def _find_calibration(model: Settings) -> dict[str, Any] | None:
    """Return the calibration of a model with its biases, if any; None if it is not known."""
    calibration = model.get("calibration")
    if not calibration or "temperature" not in calibration:
        return None
    return {"bias": {}} | calibration


def _split(rows: pa.Table) -> dict[str, pa.Table]:
    """Find the labelled rows of each evaluated split; leave out splits without any."""
    by_split = {split: of_split(rows, split) for split in EVALUATED}
    return {split: part for split, part in by_split.items() if len(part)}


def _measure_slices(
    rows: pa.Table,
    predicted: Predicted,
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str],
    searched: Sequence[str],
    with_words: bool,
) -> list[SliceMetrics]:
    """Find the slices that have a name, search for others, and measure all."""
    named, tokens = slices.find(rows, settings=settings, patterns=patterns, columns=columns)
    categories = [name for name in searched if slices.has_categories(rows[slices.OWN + name].type)]
    candidates = slice_search.search(
        named,
        slices.by_columns(rows, categories),
        tokens=tokens if with_words else None,
        right=predicted.right,
        draw=_draw_halves(rows),
    )
    return slices.measure(
        [*named, *candidates],
        label=predicted.label,
        probability=predicted.positive if predicted.is_binary else None,
        prediction=predicted.prediction,
        classes=predicted.classes,
    )


def measure_folds(training: Manifest, scored: Manifest) -> CrossValidated | None:
    """Measure the answers of the folds of a training; None if it has none.

    Rows that a first model was trained on are left out.

    Args:
        training: The training of the model.
        scored: Predictions of this model for the data that it was trained on.

    Raises:
        UserError: A file of the answers is missing or damaged.
    """
    paths = [f["path"] for f in training["files"] if f["path"].startswith("folds/")]
    if not paths:
        return None
    uri = scored["inputs"]["model"]["training"]["uri"]
    parts = [parquet.from_bytes(manifest.read_file(uri, training, path)) for path in paths]
    answers = pa.concat_tables(parts).combine_chunks()
    seen, _ = training_rows.find_row_ids(scored, name="the model", by_splits=False)
    is_new = ~np.isin(answers["row_id"].to_numpy(), seen)
    rows = answers.filter(pa.array(is_new))
    if classes_of(rows) != lineage.classes_of_model(scored) or not len(rows):
        raise UserError(
            f"{uri}/{paths[0]} has answers of another model",
            hint="train again with --overwrite",
        )
    fold = rows["fold"].to_numpy()
    f1_of_folds = []
    for number in np.unique(fold):
        of_fold = classification.measure(predicted_of(rows.filter(fold == number)))
        f1_of_folds.append(of_fold.f1_macro or 0.0)
    return CrossValidated(
        metrics=classification.measure(predicted_of(rows)),
        f1_of_folds=f1_of_folds,
        baselines=other_models.measure_folds(answers, is_new, scored),
    )


def _draw_halves(rows: pa.Table) -> np.ndarray:
    """Draw a number for each row from its text, or its ``row_id``; copies have the same number."""
    if "text" in rows.column_names:
        texts = normalize_text(rows["text"].combine_chunks())
    else:
        texts = rows["row_id"].combine_chunks().cast(pa.string())
    return hash_strings(texts, key="sentiflow-halves")


def _measure_unsure(rows: pa.Table, right: np.ndarray, settings: Settings) -> UnsureMetrics | None:
    """Measure the rows that are answered; None if the model leaves no text to people."""
    if "unsure" not in rows.column_names:
        return None
    answered = ~rows["unsure"].to_numpy()
    num_rows = int(answered.sum())
    error = error_low = error_high = None
    if num_rows:
        num_wrong = num_rows - int(right[answered].sum())
        error = num_wrong / num_rows
        error_low, error_high = share_interval(num_wrong, num_rows)
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
