"""Address of an MLflow store -> a client that answers soon, or why it does not."""

import fcntl
import http.client
import logging
import os
import random
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# No job waits long for a server: what it misses is added from the manifests, see ``rebuild``.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from sentiflow.config import ray_job
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.storage.uris import absolute_uri, without_credentials

Answer = TypeVar("Answer")

_PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""For what may be large; no more, as a server that hangs holds the job up for as long."""
_BRIEF = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_IS_OURS = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == _BRIEF["MLFLOW_HTTP_REQUEST_TIMEOUT"]
"""The limit is not one that the user has set."""
_patience, _num_patient = threading.Lock(), 0
"""Threads that are patient now: the variables are those of the whole process."""

_SQLITE = "sqlite:///"
_LOCKED_TRIES = 6
"""MLflow waits 20 s for a locked SQLite file, but where two would wait for each other SQLite gives
up at once."""
_AT_ONCE_SECONDS = 2.0
"""A call that fails sooner is made a second time."""
_REFUSALS = {
    "BAD_REQUEST", "FEATURE_DISABLED", "INVALID_PARAMETER_VALUE", "INVALID_STATE",
    "MALFORMED_REQUEST", "NOT_IMPLEMENTED", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST",
}  # fmt: skip


_OF_CLOUDS = {
    "boto3.exceptions": ("Boto3Error",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "google.api_core.exceptions": ("GoogleAPIError",),
    "azure.core.exceptions": ("AzureError",),
}
"""By module, if MLflow has imported it: what reading and writing artifacts may raise."""

REFUSED_OR_AWAY = (MlflowException, SQLAlchemyError, RequestException)
"""What MLflow's calls raise, but for those that read and write files."""


def default_uri(setting: str | None) -> str:
    """Decide which store is meant: the setting, ``MLFLOW_TRACKING_URI``, or SQLite right here.

    A relative SQLite file is made absolute, as workers have other working directories. User and
    password are left out, so that the address can be shown and kept: those of a server go where
    MLflow looks for them, its own variables; those of a database, :func:`with_password` gives back.

    Raises:
        UserError: It would be an SQLite file, in a submitted job.
    """
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if ray_job.is_here():
        ray_job.refuse_store(uri)
    if not uri.startswith(_SQLITE):
        _note_credentials(uri)
        return without_user(uri)
    return _SQLITE + absolute_uri(uri.removeprefix(_SQLITE))


def _note_credentials(uri: str) -> None:
    """Put user and password of a server's address into MLflow's variables."""
    user_and_password, at, _ = urlsplit(uri).netloc.rpartition("@")
    if at and _is_server(uri):
        user, _, password = user_and_password.partition(":")
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        if password:
            os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)


def with_password(uri: str) -> str:
    """Give the address of a database the password that ``MLFLOW_TRACKING_URI`` has for it."""
    mine = os.environ.get("MLFLOW_TRACKING_URI", "")
    return mine if without_user(mine) == uri and not _is_server(uri) else uri


def make_client(uri: str) -> MlflowClient:
    """Make MLflow's client for runs and models of the same store."""
    known = with_password(uri)
    return MlflowClient(tracking_uri=known, registry_uri=known)


def without_user(uri: str) -> str:
    """Leave user name and password out of an address, for messages."""
    return without_credentials(uri)


def connect(uri: str) -> MlflowClient:
    """Connect to a store that must be there already, for what is read from it.

    Raises:
        UserError: There is none, or its kind is not one that MLflow can track to.
        UnavailableError: It cannot be reached.
    """
    check_kind(uri)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise UserError(
            f"there is no MLflow store {without_user(uri)}",
            hint="name the one that the model was recorded in, by tracking.uri or "
            "MLFLOW_TRACKING_URI",
        )
    quiet()
    try:
        check_reachable(uri)
    except OSError as error:
        raise UnavailableError(unreachable(uri, error)) from error
    return make_client(uri)


def check_kind(uri: str) -> None:
    """Refuse what MLflow does not track to.

    Raises:
        UserError: It is a directory.
    """
    if uri.startswith("file:") or "://" not in uri:
        raise UserError(
            f"tracking.uri={uri!r}: MLflow does not track to plain directories any more",
            hint="use sqlite:////absolute/path/mlflow.db or a server's http:// address",
        )


