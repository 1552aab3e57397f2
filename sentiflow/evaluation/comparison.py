"""Two runs, named by the user -> a comparison of their models on the same test rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from sentiflow.config.model_sections import ModelSettings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import changed_settings, compared_rows, differences
from sentiflow.evaluation.changed_settings import Setting
from sentiflow.evaluation.compared_rows import Scored
from sentiflow.evaluation.differences import McNemar, SliceDifference
from sentiflow.metrics.classification import BinaryMetrics
from sentiflow.metrics.paired import Difference
from sentiflow.storage.uris import absolute_uri, as_typed, join, names_model
from sentiflow.tracking import provenance, recording

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MODEL: TypeAdapter[ModelSettings] = TypeAdapter(ModelSettings)


@dataclass(frozen=True)
class Model:
    """One of the two models."""

    name: str
    """As the user wrote it."""
    scored_uri: str
    run_id: str | None
    """Of MLflow, if that is how it was named."""
    model_uri: str
    fingerprint: str
    """Of the model package."""
    about: str
    """Its settings in brief; empty if they are not known."""
    figures: BinaryMetrics
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
    differences: dict[str, Difference | None]
    mcnemar: McNemar
    slices: list[SliceDifference]
    settings: list[Setting] | None
    """None if a training's manifest is gone."""
    notes: list[str]
    """What a reader should know first."""
    verdict: str


def compare(
    first: str,
    second: str,
    *,
    patterns: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
) -> Comparison:
    """Compare the models of two runs on their common test rows, which neither was trained on.

    Args:
        first: A scored directory, a directory with ``scored/`` in it, or the MLflow id of a run
            that scored, evaluated, or trained.
        second: Likewise.
        patterns: The user's own slices: a regular expression (RE2) by name.
        tracking_uri: The store of the run ids. Default: the default of ``tracking.uri``.

    Raises:
        UserError: One has no predictions, or the two cannot be compared.
        JobError: MLflow cannot be reached.
    """
    pair = (_find(first, tracking_uri), _find(second, tracking_uri))
    rows = compared_rows.read(pair)
    settings = pair[0].record["inputs"]["model"].get("settings") or {}
    found = differences.measure(rows.table, settings=settings, patterns=patterns or {})
    one, other = (_describe(pair[i], found, rows, i) for i in (0, 1))
    changed = changed_settings.find(pair[0].record, pair[1].record)
    names = ("the first", "the second") if first == second else (first, second)
    return Comparison(
        one,
        other,
        rows.split,
        len(rows.table),
        found.differences,
        found.mcnemar,
        found.slices,
        changed.settings,
        [*rows.notes, *changed.notes, *_notes(one, other, found)],
        differences.judge(found, first=names[0], second=names[1]),
    )


def _find(name: str, tracking_uri: str | None) -> Scored:
    """Find the predictions of a run."""
    if _RUN_ID.fullmatch(name):
        return _find_run(name, tracking_uri)
    hint = "name the output_uri of a run, a scored directory, or the id of an MLflow run"
    if names_model(name):
        raise UserError(f"{name} is a model, not a run with predictions", hint=hint)
    uri = absolute_uri(name)
    for place in (uri, join(uri, "scored")):
        try:
            record = manifest.read(place)
        except NotADirectoryError:  # a file was named
            break
        if record is not None and record["stage"] == "score":
            return Scored(name, place, record)
    if re.fullmatch(r"[0-9a-f]{6,40}", name):
        hint = f"an MLflow id has 32 digits, this has {len(name)}"
    raise UserError(f"{name} holds no finished predictions", hint=f"score it first; or {hint}")


def _find_run(run_id: str, tracking_uri: str | None) -> Scored:
    tags = recording.read_tags(recording.default_uri(tracking_uri), run_id)
    stage = tags.get(recording.STAGE_TAG, "unknown")
    own = (provenance.OUTPUT_TAG, provenance.FINGERPRINT_TAG)
    names = own if stage == "score" else (recording.SCORED_TAG, recording.SCORED_FINGERPRINT_TAG)
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
    return Scored(run_id, uri, record)


def _describe(
    scored: Scored, found: differences.Differences, rows: compared_rows.ComparedRows, i: int
) -> Model:
    model = scored.record["inputs"]["model"]
    return Model(
        scored.name,
        scored.uri,
        scored.name if _RUN_ID.fullmatch(scored.name) else None,
        model["uri"],
        model["fingerprint"],
        _sum_up(model.get("settings") or {}),
        found.figures[i],
        rows.num_only_in[i],
        rows.num_seen_by[i],
    )


def _sum_up(settings: Mapping[str, Any]) -> str:
    """Write the settings of a model package in brief."""
    if "tokenizer" not in settings:
        return ""
    return (
        f"{_MODEL.validate_python(settings['model']).summary}; "
        f"tokenizer {settings['tokenizer']}, {settings['vocabulary_size']:,} words"
    )


def _notes(one: Model, other: Model, found: differences.Differences) -> list[str]:
    notes = []
    if one.fingerprint == other.fingerprint:
        notes.append("both are the same model")
    if not found.slices:
        notes.append(
            "no slices: there are no texts, or the tokenizer of the first model is unknown"
        )
    return notes
