"""Two runs, named by the user -> a comparison of their models on the same test rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.settings import flatten
from sentiflow.data import input_files, lineage, manifest
from sentiflow.data.manifest_types import Manifest, Settings
from sentiflow.evaluation import common_rows, slices
from sentiflow.metrics import paired
from sentiflow.metrics.classification import measure
from sentiflow.metrics.predicted import Predicted, count_confusion, macro_f1
from sentiflow.metrics.registry import METRICS

METRIC_NAMES = {
    metric.name: metric.title if metric.higher_is_better else f"{metric.title} *"
    for metric in METRICS
    if metric.difference
}
"""Titles of the compared metrics by name; a star means that a lower value is better."""


@dataclass(frozen=True)
class MetricDifferences:
    """How two models differ on the same rows: the second's metric minus the first's."""

    accuracy: paired.Difference
    differences: dict[str, paired.Difference | None]
    """By the names in ``METRIC_NAMES``; None where it is undefined."""
    mcnemar: paired.McNemar


@dataclass(frozen=True)
class SliceDifference:
    """Two models in one slice of the rows."""

    name: str
    about: str
    """What its texts have in common, where the name does not say it."""
    num_rows: int
    accuracy_first: float
    accuracy_second: float
    difference: paired.Difference
    """Difference of accuracy; its p-value is for this slice alone."""
    p_adjusted: float
    """The p-value, adjusted for the number of slices by ``paired.adjust``."""
    moved: bool
    """Whether ``p_adjusted`` is below ``paired.SIGNIFICANCE``."""
    is_own: bool = False
    """Whether it is user-defined, by a pattern or a column."""
    f1_macro_first: float | None = None
    """Macro F1 of the first model in the slice."""
    f1_macro_second: float | None = None


@dataclass(frozen=True)
class Setting:
    """A setting, or an input, of preparation or training that differs between the models."""

    key: str
    """Dotted: ``train.model.cell``."""
    first: Any
    """Its value for the first model; of an input, the location."""
    second: Any


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models."""

    name: str
    """As the user wrote it."""
    scored_uri: str
    """The scored directory, or the file of predictions."""
    model_uri: str
    """The model package, or the file of predictions."""
    fingerprint: str
    """Fingerprint of the model package, or of the file of predictions."""
    about: str
    """The settings of its network in brief; or what a file of predictions holds."""
    figures: dict[str, Any]
    """Its metrics, as ``metrics.json`` has them."""
    num_rows_only_here: int
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_rows_seen: int
    """Test rows of the other model that are in this model's training or validation split. They are
    not compared."""


@dataclass(frozen=True)
class Check:
    """One number of both models."""

    name: str
    """``accuracy``, ``macro F1`` or ``slice NAME``."""
    num_rows: int
    first: float
    """The number of the first model; of a slice, its accuracy."""
    second: float
    difference: paired.Difference
    p_adjusted: float = 1.0
    """The p-value of a drop no larger than the margin, adjusted for all checks (Holm)."""
    is_worse: bool = False
    """Whether the drop is larger than the margin, and ``p_adjusted`` is below
    ``paired.SIGNIFICANCE``."""


@dataclass(frozen=True)
class Regression:
    """Whether the second of two models is worse; ``dataclasses.asdict`` of it is JSON."""

    margin: float
    """Largest accepted drop of a metric."""
    checks: list[Check]
    """All checks, by adjusted p-value."""

    @property
    def worse(self) -> list[Check]:
        """List the checks in which the second model is worse, beyond chance."""
        return [check for check in self.checks if check.is_worse]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows; every difference is the second's metric minus the first's.

    ``dataclasses.asdict`` of it is JSON.
    """

    first: ComparedModel
    second: ComparedModel
    split: str
    """``test``; ``all`` for a corpus without splits."""
    num_rows: int
    differences: dict[str, paired.Difference | None]
    """By the names in ``METRIC_NAMES``; None where it is undefined."""
    mcnemar: paired.McNemar
    slices: list[SliceDifference]
    """By adjusted p-value; empty without texts."""
    settings: list[Setting] | None
    """By key; None if a training's manifest is gone."""
    notes: list[str]
    """What a reader should know first."""
    verdict: str
    regression: Regression | None = None
    """Whether the second is worse; None unless it was asked for."""


