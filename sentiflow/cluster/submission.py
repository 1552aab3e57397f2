"""Config + verb -> a job for a cluster: files, command, environment; or why it would fail."""

import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentiflow.config import ray_job, settings
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage.uris import holds_credentials, join, without_credentials
from sentiflow.tracking import provenance, store_address

RESULTS_KEY = "sentiflow.results"
"""Key of a job's metadata: where its results will be, for those who attach to it."""

_STORE = "MLFLOW_TRACKING_URI"
_PASSED = (
    _STORE, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip
"""The user's variables that a job gets, if they are set: addresses, no keys."""
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_JOB_STOP_WAIT_TIME_S": "30",  # from SIGTERM to SIGKILL; 3 may be too short for MLflow
}
"""Variables that every job gets; runtime_env.yaml has them for Ray's own command."""
_PINNED = {
    "packages": ["-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"],
    "pip_check": False,
}
_UPLOADED = (
    "pyproject.toml", "constraints.txt", "jobs/*.py",
    "sentiflow/**/*.py", "sentiflow/**/*.yaml", "sentiflow/**/*.j2", "sentiflow/**/*.css",
)  # fmt: skip
"""What jobs import and read, besides the settings file; nothing else of a clone is uploaded."""
_MAX_NAME = 40
"""Characters of the config's name in the id of a job."""


@dataclass(frozen=True)
class Submission:
    """One job, as the cluster will receive it."""

    submission_id: str
    entrypoint: str
    """The command of the driver."""
    variables: Mapping[str, str]
    """Environment of the driver and the workers that every job gets."""
    named: Mapping[str, str] = field(repr=False)
    """The variables that the user names for this job; no output shows their values."""
    files: Mapping[str, Path]
    """The files to upload, by their names in the job's working directory."""
    results: Mapping[str, str]
    """URI by name of each result, the MLflow store and the experiment."""
    installs: bool = False
    """Whether each node installs the packages of constraints.txt for this job."""

    @property
    def shown_variables(self) -> dict[str, str]:
        """All variables, without the values of those that the user names."""
        return dict(self.variables) | dict.fromkeys(self.named, "***")

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: path.stat().st_size for name, path in self.files.items()}

    def copy_files(self, folder: Path) -> None:
        """Make the job's working directory from an empty directory."""
        for name, source in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)

    def runtime_env(self, folder: Path) -> dict[str, object]:
        """Describe the job's environment to Ray, which shows it in its dashboard."""
        pip = {"pip": _PINNED} if self.installs else {}
        return {"working_dir": str(folder), "env_vars": {**self.variables, **self.named}, **pip}

    def metadata(self) -> dict[str, str]:
        """Return what Ray stores with the job."""
        return {RESULTS_KEY: json.dumps(dict(self.results))}


def prepare(
    verb: str,
    config: Path,
    overrides: Sequence[str] = (),
    *,
    folder: Path,
    options: Sequence[str] = (),
    variables: Sequence[str] = (),
    installs: bool = False,
) -> Submission:
    """Describe a job for a cluster, and make sure that it could run there.

    Args:
        verb: ``jobs/<verb>.py`` will run.
        config: The settings file.
        overrides: ``section.key=value``.
        folder: A clone of sentiflow; its code is uploaded.
        options: Further options of the command, such as ``--overwrite``.
        variables: Names of further variables that are set here.
        installs: Install the packages of constraints.txt for the job.

    Raises:
        UserError: The settings are wrong, or would be in a submitted job; there is no such job; a
            variable is not set, or given with its value.
    """
    resolved = settings.load(config, overrides, command=verb, submitted=True)
    environment, named = _ALWAYS | _read_addresses(), _read_named(variables)
    _check_store(resolved, environment | named)
    uploaded = f"configs/{config.name}"
    files = _find_code(folder) | {uploaded: config.absolute()}
    _check_verb(verb, files)
    if commit := provenance.read_commit():
        environment[provenance.COMMIT_VARIABLE] = commit
    return Submission(
        submission_id=_make_id(verb, resolved.name),
        entrypoint=shlex.join(["python", f"jobs/{verb}.py", uploaded, *overrides, *options]),
        variables=environment,
        named=named,
        files=files,
        results=_name_results(verb, resolved, environment | named),
        installs=installs,
    )


def to_text(size: int) -> str:
    """Write a size for reading.

    Example:
        >>> to_text(914_434), to_text(5_200_000)
        ('914 kB', '5.2 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size / 1e3:,.0f} kB"


def _find_code(folder: Path) -> dict[str, Path]:
    """Find the files that jobs need in a clone, by their names relative to it."""
    root = folder.absolute()
    found = sorted(path for pattern in _UPLOADED for path in root.glob(pattern) if path.is_file())
    return {path.relative_to(root).as_posix(): path for path in found}


def _read_addresses() -> dict[str, str]:
    """Read the addresses that are set here; one with a password only where it can be left out."""
    chosen = {}
    for name in _PASSED:
        value = os.environ.get(name, "")
        if name == _STORE and value.startswith(("http://", "https://")):
            value = without_credentials(value)
        if value and not holds_credentials(value):
            chosen[name] = value
    return chosen


def _read_named(names: Sequence[str]) -> dict[str, str]:
    """Read the variables that the user names; a value in the command would be seen by others."""
    for name in names:
        if "=" in name:
            shown = name.partition("=")[0]
            raise UserError(
                f"--env {shown}=... has a value, which other users of this machine can see",
                hint=f"export {shown} first, and write --env {shown}",
            )
        if name not in os.environ:
            raise UserError(f"--env {name}: it is not set here", hint="export it first")
    return {name: os.environ[name] for name in names}


def _check_store(config: Config, environment: Mapping[str, str]) -> None:
    """Make sure that the job has an MLflow store, and that it is a server."""
    store = config.tracking.uri or environment.get(_STORE)
    if not store:
        raise UserError(
            f"tracking.uri is null, and {_STORE} is not set or contains a password, which the "
            "dashboard would show",
            hint="set one of them to the address of a server, and the password on the nodes",
        )
    for uri in (store, os.environ.get(_STORE) or store):
        store_address.check(uri)
    ray_job.refuse_store(store)


def _check_verb(verb: str, files: Iterable[str]) -> None:
    jobs = sorted(name[5:-3] for name in files if re.fullmatch(r"jobs/\w+\.py", name))
    if verb not in jobs:
        hint = f"jobs here: {', '.join(jobs)}" if jobs else "submit from a clone of sentiflow"
        raise UserError(f"there is no jobs/{verb}.py to submit", hint=hint)


def _make_id(verb: str, name: str) -> str:
    """Make a unique id that people can read and type."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{verb}-{name[:_MAX_NAME]}").strip("-")
    return f"sentiflow-{words}-{secrets.token_hex(3)}"


def _name_results(verb: str, config: Config, environment: Mapping[str, str]) -> dict[str, str]:
    uris = {
        "prepare": ("prepared", config.prepare.output_uri),
        "train": ("model", join(config.train.output_uri, "model")),
        "score": ("predictions", join(config.score.output_uri, "predictions")),
        "evaluate": ("report", join(config.evaluate.output_uri, "report.html")),
        "trends": ("trends", join(config.trends.output_uri, "trends.html")),
        "sweep": ("sweep", config.sweep.output_uri),
    }
    whole = ("prepare", *(("train",) if config.trains else ()), "score", "evaluate")
    verbs = whole if verb == "run" else (verb,)
    results = dict(uris[name] for name in verbs if name in uris)
    store = config.tracking.uri or environment.get(_STORE, "")
    return results | {"runs": without_credentials(store), "experiment": config.name}