def check_reachable(uri: str) -> None:
    """Ask a server for its health, which fails within seconds whatever MLflow's own limits are.

    Raises:
        OSError: It does not answer, or not well.
    """
    if not _is_server(uri):
        return
    try:
        with urllib.request.urlopen(f"{without_user(uri).rstrip('/')}/health", timeout=10):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"it answers as no server of MLflow does: {first_line(error)}") from error


def unreachable(uri: str, error: BaseException) -> str:
    """Say in one line that a store cannot be reached, and why."""
    return f"cannot reach the MLflow store {without_user(uri)}: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """Find the reason in the history of a failed request, which is long."""
    system = re.search(r"\[Errno -?\d+\] (\w[\w ]+)", str(error))
    if system:
        return system[1]
    return "it does not answer" if is_timeout(error) else first_line(error)


def first_line(error: BaseException) -> str:
    """Give the beginning of a message, which MLflow often goes on with a traceback."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return without_credentials(text)


def failures() -> tuple[type[Exception], ...]:
    """Name what a call raises when a store is away or refuses: MLflow's, a cloud's, or our own."""
    of_clouds = [
        getattr(sys.modules[module], name)
        for module, names in _OF_CLOUDS.items()
        if module in sys.modules
        for name in names
    ]
    return (*REFUSED_OR_AWAY, OSError, JobError, UserError, *of_clouds)


def is_refusal(error: BaseException) -> bool:
    """Say whether a store answers that it will never take what it was given."""
    if isinstance(error, JobError | UserError):
        return not isinstance(error, UnavailableError)
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS and not _is_contended(error)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return 400 <= status < 500 and status not in (401, 403, 408, 429)


def ask(call: Callable[[], Answer]) -> Answer:
    """Call a store, and again where that helps at once: its file is locked, a connection broke.

    Raises:
        Exception: One of :func:`failures`.
    """
    began = time.monotonic()
    try:
        return _when_unlocked(call)
    except failures() as error:
        if is_refusal(error) or time.monotonic() - began > _AT_ONCE_SECONDS:
            raise
        return call()


def _when_unlocked(call: Callable[[], Answer]) -> Answer:
    """Call, and call again a few times while other processes are in the way."""
    began = time.monotonic()
    for attempt in range(1, _LOCKED_TRIES):
        try:
            return call()
        except (MlflowException, SQLAlchemyError) as error:
            if not _is_contended(error) or time.monotonic() - began > _AT_ONCE_SECONDS:
                raise
            time.sleep(random.uniform(0, 0.2) * attempt)  # noqa: S311
    return call()


def is_timeout(error: BaseException) -> bool:
    """Say whether a store was waited for in vain."""
    return "timed out" in str(error)


def _is_contended(error: BaseException) -> bool:
    """Say whether another process has a file locked, or has just made what was to be made."""
    return "database is locked" in str(error) or "IntegrityError" in str(error)


@contextmanager
def making(uri: str) -> Iterator[None]:
    """Let one process at a time make an SQLite store, or look whether it is made."""
    if not uri.startswith(_SQLITE):
        yield
        return
    path = Path(f"{uri.removeprefix(_SQLITE).partition('?')[0]}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


@contextmanager
def patient() -> Iterator[None]:
    """Let MLflow take its time for the block, unless the user's environment says how long."""
    global _num_patient
    with _patience:
        _num_patient += 1
        if _IS_OURS:
            os.environ.update(_PATIENT)
    try:
        yield
    finally:
        with _patience:
            _num_patient -= 1
            if _IS_OURS and not _num_patient:
                os.environ.update(_BRIEF)


def quiet() -> None:
    """Silence the hundred lines with which MLflow makes an SQLite file, and its tracebacks."""
    names: Sequence[str] = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry")
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def artifact_location(uri: str, name: str) -> str | None:
    """Keep the artifacts of an SQLite store beside its file, whatever the working directory."""
    if not uri.startswith(_SQLITE):
        return None
    return str(Path(uri.removeprefix(_SQLITE)).parent / "mlruns" / name)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))
