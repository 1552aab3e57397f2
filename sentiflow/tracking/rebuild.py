"""Manifests of finished stages -> their MLflow runs, completed or made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from sentiflow.config import run_tags
from sentiflow.data import manifest
from sentiflow.data.manifest_types import (
    EPOCH_METRICS,
    PRETRAINING_METRICS,
    Manifest,
    RunRecord,
)
from sentiflow.errors import UserError
from sentiflow.progress import Progress
from sentiflow.storage.uris import display_uri, join, without_credentials
from sentiflow.tracking import datasets, experiment_store, mlflow_store, runs
from sentiflow.tracking.version_tags import describe_evaluation

_IMPORTED_TAGS = {
    *runs.CODE_TAGS,
    runs.SCORED_TAG,
    runs.SCORED_FINGERPRINT_TAG,
    runs.NOTE_TAG,
    runs.COMMAND_TAG,
    runs.DIRECTORY_TAG,
    runs.TIMES_TAG,
}
"""Tags that are taken from a manifest, with the user's own; its other tags are ignored."""
_METRICS_OF_EPOCHS = {"pretraining": PRETRAINING_METRICS, "history": EPOCH_METRICS}
"""By key of a training's manifest that holds records of epochs: the names of the metrics in MLflow,
with their keys in a record."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage's directory with its manifest, and the MLflow run that the manifest describes."""

    uri: str
    """The directory."""
    record: Manifest
    run: RunRecord
    """The key ``run`` of the manifest."""
    start_ms: int
    """Start of the run, in milliseconds since 1970."""
    metrics: list[Metric]
    """Metrics of the stage and of its epochs."""
    files: dict[str, bytes]
    """Artifacts of the run: files of the directory, and the settings as the user wrote them."""
    profiles: dict[str, datasets.Profile]
    """Rows and shares of classes of the inputs, by the name of the input."""


class _TrainedModel(NamedTuple):
    """A model that a stage has made: a training, or the scoring of an average."""

    package_uri: str
    run_id: str
    """The run that has logged the model; empty for an average, which its evaluation logs."""
    data: str
    """Fingerprint of the prepared data of the training; empty for an average."""


def find(output_uri: str) -> list[FinishedStage]:
    """Read the manifests of a run's output, or of one stage's directory, and check them.

    Only files that a manifest lists with a checksum are read.

    Raises:
        UserError: No manifest describes its run, or a manifest is wrong.
    """
    folders = [join(output_uri, name) for name in runs.FOLDERS]
    stages = []
    for uri in (output_uri, *folders):
        stage = _read_stage(uri)
        if stage:
            stages.append(stage)
    if not stages:
        raise UserError(
            f"{display_uri(output_uri)} has no finished stage that describes its run",
            hint="name a run's output_uri or the directory of a stage",
        )
    return stages


def _read_stage(uri: str) -> FinishedStage | None:
    """Read the manifest of a stage, and its files for MLflow; None if it does not describe a run.

    Raises:
        UserError: The manifest is wrong.
    """
    record = manifest.read(uri)
    run = record.get("run") if record else None
    if not record or not run or record["stage"] not in runs.CONTEXTS:
        return None
    files = {path: manifest.read_file(uri, record, path) for path in run["artifacts"]}
    if "config" in run:
        files[runs.CONFIG_FILE] = without_credentials(run["config"]).encode(errors="replace")
    try:
        return FinishedStage(
            uri=uri,
            record=record,
            run=run,
            start_ms=_to_ms(run["start"]),
            metrics=_list_metrics(record, run),
            files=files,
            profiles=datasets.list_profiles(record, run),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{display_uri(join(uri, manifest.MANIFEST))} describes no run: {error}"
        ) from error


def _list_metrics(record: Manifest, run: RunRecord) -> list[Metric]:
    """List the metrics of a stage and of its epochs."""
    step = runs.count_repeats(run["tags"])
    points = _to_points(run["metrics"], time=_to_ms(run["end"]), step=step)
    for key, names in _METRICS_OF_EPOCHS.items():
        for epoch in cast(Any, record).get(key, ()):
            metrics = {name: epoch.get(epoch_key) for name, epoch_key in names.items()}
            points += _to_points(metrics, time=_to_ms(epoch["ended"]), step=int(epoch["epoch"]))
    return points


