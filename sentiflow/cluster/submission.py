"""Config + verb -> a job for a cluster: files, command, environment; or why it would fail."""

import json
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentiflow.cluster import ray_internals
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
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|credential|token(?!iz|s)|(api|access|auth|private)key"
    r"|(?<![^\W_])((key|auth|private)(?![^\W_])|(pass|pwd|pat)\d*$)",
    re.IGNORECASE,
)
"""Names of variables: ``DB_PASS``, ``HF_TOKEN``, ``AWS_ACCESS_KEY_ID``; no ``MAX_TOKENS``."""
_SECRET_VALUE = re.compile(
    r"\s*-----BEGIN .*PRIVATE KEY|(gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abp]-|eyJ)\w{20}"
    r"|(AKIA|ASIA)[A-Z0-9]{16}$"
)
"""Values and files that begin with it are keys."""
_SECRET_FILE = re.compile(
    r"(^|/)([^/]*\.env|\.env\.[^/]*|\.(netrc|pgpass|git-credentials)|\.(aws|ssh|ray|kube)/.*"
    r"|[^/]*\.(pem|key|p12|pfx)|id_(rsa|dsa|ecdsa|ed25519)|auth_token|credentials)$",
    re.IGNORECASE,
)
_MAX_NAME = 40
"""Characters of the config's name in the id of a job."""
MAX_BYTES = 20_000_000
"""Code and settings are a twentieth of it; anything more is data, which belongs elsewhere."""


@dataclass(frozen=True)
class Submission:
    """One job, as the cluster will receive it."""

    submission_id: str
    entrypoint: str
    """The command of the driver."""
    variables: Mapping[str, str]
    """Environment of the driver and the workers."""
    files: Mapping[str, int]
    """The files that Ray uploads: bytes by name, relative to the working directory."""
    results: Mapping[str, str]
    """URI by name of each result, the MLflow store and the experiment."""
    installs: bool = False
    """Whether each node installs the packages of constraints.txt for this job."""

    def runtime_env(self, folder: Path) -> dict[str, object]:
        """Describe the job's environment to Ray."""
        pip = {"pip": _PINNED} if self.installs else {}
        return {"working_dir": str(folder), "env_vars": dict(self.variables), **pip}

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
        folder: The working directory, which is uploaded.
        options: Further options of the command, such as ``--overwrite``.
        variables: ``NAME`` of a variable that is set here, or ``NAME=VALUE``.
        installs: Install the packages of constraints.txt for the job.

    Raises:
        UserError: The settings are wrong, or would be in a submitted job; a file would not be
            uploaded, or too much would be; a file or a variable may be a secret.
    """
    resolved = settings.load(config, overrides, command=verb, submitted=True)
    environment = _ALWAYS | _choose_variables(variables)
    _check_store(resolved, environment)
    files = measure(folder)
    name = _name_in_upload(config, folder, files)
    _check_verb(verb, files)
    check_size(files)
    _refuse_secrets(folder, files)
    if commit := provenance.read_commit():
        environment[provenance.COMMIT_VARIABLE] = commit
    return Submission(
        submission_id=_make_id(verb, resolved.name),
        entrypoint=shlex.join(["python", f"jobs/{verb}.py", name, *overrides, *options]),
        variables=environment,
        files=files,
        results=_name_results(verb, resolved, environment),
        installs=installs,
    )


def measure(folder: Path) -> dict[str, int]:
    """List the files that ``ray job submit --working-dir`` uploads of a directory, with bytes."""
    root = folder.absolute()
    files = [path for path in ray_internals.find_uploaded(root) if path.is_file()]
    sizes = {file.relative_to(root).as_posix(): file.stat().st_size for file in files}
    return dict(sorted(sizes.items()))


def check_size(files: Mapping[str, int]) -> None:
    """Make sure that the files to upload are small: code and settings only.

    Raises:
        UserError: They are too large; the largest are named.
    """
    if (num_bytes := sum(files.values())) > MAX_BYTES:
        named = ", ".join(f"{name} {to_text(size)}" for name, size in find_largest(files, 3))
        raise UserError(
            f"the upload has {to_text(num_bytes)}, more than {to_text(MAX_BYTES)}: {named}",
            hint="add data to .rayignore, and give its URI in the settings",
        )


def find_largest(files: Mapping[str, int], count: int) -> list[tuple[str, int]]:
    """Name the largest files with their bytes, the largest first."""
    return sorted(files.items(), key=lambda item: -item[1])[:count]


def to_text(size: int) -> str:
    """Write a size for reading.

    Example:
        >>> to_text(914_434), to_text(5_200_000)
        ('914 kB', '5.2 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size / 1e3:,.0f} kB"


def _choose_variables(variables: Sequence[str]) -> dict[str, str]:
    """Collect the variables that every job gets if they are set, and those that the user names."""
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
                raise UserError(f"--env {name}: not set here", hint=f"write {name}=VALUE")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"--env {without_credentials(name)}", hint="write NAME or NAME=VALUE")
        if _SECRET_NAME.search(name) or _SECRET_VALUE.match(value) or holds_credentials(value):
            raise UserError(
                f"--env {name} may be a secret, and the dashboard shows the variables of a job",
                hint="set it on the nodes, before `ray start`",
            )
        chosen[name] = value
    return chosen


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


def _name_in_upload(config: Path, folder: Path, files: Mapping[str, int]) -> str:
    """Name the settings file relative to the working directory."""
    try:
        name = config.absolute().resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        raise UserError(
            f"{config} lies outside of {folder}, which is uploaded for the job",
            hint="put it into configs/, or submit from the directory that holds it",
        ) from None
    if name not in files:
        raise UserError(
            f"{name} is not uploaded: .rayignore or .gitignore excludes it",
            hint="put it into configs/, or name it in .rayignore",
        )
    return name


def _refuse_secrets(folder: Path, files: Mapping[str, int]) -> None:
    """Refuse keys, files of passwords, and links to files outside of the working directory."""
    root = folder.resolve()
    for name in files:
        target = (root / name).resolve()
        if not target.is_relative_to(root):
            problem = f"is a link to {target}, outside of this directory"
        elif any(map(_SECRET_FILE.search, (name, str(target.relative_to(root))))):
            problem = "may be a secret"
        elif _holds_key(target):
            problem = "begins like a key"
        else:
            continue
        raise UserError(
            f"{name} would be uploaded, and {problem}", hint="move it, or add it to .rayignore"
        )


def _holds_key(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(_SECRET_VALUE.match(file.read(100).decode(errors="replace")))


def _check_verb(verb: str, files: Mapping[str, int]) -> None:
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