def compare(
    first: str,
    second: str,
    *,
    patterns: Mapping[str, str] | None = None,
    columns: Sequence[str] = (),
    margin: float | None = None,
) -> Comparison:
    """Compare the models of two runs on their common test rows, which neither was trained on.

    Slices depend on the first model's tokenizer. There are no slices by unknown tokens, as the
    models know different tokens.

    Args:
        first: A scored directory, or a directory with ``scored/`` in it. One of the two models may
            be a file of predictions instead.
        second: The same for the second model.
        patterns: User-defined slices: a regular expression (RE2) by name.
        columns: User-defined slices: columns of the first run, each value a slice.
        margin: Largest accepted drop, from 0 to 1. If given, the result says whether the second
            model is worse by more than this.

    Raises:
        UserError: A run has no predictions, or the two cannot be compared.
    """
    pair = common_rows.find_pair(first, second)
    rows = common_rows.read(pair, columns=columns)
    has_probabilities = pair[0].has_probabilities and pair[1].has_probabilities
    found = compare_predictions(*rows.predicted, has_probabilities=has_probabilities)
    models = (_describe(pair, rows, 0), _describe(pair, rows, 1))
    settings, notes_on_settings = _compare_settings(pair)
    of_slices = _measure_slices(
        rows.table,
        rows.predicted,
        settings=pair[0].record["inputs"]["model"]["settings"],
        patterns=patterns or {},
        columns=columns,
    )
    notes = [*rows.notes, *notes_on_settings]
    if models[0].fingerprint == models[1].fingerprint:
        notes.append("both are the same model")
    if not of_slices:
        notes.append("no slices: there are no texts")
    compared = Comparison(
        first=models[0],
        second=models[1],
        split=rows.split,
        num_rows=len(rows.table),
        differences=found.differences,
        mcnemar=found.mcnemar,
        slices=of_slices,
        settings=settings,
        notes=notes,
        verdict=_write_verdict(found, rows, first, second),
    )
    if margin is None:
        return compared
    return replace(compared, regression=find_regression(_list_checks(compared), margin=margin))


def compare_predictions(
    first: Predicted, second: Predicted, *, has_probabilities: bool
) -> MetricDifferences:
    """Compare two models on the same rows, by every metric that has a difference.

    Args:
        first: Predictions of the first model.
        second: Predictions of the second model, with the same classes and labels.
        has_probabilities: Whether both have probabilities; if not, metrics of probabilities have no
            difference.
    """
    differences: dict[str, paired.Difference | None] = {}
    for metric in METRICS:
        if metric.difference is None:
            continue
        is_defined = has_probabilities or not metric.of_probabilities
        differences[metric.name] = metric.difference(first, second) if is_defined else None
    accuracy, mcnemar = paired.compare_accuracy(first.right, second.right)
    return MetricDifferences(accuracy=accuracy, differences=differences, mcnemar=mcnemar)


def _describe(pair: common_rows.Pair, rows: common_rows.ComparedRows, number: int) -> ComparedModel:
    """Describe one of two models: the first if ``number`` is 0, the second if it is 1."""
    scored = pair[number]
    metrics = measure(rows.predicted[number], has_probabilities=scored.has_probabilities)
    if scored.file:
        return ComparedModel(
            name=scored.name,
            scored_uri=scored.file.uri,
            model_uri=scored.file.uri,
            fingerprint=input_files.describe([scored.file.uri])["fingerprint"],
            about=scored.file.about,
            figures=metrics.to_json(),
            num_rows_only_here=0,
            num_rows_seen=0,
        )
    model = scored.record["inputs"]["model"]
    return ComparedModel(
        name=scored.name,
        scored_uri=scored.uri,
        model_uri=model["uri"],
        fingerprint=model["fingerprint"],
        about=lineage.describe_model(model["settings"]),
        figures=metrics.to_json(),
        num_rows_only_here=rows.num_only_in[number],
        num_rows_seen=rows.num_seen_by[number],
    )