def send(stages: Sequence[FinishedStage], *, tracking_uri: str) -> list[str]:
    """Complete the runs of finished stages in a store, and add missing runs.

    A finished run stays as it is, so a second call changes nothing.

    Args:
        stages: In the order in which they build on each other.
        tracking_uri: The store.

    Returns:
        For each stage: ``complete`` if the store had its run before, else ``added``.

    Raises:
        UserError: A model package is damaged.
        UnavailableError: The store does not answer; the next call finds what was added.
        JobError: The store refuses something.
    """
    outcomes: list[str] = []
    models: dict[str, _TrainedModel] = {}  # of the stages so far, by fingerprint
    for number, stage in enumerate(stages, start=1):
        what = f"run {number} of {len(stages)}, {stage.run['name']}"
        store = experiment_store.open_store(
            tracking_uri, experiment=stage.run["experiment"], required=True
        )
        with (
            Progress("tracking", what=what),
            mlflow_store.asking(tracking_uri, "add to runs") as client,
        ):
            present = _find_run(client, store.experiment_id, stage)
            run = present or _create_run(client, store.experiment_id, stage)
            run_id = run.info.run_id
            if run.info.status != "FINISHED":
                _complete_run(client, run_id, stage)
            models |= _find_models(stage, run_id)
            _add_to_model(client, stage, run_id, models, tracking_uri)
        outcomes.append("complete" if present else "added")
    return outcomes


def _create_run(client: MlflowClient, experiment_id: str, stage: FinishedStage) -> Run:
    """Create the run of a stage, with its original start."""
    return client.create_run(
        experiment_id,
        start_time=stage.start_ms,
        tags={runs.GROUP_TAG: stage.run["group"], runs.STAGE_TAG: stage.record["stage"]},
        run_name=stage.run["name"],
    )


def _find_models(stage: FinishedStage, run_id: str) -> dict[str, _TrainedModel]:
    """Return the model that a stage has made, by its fingerprint; empty if it has made none."""
    record = stage.record
    package_uri = join(stage.uri, manifest.MODEL)
    if record["stage"] == "train":
        fingerprint = record.get("model_fingerprint", "")
        data = record["inputs"].get("prepared", {}).get("fingerprint", "")
        return {fingerprint: _TrainedModel(package_uri, run_id, data)}
    model = record["inputs"].get("model", {})
    if "members" in model:
        return {model["fingerprint"]: _TrainedModel(package_uri, run_id="", data="")}
    return {}


def _find_run(client: MlflowClient, experiment_id: str, stage: FinishedStage) -> Run | None:
    """Find a stage's run: it has the same group and stage, and the same fingerprint or none.

    If there are several, the run that the stage itself logged takes precedence.
    """
    fingerprint = stage.record["fingerprint"]
    group = stage.run["group"]
    stage_name = stage.record["stage"]
    conditions = [
        mlflow_store.to_condition(f"tags.`{runs.GROUP_TAG}`", group),
        mlflow_store.to_condition(f"tags.`{runs.STAGE_TAG}`", stage_name),
    ]
    candidates = []
    for run in client.search_runs([experiment_id], filter_string=" and ".join(conditions)):
        tags = run.data.tags
        is_same = tags[runs.GROUP_TAG] == group and tags[runs.STAGE_TAG] == stage_name
        has_fingerprint = tags.get(runs.FINGERPRINT_TAG, fingerprint) == fingerprint
        if is_same and has_fingerprint and runs.PARENT_TAG not in tags:
            candidates.append(run)
    for run in candidates:
        if run.info.run_id == stage.run["mlflow_run_id"]:
            return run
    return candidates[0] if candidates else None


