"""Two runs, named by the user -> a comparison of their models on the same test rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from sentiflow.config.settings import flatten
from sentiflow.data import input_files, manifest
from sentiflow.data.manifest_types import Manifest, Settings
from sentiflow.evaluation import (
    common_rows,
    lineage,
    slices,
)
from sentiflow.metrics import paired
from sentiflow.metrics.classification import measure
from sentiflow.metrics.predicted import Predicted, count_confusion, macro_f1
from sentiflow.metrics.registry import METRICS

METRIC_NAMES = {
    metric.name: metric.title + ("" if metric.higher_is_better else " *")
    for metric in METRICS
    if metric.difference
}
"""How pages name the compared metrics; of those with a star, a lower value is better."""

_ABSENT = ("(absent)",) * 2
"""Stands for a setting that one of the models does not have, such as one of another network."""


@dataclass(frozen=True)
class SliceDifference:
    """Two models in one slice of the rows."""

    name: str
    about: str
    num_rows: int
    accuracy_first: float
    accuracy_second: float
    difference: paired.Difference
    """Difference of accuracy; its p-value is for this slice alone."""
    p_adjusted: float
    """The p-value, adjusted for the number of slices by ``paired.adjust``."""
    moved: bool
    """Whether ``p_adjusted`` is below ``paired.SURE``."""
    is_own: bool = False
    """Whether the user named it, by a pattern or a column."""
    f1_macro_first: float | None = None
    """Macro F1 of the first model in the slice."""
    f1_macro_second: float | None = None


@dataclass(frozen=True)
class Setting:
    """A setting, or an input, of preparation or training that differs between the models."""

    key: str
    """Dotted: ``train.model.cell``."""
    first: Any
    second: Any


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models."""

    name: str
    """As the user wrote it."""
    scored_uri: str
    model_uri: str
    fingerprint: str
    """Fingerprint of the model package."""
    about: str
    """Its settings in brief."""
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
    second: float
    difference: paired.Difference
    p_adjusted: float = 1.0
    """The p-value of a drop no larger than the margin, adjusted for all checks (Holm)."""
    is_worse: bool = False
    """Whether the drop is larger than the margin, and ``p_adjusted`` is below ``paired.SURE``."""


@dataclass(frozen=True)
class Regression:
    """Whether the second of two models is worse; ``dataclasses.asdict`` of it is JSON."""

    margin: float
    """A drop up to this is accepted."""
    checks: list[Check]
    """All that was looked at, by adjusted p-value."""

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
    """``test``; ``all`` of a corpus without splits."""
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

    Slices are those of the first model's tokenizer. There are none by unknown tokens, as these
    differ between the models.

    Args:
        first: A scored directory, or a directory with ``scored/`` in it.
        second: Likewise.
        patterns: The user's own slices: a regular expression (RE2) by name.
        columns: The user's own slices: columns of the first run, each value a slice.
        margin: Also find out whether the second is worse by more than this.

    Raises:
        UserError: One has no predictions, or the two cannot be compared.
    """
    pair = common_rows.find_pair(first, second)
    rows = common_rows.read(pair, columns=columns)
    predicted = rows.predicted
    accuracy, counts = paired.compare_accuracy(predicted[0].right, predicted[1].right)
    one, other = (_describe(pair[i], rows, i, predicted[i]) for i in (0, 1))
    is_file = any(scored.file for scored in pair)
    settings, notes = (None, []) if is_file else _compare_settings(pair[0].record, pair[1].record)
    measured = _measure_slices(
        rows.table,
        predicted,
        settings=pair[0].record["inputs"]["model"]["settings"],
        patterns=patterns or {},
        columns=columns,
    )
    if one.fingerprint == other.fingerprint:
        notes.append("both are the same model")
    if not measured:
        notes.append("no slices: there are no texts")
    names = ("the first", "the second") if first == second else (first, second)
    num_rows = len(rows.table)
    verdict = _judge(accuracy, counts, num_rows, *names)
    if (predicted[0].prediction == predicted[1].prediction).all():
        verdict = f"No difference shown: both predict the same label on each of {num_rows:,} rows."
    labels_alone = any(scored.file and not scored.file.has_probabilities for scored in pair)
    compared = Comparison(
        one,
        other,
        rows.split,
        num_rows,
        {
            metric.name: None
            if labels_alone and metric.of_probabilities
            else metric.difference(*predicted)
            for metric in METRICS
            if metric.difference
        },
        counts,
        measured,
        settings,
        [*rows.notes, *notes],
        verdict,
    )
    if margin is None:
        return compared
    return replace(compared, regression=find_regression(_list_checks(compared), margin=margin))


def _list_checks(compared: Comparison) -> list[Check]:
    """List what decides whether the second model is worse."""
    first, second = compared.first.figures, compared.second.figures
    return [
        Check(name, compared.num_rows, first[metric], second[metric], difference)
        for name, metric in (("accuracy", "accuracy"), ("macro F1", "f1_macro"))
        if (difference := compared.differences[metric]) is not None
    ] + [
        Check(
            f"slice {item.name}", item.num_rows, item.accuracy_first, item.accuracy_second,
            item.difference,
        )
        for item in compared.slices
        if item.is_own
    ]  # fmt: skip


def _describe(
    scored: common_rows.ScoredRun, rows: common_rows.ComparedRows, i: int, predicted: Predicted
) -> ComparedModel:
    model, file = scored.record["inputs"]["model"], scored.file
    labels_alone = file is not None and not file.has_probabilities
    figures = measure(predicted, has_probabilities=not labels_alone).to_json()
    if file:
        fingerprint = input_files.describe([file.uri])["fingerprint"]
        return ComparedModel(
            scored.name, file.uri, file.uri, fingerprint, file.about, figures,
            num_rows_only_here=0, num_rows_seen=0,
        )  # fmt: skip
    return ComparedModel(
        scored.name,
        scored.uri,
        model["uri"],
        model["fingerprint"],
        lineage.describe_model(model["settings"]),
        figures,
        rows.num_only_in[i],
        rows.num_seen_by[i],
    )


def _measure_slices(
    rows: pa.Table,
    predicted: tuple[Predicted, Predicted],
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str],
) -> list[SliceDifference]:
    """Compare the predictions of two models in each slice."""
    slices.check_patterns(rows, patterns)
    chosen, _ = slices.find(rows, settings=settings, patterns=patterns, columns=columns)
    chosen = [item for item in chosen if item.is_own or not item.rows.all()]
    first, second = (each.right for each in predicted)
    compared = [paired.compare_accuracy(first[item.rows], second[item.rows]) for item in chosen]
    adjusted = paired.adjust([counts.p_value for _, counts in compared])
    measured = [
        SliceDifference(
            item.name,
            item.about,
            int(item.rows.sum()),
            float(first[item.rows].mean()),
            float(second[item.rows].mean()),
            difference,
            p,
            p < paired.SURE,
            item.is_own,
            *(
                macro_f1(
                    count_confusion(
                        each.label[item.rows],
                        each.prediction[item.rows],
                        num_labels=len(each.classes),
                    )
                )
                for each in predicted
            ),
        )
        for item, (difference, _), p in zip(chosen, compared, adjusted, strict=True)
    ]
    return sorted(
        measured,
        key=lambda s: (s.p_adjusted, s.difference.p_value or 0, -abs(s.difference.value)),
    )


def _judge(
    accuracy: paired.Difference, counts: paired.McNemar, num_rows: int, first: str, second: str
) -> str:
    """Say in one sentence whether the second model is better, by McNemar's test of accuracy."""
    low, high, p = 100 * accuracy.low, 100 * accuracy.high, paired.write_p(counts.p_value)
    interval = f"95 % interval {low:+.2f} to {high:+.2f}, {num_rows:,} rows"
    points = f"{abs(100 * accuracy.value):.2f} percentage points"
    word, side = ("better", "higher") if accuracy.value > 0 else ("worse", "lower")
    if counts.p_value < paired.SURE:
        said = f"{second} is {word} than {first}: its accuracy is {points} {side}"
        return f"{said} ({interval}, {p})."
    said = f"the accuracy of {second} is {points} {side}"
    if not accuracy.value:
        said = "both have the same accuracy"
    return f"No difference shown: {said} ({interval}); the difference may be chance: {p}."


