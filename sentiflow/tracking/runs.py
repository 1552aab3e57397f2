"""Settings, metrics and code -> tags, parameters, metrics and files of an MLflow run.

Values are cut to MLflow's limits, and credentials are removed. MLflow is imported only to send
values.
"""

import hashlib
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sentiflow import __version__
from sentiflow.config import ray_job, run_tags
from sentiflow.config.settings import flatten
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import artifact_sources, mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Status = Literal["FINISHED", "FAILED", "KILLED"]

REPORT_FOLDER = "report"
FOLDERS = ("prepared", "trained", "scored", REPORT_FOLDER, "trends", "sweep")
"""Folders of a run's output, in the order in which the stages build on each other."""
OUTPUT_TAG = "sentiflow.output_uri"
"""Location of the result."""
FINGERPRINT_TAG = "sentiflow.fingerprint"
"""Fingerprint of the result; of a version of a registered model, fingerprint of its package."""
STAGE_TAG = "sentiflow.stage"
"""Name of the stage."""
GROUP_TAG = "sentiflow.run"
"""Id of the command; all its stages have the same."""
TRIAL_TAG = "sentiflow.trial"
"""Name of the trial in its sweep."""
PARENT_TAG = "mlflow.parentRunId"
"""Id of the run above a nested run."""
NOTE_TAG = "mlflow.note.content"
"""The description of a run."""
SCORED_TAG = "sentiflow.scored_uri"
"""Location of the evaluated predictions."""
SCORED_FINGERPRINT_TAG = "sentiflow.scored_fingerprint"
"""Fingerprint of the evaluated predictions. The evaluation has this tag and ``SCORED_TAG``, and the
training of its model has them, too."""
REASON_TAG = "sentiflow.reason"
"""Why the run failed or was killed."""
COMMAND_TAG = "sentiflow.command"
"""The command, as it was typed."""
DIRECTORY_TAG = "sentiflow.directory"
"""The directory in which the command was typed: locations in its settings are relative to it."""
TIMES_TAG = "sentiflow.times_repeated"
"""How often a run was continued by the same command, with other inputs."""

CONFIG_FILE = "config.yaml"
"""Artifact: the settings as the user wrote them, with the changes of the command."""
RESOLVED_FILE = "settings.yaml"
"""Artifact: all settings, with defaults and absolute locations."""
AT_A_GLANCE = "at_a_glance"
"""Section of metrics with the figures by which runs are compared. MLflow sorts sections of charts
by name, so it comes before all sections of single stages."""
_KILLED = "it ended without a report; a later job has taken its output over"
"""Reason of a run whose process was killed."""

COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "mlflow.source.git.dirty"
"""``true`` if tracked files differ from the commit."""
CODE_TAG = "sentiflow.code"
"""A hash of the code."""
USER_TAG = "sentiflow.user"
"""The person who ran the job: see ``config.submitter``. MLflow's own tag ``mlflow.user`` has the
same name."""
SUBMISSION_TAG = "sentiflow.submission_id"
"""Id of the job that was submitted to a cluster."""
CODE_TAGS = (
    "sentiflow.version", CODE_TAG, COMMIT_TAG, DIRTY_TAG,
    SUBMISSION_TAG, USER_TAG, "mlflow.source.name", "mlflow.source.type", "mlflow.user",
)  # fmt: skip
"""Tags that say which code made a run, and who started it."""
CODE_SUFFIXES = (".py", ".yaml", ".j2", ".css", ".txt")
"""Suffixes of sentiflow's modules and data files."""
COMMIT_VARIABLE = "SENTIFLOW_COMMIT"
"""Variable with the commit, for a submitted job, which has no repository: the result of
:func:`read_commit` on the machine that submitted it."""
_DIRTY_SUFFIX = "-dirty"
"""End of the result of :func:`read_commit` if tracked files have been changed."""
_OF_REPOSITORY = re.compile(r"^(local|worktree)\t", re.MULTILINE)
"""A setting of git from the repository itself, by ``git config --show-scope``."""
_READ_ONLY = {"GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
"""Variables by which git writes nothing, and fetches nothing from a server."""

CONTEXTS = {
    "prepare": "preparation",
    "train": "training",
    "sweep": "training",
    "score": "scoring",
    "evaluate": "evaluation",
    "trends": "trends",
}
"""By stage: the context of its datasets."""
_LOCATION_SETTINGS = ("output_uri", "prepared_uri", "scored_uri")
"""Last part of the names of settings that are locations."""

# MLflow's limits, in characters
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_KEY_LENGTH = 250
MAX_DIGEST_LENGTH = 36

_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. /:]")
"""A character that MLflow refuses in the name of a metric, a parameter or a tag."""


