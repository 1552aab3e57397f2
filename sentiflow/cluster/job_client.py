"""Address of a Ray cluster -> a job submitted to it; its log as it grows, and its end."""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from sentiflow.cluster import ray_internals
from sentiflow.cluster.submission import OUTPUT_KEY, USER_KEY, Submission
from sentiflow.errors import JobError, UserError
from sentiflow.storage.uris import holds_credentials, names_this_machine, without_credentials

_TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and to wait for an answer."""
_MAX_FAILURES = 600
"""Number of requests that may fail in a row while a job is followed: with the delay between them,
ten minutes or more."""
_DELAY_SECONDS = 1.0
"""Delay between two requests."""
_DELAY_PER_CHARACTER = 1e-6
"""Additional delay in seconds for each character of the log, as each request returns all of it."""
_RAY_LOGGERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""Loggers of Ray's client: they report each upload, request and connection."""
_MAX_MESSAGE_LENGTH = 300
"""Maximum characters of an error of Ray's client in our message."""
_CLIENT_ERROR = "status code 4"
"""Part of the message of Ray's client for an answer from 400 to 499: the request is wrong."""
_RAY_ERRORS = (requests.RequestException, ConnectionError, RuntimeError, AuthenticationError)
"""Errors that Ray's client raises; ``RuntimeError`` if the cluster answers with an error."""


def choose_address(option: str | None) -> str:
    """Choose the address: the option, else Ray's variables, else a dashboard on this machine.

    The variables are removed: for Ray's client they would override the address.

    Raises:
        UserError: The chosen text is not the address of a dashboard.
    """
    dashboard = os.environ.pop("RAY_API_SERVER_ADDRESS", "")
    cluster = os.environ.pop("RAY_ADDRESS", "")
    address = option or dashboard or cluster or "http://127.0.0.1:8265"
    if holds_credentials(address) or not address.startswith(("http://", "https://")):
        raise UserError(
            f"{without_credentials(address)} is not the address of a dashboard",
            hint="write http://HOST:8265, without a password, after --address or into "
            "RAY_API_SERVER_ADDRESS",
        )
    return address.rstrip("/")


def connect(address: str, *, verbose: bool = False) -> JobSubmissionClient:
    """Connect Ray's client to a cluster, with the token of this machine.

    Raises:
        UserError: The cluster does not answer, asks for a token, or refuses the token; or the
            connection is not encrypted, so that others could read the token.
    """
    if not verbose:
        for name in _RAY_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
    token = find_token()
    is_safe = address.startswith("https://") or names_this_machine(address)
    is_trusted = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    if token and not is_safe and not is_trusted:
        raise UserError(
            f"the token would travel to {address} unencrypted",
            hint="forward its port: ssh -L 8265:127.0.0.1:8265 HEAD, or name an https:// address; "
            "RAY_AUTH_MODE=token says that the network is trusted",
        )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return ray_internals.connect_to_jobs(address, headers, _TIMEOUT)
    except AuthenticationError as error:
        raise UserError(
            f"{address} {'refuses the token' if token else 'asks for a token'}",
            hint="put the token of its head (~/.ray/auth_token there) into RAY_AUTH_TOKEN, the "
            "file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token",
        ) from error
    except (*_RAY_ERRORS, ValueError, KeyError) as error:  # the last two: another server answered
        raise UserError(
            f"no cluster answers at {address}",
            hint="name its dashboard by --address, and forward its port 8265: "
            "ssh -L 8265:127.0.0.1:8265 HEAD",
        ) from error


def find_token() -> str:
    """Read the token of Ray's clusters where Ray looks for it; empty if there is none.

    Ray itself uses the token only if ``RAY_AUTH_MODE`` was ``token`` when it was imported.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return ""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.is_file() else ""


def submit(client: JobSubmissionClient, job: Submission) -> None:
    """Upload the files, unless the cluster has the same, and start the job.

    Raises:
        JobError: The cluster refuses the job, or does not answer.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            job.copy_files(Path(folder))
            client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job.submission_id,
                runtime_env=job.runtime_env(Path(folder)),
                metadata={OUTPUT_KEY: job.output_uri, USER_KEY: job.user},
            )
    except _RAY_ERRORS as error:
        raise JobError(
            f"the cluster did not accept {job.submission_id}: {_shorten_message(error)}; if the "
            f"connection broke, the job may run: sentiflow submit --attach {job.submission_id}"
        ) from error


def follow(
    client: JobSubmissionClient, submission_id: str, write: Callable[[str], None]
) -> JobDetails:
    """Write a job's log as it grows, from its beginning, until the job has ended.

    The state is read before the log, so the log is complete when the state is final.

    Args:
        client: Client of the job's cluster.
        submission_id: The job.
        write: Takes a further piece of the log.

    Raises:
        UserError: There is no such job, or the token is refused.
        JobError: The cluster no longer answers; the job may still run.
    """
    num_written = 0  # characters of the log
    num_failures = 0  # in a row
    while True:
        try:
            details = client.get_job_info(submission_id)
            text = client.get_job_logs(submission_id)
        except _RAY_ERRORS as error:
            if isinstance(error, AuthenticationError) or _CLIENT_ERROR in str(error):
                raise UserError(
                    _shorten_message(error), hint="`ray job list` shows the jobs of a cluster"
                ) from error
            num_failures += 1
            if num_failures > _MAX_FAILURES:
                raise JobError(
                    f"{_shorten_message(error)}; the job may still run: sentiflow submit "
                    f"--attach {submission_id}"
                ) from error
        else:
            num_failures = 0
            write(text[num_written:])
            num_written = len(text)
            if details.status.is_terminal():
                return details
        time.sleep(_DELAY_SECONDS + num_written * _DELAY_PER_CHARACTER)


def explain_end(details: JobDetails) -> tuple[int, str]:
    """Return the exit code of a job that has ended, and in one line the reason if it failed.

    A job that was stopped, could not start or was lost has no exit code. The returned code is 1.
    """
    if details.status == JobStatus.SUCCEEDED:
        return 0, ""
    code = details.driver_exit_code or 1
    reason = (details.message or "Ray gives no reason").strip().partition("\n")[0]
    if code < 0:  # signal -code ended the driver; a shell returns 128 + signal
        code = 128 - code
    return code, reason


def _shorten_message(error: Exception) -> str:
    """Return the last line of an error's message: the lines above may be a traceback."""
    return (
        str(error).strip().rpartition("\n")[2].strip()[:_MAX_MESSAGE_LENGTH] or type(error).__name__
    )
