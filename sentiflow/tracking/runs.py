"""An MLflow run -> made or found, given its parts within MLflow's limits, ended.

Values are brought within MLflow's limits and lose their credentials first. Open runs whose process
is gone are ended as killed.
"""

import hashlib
import json
import os
import posixpath
import re
import socket
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sentiflow.config.settings import flatten
from sentiflow.storage import processes
from sentiflow.storage.uris import is_local, split_member, without_credentials
from sentiflow.tracking import mlflow_store, provenance  # before MLflow, which reads what it sets

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

_MAX_REASON = 500
"""Characters."""
_CONTEXTS = {
    "prepare": "preparation",
    "train": "training",
    "sweep": "training",
    "score": "scoring",
    "evaluate": "evaluation",
    "trends": "trends",
}
_MAX_FILES = 100
"""Files that are named in a dataset's source; its profile has their number."""

HOST_TAG, PID_TAG, STARTED_TAG = "sentiflow.host", "sentiflow.pid", "sentiflow.started"

REASON_TAG = "sentiflow.reason"
REASON = "its process is gone"

_OUTERMOST = "pid:[4026531836]"
"""The namespace of Linux's processes outside of containers."""
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
        log(client, run_id, tags=to_tags({REASON_TAG: reason.splitlines()[0][:_MAX_REASON]}))
    client.set_terminated(run_id, status, time)


def find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Find the runs of an experiment that have all of these tags, the newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment_id], filter_string=wanted))


def make(
    client: MlflowClient,
    *,
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    start: datetime | None = None,
) -> Run:
    """Make a run that began at ``start``.

    Without it the run begins now, unless an earlier try has made it and only the answer was lost.
    """
    if start is None:
        known = {key: tags[key] for key in (STAGE_TAG, GROUP_TAG, PARENT_TAG) if key in tags}
        for run in find(client, experiment_id, known | {"mlflow.runName": name}):
            is_nested = PARENT_TAG in run.data.tags
            if run.info.status == "RUNNING" and is_nested == (PARENT_TAG in tags):
                return run
    time = to_ms(start) if start else now_ms()
    return client.create_run(experiment_id, start_time=time, tags=to_tags(tags), run_name=name)


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
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", _CONTEXTS[stage])])


def _name_files(uris: list[str]) -> str:
    archive, member = split_member(uris[0])
    first = (member or archive).rpartition("/")[2]
    more = len(uris) - 1
    return f"{first} and {more} more" if more else first


def describe_process() -> dict[str, str]:
    """Describe this process by tags, so that other processes can check whether it still runs."""
    return {
        HOST_TAG: _name_host(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: f"{processes.find_start(os.getpid()):.2f}",
    }


def end_orphaned(client: MlflowClient, experiment_id: str) -> list[str]:
    """End the experiment's open runs whose processes on this host are gone.

    Runs of other hosts and of other containers stay open: their processes cannot be checked here.

    Returns:
        Their ids.
    """
    wanted = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{_name_host()}'"
    ended = []
    for run in mlflow_store.ask(lambda: client.search_runs([experiment_id], filter_string=wanted)):
        if not _is_running(run.data.tags) and mlflow_store.ask(partial(_end_killed, client, run)):
            ended.append(run.info.run_id)
    return ended


def _end_killed(client: MlflowClient, run: Run) -> bool:
    """End a run, unless it has ended meanwhile; return whether it was ended here."""
    run_id, last = run.info.run_id, _find_last_time(client, run)
    if client.get_run(run_id).info.status != "RUNNING":
        return False
    client.set_tag(run_id, REASON_TAG, REASON)
    client.set_terminated(run_id, "KILLED", last)
    return True


def _find_last_time(client: MlflowClient, run: Run) -> int:
    """Find the time of the last metric; now, if there is none."""
    times = [
        point.timestamp
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return max(times, default=now_ms())


def _is_running(tags: dict[str, str]) -> bool:
    """Check whether a process runs; where that cannot be known, it does."""
    if not tags.keys() >= {PID_TAG, STARTED_TAG}:
        return True
    try:
        return not processes.is_gone(int(tags[PID_TAG]), float(tags[STARTED_TAG]))
    except ValueError:  # tags that sentiflow did not write
        return True


def _name_host() -> str:
    """Name the host and its container, which has process ids of its own."""
    link = Path("/proc/self/ns/pid")
    namespace = str(link.readlink()) if link.is_symlink() else _OUTERMOST
    inside = "" if namespace == _OUTERMOST else f" {namespace}"
    machine = Path("/etc/machine-id")  # two machines may have the name localhost
    number = f" {machine.read_text()[:8].strip()}" if machine.is_file() else ""
    return f"{socket.gethostname()}{number}{inside}"


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