def is_kept(tag: str) -> bool:
    """Say whether the manifest keeps a tag of a run: about its code and start, or a user's own."""
    return tag in CODE_TAGS or run_tags.is_own(tag)


def describe_code() -> dict[str, str]:
    """Make tags of sentiflow's version and code, the commit, and the submitted job."""
    commit = os.environ.get(COMMIT_VARIABLE) or read_commit()
    tags = {
        "sentiflow.version": __version__,
        CODE_TAG: hash_code(),
        COMMIT_TAG: commit.removesuffix(_DIRTY_SUFFIX),
        DIRTY_TAG: "true" if commit.endswith(_DIRTY_SUFFIX) else "",
        SUBMISSION_TAG: ray_job.submission_id(),
    }
    return {name: value for name, value in tags.items() if value}


def describe_lineage(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Make a tag of the fingerprint of each input."""
    return {f"sentiflow.input.{name}": value["fingerprint"] for name, value in inputs.items()}


def describe_command(line: str, directory: str) -> dict[str, str]:
    """Make tags of a command and the directory in which it was typed, if it is known."""
    tags = {COMMAND_TAG: line}
    if directory:
        tags[DIRECTORY_TAG] = directory
    return tags


def count_repeats(tags: Mapping[str, str]) -> int:
    """Read from its tags how often a run was continued.

    Raises:
        ValueError: The tag is not a small number.
    """
    text = tags.get(TIMES_TAG, "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{TIMES_TAG} is no number: {text[:20]!r}")
    return int(text)


def hash_code() -> str:
    """Hash all modules and YAML files of sentiflow: two checkouts of one version may differ."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml"):
            name = path.relative_to(folder).as_posix()
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def read_commit() -> str:
    """Ask git for the commit of the working directory; empty without git or a repository.

    The result ends with ``-dirty`` if tracked files have been changed since the commit. This is not
    looked at in a repository with filters of its own, which git would run.
    """
    commit = _ask_git("describe", "--always", "--abbrev=40", "--exclude=*")
    filters = _ask_git("config", "--show-scope", "--get-regexp", r"^filter\.")
    if not commit or filters is None or _OF_REPOSITORY.search(filters):
        return commit or ""
    changed = _ask_git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return f"{commit}{_DIRTY_SUFFIX}" if changed else commit


def _ask_git(*words: str) -> str | None:
    """Run a command of git that only reads; return its output, None if git fails.

    The working directory may have come from a stranger, with a repository whose configuration names
    programs and servers: git runs and asks none of them.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", *words]
    try:
        asked = subprocess.run(  # noqa: S603
            command,
            env=os.environ | _READ_ONLY,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    has_none = words[0] == "config" and asked.returncode == 1
    return asked.stdout.strip() if has_none or asked.returncode == 0 else None


def log(
    client: "MlflowClient",
    run_id: str,
    *,
    metrics: "Sequence[Metric]" = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add metrics and parameters to a run, and add or change tags.

    MLflow raises an error if the run already has a parameter with another value.
    """
    from mlflow.entities import Param, RunTag

    client.log_batch(
        run_id,
        metrics=metrics,
        params=[Param(*item) for item in (params or {}).items()],
        tags=[RunTag(*item) for item in to_tags(tags or {}).items()],
    )


