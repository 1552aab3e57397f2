"""Config + verb -> a job for a cluster: files, command, environment; or why it would fail."""

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentiflow.config import ray_job, settings
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage.uris import holds_credentials
from sentiflow.tracking import mlflow_store, runs

OUTPUT_KEY = "sentiflow.output_uri"
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
    "sentiflow/models/requirements-predict.txt",
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
    output_uri: str
    """Where the results will be."""
    installs: bool = False
    """Whether each node installs the packages of constraints.txt for this job."""

    def copy_files(self, folder: Path) -> None:
        """Make the job's working directory from an empty directory."""
        for name, source in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)

    def runtime_env(self, folder: Path) -> dict[str, object]:
        """Describe the job's environment to Ray, which shows it in its dashboard."""
        pip = {"pip": _PINNED} if self.installs else {}
        return {"working_dir": str(folder), "env_vars": {**self.variables, **self.named}, **pip}


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
    addresses = {name: os.environ.get(name, "") for name in _PASSED}
    environment = _ALWAYS | {
        name: value for name, value in addresses.items() if value and not holds_credentials(value)
    }
    for name in variables:
        if name not in os.environ:  # a value in the command would be seen by others
            raise UserError(
                f"--env {name.partition('=')[0]}: it takes the name of a variable that is set here",
                hint="export it first, and write its name alone",
            )
    named = {name: os.environ[name] for name in variables}
    _check_store(resolved, environment | named)
    if commit := runs.read_commit():
        environment[runs.COMMIT_VARIABLE] = commit
    uploaded, root = f"configs/{config.name}", folder.absolute()
    code = sorted(path for pattern in _UPLOADED for path in root.glob(pattern) if path.is_file())
    files = {path.relative_to(root).as_posix(): path for path in code}
    if f"jobs/{verb}.py" not in files:
        verbs = ", ".join(Path(name).stem for name in files if name.startswith("jobs/"))
        raise UserError(
            f"there is no jobs/{verb}.py to submit in {folder}",
            hint=f"in a clone of sentiflow there are {verbs or 'run, prepare, train, …'}",
        )
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{verb}-{resolved.name[:_MAX_NAME]}").strip("-")
    return Submission(
        submission_id=f"sentiflow-{words}-{secrets.token_hex(3)}",
        entrypoint=shlex.join(["python", f"jobs/{verb}.py", uploaded, *overrides, *options]),
        variables=environment,
        named=named,
        files=files | {uploaded: config.absolute()},
        output_uri=getattr(resolved, verb, resolved).output_uri,
        installs=installs,
    )


def _check_store(config: Config, environment: Mapping[str, str]) -> None:
    """Make sure that the job has an MLflow store, and that it is a server."""
    store = config.tracking.uri or environment.get(_STORE)
    if not store:
        raise UserError(
            f"tracking.uri is null, and {_STORE} is not set or contains a password, which the "
            "dashboard would show",
            hint="set one of them to the address of a server, and the password on the nodes",
        )
    mlflow_store.check(store)
    ray_job.refuse_store(store)
