"""Labelled rows -> everything that is measured on them, and the few lines to remember."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa

from sentiflow.data.manifest_types import Settings
from sentiflow.data.schema import LABEL_NAMES, NEUTRAL
from sentiflow.evaluation import mistakes, slices
from sentiflow.evaluation.behavior import BehaviorResult
from sentiflow.evaluation.evaluated_rows import EVALUATED, WHOLE, headline_split, of_split
from sentiflow.evaluation.group_bias import GroupBias
from sentiflow.evaluation.slices import MIN_ROWS, LengthCount, SliceMetrics
from sentiflow.metrics import bootstrap, confidence
from sentiflow.metrics.classification import BinaryMetrics, binary_metrics, wilson_interval
from sentiflow.words.word_bias import WordBias


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
    """Accuracy on these rows; it and its interval are None if there are none."""
    low: float | None
    """Lower end of the 95 % Wilson interval."""
    high: float | None


@dataclass(frozen=True)
class Measurements:
    """What labelled predictions show; fields after the first four are about the headline split."""

    split: str
    """The headline split."""
    figures: dict[str, BinaryMetrics]
    """Metrics of the rows labelled negative or positive, by split."""
    intervals: dict[str, dict[str, bootstrap.Interval]]
    """Intervals by split and metric, see ``bootstrap.intervals``."""
    three_class: dict[str, confidence.ThreeClassMetrics]
    """Metrics by split that has neutral labels; empty if the margin of neutral is not known."""
    calibration: confidence.CalibrationEffect | None
    """None if the temperature of the model is not known."""
    coverage: Sequence[confidence.CoveragePoint]
    neutral: AnsweredMetrics | None
    """None without a margin."""
    label_errors: mistakes.LabelErrors
    slices: Sequence[SliceMetrics]
    """The least accurate first; empty without texts."""
    lengths: Sequence[LengthCount]
    """Empty without texts."""

    @property
    def metrics(self) -> BinaryMetrics:
        """Return the metrics of the headline split."""
        return self.figures[self.split]


@dataclass(frozen=True)
class ProbeResult:
    """What the model itself shows, given texts that are not in the corpus."""

    behavior: Sequence[BehaviorResult] = ()
    group_bias: Sequence[GroupBias] = ()
    word_bias: WordBias | None = None
    """Bias of the model's word vectors; None if the model was not probed."""
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
    """Section of the report with the details."""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation finds."""

    name: str
    """Name of the experiment."""
    measured: Measurements
    probed: ProbeResult
    is_unseen: bool
    """Whether it is certain that the model was trained on none of the rows."""
    notes: Sequence[str]
    """What a reader should know first."""
    highlights: Sequence[Highlight]

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
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
        rows: As ``evaluated_rows.read`` returns them; at least one is negative or positive.
        model: The model as an input of the scored manifest, with ``settings`` and ``calibration``.
        margin: A probability nearer to one half counts as no answer. None: the margin that was
            chosen on the validation rows of the model.
        patterns: The user's own slices: a regular expression by name.
    """
    known = model.get("calibration") or {}
    margin = known.get("neutral_margin") if margin is None else margin
    by_split = {split: part for split in EVALUATED if len(part := of_split(rows, split))}
    headline = headline_split(list(by_split))
    chosen = by_split[headline]
    columns = _columns(chosen)
    label, probability = columns["label"], columns["probability"]
    found, lengths = slices.find(chosen, settings=model["settings"], patterns=patterns)
    right = columns["prediction"] == label
    return Measurements(
        split=headline,
        figures={split: binary_metrics(**_columns(part)) for split, part in by_split.items()},
        intervals={
            split: bootstrap.intervals(**_columns(part)) for split, part in by_split.items()
        },
        three_class={} if margin is None else _measure_three(rows, margin),
        calibration=_measure_calibration(chosen, known.get("temperature")),
        coverage=confidence.accuracy_by_coverage(label=label, probability=probability),
        neutral=None if margin is None else _measure_answered(right, probability, margin),
        label_errors=mistakes.count_label_errors(label=label, probability=probability),
        slices=slices.measure(found, **columns),
        lengths=slices.by_length(lengths, right) if found else [],
    )


def before_temperature(rows: pa.Table, temperature: float) -> np.ndarray:
    """Undo a model's temperature; texts without a known token were not scaled by it."""
    probability = rows["probability"].to_numpy()
    undone = confidence.rescale(probability, temperature=1 / temperature)
    return np.where(rows["num_tokens"].to_numpy() > 0, undone, probability)


class _Columns(TypedDict):
    """N rows, labelled."""

    label: np.ndarray
    probability: np.ndarray
    prediction: np.ndarray


def _columns(rows: pa.Table) -> _Columns:
    names = ("label", "probability", "prediction")
    label, probability, prediction = (rows[name].to_numpy() for name in names)
    return {"label": label, "probability": probability, "prediction": prediction}


