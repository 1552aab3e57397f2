"""Setting or environment -> the address of the MLflow store, checked, and its password apart."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sentiflow.config import ray_job
from sentiflow.errors import UserError
from sentiflow.storage.uris import absolute_uri, holds_credentials, without_credentials

_SQLITE = "sqlite:///"
_DATABASE = re.compile(r"(mysql|mssql|postgresql)(\+\w+)?://")
_FORMS = (
    "write http://HOST:5000, sqlite:////absolute/path/mlflow.db or postgresql://HOST/NAME, "
    "and in a password %2F for / and %40 for @"
)
_EXTRAS = {
    "psycopg": "install sentiflow[postgres]",
    "psycopg2": "install sentiflow[postgres] and write postgresql://HOST/NAME",
    "pymysql": "install sentiflow[mysql]",
    "MySQLdb": "install sentiflow[mysql] and write mysql+pymysql://HOST/NAME",
    "boto3": "install sentiflow[s3]",
}
"""What to do about a Python package that is missing."""


def default_uri(setting: str | None) -> str:
    """Choose the store: the setting, ``MLFLOW_TRACKING_URI``, or SQLite in the working directory.

    A relative SQLite file is made absolute. The address that is returned has no user and password,
    so that it can be shown and stored: they go to MLflow's own variables, those of a database to
    ``MLFLOW_TRACKING_URI``, from where :func:`with_password` adds them.

    Raises:
        UserError: It is no address of a store; its driver is not installed; or it is an SQLite
            file, and the job was submitted to a cluster.
    """
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    check(uri)
    if ray_job.is_here():
        ray_job.refuse_store(uri)
    if find_file(uri):
        return _SQLITE + absolute_uri(uri.removeprefix(_SQLITE))
    if not _is_server(uri):
        _check_driver(uri)
    _note_credentials(uri)
    return without_credentials(uri)


def check(uri: str) -> None:
    """Refuse what is not the address of an MLflow store, without showing a password in it.

    Raises:
        UserError: It is not.
    """
    if not _is_address(uri):
        shown = repr(without_credentials(uri).rpartition("@")[2])
        raise UserError(f"{shown} is not the address of an MLflow store", hint=_FORMS)


def find_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None if the store is something else."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def with_password(uri: str) -> str:
    """Add to the address of a database the password that ``MLFLOW_TRACKING_URI`` has for it."""
    mine = os.environ.get("MLFLOW_TRACKING_URI", "")
    return mine if without_credentials(mine) == uri and not _is_server(uri) else uri


def name_extra(error: ImportError) -> str:
    """Say which extra of sentiflow has the package that is missing."""
    return "; ".join([str(error), *filter(None, [_EXTRAS.get(error.name or "")])])


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _is_address(uri: str) -> bool:
    if not _is_server(uri):
        return bool(find_file(uri) or _DATABASE.match(uri))
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", uri)
    except ValueError:  # the port is no number, or the address no IPv6 address
        return False


def _check_driver(uri: str) -> None:
    """Make sure that the Python driver of a database is installed."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    shown = without_credentials(uri)
    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        problem = f"cannot use the MLflow store {shown}: {name_extra(error)}"
        raise UserError(problem) from error
    except (SQLAlchemyError, ValueError):
        raise UserError(f"{shown} is not the address of a database", hint=_FORMS) from None


def _note_credentials(uri: str) -> None:
    """Put user and password of an address where MLflow or :func:`with_password` finds them."""
    if not _is_server(uri):
        if holds_credentials(uri):
            os.environ["MLFLOW_TRACKING_URI"] = uri
        return
    user_and_password, at, _ = urlsplit(uri).netloc.rpartition("@")
    user, _, password = user_and_password.partition(":")
    if at:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
    if password:
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
