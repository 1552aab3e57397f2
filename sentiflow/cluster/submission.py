"""Config + verb -> a job for a cluster: files, command, environment; or why the job would fail."""

import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentiflow.config import ray_job, submitter
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage.uris import holds_credentials
from sentiflow.tracking import commands, earlier_runs, mlflow_store, runs

OUTPUT_KEY = "sentiflow.output_uri"
"""Key of a job's metadata: where its results will be, for a user who attaches to it."""
WORK_KEY = "sentiflow.work"
"""Key of a job's metadata: a hash that is equal for jobs that do the same work."""
JSON_OPTION = "--json"
"""Option by which a command prints its result as JSON."""
USER_KEY = "sentiflow.user"
"""Key of a job's metadata: the person who submitted it."""

_STORE_VARIABLE = "MLFLOW_TRACKING_URI"
"""Name of the variable with the address of the MLflow store."""
_PASSED_VARIABLES = (
    _STORE_VARIABLE,
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)
"""Variables that a job gets if they are set here: addresses, no keys."""
_FIXED_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_JOB_STOP_WAIT_TIME_S": "30",  # from SIGTERM to SIGKILL; Ray's 3 may be short for MLflow
}
"""Variables that every job gets. runtime_env.yaml has the same, for ``ray job submit``."""
_PIP_OPTION = {
    "packages": ["-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"],
    "pip_check": False,
}
"""Ray's option ``pip`` for the packages of constraints.txt."""
_UPLOADED_PATTERNS = (
    "pyproject.toml",
    "constraints.txt",
    "jobs/*.py",
    "sentiflow/**/*.py",
    "sentiflow/**/*.yaml",
    "sentiflow/**/*.j2",
    "sentiflow/**/*.css",
    "sentiflow/models/*.txt",
)
"""Files of a clone that jobs import or read. The settings file is uploaded, too; nothing else."""
_OPTIONS_OF_OUTPUT = frozenset({JSON_OPTION, "--verbose"})
"""Options that change what a job prints, and not what it does."""
_NOT_AN_OUTPUT = "doctor"
"""The job that writes no results."""
_MAX_NAME_LENGTH = 40
"""Maximum characters of the config's name in the id of a job."""


@dataclass(frozen=True)
class Submission:
    """One job, as the cluster will receive it."""

    submission_id: str
    entrypoint: str
    """The command of the driver."""
    config: Config = field(repr=False)
    """Its settings, as they will be on the cluster."""
    variables: Mapping[str, str]
    """Environment of the driver and the workers, without the variables in ``named``."""
    named: Mapping[str, str] = field(repr=False)
    """Further variables, which the user names for this job; no output shows their values."""
    files: Mapping[str, Path]
    """The files to upload, by path in the job's working directory."""
    output_uri: str
    """Where the results will be; empty if there are none."""
    user: str = ""
    """The person who submits it."""
    installs: bool = False
    """Whether each node installs the packages of constraints.txt for this job."""
    work: str = ""
    """A hash that is equal for jobs that do the same work."""

    @property
    def metadata(self) -> dict[str, str]:
        """What Ray keeps with the job, for commands that look for it."""
        return {OUTPUT_KEY: self.output_uri, USER_KEY: self.user, WORK_KEY: self.work}

    @property
    def commit(self) -> str:
        """The commit of the uploaded code; empty if it is unknown."""
        return self.variables.get(runs.COMMIT_VARIABLE, "")

    def copy_files(self, folder: Path) -> None:
        """Copy the files to an empty directory, which becomes the job's working directory."""
        for name, source in self.files.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)

    def runtime_env(self, folder: Path) -> dict[str, object]:
        """Describe the job's environment to Ray, which shows it in its dashboard."""
        environment: dict[str, object] = {
            "working_dir": str(folder),
            "env_vars": {**self.variables, **self.named},
        }
        if self.installs:
            environment["pip"] = _PIP_OPTION
        return environment


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
    """Describe a job for a cluster, and check that it could run there.

    Args:
        verb: The job; ``jobs/<verb>.py`` will run.
        config: The settings file, or ``runs:/ID``: a run in MLflow, which is repeated.
        overrides: ``section.key=value``.
        folder: A clone of sentiflow; its code is uploaded.
        options: Further options of the command, such as ``--overwrite``.
        variables: Names of further variables that are set here.
        installs: Install the packages of constraints.txt for the job.

    Raises:
        UserError: The settings are wrong, or would be wrong on the cluster; there is no such job; a
            variable is not set, or is given with its value.
    """
    resolved = commands.load(verb, config, overrides, submitted=True).config
    passed = _list_variables()
    named = _read_named_variables(variables)
    _check_store(resolved, passed | named)
    commit = runs.read_commit()
    if commit:
        passed[runs.COMMIT_VARIABLE] = commit
    user = submitter.find(resolved.tracking.user)
    passed[submitter.VARIABLE] = user
    files = _list_files(folder, verb)
    if earlier_runs.is_run(config):
        uploaded = str(config)  # the job itself reads the settings from MLflow
    else:
        uploaded = f"configs/{config.name}"
        files[uploaded] = config.absolute()
    output_uri = ""
    if verb != _NOT_AN_OUTPUT:
        section = getattr(resolved, verb, resolved)  # a whole run has none: its own output_uri
        output_uri = section.output_uri
    return Submission(
        submission_id=_choose_id(verb, resolved.name),
        entrypoint=shlex.join(["python", f"jobs/{verb}.py", uploaded, *overrides, *options]),
        config=resolved,
        variables=passed,
        named=named,
        files=files,
        output_uri=output_uri,
        user=user,
        installs=installs,
        work=_hash_work(verb, resolved, options, passed | named),
    )


