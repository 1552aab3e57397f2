"""Labelled rows -> everything that is measured on them: what ``metrics.json`` holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa

from sentiflow.data.manifest_types import Settings
from sentiflow.data.schema import NEUTRAL, POSITIVE
from sentiflow.evaluation import mistakes, slices
from sentiflow.evaluation.behavior import BehaviorResult
from sentiflow.evaluation.evaluated_rows import EVALUATED, headline_split, of_split
from sentiflow.evaluation.group_bias import GroupBias
from sentiflow.evaluation.mistakes import LabelErrors
from sentiflow.evaluation.slices import LengthCount, SliceMetrics
from sentiflow.metrics import abstention, bootstrap, calibration
from sentiflow.metrics.abstention import CoveragePoint, ThreeClassMetrics
from sentiflow.metrics.bootstrap import Interval
from sentiflow.metrics.calibration import CalibrationEffect
from sentiflow.metrics.classification import BinaryMetrics, binary_metrics, wilson_interval
from sentiflow.words.word_bias import WordBias


class Calibration(CalibrationEffect):
    """The temperature of a model, and what it changes."""

    temperature: float


@dataclass(frozen=True)
class AnsweredMetrics:
    """A model whose answer counts as neutral where its probability is near one half."""

    margin: float
    """Distance to one half from which a probability counts as an answer."""
    coverage: float
    """Share of the rows that are answered."""
    num_rows: int
    """Rows that are answered."""
    accuracy: float | None
    """On these; None without any, as is its interval."""
    low: float | None
    """Of the 95 % Wilson interval."""
    high: float | None


@dataclass(frozen=True)
class Measurements:
    """What labelled predictions show; fields after the first four are about the headline split."""

    split: str
    """The headline split."""
    figures: dict[str, BinaryMetrics]
    """By split: metrics of the rows labelled negative or positive."""
    intervals: dict[str, dict[str, Interval]]
    """By split and metric, see ``bootstrap.intervals``."""
    three_class: dict[str, ThreeClassMetrics]
    """By split that has neutral labels, where the margin of neutral is known."""
    calibration: Calibration | None
    """None if the temperature of the model is not known."""
    coverage: Sequence[CoveragePoint]
    neutral: AnsweredMetrics | None
    """None without a margin."""
    label_errors: LabelErrors
    slices: Sequence[SliceMetrics]
    """The least accurate first; empty without texts."""
    lengths: Sequence[LengthCount]
    """Empty without texts."""


@dataclass(frozen=True)
class ProbeResult:
    """What the model itself shows, given texts that are not in the corpus."""

    behavior: Sequence[BehaviorResult] = ()
    group_bias: Sequence[GroupBias] = ()
    word_bias: WordBias | None = None
    """Of the model's word vectors; None if the model was not probed."""
    no_direction: str = ""
    """Why ``word_bias`` has no direction; empty if it has one."""
    not_asked: str = ""
    """Why the model was not probed; empty if it was."""


