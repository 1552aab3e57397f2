"""Config + verb -> what a cluster is given: files, command, environment; or why it would refuse."""

import json
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentiflow.cluster import upload
from sentiflow.config import ray_job, settings
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage.uris import holds_credentials, join, names_this_machine, without_credentials
from sentiflow.tracking import provenance

RESULTS_KEY = "sentiflow.results"
"""Of a job's metadata: where its results will be, for who attaches to it."""

_STORE = "MLFLOW_TRACKING_URI"
_PASSED = (
    _STORE, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip
"""Variables of the user that a job gets, if they are set: addresses, no keys."""
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_JOB_STOP_WAIT_TIME_S": "30",  # from SIGTERM to SIGKILL; Ray's 3 may not do for MLflow
}
"""What runtime_env.yaml has for who submits without this module."""
_PINNED = {
    "packages": ["-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"],
    "pip_check": False,
}
_SECRET = re.compile(r"secret|token|passw|pwd|key|credential|auth|private", re.IGNORECASE)
_MAX_NAME = 40
"""Characters of a config's name in a job's."""


@dataclass(frozen=True)
class Submission:
    """One job, as the cluster will be given it."""

    submission_id: str
    entrypoint: str
    variables: Mapping[str, str]
    """What the driver and the workers find in their environment."""
    upload: upload.Upload
    results: Mapping[str, str]
    """By name: where the job leaves what it makes, and records that it did."""
    installs: bool = False
    """Each node installs the packages of constraints.txt for this job, where it lacks them."""

    def runtime_env(self, folder: Path) -> dict[str, Any]:
        """Describe the job's environment to Ray."""
        described = {"working_dir": str(folder), "env_vars": dict(self.variables)}
        return described | ({"pip": _PINNED} if self.installs else {})

    def metadata(self) -> dict[str, str]:
        """Give what Ray keeps with the job."""
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
    """Make sure that a job could run on a cluster, and describe it.

    Args:
        verb: ``jobs/<verb>.py`` will run.
        config: The settings file.
        overrides: ``section.key=value``.
        folder: The working directory, of which the job gets a copy.
        options: More words of the command, such as ``--overwrite``.
        variables: ``NAME`` of one that is set here, or ``NAME=VALUE``.
        installs: Install the packages of constraints.txt for the job.

    Raises:
        UserError: The settings are wrong, or would be in a submitted job; a file would be missing
            there, or too much would travel; a variable may be a secret.
    """
    resolved = settings.load(config, overrides, submitted=True)
    environment = _ALWAYS | _choose_variables(variables)
    _check_store(resolved, environment)
    files = upload.measure(folder)
    name = _find(config, folder, files)
    _check_verb(verb, files)
    files.check()
    if commit := provenance.read_commit():
        environment[provenance.COMMIT_VARIABLE] = commit
    return Submission(
        submission_id=_make_id(verb, resolved.name),
        entrypoint=shlex.join(["python", f"jobs/{verb}.py", name, *overrides, *options]),
        variables=environment,
        upload=files,
        results=_name_results(verb, resolved, environment),
        installs=installs,
    )


def find_loopback(submission: Submission) -> list[str]:
    """Name variables and stores with an address of this machine, which is each node's own there."""
    named = {**submission.variables, "tracking.uri": submission.results.get("runs", "")}
    return [name for name, value in named.items() if names_this_machine(value)]


def _choose_variables(variables: Sequence[str]) -> dict[str, str]:
    """Take the variables that every job gets, and those that the user names."""
    chosen = {}
    for name in _PASSED:
        value = os.environ.get(name, "")
        if name == _STORE and value.startswith(("http://", "https://")):
            value = without_credentials(value)
        if value and not holds_credentials(value):
            chosen[name] = value
    for option in variables:
        name, equals, value = option.partition("=")
        if not equals:
            value = os.environ.get(name, "")
            if name not in os.environ:
                raise UserError(f"--env {name}: it is not set here", hint=f"write {name}=VALUE")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"--env {without_credentials(name)}", hint="write NAME or NAME=VALUE")
        if _SECRET.search(name) or holds_credentials(value):
            raise UserError(
                f"--env {name} may be a secret, and what a job is given is shown in the dashboard",
                hint="set it on the nodes, before `ray start`",
            )
        chosen[name] = value
    return chosen


def _check_store(config: Config, environment: Mapping[str, str]) -> None:
    """Make sure that the job would find an MLflow store, and not a file."""
    store = config.tracking.uri or environment.get(_STORE)
    mine = os.environ.get(_STORE, "")
    if store:
        ray_job.refuse_store(store)
    elif holds_credentials(mine):
        raise UserError(
            f"{_STORE} holds a password, which the dashboard would show",
            hint=f"set it on the nodes, and tracking.uri to {without_credentials(mine)}",
        )
    else:
        raise UserError(
            f"tracking.uri is null and {_STORE} is not set: the job would have no MLflow store",
            hint=f"set one of them to a server's address; {_STORE} is handed to the job",
        )


def _find(config: Path, folder: Path, files: upload.Upload) -> str:
    """Name the settings file as the job finds it."""
    try:
        name = config.absolute().resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        raise UserError(
            f"{config} lies outside of {folder}, of which the job gets a copy",
            hint="put it into configs/, or submit from the directory that holds it",
        ) from None
    if name not in files.sizes:
        raise UserError(
            f"{name} does not travel: .rayignore or .gitignore leaves it out",
            hint="put it into configs/, or name it in .rayignore",
        )
    return name


def _check_verb(verb: str, files: upload.Upload) -> None:
    jobs = sorted(name[5:-3] for name in files.sizes if re.fullmatch(r"jobs/\w+\.py", name))
    if verb not in jobs:
        hint = f"jobs here: {', '.join(jobs)}" if jobs else "submit from a clone of sentiflow"
        raise UserError(f"there is no jobs/{verb}.py to submit", hint=hint)


def _make_id(verb: str, name: str) -> str:
    """Make a job's name that can be read, typed and is used once."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{verb}-{name[:_MAX_NAME]}").strip("-")
    return f"sentiflow-{words}-{secrets.token_hex(3)}"


def _name_results(verb: str, config: Config, environment: Mapping[str, str]) -> dict[str, str]:
    places = {
        "prepare": ("prepared", config.prepare.output_uri),
        "train": ("model", join(config.train.output_uri, "model")),
        "score": ("predictions", join(config.score.output_uri, "predictions")),
        "evaluate": ("report", join(config.evaluate.output_uri, "report.html")),
        "sweep": ("sweep", config.sweep.output_uri),
    }
    verbs = ("prepare", "train", "score", "evaluate") if verb == "run" else (verb,)
    results = dict(places[name] for name in verbs if name in places)
    store = config.tracking.uri or environment.get(_STORE, "")
    return results | {"runs": without_credentials(store), "experiment": config.name}