def _measure_slices(
    rows: pa.Table,
    predicted: tuple[Predicted, Predicted],
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str],
) -> list[SliceDifference]:
    """Compare the predictions of two models in each slice, by adjusted p-value."""
    slices.check_patterns(rows, patterns)
    tokens = slices.read_tokens(rows, settings)
    found = slices.find(rows, tokens, patterns=patterns, columns=columns)
    chosen = [item for item in found if item.is_own or not item.mask.all()]
    first, second = (model.right for model in predicted)
    compared = [paired.compare_accuracy(first[item.mask], second[item.mask]) for item in chosen]
    adjusted = paired.adjust([mcnemar.p_value for _, mcnemar in compared])
    measured = []
    for item, (difference, _), p_adjusted in zip(chosen, compared, adjusted, strict=True):
        measured.append(
            SliceDifference(
                name=item.name,
                about=item.about,
                num_rows=int(item.mask.sum()),
                accuracy_first=float(first[item.mask].mean()),
                accuracy_second=float(second[item.mask].mean()),
                difference=difference,
                p_adjusted=p_adjusted,
                moved=p_adjusted < paired.SIGNIFICANCE,
                is_own=item.is_own,
                f1_macro_first=_measure_f1(predicted[0], item.mask),
                f1_macro_second=_measure_f1(predicted[1], item.mask),
            )
        )
    return sorted(measured, key=_rank)


def _measure_f1(predicted: Predicted, rows: np.ndarray) -> float | None:
    """Measure the macro F1 of a model on some rows, given as booleans."""
    confusion = count_confusion(
        predicted.label[rows], predicted.prediction[rows], num_labels=len(predicted.classes)
    )
    return macro_f1(confusion)


def _rank(item: SliceDifference) -> tuple[float, float, float]:
    """Rank slices by adjusted p-value, then p-value, then the largest difference."""
    assert item.difference.p_value is not None, "a difference of accuracy has a test"
    return item.p_adjusted, item.difference.p_value, -abs(item.difference.value)


def _write_verdict(
    metrics: MetricDifferences, rows: common_rows.ComparedRows, first: str, second: str
) -> str:
    """Say in one sentence whether the second model is better, by McNemar's test of accuracy."""
    num_rows = len(rows.table)
    if (rows.predicted[0].prediction == rows.predicted[1].prediction).all():
        return f"No difference shown: both predict the same label on each of {num_rows:,} rows."
    if first == second:  # the user named one run twice
        first, second = "the first", "the second"
    accuracy = metrics.accuracy
    low = 100 * accuracy.low
    high = 100 * accuracy.high
    interval = f"95% interval {low:+.2f} to {high:+.2f}, {num_rows:,} rows"
    points = f"{abs(100 * accuracy.value):.2f} percentage points"
    p_value = paired.write_p(metrics.mcnemar.p_value)
    is_higher = accuracy.value > 0
    side = "higher" if is_higher else "lower"
    if metrics.mcnemar.p_value < paired.SIGNIFICANCE:
        word = "better" if is_higher else "worse"
        result = f"{second} is {word} than {first}: its accuracy is {points} {side}"
        return f"{result} ({interval}, {p_value})."
    if accuracy.value:
        result = f"the accuracy of {second} is {points} {side}"
    else:
        result = "both have the same accuracy"
    return f"No difference shown: {result} ({interval}); the difference may be chance: {p_value}."


# Settings


def _compare_settings(pair: common_rows.Pair) -> tuple[list[Setting] | None, list[str]]:
    """List the settings and inputs in which two trainings, and their preparations, differ.

    Returns:
        The settings by key, None for a file of predictions or if a training's manifest is gone;
        notes on what could not be compared.
    """
    if pair[0].file or pair[1].file:
        return None, []
    models = [scored.record["inputs"]["model"] for scored in pair]
    first = lineage.training_of(models[0])
    second = lineage.training_of(models[1])
    if not first or not second:
        return None, ["settings are not compared: a training is gone or was redone"]
    notes = []
    of_first = _list_values("train", first)
    of_second = _list_values("train", second)
    prepared = manifest.read_input(first["inputs"], "prepared")
    other_prepared = manifest.read_input(second["inputs"], "prepared")
    if prepared and other_prepared:
        of_first |= _list_values("prepare", prepared)
        of_second |= _list_values("prepare", other_prepared)
    elif _fingerprint_of_data(first) != _fingerprint_of_data(second):
        notes.append("settings of prepare are not compared: prepared data are gone or were redone")
    if any("members" in model for model in models):
        notes.append("only the settings of the first averaged model are compared")
    return _list_differing(of_first, of_second), notes


