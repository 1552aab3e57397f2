"""An MLflow run -> made or found, given its parts, ended: each of them once, by MLflow's client."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sentiflow.storage.uris import is_local, split_member, without_credentials
from sentiflow.tracking import provenance
from sentiflow.tracking.mlflow_values import (
    MAX_DIGEST_LENGTH,
    MAX_METRICS,
    MAX_PARAMS,
    MAX_TAGS,
    batches,
    now_ms,
    to_tags,
)
from sentiflow.tracking.orphaned_runs import REASON_TAG  # before MLflow, as mlflow_store

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

Status = Literal["FINISHED", "FAILED", "KILLED"]

STAGE_TAG, GROUP_TAG, TRIAL_TAG = "sentiflow.stage", "sentiflow.run", "sentiflow.trial"
PARENT_TAG = "mlflow.parentRunId"
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Of an evaluation, and of the training that made its model: which predictions were evaluated."""
CODE_TAGS = (
    "sentiflow.version", provenance.COMMIT_TAG, provenance.SUBMISSION_TAG, "mlflow.source.name",
    "mlflow.source.type", "mlflow.user",
)  # fmt: skip

_MAX_REASON = 500
"""Characters."""
_CONTEXTS = {
    "prepare": "preparation",
    "train": "training",
    "sweep": "training",
    "score": "scoring",
    "evaluate": "evaluation",
}
_MAX_FILES = 100
"""Named in a dataset's source; its profile has the count of all."""


def add_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Add metrics to a run."""
    for batch in batches(metrics, MAX_METRICS):
        client.log_batch(run_id, metrics=batch)


def add_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Add parameters to a run; one that it has must be equal."""
    for batch in batches(params.items(), MAX_PARAMS):
        client.log_batch(run_id, params=[Param(key, value) for key, value in batch])


def add_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run, or change them."""
    for batch in batches(tags.items(), MAX_TAGS):
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in batch])


def add_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Add files to a run's artifacts, by their paths there."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            assert path.resolve().is_relative_to(Path(folder).resolve()), "names are checked"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)


def add_datasets(client: MlflowClient, run_id: str, datasets: Sequence[DatasetInput]) -> None:
    """Add datasets to a run; one that it has is not added again."""
    if datasets:
        client.log_inputs(run_id, datasets=list(datasets))


def end(client: MlflowClient, run_id: str, status: Status, time: int, reason: str = "") -> None:
    """End a run; a finished one loses the reason that it got when its process seemed gone."""
    if reason:
        add_tags(client, run_id, to_tags({REASON_TAG: reason.splitlines()[0][:_MAX_REASON]}))
    client.set_terminated(run_id, status, time)
    if status == "FINISHED" and REASON_TAG in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, REASON_TAG)


def find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Find the runs of an experiment that have all of these tags, the newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment_id], filter_string=wanted))


def begin(client: MlflowClient, *, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Make a run, unless an earlier try has made it and only the answer was lost; return its id."""
    known = {key: tags[key] for key in (STAGE_TAG, GROUP_TAG, PARENT_TAG) if key in tags}
    for run in find(client, experiment_id, known):
        is_same = run.info.run_name == name and run.data.tags.get(PARENT_TAG) == tags.get(
            PARENT_TAG
        )
        if is_same and run.info.status == "RUNNING":
            return str(run.info.run_id)
    run = client.create_run(experiment_id, start_time=now_ms(), tags=to_tags(tags), run_name=name)
    return str(run.info.run_id)


def to_datasets(inputs: Mapping[str, Any], *, stage: str) -> list[DatasetInput]:
    """Describe the inputs of a spec or manifest as MLflow's datasets.

    An input that stands for a directory is called as the stage calls it, one of files by the first
    of them.
    """
    return [_to_dataset(name, value, stage) for name, value in inputs.items()]


def _to_dataset(name: str, value: Mapping[str, Any], stage: str) -> DatasetInput:
    files = value.get("files", ())
    uris = [item["uri"] for item in files] or [value["uri"]]
    named = [without_credentials(uri) for uri in uris[:_MAX_FILES]]
    profile = {"files": len(files), "bytes": sum(item["bytes"] for item in files)}
    dataset = Dataset(
        name=_name_files(uris) if files else name,
        digest=value["fingerprint"][:MAX_DIGEST_LENGTH],
        source_type="local" if is_local(uris[0]) else uris[0].partition(":")[0],
        source=json.dumps({"uri": named[0]} if len(named) == 1 else {"uris": named}),
        profile=json.dumps(profile if files else {}),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", _CONTEXTS[stage])])


def _name_files(uris: list[str]) -> str:
    archive, member = split_member(uris[0])
    first = (member or archive).rpartition("/")[2]
    more = len(uris) - 1
    return f"{first} and {more} more" if more else first
