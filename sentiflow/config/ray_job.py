"""A job submitted to a Ray cluster: its id, and the locations that it must not use."""

import json
import os

from sentiflow.errors import UserError
from sentiflow.storage.uris import is_local, without_credentials

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets only in jobs of ``ray job submit``."""


def is_here() -> bool:
    """Whether this process is a job that was submitted to a cluster by ``ray job submit``."""
    return _JOB in os.environ


def submission_id() -> str:
    """Return the submission id of this job; empty if this process is not a submitted job."""
    job = json.loads(os.environ.get(_JOB, "{}"))
    metadata = job.get("metadata") or {}
    return str(metadata.get("job_submission_id", ""))


def refuse_relative(key: str, uri: str) -> None:
    """Refuse a relative location: the working directory of a submitted job is a temporary copy.

    Args:
        key: The key of the setting.
        uri: The location as written.

    Raises:
        UserError: The location is relative.
    """
    if is_local(uri) and not uri.lower().startswith(("/", "~", "file:")):
        raise UserError(
            f"{key}={uri!r} is relative, but this is a submitted job",
            hint="its working directory is a temporary copy; give an absolute URI",
        )


def refuse_store(uri: str) -> None:
    """Refuse an MLflow store in a file: the file would be on the node that runs the job.

    Raises:
        UserError: ``uri`` names an SQLite store.
    """
    if uri.startswith("sqlite:"):
        raise UserError(
            f"tracking.uri: an SQLite store ({without_credentials(uri)}) in a submitted job "
            "would be lost with the machine or the directory it is in",
            hint="set tracking.uri or MLFLOW_TRACKING_URI to the address of a server",
        )
