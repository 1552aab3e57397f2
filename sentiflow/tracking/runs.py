"""What an MLflow run says: its name, tags, parameters, metrics, files and datasets.

Values are brought within MLflow's limits and lose their credentials first. MLflow is imported only
to send them.
"""

import hashlib
import json
import os
import posixpath
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.config.sections import Config
from sentiflow.config.settings import flatten
from sentiflow.storage.uris import is_local, split_member, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

Status = Literal["FINISHED", "FAILED", "KILLED"]

FOLDERS = ("prepared", "trained", "scored", "report", "trends", "sweep")
"""Folders of a run's output, in the order in which the stages build on each other."""
OUTPUT_TAG, FINGERPRINT_TAG = "sentiflow.output_uri", "sentiflow.fingerprint"
"""Tags of a run: location and fingerprint of its result. A version of a registered model has the
fingerprint of its package."""
COMMIT_TAG, DIRTY_TAG = "mlflow.source.git.commit", "mlflow.source.git.dirty"
CODE_TAG = "sentiflow.code"
"""Tags of a run: the commit; ``true`` if tracked files differ from it; a hash of the code."""
SUBMISSION_TAG = "sentiflow.submission_id"
COMMIT_VARIABLE = "SENTIFLOW_COMMIT"
"""The variable with the commit where there is no repository, as in a submitted job: what
:func:`read_commit` returned where the job was submitted."""
_DIRTY = "-dirty"
STAGE_TAG, GROUP_TAG, TRIAL_TAG = "sentiflow.stage", "sentiflow.run", "sentiflow.trial"
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
SCORED_TAG, SCORED_FINGERPRINT_TAG = "sentiflow.scored_uri", "sentiflow.scored_fingerprint"
"""Which predictions were evaluated: tags of the evaluation, and of the training of its model."""
CODE_TAGS = (
    "sentiflow.version", CODE_TAG, COMMIT_TAG, DIRTY_TAG,
    SUBMISSION_TAG, "mlflow.source.name", "mlflow.source.type", "mlflow.user",
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

_PLACES = ("output_uri", "prepared_uri", "scored_uri")
_MAX_CHANGES, _MAX_VALUE = 3, 24
"""Of the parameters in the name of a run: number, and characters of a value."""

MAX_PARAM_LENGTH, MAX_TAG_LENGTH, MAX_KEY_LENGTH, MAX_DIGEST_LENGTH = 6000, 8000, 250, 36
"""Characters."""

_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. /:]")


def name_run(stage: str, config: Config, *, changes: str = "") -> str:
    """Name a run by its output directory and its stage, a training by its changes or its model.

    Example:
        >>> config = Config(
        ...     name="a",
        ...     output_uri="runs/b",
        ...     train={"output_uri": "runs/b/trained"},
        ...     score={"output_uri": "runs/b/scored"},
        ... )
        >>> name_run("score", config), name_run("train", config)
        ('b: score', 'b: gru(128)')
    """
    folders = getattr(config, stage).output_uri.rstrip("/").split("/")
    folder = folders[-2] if folders[-1] in FOLDERS and len(folders) > 1 else folders[-1]
    return f"{folder}: {(changes or config.train.model.brief) if stage == 'train' else stage}"