def _compare_settings(first: Manifest, second: Manifest) -> tuple[list[Setting] | None, list[str]]:
    """List the settings and inputs in which two trainings differ, and their preparations.

    Args:
        first: Manifest of a scored directory.
        second: Manifest of the other.

    Returns:
        The settings by key, None if a training's manifest is gone; what could not be compared.
    """
    models = [record["inputs"]["model"] for record in (first, second)]
    one, other = map(lineage.training_of, models)
    if not one or not other:
        return None, ["settings are not compared: a training is gone or was redone"]
    before, after, notes = _list_values("train", one), _list_values("train", other), []
    prepared, other_prepared = (manifest.read_input(t["inputs"], "prepared") for t in (one, other))
    if prepared and other_prepared:
        before |= _list_values("prepare", prepared)
        after |= _list_values("prepare", other_prepared)
    elif len({t["inputs"]["prepared"]["fingerprint"] for t in (one, other)}) > 1:
        notes = ["settings of prepare are not compared: prepared data are gone or were redone"]
    if any("members" in model for model in models):
        notes.append("the settings are those of the first of the averaged models")
    pairs = [(k, before.get(k, _ABSENT), after.get(k, _ABSENT)) for k in sorted(before | after)]
    return [Setting(k, a[1], b[1]) for k, a, b in pairs if a[0] != b[0]], notes


def _list_values(stage: str, record: Manifest) -> dict[str, tuple[Any, Any]]:
    """List settings and inputs by key: what is compared, which of inputs is the content; a name."""
    values = {k: (value, value) for k, value in flatten({stage: record["settings"]}).items()}
    for name, item in record["inputs"].items():
        if name != "prepared":
            uris = [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
            values[f"{stage}.{name}"] = (item["fingerprint"], uris)
    return values


def find_regression(checks: Sequence[Check], *, margin: float) -> Regression:
    """Say which checks show a worse second model, beyond chance and a margin.

    A p-value is that of the difference itself, and with a margin that of the normal approximation:
    how far the middle of the interval is from a drop by the margin, in standard errors. All are
    adjusted for the number of checks, so of 20 comparisons with a model that is no worse at most
    one fails.

    Args:
        checks: Their ``p_adjusted`` and ``is_worse`` are not used.
        margin: From 0 to 1; a drop up to this is accepted.
    """
    adjusted = paired.adjust([_find_p(check.difference, margin) for check in checks])
    judged = [
        replace(check, p_adjusted=p, is_worse=check.difference.value < -margin and p < paired.SURE)
        for check, p in zip(checks, adjusted, strict=True)
    ]
    return Regression(margin, sorted(judged, key=lambda check: check.p_adjusted))


def _find_p(difference: paired.Difference, margin: float) -> float:
    """Compute the two-sided p-value of a drop by the margin."""
    if not margin:
        assert difference.p_value is not None, "all that is checked has a test"
        return difference.p_value
    middle = (difference.low + difference.high) / 2
    error = (difference.high - difference.low) / (2 * paired.Z)
    distance = abs(middle + margin)
    return math.erfc(distance / error / math.sqrt(2)) if error else float(distance == 0)