def _hash_work(
    verb: str, config: Config, options: Sequence[str], variables: Mapping[str, str]
) -> str:
    """Hash what decides the work of a job: the verb, its settings and options, and the addresses.

    Code and user are left out: if the code is changed while a job runs, or somebody else types the
    same command, it still finds this job.
    """
    addresses = {name: variables[name] for name in _PASSED_VARIABLES if name in variables}
    work = {
        "verb": verb,
        "settings": config.model_dump(mode="json", exclude={"tracking": {"user"}}),
        "options": sorted(set(options) - _OPTIONS_OF_OUTPUT),
        "addresses": addresses,
    }
    text = json.dumps(work, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _list_variables() -> dict[str, str]:
    """List the variables that a job gets although the user does not name them.

    A value with credentials is left out: Ray's dashboard would show it.
    """
    environment = dict(_FIXED_VARIABLES)
    for name in _PASSED_VARIABLES:
        value = os.environ.get(name, "")
        if value and not holds_credentials(value):
            environment[name] = value
    return environment


def _read_named_variables(names: Sequence[str]) -> dict[str, str]:
    """Read the variables that the user names.

    The command line has only the names: other users could read values there.

    Raises:
        UserError: A variable is not set here, or is given with its value.
    """
    for name in names:
        if name not in os.environ:
            raise UserError(
                f"--env {name.partition('=')[0]}: it takes the name of a variable that is set here",
                hint="export it first, and write its name alone",
            )
    return {name: os.environ[name] for name in names}


def _list_files(folder: Path, verb: str) -> dict[str, Path]:
    """List the files of a clone that a job needs, by path in the clone.

    Raises:
        UserError: The clone has no job of this verb.
    """
    root = folder.absolute()
    paths: list[Path] = []
    for pattern in _UPLOADED_PATTERNS:
        paths.extend(root.glob(pattern))
    files = {path.relative_to(root).as_posix(): path for path in sorted(paths) if path.is_file()}
    if f"jobs/{verb}.py" not in files:
        verbs = ", ".join(Path(name).stem for name in files if name.startswith("jobs/"))
        raise UserError(
            f"there is no jobs/{verb}.py to submit in {folder}",
            hint=f"in a clone of sentiflow there are {verbs or 'run, prepare, train, …'}",
        )
    return files


def _choose_id(verb: str, name: str) -> str:
    """Choose a submission id: the verb, the config's name, and random digits."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{verb}-{name[:_MAX_NAME_LENGTH]}").strip("-")
    return f"sentiflow-{words}-{secrets.token_hex(3)}"


def _check_store(config: Config, environment: Mapping[str, str]) -> None:
    """Check that the job has an MLflow store, and that the store is a server.

    Args:
        config: The settings of the job.
        environment: The variables of the job.
    """
    store = config.tracking.uri or environment.get(_STORE_VARIABLE)
    if not store:
        raise UserError(
            f"tracking.uri is null, and {_STORE_VARIABLE} is not set or contains a password, "
            "which the dashboard would show",
            hint="set one of them to the address of a server, and the password on the nodes",
        )
    mlflow_store.check(store)
    ray_job.refuse_store(store)
