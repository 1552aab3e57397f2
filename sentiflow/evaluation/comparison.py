"""Two runs, named by the user -> a comparison of their models on the same test rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data import input_files, manifest
from sentiflow.data.manifest_types import Settings
from sentiflow.errors import UserError
from sentiflow.evaluation import common_rows, lineage, prediction_files, probing, slices
from sentiflow.evaluation.regression import Check, Regression, check_behavior, find_regression
from sentiflow.evaluation.setting_differences import Setting, compare_settings
from sentiflow.metrics import paired
from sentiflow.metrics.classification import measure
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import METRICS
from sentiflow.storage.uris import absolute_uri, as_typed, join, names_model
from sentiflow.tracking import mlflow_store

METRIC_NAMES = {
    metric.name: metric.title + ("" if metric.higher_is_better else " *")
    for metric in METRICS
    if metric.difference
}
"""How pages name the compared metrics; of those with a star, a lower value is better."""

_OF_PROBABILITIES = {
    *(metric.name for metric in METRICS if metric.of_probabilities), "expected_calibration_error",
}  # fmt: skip
"""Metrics that labels alone do not have."""

_RUN_ID = re.compile(r"[0-9a-f]{32}")


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


@dataclass(frozen=True)
class Model:
    """One of the two models."""

    name: str
    """As the user wrote it."""
    scored_uri: str
    run_id: str | None
    """Id of the MLflow run, if the user gave one."""
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
class Comparison:
    """Two models on the same rows; every difference is the second's metric minus the first's.

    ``dataclasses.asdict`` of it is JSON.
    """

    first: Model
    second: Model
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
    tracking_uri: str | None = None,
    margin: float | None = None,
) -> Comparison:
    """Compare the models of two runs on their common test rows, which neither was trained on.

    Slices are those of the first model's tokenizer. There are none by unknown tokens, as these
    differ between the models.

    Args:
        first: A scored directory, a directory with ``scored/`` in it, or the MLflow id of a run
            that scored, evaluated, or trained.
        second: Likewise.
        patterns: The user's own slices: a regular expression (RE2) by name.
        columns: The user's own slices: columns of the first run, each value a slice.
        tracking_uri: The store of the run ids. Default: the default of ``tracking.uri``.
        margin: Also find out whether the second is worse by more than this; then both models take
            the behavior tests.

    Raises:
        UserError: One has no predictions, or the two cannot be compared.
        UnavailableError: MLflow cannot be reached.
    """
    pair = _find_pair(first, second, tracking_uri)
    rows = common_rows.read(pair, columns=columns)
    predicted = rows.predicted
    right = [each.right for each in predicted]
    accuracy, counts = paired.compare_accuracy(*right)
    one, other = (_describe(pair[i], rows, i, predicted[i]) for i in (0, 1))
    is_file = any(scored.file for scored in pair)
    settings, notes = (None, []) if is_file else compare_settings(pair[0].record, pair[1].record)
    measured = _measure_slices(
        rows.table,
        *right,
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
        _compare_metrics(*predicted, labels_alone=labels_alone),
        counts,
        measured,
        settings,
        [*rows.notes, *notes],
        verdict,
    )
    if margin is None:
        return compared
    checks, not_asked = _list_checks(compared), prediction_files.NO_MODEL
    if not is_file:
        records = [scored.record for scored in pair]
        taken, not_asked = probing.judge_behavior(records, rows.table, tracking=tracking_uri)
        checks += check_behavior(*taken) if taken else []
    return replace(compared, regression=find_regression(checks, margin=margin, not_asked=not_asked))


def _compare_metrics(
    first: Predicted, second: Predicted, *, labels_alone: bool
) -> dict[str, paired.Difference | None]:
    """Compare all metrics; those of probabilities are None where a file has labels alone."""
    return {
        metric.name: None
        if labels_alone and metric.of_probabilities
        else metric.difference(first, second)
        for metric in METRICS
        if metric.difference
    }


def _list_checks(compared: Comparison) -> list[Check]:
    """List what decides whether the second model is worse, besides behavior tests."""
    checks = []
    for name, metric in (("accuracy", "accuracy"), ("macro F1", "f1_macro")):
        if (difference := compared.differences[metric]) is not None:
            models = (compared.first, compared.second)
            first, second = (model.figures[metric] for model in models)
            checks.append(Check(name, compared.num_rows, first, second, difference))
    return checks + [
        Check(
            f"slice {item.name}", item.num_rows, item.accuracy_first, item.accuracy_second,
            item.difference,
        )
        for item in compared.slices
        if item.is_own
    ]  # fmt: skip


def _find_pair(first: str, second: str, tracking_uri: str | None) -> common_rows.Pair:
    """Find two runs, or a run and a file of predictions for its test rows."""
    files = [name for name in (first, second) if prediction_files.names_file(name)]
    runs = {n: _find(n, tracking_uri) for n in (first, second) if n not in files}
    if not runs:
        raise UserError(
            f"{first} and {second} are files of predictions",
            hint="one of the two must be a run, which has the labels of the test rows",
        )
    for name in files:
        run = next(iter(runs.values()))
        file = prediction_files.read(absolute_uri(name), run.record)
        runs[name] = replace(run, name=name, file=file)
    return runs[first], runs[second]


def _find(name: str, tracking_uri: str | None) -> common_rows.Scored:
    """Find the predictions of a run."""
    if _RUN_ID.fullmatch(name):
        return _find_run(name, tracking_uri)
    hint = "name the output_uri of a run, a scored directory, or the id of an MLflow run"
    if names_model(name):
        raise UserError(f"{name} is a model, not a run with predictions", hint=hint)
    uri = absolute_uri(name)
    for location in (uri, join(uri, "scored")):
        try:
            record = manifest.read(location)
        except NotADirectoryError:  # a file was named
            break
        if record is not None and record["stage"] == "score":
            record = manifest.require(location, stage="score", setting=name)
            return common_rows.Scored(name, location, record)
    raise UserError(f"{name} holds no finished predictions", hint=f"score it first; or {hint}")


def _find_run(run_id: str, tracking_uri: str | None) -> common_rows.Scored:
    from sentiflow.tracking import recording, runs  # import MLflow, which the others do without

    tags = recording.read_tags(mlflow_store.default_uri(tracking_uri), run_id)
    stage = tags.get(runs.STAGE_TAG, "unknown")
    own = (runs.OUTPUT_TAG, runs.FINGERPRINT_TAG)
    names = own if stage == "score" else (runs.SCORED_TAG, runs.SCORED_FINGERPRINT_TAG)
    uri, fingerprint = (tags.get(name) for name in names)
    if uri is None:
        raise UserError(
            f"the MLflow run {run_id} ({stage}) does not name its predictions",
            hint="evaluate its model, or name the scored directory",
        )
    record = manifest.require(uri, stage="score", setting=f"the MLflow run {run_id}")
    if fingerprint not in (None, record["fingerprint"]):
        raise UserError(
            f"{as_typed(uri)} no longer holds the predictions of the MLflow run {run_id}",
            hint="compare runs whose directories were not replaced",
        )
    return common_rows.Scored(run_id, uri, record)


def _describe(
    scored: common_rows.Scored, rows: common_rows.ComparedRows, i: int, predicted: Predicted
) -> Model:
    model, file = scored.record["inputs"]["model"], scored.file
    figures = measure(predicted).to_json()
    if file:
        if not file.has_probabilities:
            figures |= dict.fromkeys(_OF_PROBABILITIES)
        fingerprint = input_files.describe([file.uri])["fingerprint"]
        return Model(
            scored.name, file.uri, None, file.uri, fingerprint, file.about, figures,
            num_rows_only_here=0, num_rows_seen=0,
        )  # fmt: skip
    return Model(
        scored.name,
        scored.uri,
        scored.name if _RUN_ID.fullmatch(scored.name) else None,
        model["uri"],
        model["fingerprint"],
        lineage.describe_model(model["settings"]),
        figures,
        rows.num_only_in[i],
        rows.num_seen_by[i],
    )


def _measure_slices(
    rows: pa.Table,
    first: np.ndarray,
    second: np.ndarray,
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str],
) -> list[SliceDifference]:
    """Compare two models in each slice, given for each which rows it gets right."""
    slices.check_patterns(rows, patterns)
    chosen, _ = slices.find(
        rows, settings=settings, patterns=patterns, columns=columns, by_unknown=False
    )
    chosen = [item for item in chosen if item.is_own or not item.rows.all()]
    found = [paired.compare_accuracy(first[item.rows], second[item.rows]) for item in chosen]
    adjusted = paired.adjust([counts.p_value for _, counts in found])
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
        )
        for item, (difference, _), p in zip(chosen, found, adjusted, strict=True)
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
