"""Setting or environment -> an MLflow store: its address, a client, its errors in one line."""

import logging
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from sentiflow.config import ray_job
from sentiflow.errors import JobError, PermissionDeniedError, UnavailableError, UserError
from sentiflow.storage.uris import absolute_uri, without_credentials
from sentiflow.tracking import permissions
from sentiflow.tracking.permissions import Permission

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_SQLITE_PREFIX = "sqlite:///"
_ADDRESS = re.compile(
    r"sqlite:///.+"
    r"|https?://([^\s/@]*@)?([^\s/@:[\]]+|\[[0-9a-fA-F:.]+\])(:[1-9]\d*)?(/\S*)?"
)
_FORMS = (
    "write http://HOST:5000 or sqlite:////absolute/path/mlflow.db, and in a password %2F for / and "
    "%40 for @"
)
_RETRY_SECONDS = 2.0
"""Seconds in which a failing call is repeated: the SQLite file may be locked, another process may
have just made the same experiment, or a connection may have broken."""
_REFUSALS = {
    "FEATURE_DISABLED", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST",
    "NOT_IMPLEMENTED", "RESOURCE_DOES_NOT_EXIST",
}  # fmt: skip
"""Error codes of MLflow for calls that will fail in every later try, too."""
_UNSAFE_IN_FILTER = re.compile(r"[^\w\-. /:@+=,~]")
"""A character that could end a text in a filter, or change its meaning."""
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which MLflow's UI shows the training runs of an experiment, not prompts and traces."""
_REASONS = (
    (r"\[Errno -?\d+\] (\w[\w -]+)", r"\1"),
    (
        r"certificate verify failed: ([\w ,'.:-]+)",
        r"certificate verify failed: \1; for a private CA set MLFLOW_TRACKING_SERVER_CERT_PATH",
    ),
    (
        r"TLS CA certificate bundle, invalid path: (\S+)",
        r"there is no file \1; see MLFLOW_TRACKING_SERVER_CERT_PATH and REQUESTS_CA_BUNDLE",
    ),
    (
        "Invalid Host header",
        "it answers 403 (Invalid Host header); start it with --allowed-hosts HOST:PORT",
    ),
    (
        "error code 401",
        "it answers 401; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    ("timed out", "it does not answer"),
)
"""Pattern in a message of MLflow, and the text by which sentiflow replaces the message."""


def default_uri(setting: str | None) -> str:
    """Choose the store: the setting, ``MLFLOW_TRACKING_URI``, or SQLite in the working directory.

    A relative SQLite file is made absolute. User and password go to MLflow's own variables, so the
    returned address can be shown and stored.

    Raises:
        UserError: The chosen text is not the address of a store; or it is an SQLite file, and the
            job was submitted to a cluster.
    """
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    check(uri)
    if ray_job.is_here():
        ray_job.refuse_store(uri)
    if find_file(uri):
        return _SQLITE_PREFIX + absolute_uri(uri.removeprefix(_SQLITE_PREFIX))
    parts = urlsplit(uri)
    if parts.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    if parts.password:
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return without_credentials(uri)


def check(uri: str) -> None:
    """Check that a text is the address of an MLflow store.

    Raises:
        UserError: The text is not such an address. The message shows no password.
    """
    if not _ADDRESS.fullmatch(uri):
        shown = without_credentials(uri).rpartition("@")[2]
        raise UserError(f"{shown!r} is not the address of an MLflow store", hint=_FORMS)


def find_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None if the store is something else."""
    if not uri.startswith(_SQLITE_PREFIX):
        return None
    path, _, _ = uri.removeprefix(_SQLITE_PREFIX).partition("?")
    return Path(path)


def make_client(uri: str) -> "MlflowClient":
    """Make MLflow's client for the runs and models of a store; it does not connect yet.

    Without ``--verbose``, MLflow logs only errors from now on. It never logs that it makes the
    tables of a database.
    """
    from mlflow import MlflowClient

    if not log.isEnabledFor(logging.DEBUG):
        logging.getLogger("mlflow").setLevel(logging.ERROR)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def make(uri: str) -> None:
    """Make the file of an SQLite store, unless it exists.

    The file gets its name when its tables are complete. If Ctrl-C interrupts MLflow while it makes
    them, in the first seconds of the first job, MLflow cannot use the file later.
    """
    path = find_file(uri)
    if path is None or path.exists():
        return
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        make_client(f"{_SQLITE_PREFIX}{unfinished}").search_experiments(max_results=1)
        if not path.exists():
            unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def asking(
    uri: str,
    what: str,
    *,
    hint: str = "",
    refusal: type[Exception] = JobError,
    needed: Permission = "EDIT",
) -> Iterator["MlflowClient"]:
    """Connect to a store for the block; an error of MLflow or of a cloud becomes one line.

    Args:
        uri: The store, which must exist.
        what: What the block does, for the message "cannot WHAT in STORE": "register a".
        hint: End of the message, with its punctuation.
        refusal: Type of the error if MLflow refuses: ``UserError`` where the user named something.
        needed: The permission that the block needs on a server with users.

    Raises:
        UserError: There is no such store, or MLflow's user lacks the permission.
        JobError: MLflow refuses.
        UnavailableError: The store does not answer.
    """
    path = find_file(uri)
    if path and not path.exists():
        raise UserError(
            f"there is no MLflow store {without_credentials(uri)}",
            hint="name another one by tracking.uri or MLFLOW_TRACKING_URI",
        )
    try:
        yield make_client(uri)
    except (JobError, UserError, AssertionError, AttributeError, LookupError, TypeError):
        raise
    except Exception as error:  # MLflow and the libraries of clouds share no class of errors
        problem = f"cannot {what} in {without_credentials(uri)}"
        denial = permissions.explain(error, needed)
        if denial:
            raise PermissionDeniedError(f"{problem}: {denial}{hint}") from error
        kind = refusal if is_refusal(error) else UnavailableError
        why = reason(error).rstrip(".")
        raise kind(f"{problem}: {why}{hint}") from error


def find_experiment(client: "MlflowClient", name: str, uri: str) -> str:
    """Find the id of an experiment, or make it."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # MLflow would put artifacts into the working directory; they belong beside the file.
        path = find_file(uri)
        location = str(path.parent / "mlruns" / name) if path else None
        return str(client.create_experiment(name, location, tags=_MODEL_TRAINING))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def find_page(tracking_uri: str, experiment: str | None = None) -> str:
    """Find the page of an experiment's runs, below the address of MLflow's web interface.

    MLflow itself opens on a page for prompts and traces.

    Args:
        tracking_uri: The store.
        experiment: Its name. Default: the newest experiment.

    Raises:
        UserError: There is no such store, or it has no such experiment.
        UnavailableError: The store does not answer.
    """
    with_name = None if experiment is None else to_condition("name", experiment)
    with asking(tracking_uri, "look for runs", needed="READ") as client:
        latest = client.search_experiments(filter_string=with_name, max_results=1)
    if not latest:
        raise UserError(
            f"there is no run of {experiment} in {without_credentials(tracking_uri)}",
            hint="sentiflow run CONFIG makes one",
        )
    return f"/#/experiments/{latest[0].experiment_id}/runs?workflowType=machine_learning"


def to_condition(name: str, value: str) -> str:
    """Write a condition of a filter, that a tag or an attribute has a value.

    MLflow's filters cannot escape a quote. A value with a character that is not safe is found by a
    pattern, which has the wildcard for a single character in its place: the caller compares the
    values that are found.

    Example:
        >>> to_condition("name", "quickstart")
        "name = 'quickstart'"
        >>> to_condition("tags.a", "/home/o'neill")
        "tags.a LIKE '/home/o_neill'"
    """
    pattern = _UNSAFE_IN_FILTER.sub("_", value)
    comparison = "=" if pattern == value else "LIKE"
    return f"{name} {comparison} '{pattern}'"


def ask(call: Callable[[], Result]) -> Result:
    """Call a store; if the call fails, repeat it for ``_RETRY_SECONDS``, unless it was refused."""
    began = time.monotonic()
    while True:
        try:
            return call()
        except Exception as error:
            if is_refusal(error) or time.monotonic() - began > _RETRY_SECONDS:
                raise
        # Random, so that processes which failed together do not try together again.
        time.sleep(random.uniform(0.1, 0.5))  # noqa: S311


def is_refusal(error: Exception) -> bool:
    """Say whether a call will fail in every later try, too; an ImportError is a missing package."""
    if isinstance(error, ImportError | UserError) or permissions.explain(error, "EDIT"):
        return True
    return getattr(error, "error_code", "") in _REFUSALS


def unreachable(uri: str, error: Exception) -> str:
    """Say in one line that a store cannot be reached, and why."""
    return f"cannot reach the MLflow store {without_credentials(uri)}: {reason(error)}"


def reason(error: BaseException) -> str:
    """Find the reason in the long message of a failed request; by default its first line."""
    for pattern, template in _REASONS:
        match = re.search(pattern, str(error))
        if match:
            return match.expand(template)
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of a message; MLflow often adds a traceback."""
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, ImportError) and error.name == "boto3":
        lines[0] += "; install sentiflow[s3]"
    return without_credentials(lines[0])
