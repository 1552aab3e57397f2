"""Manifests of finished stages -> their MLflow runs, completed or made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from sentiflow.data import manifest
from sentiflow.data.manifest_types import (
    EPOCH_METRICS,
    PRETRAINING_METRICS,
    Manifest,
    RunRecord,
)
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import mlflow_store, recording, runs

_TAGS = {*runs.CODE_TAGS, runs.SCORED_TAG, runs.SCORED_FINGERPRINT_TAG, runs.NOTE_TAG}
"""Tags that are taken from a manifest; any others are ignored."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage's directory with its manifest, and what that says of its run."""

    uri: str
    record: Manifest
    run: RunRecord
    start_ms: int
    metrics: list[Metric]
    """Those of the stage and of its epochs."""
    files: dict[str, bytes]
    """Files that the run has, too."""


def find(output_uri: str) -> list[FinishedStage]:
    """Read the manifests of a run's output, or of one stage's directory, and check them.

    Only files of the output that they list, with their checksum, are read.

    Raises:
        UserError: There is none that describes its run, or one is wrong.
    """
    uris = [output_uri, *(join(output_uri, name) for name in runs.FOLDERS)]
    stages = [stage for uri in uris if (stage := _read(uri))]
    if not stages:
        raise UserError(
            f"{display_uri(output_uri)} has no finished stage that describes its run",
            hint="name a run's output_uri or the directory of a stage",
        )
    return stages


def _read(uri: str) -> FinishedStage | None:
    record = manifest.read(uri)
    run = record.get("run") if record else None
    if not record or not run or record["stage"] not in runs.CONTEXTS:
        return None
    files = {path: manifest.read_file(uri, record, path) for path in run["artifacts"]}
    try:
        metrics = _to_points(run["metrics"], _to_ms(run["end"]), 0)
        for names, key in ((PRETRAINING_METRICS, "pretraining"), (EPOCH_METRICS, "history")):
            for epoch in cast(Any, record).get(key, ()):
                named = {name: epoch.get(key) for name, key in names.items()}
                metrics += _to_points(named, _to_ms(epoch["ended"]), int(epoch["epoch"]))
        return FinishedStage(uri, record, run, _to_ms(run["start"]), metrics, files)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{display_uri(join(uri, manifest.MANIFEST))} describes no run: {error}"
        ) from error


def send(stages: Sequence[FinishedStage], *, tracking_uri: str) -> list[str]:
    """Complete the runs of finished stages in a store, and make those that it does not have.

    A finished run stays as it is, so that a second call changes nothing.

    Args:
        stages: In the order in which they build on each other.
        tracking_uri: The store.

    Returns:
        For each stage ``added``, or ``complete``: it was there, and lacks nothing now.

    Raises:
        UserError: A model package is damaged.
        UnavailableError: The store does not answer; the next call finds what was added.
        JobError: The store refuses something.
    """
    outcomes: list[str] = []
    models: dict[str, tuple[str, str]] = {}
    """Package and run of each model that a stage has made, by fingerprint."""
    for stage in stages:
        run, record = stage.run, stage.record
        store = recording.open_store(tracking_uri, experiment=run["experiment"], required=True)
        with mlflow_store.asking(tracking_uri, "add to runs") as client:
            present = _find_run(client, store.experiment_id, stage)
            mlflow_run = present or client.create_run(
                store.experiment_id,
                start_time=stage.start_ms,
                tags={runs.GROUP_TAG: run["group"], runs.STAGE_TAG: record["stage"]},
                run_name=run["name"],
            )
            run_id = mlflow_run.info.run_id
            if mlflow_run.info.status != "FINISHED":
                _complete(client, run_id, stage)
            model = record["inputs"].get("model", {})
            if record["stage"] == "train":
                models[record.get("model_fingerprint", "")] = (
                    join(stage.uri, manifest.MODEL),
                    run_id,
                )
            elif "members" in model:  # the run of an average is that of its evaluation
                models[model["fingerprint"]] = join(stage.uri, manifest.MODEL), ""
            _add_to_model(client, stage, run_id, models, tracking_uri)
        outcomes.append("complete" if present else "added")
    return outcomes