def find_changes(params: Mapping[str, str], earlier: Iterable[Mapping[str, str]]) -> str:
    """Name the parameters of a training that differ from the most similar earlier one.

    Example:
        >>> find_changes({"train.seed": "1"}, [{"train.seed": "0"}, {"train.seed": "1"}])
        'seed=1'
    """
    differing = [[key for key in params if e.get(key, params[key]) != params[key]] for e in earlier]
    changed = min(filter(None, differing), key=len, default=[])
    shown = [
        f"{key.removeprefix('train.').removeprefix('model.')}={params[key][:_MAX_VALUE]}"
        for key in changed[:_MAX_CHANGES]
    ]
    more = len(changed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def describe_code() -> dict[str, str]:
    """Make tags of the version and the code of sentiflow, the commit, and the submitted job."""
    commit = os.environ.get(COMMIT_VARIABLE) or read_commit()
    tags = {
        "sentiflow.version": __version__,
        CODE_TAG: hash_code(),
        COMMIT_TAG: commit.removesuffix(_DIRTY),
        DIRTY_TAG: "true" if commit.endswith(_DIRTY) else "",
        SUBMISSION_TAG: ray_job.submission_id(),
    }
    return {name: value for name, value in tags.items() if value}


def describe_lineage(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Make a tag of the fingerprint of each input."""
    return {f"sentiflow.input.{name}": value["fingerprint"] for name, value in inputs.items()}


def hash_code() -> str:
    """Hash all modules and data files of sentiflow, as two checkouts of one version may differ."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml"):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def read_commit() -> str:
    """Ask git for the commit of the working directory; empty without git or a repository.

    It ends with ``-dirty`` if files that git tracks have been changed since.
    """
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],  # noqa: S607
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def log(
    client: "MlflowClient",
    run_id: str,
    *,
    metrics: "Sequence[Metric]" = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add metrics and parameters to a run, and add or change tags.

    Parameters that the run has must be equal.
    """
    from mlflow.entities import Param, RunTag

    client.log_batch(
        run_id,
        metrics=metrics,
        params=[Param(*item) for item in (params or {}).items()],
        tags=[RunTag(*item) for item in to_tags(tags or {}).items()],
    )


def add_files(client: "MlflowClient", run_id: str, files: Mapping[str, bytes]) -> None:
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


def add_report(text: str, experiment_id: str, run_id: str) -> str:
    """Add to the first line of a description the page with the report of an evaluation's run."""
    first, end, others = text.partition("\n")
    link = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/report.html"
    return f"{first} [Report]({link}){end}{others}"


def to_datasets(inputs: Mapping[str, Any], *, stage: str) -> "list[DatasetInput]":
    """Describe the inputs of a spec or manifest as MLflow's datasets.

    An input that stands for a directory is called as the stage calls it, one of files by the first
    of them.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    datasets = []
    for name, value in inputs.items():
        files = value.get("files", ())
        uris = [item["uri"] for item in files or value.get("members") or [value]]
        shown = [without_credentials(uri) for uri in uris[:_MAX_FILES]]
        title, profile = name, {}
        if files:
            first = (split_member(uris[0])[1] or uris[0]).rpartition("/")[2]
            title = f"{first} and {len(uris) - 1} more" if len(uris) > 1 else first
            profile = {"files": len(files), "bytes": sum(item["bytes"] for item in files)}
        dataset = Dataset(
            name=title,
            digest=value["fingerprint"][:MAX_DIGEST_LENGTH],
            source_type="local" if is_local(uris[0]) else uris[0].partition(":")[0],
            source=json.dumps({"uri": shown[0]} if len(shown) == 1 else {"uris": shown}),
            profile=json.dumps(profile),
        )
        datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", CONTEXTS[stage])]))
    return datasets


def to_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Name metrics as MLflow allows; those that are None (undefined) are left out."""
    keys = _to_keys(metrics)
    return {keys[name]: float(value) for name, value in metrics.items() if value is not None}


def to_params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Turn settings into parameters with dotted names; long values are cut.

    Directories of the run have tags: as parameters, they would differ in each comparison.
    """
    flat = flatten(dict(settings))
    values = {key: flat[key] for key in flat if key.rpartition(".")[2] not in _PLACES}
    keys = _to_keys(values)
    return {keys[k]: _to_text(str(value))[:MAX_PARAM_LENGTH] for k, value in values.items()}


def to_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Bring tags within MLflow's limits; long values are cut."""
    return {to_key(key): _to_text(value)[:MAX_TAG_LENGTH] for key, value in tags.items()}


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


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