def _complete_run(client: MlflowClient, run_id: str, stage: FinishedStage) -> None:
    """Add the contents of the manifest to a run, and end it."""
    record = stage.record
    run = stage.run
    inputs = datasets.to_datasets(record["inputs"], stage=record["stage"], profiles=stage.profiles)
    client.log_inputs(run_id, inputs)
    runs.add_files(client, run_id, stage.files)
    tags = {
        **_choose_tags(run["tags"]),
        **runs.describe_lineage(record["inputs"]),
        runs.OUTPUT_TAG: stage.uri,
        runs.FINGERPRINT_TAG: record["fingerprint"],
    }
    params = runs.to_params(run["params"])
    runs.log(client, run_id, metrics=stage.metrics, params=params, tags=tags)
    client.set_terminated(run_id, "FINISHED", _to_ms(run["end"]))


def _add_to_model(
    client: MlflowClient,
    stage: FinishedStage,
    run_id: str,
    models: Mapping[str, _TrainedModel],
    tracking_uri: str,
) -> None:
    """Add an evaluation's metrics to its model's run, and register the model if the stage did.

    Args:
        client: The store.
        stage: A training or an evaluation.
        run_id: Its run.
        models: Models of this stage and of earlier stages, by fingerprint.
        tracking_uri: Address of the store.
    """
    run = stage.run
    fingerprint = stage.record.get("model_fingerprint", "")
    if fingerprint not in models:
        return
    model = models[fingerprint]
    model_run_id = model.run_id or run_id
    tags = _choose_tags(run["tags"])
    version_tags: dict[str, str] = {}
    if "training" in run:
        tags = _choose_tags(run["training"]["tags"])
        if runs.NOTE_TAG in tags:
            experiment_id = client.get_run(run_id).info.experiment_id
            note = runs.add_report(tags[runs.NOTE_TAG], experiment_id, run_id)
            tags[runs.NOTE_TAG] = runs.add_repetition(note, model_run_id)
        points = _to_points(run["training"]["metrics"], time=_to_ms(run["end"]), step=0)
        _add_missing(client, model_run_id, points, tags)
        version_tags = describe_evaluation(stage.record, run["training"], data=model.data)
    if run["registers_model"]:
        package = model._replace(run_id=model_run_id)
        _register(stage, package, tags.get(runs.NOTE_TAG, ""), version_tags, tracking_uri)


def _add_missing(
    client: MlflowClient, run_id: str, points: Sequence[Metric], tags: Mapping[str, str]
) -> None:
    """Add those metrics and tags to a run whose names the run does not have yet."""
    present = client.get_run(run_id).data
    runs.log(
        client,
        run_id,
        metrics=[point for point in points if point.key not in present.metrics],
        tags={name: value for name, value in tags.items() if name not in present.tags},
    )


def _register(
    stage: FinishedStage,
    model: _TrainedModel,
    text: str,
    tags: Mapping[str, str],
    tracking_uri: str,
) -> None:
    """Register the model of a stage, and describe its version; nothing if the store has it.

    A newer candidate stays the candidate.
    """
    from sentiflow.tracking import model_registry  # a second to import, and few runs need it

    name = stage.run["experiment"]
    fingerprint = stage.record.get("model_fingerprint", "")
    if model_registry.find(name, fingerprint, tracking_uri=tracking_uri):
        return
    version = model_registry.register(
        model.package_uri,
        name=name,
        run_id=model.run_id,
        tracking_uri=tracking_uri,
        tags=tags,
        keeps_newer=True,
    )
    files = {}
    if manifest.CARD in stage.files:
        files[manifest.CARD] = stage.files[manifest.CARD]
    model_registry.describe(version, text=text, tags=tags, files=files, tracking_uri=tracking_uri)


def _to_points(metrics: Mapping[str, float | None], *, time: int, step: int) -> list[Metric]:
    """Turn metrics into MLflow's, all of one time (in milliseconds) and one step."""
    return [Metric(name, value, time, step) for name, value in runs.to_metrics(metrics).items()]


def _choose_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are in ``_IMPORTED_TAGS``, and the user's own tags."""
    chosen = {name: value for name, value in tags.items() if name in _IMPORTED_TAGS}
    own = [name for name in tags if run_tags.is_own(name)]
    return chosen | {name: tags[name] for name in own[: run_tags.MAX_TAGS]}


def _to_ms(time: str) -> int:
    """Convert a time in ISO 8601 to milliseconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)