def _measure_three(rows: pa.Table, margin: float) -> dict[str, confidence.ThreeClassMetrics]:
    """Measure three labels in each split that has rows labelled neutral."""
    found = {}
    for split in EVALUATED:
        columns = _columns(rows.filter(pa.compute.equal(rows["split"], split)))
        label, probability = columns["label"], columns["probability"]
        if (label == NEUTRAL).any():
            found[split] = confidence.three_class_metrics(
                label=label, probability=probability, margin=margin
            )
    return found


def _measure_calibration(
    rows: pa.Table, temperature: float | None
) -> confidence.CalibrationEffect | None:
    if temperature is None:
        return None
    return confidence.describe(
        temperature=temperature,
        label=rows["label"].to_numpy(),
        before=before_temperature(rows, temperature),
        after=rows["probability"].to_numpy(),
    )


def _measure_answered(right: np.ndarray, probability: np.ndarray, margin: float) -> AnsweredMetrics:
    """Measure the rows that are answered."""
    answered = np.abs(probability.astype(np.float64) - 0.5) >= margin
    num_right, num_rows = int(right[answered].sum()), int(answered.sum())
    if not num_rows:
        return AnsweredMetrics(margin, 0.0, 0, None, None, None)
    interval = wilson_interval(num_right, num_rows)
    return AnsweredMetrics(margin, num_rows / len(right), num_rows, num_right / num_rows, *interval)


def name_texts(split: str) -> str:
    """Name the texts of a split, or of a corpus without splits."""
    return "texts" if split == WHOLE else f"{split} texts"


def summarize(measured: Measurements, probed: ProbeResult) -> list[Highlight]:
    """Choose what is worth a line, in the order of the report."""
    return [*_summarize_metrics(measured), *_summarize_texts(measured), *_summarize_probe(probed)]


def _summarize_metrics(measured: Measurements) -> Iterator[Highlight]:
    metrics, three = measured.metrics, measured.three_class.get(measured.split)
    yield Highlight(
        f"{metrics.accuracy:.1%}",
        f"of {metrics.num_rows:,} {name_texts(measured.split)} are labelled correctly (95 % "
        f"interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%})",
        "figures",
    )
    if three:
        num_neutral = sum(three.confusion[LABEL_NAMES[NEUTRAL]].values())
        yield Highlight(
            f"{three.accuracy:.1%}",
            f"of all {three.num_rows:,} texts are labelled correctly with three labels: "
            f"{num_neutral:,} are neutral (macro F1 {three.f1_macro:.3f})",
            "certainty",
        )
    if interval := measured.intervals[measured.split].get("expected_calibration_error"):
        low, high = (f"{100 * end:.1f}" for end in interval)
        yield Highlight(
            f"under {high} points" if low == "0.0" else f"{low} to {high} points",
            "is the average gap between probability and outcome (95 % interval)",
            "probabilities",
        )
    neutral = measured.neutral
    if neutral and neutral.accuracy is not None:
        yield Highlight(
            f"{neutral.accuracy:.1%}",
            f"is the accuracy if only the {neutral.coverage:.1%} of the texts with the most "
            "certain predictions are answered",
            "certainty",
        )


def _summarize_texts(measured: Measurements) -> Iterator[Highlight]:
    metrics, fraction = measured.metrics, measured.label_errors.fraction
    sure = (s for s in measured.slices if s.num_rows >= MIN_ROWS and s.high < metrics.accuracy)
    if worst := next(sure, None):  # the least accurate is the first
        yield Highlight(
            f"{worst.accuracy:.1%}",
            f"is the lowest accuracy of a slice: {worst.name} ({worst.num_rows:,} texts)",
            "slices",
        )
    baseline = max(metrics.positive_fraction, 1 - metrics.positive_fraction)
    # a model no better than the baseline cannot question a label
    if fraction and measured.slices and metrics.accuracy_low > baseline:
        yield Highlight(
            f"{fraction:.1%}",
            "of the labels may be wrong, by an estimate that trusts the model",
            "mistakes",
        )


def _summarize_probe(probed: ProbeResult) -> Iterator[Highlight]:
    if probed.behavior:
        worst = min(probed.behavior, key=lambda test: test.pass_rate)
        yield Highlight(
            f"{worst.pass_rate:.0%}",
            f"is the lowest pass rate of {len(probed.behavior)} behavior tests: {worst.name}",
            "behavior",
        )
    beyond_chance = [
        bias
        for bias in probed.group_bias
        if bias.spread > bias.chance_spread and bias.terms[0].known and bias.terms[-1].known
    ]
    if beyond_chance:
        widest = max(beyond_chance, key=lambda bias: bias.spread)
        yield Highlight(
            f"{100 * widest.spread:.1f} points",
            f"is the largest gap in probability between groups by {widest.category}: "
            f"{widest.terms[0].term} and {widest.terms[-1].term}, in the same sentences (chance "
            f"alone reaches {100 * widest.chance_spread:.1f})",
            "groups",
        )
