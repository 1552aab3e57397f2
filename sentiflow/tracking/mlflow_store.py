"""Address of an MLflow store -> a client that answers soon, or the reason why it does not."""

import logging
import os
import random
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# No job waits long for a server: ``rebuild`` adds later what it has missed.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import store_address

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_AT_ONCE_SECONDS = 2.0
"""A call that fails sooner is made again: another process has locked the SQLite file or has just
made the same experiment, or a connection broke."""
_REFUSALS = {
    "FEATURE_DISABLED", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST",
    "NOT_IMPLEMENTED", "RESOURCE_DOES_NOT_EXIST",
}  # fmt: skip
_REASONS = (
    (r"\[Errno -?\d+\] (\w[\w -]+)", r"\1"),
    (
        r"certificate verify failed: ([\w ,'.:-]+)",
        r"certificate verify failed: \1; for a CA of your own set MLFLOW_TRACKING_SERVER_CERT_PATH",
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
    ("error code 403", "it answers 403: this user has no permission"),
    ("timed out", "it does not answer"),
)
"""What is said of an error, by a pattern in MLflow's message."""
_OF_CLOUDS = {
    "boto3.exceptions": ("Boto3Error",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "google.api_core.exceptions": ("GoogleAPIError",),
    "azure.core.exceptions": ("AzureError",),
}
"""What reading and writing artifacts may raise, by module; MLflow imports the one it needs."""


def make_client(uri: str) -> MlflowClient:
    """Make MLflow's client for runs and models of the same store."""
    known = store_address.with_password(uri)
    return MlflowClient(tracking_uri=known, registry_uri=known)


def connect(uri: str) -> MlflowClient:
    """Make a client for a store that must exist; a server is not asked yet.

    Raises:
        UserError: There is none.
    """
    path = store_address.find_file(uri)
    if path and not path.exists():
        raise UserError(
            f"there is no MLflow store {without_credentials(uri)}",
            hint="name the store with the model by tracking.uri or MLFLOW_TRACKING_URI",
        )
    quiet()
    return make_client(uri)


@contextmanager
def asking(
    uri: str, what: str, *, hint: str = "", refusal: type[Exception] = JobError
) -> Iterator[MlflowClient]:
    """Connect to a store for the block, and turn MLflow's errors into one line.

    MLflow logs only errors meanwhile, unless ``--verbose``.

    Args:
        uri: The store, which must exist.
        what: What the block does, as in "cannot register a".
        hint: Added to the line.
        refusal: The kind of error if MLflow refuses: ``UserError`` where the user named something.

    Raises:
        UserError: There is no such store.
        JobError: MLflow refuses.
        UnavailableError: It does not answer.
    """
    client = connect(uri)
    logger = logging.getLogger("mlflow")
    before = logger.level
    if not log.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.ERROR)
    try:
        yield client
    except (JobError, UserError):
        raise
    except failures() as error:
        kind = refusal if is_refusal(error) else UnavailableError
        store, why = without_credentials(uri), reason(error).rstrip(".")
        raise kind(f"cannot {what} in {store}: {why}{hint}") from error
    finally:
        logger.setLevel(before)


def unreachable(uri: str, error: BaseException) -> str:
    """Say in one line that a store cannot be reached, and why."""
    return f"cannot reach the MLflow store {without_credentials(uri)}: {reason(error)}"


def reason(error: BaseException) -> str:
    """Find the reason in the message of a failed request, which is long."""
    for pattern, template in _REASONS:
        if found := re.search(pattern, str(error)):
            return found.expand(template)
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of a message; MLflow often adds a traceback."""
    if isinstance(error, ImportError):
        return store_address.name_extra(error)
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return without_credentials(line)


def failures() -> tuple[type[Exception], ...]:
    """List the errors of a store that is unavailable or refuses: MLflow's, a cloud's, our own.

    MLflow imports what it needs for a cloud when it is used.
    """
    of_clouds = [
        getattr(sys.modules[module], name)
        for module, names in _OF_CLOUDS.items()
        if module in sys.modules
        for name in names
    ]
    of_mlflow = (MlflowException, SQLAlchemyError, RequestException)
    return (*of_mlflow, OSError, ImportError, JobError, UserError, *of_clouds)


def is_refusal(error: BaseException) -> bool:
    """Check whether a store refuses a call for good; otherwise a later try may succeed."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    is_ours = isinstance(error, JobError | UserError | ImportError)
    return is_ours and not isinstance(error, UnavailableError)


def ask(call: Callable[[], Result]) -> Result:
    """Call a store, and call it again if it fails at once.

    Raises:
        Exception: One of :func:`failures`.
    """
    began = time.monotonic()
    while True:
        try:
            return call()
        except failures() as error:
            if is_refusal(error) or time.monotonic() - began > _AT_ONCE_SECONDS:
                raise
        time.sleep(random.uniform(0.1, 0.5))  # noqa: S311


def make(uri: str) -> None:
    """Make an SQLite store that is not there yet; connect to a database.

    The file gets its name when it is whole: MLflow cannot use one whose tables it was interrupted
    in making, and of processes that make them in one file all but one fail.
    """
    path = store_address.find_file(uri)
    if path and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            make_client(f"sqlite:///{unfinished}").search_experiments(max_results=1)
            if not path.exists():
                unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    elif uri.startswith(("postgresql", "mysql")):  # MLflow would wait for minutes
        limit = {"connect_timeout": 20}
        engine = create_engine(store_address.with_password(uri), connect_args=limit)
        engine.connect().close()
        engine.dispose()


def quiet() -> None:
    """Silence the hundred lines that MLflow logs for a new SQLite file, and its tracebacks."""
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