def _fingerprint_of_data(training: Manifest) -> str:
    return training["inputs"]["prepared"]["fingerprint"]


class _Value(NamedTuple):
    """A setting or an input."""

    compared: Any
    """What decides whether two models differ: the setting, or the fingerprint of an input."""
    shown: Any
    """What the user sees: the setting, or the location of an input, or the locations of its
    files."""


_ABSENT = _Value("(absent)", "(absent)")
"""Stands for a setting that one of the models does not have, as its network is of another kind."""


def _list_values(stage: str, record: Manifest) -> dict[str, _Value]:
    """List the settings and inputs of a stage by key.

    Prepared data are left out of the inputs: their own settings and inputs are listed instead.
    """
    values = {}
    for key, value in flatten({stage: record["settings"]}).items():
        values[key] = _Value(value, value)
    for name, item in record["inputs"].items():
        if name == "prepared":
            continue
        shown = [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
        values[f"{stage}.{name}"] = _Value(item["fingerprint"], shown)
    return values


def _list_differing(
    of_first: Mapping[str, _Value], of_second: Mapping[str, _Value]
) -> list[Setting]:
    """List the settings that differ, by key."""
    differing = []
    for key in sorted({*of_first, *of_second}):
        first = of_first.get(key, _ABSENT)
        second = of_second.get(key, _ABSENT)
        if first.compared != second.compared:
            differing.append(Setting(key, first.shown, second.shown))
    return differing


# Regression


def _list_checks(compared: Comparison) -> list[Check]:
    """List the checks that decide whether the second model is worse: metrics, and named slices."""
    checks = []
    for name, metric in (("accuracy", "accuracy"), ("macro F1", "f1_macro")):
        difference = compared.differences[metric]
        if difference is not None:
            check = Check(
                name=name,
                num_rows=compared.num_rows,
                first=compared.first.figures[metric],
                second=compared.second.figures[metric],
                difference=difference,
            )
            checks.append(check)
    for item in compared.slices:
        if item.is_own:
            check = Check(
                name=f"slice {item.name}",
                num_rows=item.num_rows,
                first=item.accuracy_first,
                second=item.accuracy_second,
                difference=item.difference,
            )
            checks.append(check)
    return checks


def find_regression(checks: Sequence[Check], *, margin: float) -> Regression:
    """Find the checks in which the second model is worse, beyond chance and a margin.

    Without a margin, a check has the p-value of its difference. With a margin, it has the p-value
    of the normal approximation: the distance between the middle of the interval and a drop by the
    margin, in standard errors. All are adjusted for the number of checks, so at most 1 of 20
    comparisons with a model that is no worse fails.

    Args:
        checks: Their ``p_adjusted`` and ``is_worse`` are not used.
        margin: Largest accepted drop, from 0 to 1.
    """
    adjusted = paired.adjust([_find_p_value(check.difference, margin) for check in checks])
    judged = []
    for check, p_adjusted in zip(checks, adjusted, strict=True):
        is_worse = check.difference.value < -margin and p_adjusted < paired.SIGNIFICANCE
        judged.append(replace(check, p_adjusted=p_adjusted, is_worse=is_worse))
    return Regression(margin, sorted(judged, key=lambda check: check.p_adjusted))


def _find_p_value(difference: paired.Difference, margin: float) -> float:
    """Compute the two-sided p-value for the hypothesis that the drop equals the margin."""
    if not margin:
        assert difference.p_value is not None, "every checked difference has a test"
        return difference.p_value
    middle = (difference.low + difference.high) / 2
    standard_error = (difference.high - difference.low) / (2 * paired.Z)
    distance = abs(middle + margin)
    if not standard_error:  # the drop is certain: it is the margin, or it is not
        return float(distance == 0)
    # erfc(x / sqrt(2)) is the chance that a normal value is more than x from 0.
    return math.erfc(distance / standard_error / math.sqrt(2))
