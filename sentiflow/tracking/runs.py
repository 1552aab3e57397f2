"""An MLflow run -> made or found, given its parts within MLflow's limits, ended.

Values are brought within MLflow's limits and lose their credentials first.
"""

import hashlib
import json
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sentiflow.config.settings import flatten
from sentiflow.storage.uris import is_local, split_member, without_credentials
from sentiflow.tracking import (
    mlflow_store,  # noqa: F401  MLflow reads what it sets
    provenance,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

Status = Literal["FINISHED", "FAILED", "KILLED"]

STAGE_TAG, GROUP_TAG, TRIAL_TAG = "sentiflow.stage", "sentiflow.run", "sentiflow.trial"
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Which predictions were evaluated: tags of the evaluation, and of the training of its model."""
CODE_TAGS = (
    "sentiflow.version", provenance.CODE_TAG, provenance.COMMIT_TAG, provenance.DIRTY_TAG,
    provenance.SUBMISSION_TAG, "mlflow.source.name", "mlflow.source.type", "mlflow.user",
)  # fmt: skip

REASON_TAG = "sentiflow.reason"

CONTEXTS = {
    "prepare": "preparation",
    "train": "training",
    "sweep": "training",
    "score": "scoring",
    "evaluate": "evaluation",
    "trends": "trends",
}
_MAX_FILES = 100
"""Files that are named in a dataset's source; its profile has their number."""

_BATCH_SIZES = {"metrics": 1000, "params": 100, "tags": 100}
"""Values that MLflow takes in one request."""
MAX_PARAM_LENGTH, MAX_TAG_LENGTH, MAX_KEY_LENGTH, MAX_DIGEST_LENGTH = 6000, 8000, 250, 36
"""Characters."""

_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. /:]")


def log(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add metrics and parameters to a run, and add or change tags.

    Parameters that the run has must be equal.
    """
    parts: dict[str, Sequence[Metric | Param | RunTag]] = {
        "metrics": metrics,
        "params": [Param(key, value) for key, value in (params or {}).items()],
        "tags": [RunTag(key, value) for key, value in (tags or {}).items()],
    }
    for name, values in parts.items():
        for first in range(0, len(values), _BATCH_SIZES[name]):
            batch = values[first : first + _BATCH_SIZES[name]]
            client.log_batch(run_id, **{name: batch})


def add_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Add files to a run's artifacts, by their paths there."""
    if not files:
        return
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
    """End a run."""
    if reason:
        log(client, run_id, tags=to_tags({REASON_TAG: reason}))
    client.set_terminated(run_id, status, time)


def find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Find the runs of an experiment that have all of these tags, the newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment_id], filter_string=wanted))


def add_report(text: str, experiment_id: str, run_id: str) -> str:
    """Add to the first line of a description the page with the report of an evaluation's run."""
    first, end, others = text.partition("\n")
    link = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/report.html"
    return f"{first} [Report]({link}){end}{others}"


def to_datasets(inputs: Mapping[str, Any], *, stage: str) -> list[DatasetInput]:
    """Describe the inputs of a spec or manifest as MLflow's datasets.

    An input that stands for a directory is called as the stage calls it, one of files by the first
    of them.
    """
    return [_to_dataset(name, value, stage) for name, value in inputs.items()]


def _to_dataset(name: str, value: Mapping[str, Any], stage: str) -> DatasetInput:
    files = value.get("files", ())
    uris = [item["uri"] for item in files or value.get("members") or [value]]
    named = [without_credentials(uri) for uri in uris[:_MAX_FILES]]
    profile = {"files": len(files), "bytes": sum(item["bytes"] for item in files)}
    dataset = Dataset(
        name=_name_files(uris) if files else name,
        digest=value["fingerprint"][:MAX_DIGEST_LENGTH],
        source_type="local" if is_local(uris[0]) else uris[0].partition(":")[0],
        source=json.dumps({"uri": named[0]} if len(named) == 1 else {"uris": named}),
        profile=json.dumps(profile if files else {}),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", CONTEXTS[stage])])


def _name_files(uris: list[str]) -> str:
    archive, member = split_member(uris[0])
    first = (member or archive).rpartition("/")[2]
    more = len(uris) - 1
    return f"{first} and {more} more" if more else first


def to_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Name metrics as MLflow allows; those that are None (undefined) are left out."""
    keys = _to_keys(metrics)
    return {keys[name]: float(value) for name, value in metrics.items() if value is not None}


def to_params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Turn settings into parameters with dotted names; long values are cut."""
    values = flatten(dict(settings))
    keys = _to_keys(values)
    return {keys[k]: _to_text(str(value))[:MAX_PARAM_LENGTH] for k, value in values.items()}


def to_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Bring tags within MLflow's limits; long values are cut."""
    return {to_key(key): _to_text(value)[:MAX_TAG_LENGTH] for key, value in tags.items()}


def to_ms(time: datetime) -> int:
    """Convert a time to milliseconds since 1970, as MLflow has it."""
    return int(time.timestamp() * 1000)


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return to_ms(datetime.now(UTC))


def _to_keys(names: Iterable[str]) -> dict[str, str]:
    """Find a key for each name, such as those of classes; names with the same key get a hash."""
    keys = {name: to_key(name) for name in names}
    counts = Counter(keys.values())
    return {name: key if counts[key] == 1 else _add_hash(key, name) for name, key in keys.items()}


def _add_hash(key: str, name: str) -> str:
    return f"{key[: MAX_KEY_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def to_key(name: str) -> str:
    """Replace characters that MLflow does not allow; a name that is too long ends in its hash."""
    key = _FORBIDDEN_IN_KEYS.sub("_", name)
    is_path = posixpath.normpath(key) != key or key.startswith(("/", ".."))
    if key == "." or is_path:  # MLflow may use it as the path of a file
        key = key.replace("/", "_").replace(".", "_") or "_"
    return key if len(key) <= MAX_KEY_LENGTH else _add_hash(key, name)


def _to_text(value: str) -> str:
    """Leave credentials out, and escape what is not Unicode, as in some names of files."""
    return without_credentials(value).encode(errors="backslashreplace").decode()