class Highlight(NamedTuple):
    """A number and what it means: ``76.1%``, ``is the lowest accuracy of a slice``."""

    number: str
    meaning: str
    """Continues the sentence that the number begins."""
    section: str
    """Of the report, with the details."""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation finds."""

    name: str
    """Of the experiment."""
    measured: Measurements
    probed: ProbeResult
    is_unseen: bool
    """Whether it is certain that the model was trained on none of the rows."""
    notes: Sequence[str]
    """What a reader should know first."""
    highlights: Sequence[Highlight]

    def to_json(self) -> dict[str, Any]:
        """Give the content of ``metrics.json``."""
        probed = asdict(self.probed)
        reason = probed.pop("no_direction")
        if probed["word_bias"]:
            probed["word_bias"]["no_direction"] = reason
        return {
            "name": self.name,
            **asdict(self.measured),
            "is_unseen": self.is_unseen,
            "notes": self.notes,
            **probed,
            "conclusions": self.highlights,
        }


def measure(
    rows: pa.Table, *, model: Settings, margin: float | None, patterns: Mapping[str, str]
) -> Measurements:
    """Measure labelled rows.

    Args:
        rows: As ``evaluated_rows.read`` returns them.
        model: The model as an input of the scored manifest; ``settings`` and ``calibration`` of it
            are used.
        margin: A probability nearer to one half counts as no answer. None: the margin that was
            chosen on the validation rows of the model.
        patterns: The user's own slices: a regular expression by name.
    """
    known = model.get("calibration") or {}
    margin = known.get("neutral_margin") if margin is None else margin
    by_split = {split: of_split(rows, split) for split in EVALUATED}
    by_split = {split: found for split, found in by_split.items() if len(found)}
    headline = headline_split(list(by_split))
    chosen = of_split(rows, headline)
    columns = _columns(chosen)
    label, probability = columns["label"], columns["probability"]
    found, lengths = slices.find_in(chosen, settings=model.get("settings") or {}, patterns=patterns)
    right = (probability >= 0.5) == (label == POSITIVE)
    return Measurements(
        split=headline,
        figures={split: binary_metrics(**_columns(part)) for split, part in by_split.items()},
        intervals={
            split: bootstrap.intervals(**_columns(part)) for split, part in by_split.items()
        },
        three_class={} if margin is None else _measure_three(rows, margin),
        calibration=_measure_calibration(chosen, known.get("temperature")),
        coverage=abstention.accuracy_by_coverage(label=label, probability=probability),
        neutral=None if margin is None else _measure_answered(right, probability, margin),
        label_errors=mistakes.count_label_errors(label=label, probability=probability),
        slices=slices.measure(found, **columns) if len(lengths) else [],
        lengths=slices.by_length(lengths, right=columns["prediction"] == label)
        if len(lengths)
        else [],
    )


def before_temperature(
    probability: np.ndarray, num_tokens: np.ndarray, *, temperature: float
) -> np.ndarray:
    """Undo a model's temperature; texts without a known token were not scaled by it."""
    undone = calibration.rescale(probability, temperature=1 / temperature)
    return np.where(num_tokens > 0, undone, probability)


class _Columns(TypedDict):
    """N rows, labelled."""

    label: np.ndarray
    probability: np.ndarray
    prediction: np.ndarray


def _columns(rows: pa.Table) -> _Columns:
    names = ("label", "probability", "prediction")
    label, probability, prediction = (rows[name].to_numpy() for name in names)
    return {"label": label, "probability": probability, "prediction": prediction}


def _measure_three(rows: pa.Table, margin: float) -> dict[str, ThreeClassMetrics]:
    """Measure three labels in each split that has rows labelled neutral."""
    found = {}
    for split in EVALUATED:
        columns = _columns(rows.filter(pa.compute.equal(rows["split"], split)))
        label, probability = columns["label"], columns["probability"]
        if (label == NEUTRAL).any():
            found[split] = abstention.three_class_metrics(
                label=label, probability=probability, margin=margin
            )
    return found


def _measure_calibration(rows: pa.Table, temperature: float | None) -> Calibration | None:
    if temperature is None or not len(rows):
        return None
    after, num_tokens = rows["probability"].to_numpy(), rows["num_tokens"].to_numpy()
    before = before_temperature(after, num_tokens, temperature=temperature)
    effect = calibration.describe(label=rows["label"].to_numpy(), before=before, after=after)
    return {"temperature": temperature, **effect}


def _measure_answered(
    right: np.ndarray, probability: np.ndarray, margin: float
) -> AnsweredMetrics | None:
    """Measure the rows that are answered."""
    if not len(right):
        return None
    answered = np.abs(probability.astype(np.float64) - 0.5) >= margin
    num_right, num_rows = int(right[answered].sum()), int(answered.sum())
    if not num_rows:
        return AnsweredMetrics(margin, 0.0, 0, None, None, None)
    interval = wilson_interval(num_right, num_rows)
    return AnsweredMetrics(margin, num_rows / len(right), num_rows, num_right / num_rows, *interval)
