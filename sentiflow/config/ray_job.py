"""Settings -> refused where they mean a submitted job's working directory, a temporary copy."""

import json
import os
from collections.abc import Iterable

from sentiflow.errors import UserError
from sentiflow.storage.uris import is_local, names_vectors, without_credentials

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it in what it was given by ``ray job submit``, and nowhere else."""


def is_here() -> bool:
    """Say whether this process is a job that was submitted to a cluster."""
    return _JOB in os.environ


def submission_id() -> str:
    """Name the submitted job that this process is; nothing if it is none."""
    metadata = json.loads(os.environ.get(_JOB, "{}")).get("metadata") or {}
    return str(metadata.get("job_submission_id", ""))


def refuse_relative(locations: Iterable[tuple[str, str]]) -> None:
    """Make sure that no location is below the temporary copy.

    Args:
        locations: Each with the key of its setting, as they are written.

    Raises:
        UserError: One is relative.
    """
    for key, uri in locations:
        if not uri or uri == "prepared" or names_vectors(uri):
            continue
        if is_local(uri) and not uri.startswith(("/", "~", "file:///")):
            raise UserError(
                f"{key}={uri!r} is relative, but this is a submitted job",
                hint="its working directory is a temporary copy; give an absolute URI",
            )


def refuse_store(uri: str) -> None:
    """Make sure that an MLflow store is not a file.

    It would be one of the node that the job happens to run on, at best.

    Raises:
        UserError: It is an SQLite store.
    """
    if uri.startswith("sqlite:"):
        raise UserError(
            f"tracking.uri: an SQLite store ({without_credentials(uri)}) in a submitted job "
            "would be lost with the machine or the directory it is in",
            hint="give a server's address, by tracking.uri or MLFLOW_TRACKING_URI",
        )