def add_files(client: "MlflowClient", run_id: str, files: Mapping[str, bytes]) -> None:
    """Add files to a run's artifacts.

    Args:
        client: The store.
        run_id: The run.
        files: Contents by path below the artifacts.

    Raises:
        ForeignSourceError: MLflow would send them to another server.
    """
    if not files:
        return
    artifact_sources.check(
        client.get_run(run_id).info.artifact_uri,
        uri=f"runs:/{run_id}",
        tracking_uri=client.tracking_uri,
        hint=artifact_sources.OTHER_RUN,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            assert path.resolve().is_relative_to(Path(folder).resolve()), "names are checked"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)


def end_killed(client: "MlflowClient", run_id: str, *, stage: str, output_uri: str) -> None:
    """End the run of a job that was killed, and its nested runs, unless they have ended.

    The id comes from the output of the job. A run of another stage or output is left as it is, and
    nothing is done if the store does not have the run.
    """
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        run = client.get_run(run_id)
        tags = run.data.tags
        if tags.get(STAGE_TAG) != stage or tags.get(OUTPUT_TAG) != output_uri:
            return
        is_nested = mlflow_store.to_condition(f"tags.`{PARENT_TAG}`", run.info.run_id)
        nested = client.search_runs([run.info.experiment_id], is_nested)
        for each in [*nested, run]:
            if each.info.status == "RUNNING":
                log(client, each.info.run_id, tags={REASON_TAG: _KILLED})
                client.set_terminated(each.info.run_id, "KILLED")


def add_report(text: str, experiment_id: str, run_id: str) -> str:
    """Add a link to the first line of a description: to the report in the run of an evaluation."""
    first, end, others = text.partition("\n")
    link = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/report.html"
    return f"{first} [Report]({link}){end}{others}"


def add_repetition(text: str, run_id: str) -> str:
    """Add to the description of a model the command that repeats the run of its training."""
    return f"{text}- repeat: `sentiflow run runs:/{run_id} output_uri=NEW`\n"


def to_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Give metrics names that MLflow allows; undefined metrics (None) are left out."""
    keys = _to_keys(metrics)
    return {keys[name]: float(value) for name, value in metrics.items() if value is not None}


def to_params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Turn settings into parameters with dotted names; long values are cut.

    Locations are left out: they would differ in each comparison of runs. The tags have them.
    """
    flat = flatten(dict(settings))
    names = [name for name in flat if name.rpartition(".")[2] not in _LOCATION_SETTINGS]
    keys = _to_keys(names)
    return {keys[name]: _clean_text(str(flat[name]))[:MAX_PARAM_LENGTH] for name in names}


def to_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Fit names and values of tags to MLflow's limits; long values are cut."""
    return {to_key(key): _clean_text(value)[:MAX_TAG_LENGTH] for key, value in tags.items()}


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def now_iso() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _to_keys(names: Iterable[str]) -> dict[str, str]:
    """Find a key for each name; names that would get the same key get a hash in it.

    Names of metrics may contain the names of classes, which may have any characters.
    """
    keys = {name: to_key(name) for name in names}
    counts = Counter(keys.values())
    for name, key in keys.items():
        if counts[key] > 1:
            keys[name] = _add_hash(key, name)
    return keys


def to_key(name: str) -> str:
    """Replace characters that MLflow does not allow; a name that is too long ends in its hash."""
    key = _FORBIDDEN_IN_KEYS.sub("_", name)
    if run_tags.is_unsafe_path(key):  # MLflow may use the key as the path of a file
        key = key.replace("/", "_").replace(".", "_") or "_"
    return key if len(key) <= MAX_KEY_LENGTH else _add_hash(key, name)


def _add_hash(key: str, name: str) -> str:
    """Cut a key, and append a hash of its name: at most ``MAX_KEY_LENGTH`` characters."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{key[: MAX_KEY_LENGTH - 9]}-{digest[:8]}"


def _clean_text(value: str) -> str:
    """Remove credentials, and escape bytes that are not Unicode, as in some names of files."""
    shown = without_credentials(value)
    return shown.encode(errors="backslashreplace").decode()