def _find_run(client: MlflowClient, experiment_id: str, stage: FinishedStage) -> Run | None:
    """Find a stage's run: it has the same group, stage and, if it has one, fingerprint."""
    group, fingerprint = stage.run["group"], stage.record["fingerprint"]
    same = (
        f"tags.`{runs.GROUP_TAG}` = '{group}' and "
        f"tags.`{runs.STAGE_TAG}` = '{stage.record['stage']}'"
    )
    candidates = [
        run
        for run in client.search_runs([experiment_id], filter_string=same)
        if run.data.tags.get(runs.FINGERPRINT_TAG, fingerprint) == fingerprint
        and runs.PARENT_TAG not in run.data.tags
    ]
    logged = stage.run["mlflow_run_id"]
    return min(candidates, key=lambda run: run.info.run_id != logged, default=None)


def _complete(client: MlflowClient, run_id: str, stage: FinishedStage) -> None:
    """Add all that the manifest says to a run, and end it."""
    record, run = stage.record, stage.run
    tags = _choose_tags(run["tags"]) | runs.describe_lineage(record["inputs"])
    tags |= {runs.OUTPUT_TAG: stage.uri, runs.FINGERPRINT_TAG: record["fingerprint"]}
    client.log_inputs(run_id, runs.to_datasets(record["inputs"], stage=record["stage"]))
    runs.add_files(client, run_id, stage.files)
    runs.log(client, run_id, metrics=stage.metrics, params=runs.to_params(run["params"]), tags=tags)
    client.set_terminated(run_id, "FINISHED", _to_ms(run["end"]))


def _add_to_model(
    client: MlflowClient,
    stage: FinishedStage,
    run_id: str,
    models: Mapping[str, tuple[str, str]],
    tracking_uri: str,
) -> None:
    """Add an evaluation's metrics to the run of its model, and register a model that is not yet.

    Args:
        client: The store.
        stage: A training or an evaluation.
        run_id: Its run.
        models: Package and run of each model, if its training was imported before.
        tracking_uri: The store.
    """
    run, fingerprint = stage.run, stage.record.get("model_fingerprint", "")
    if fingerprint not in models:
        return
    package, model_run = models[fingerprint]
    model_run = model_run or run_id
    part = run.get("training", run)
    tags = _choose_tags(part["tags"])
    if "training" in run:
        if runs.NOTE_TAG in tags:
            experiment_id = client.get_run(run_id).info.experiment_id
            tags[runs.NOTE_TAG] = runs.add_report(tags[runs.NOTE_TAG], experiment_id, run_id)
        has = client.get_run(model_run).data
        points = _to_points(part["metrics"], _to_ms(run["end"]), 0)
        missing = {name: value for name, value in tags.items() if name not in has.tags}
        points = [point for point in points if point.key not in has.metrics]
        runs.log(client, model_run, metrics=points, tags=missing)
    if run["registers_model"]:
        from sentiflow.tracking import model_registry  # a second to import, and few runs need it

        name, where = run["experiment"], {"tracking_uri": tracking_uri}
        if not model_registry.find(name, fingerprint, **where):
            version = model_registry.register(package, name=name, run_id=model_run, **where)
            note, card = tags.get(runs.NOTE_TAG, ""), stage.files.get(manifest.CARD, b"")
            model_registry.describe(version, text=note, tags={}, card=card, **where)


def _to_points(metrics: Mapping[str, float | None], time: int, step: int) -> list[Metric]:
    return [Metric(name, value, time, step) for name, value in runs.to_metrics(metrics).items()]


def _choose_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name in _TAGS}


def _to_ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
