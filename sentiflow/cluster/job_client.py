"""Address of a Ray cluster -> a job submitted to it; its log as it grows, and its end."""

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

from sentiflow.cluster import ray_internals
from sentiflow.cluster.submission import WORK_KEY, Submission
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.progress import say, to_words
from sentiflow.storage.uris import holds_credentials, names_this_machine, without_credentials

_TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and to wait for an answer."""
_MAX_SILENCE_SECONDS = 600.0
"""Time without an answer after which a job is no longer followed."""
_TELL_SECONDS = 5.0
"""Time without an answer after which the user is told."""
_DELAY_SECONDS = 1.0
"""Delay between two requests."""
_DELAY_PER_CHARACTER = 1e-6
"""Additional delay in seconds for each character of the log, as each request returns all of it."""
_RAY_LOGGERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""Loggers of Ray's client: they report each upload, request and connection."""
_ERROR_PREFIX = "sentiflow: "
"""Beginning of the line in which a job says why it has failed."""
_MAX_MESSAGE_LENGTH = 300
"""Maximum characters of an error of Ray's client in our message."""
_SYSTEM_REASON = re.compile(r"\[Errno -?\d+\] (\w[\w ]*)")
"""Part of a message that has the reason of the operating system, such as "Connection refused"."""
_UNKNOWN_JOB = "status code 404: Job "
"""Part of the message of Ray's client if the cluster knows no such job. Another 404 comes from a
proxy in front of a cluster that is just starting."""
_NO_AGENT = "No available agent"
"""Part of the message of Ray's client if the head has no agent, the process that starts jobs."""
_OTHER_SERVER_ERRORS = (ValueError, KeyError, TypeError)
"""Errors of Ray's client if another server answers, or if the address has no valid form."""
_ACCESS_HINT = (
    "put the token of its head (~/.ray/auth_token there) into RAY_AUTH_TOKEN, the file that "
    "RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
)
"""What to do about a missing or a wrong token."""
RAY_ERRORS = (requests.RequestException, ConnectionError, RuntimeError, AuthenticationError)
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
        UserError: The cluster asks for a token, or refuses the token; another server answers; or
            the connection is not encrypted, so that others could read the token.
        UnavailableError: No cluster answers. It may be starting.
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
            hint=_ACCESS_HINT,
        ) from error
    except _OTHER_SERVER_ERRORS as error:
        raise UserError(
            f"{address} is not the dashboard of a Ray cluster",
            hint="name it by --address, such as http://HOST:8265",
        ) from error
    except RAY_ERRORS as error:
        raise UnavailableError(
            f"no cluster answers at {address}: name its dashboard by --address, and forward its "
            "port 8265: ssh -L 8265:127.0.0.1:8265 HEAD; if the cluster is just starting, run the "
            "same command again"
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


def find_same_work(client: JobSubmissionClient, job: Submission) -> JobDetails | None:
    """Find a job that does the same work and has not ended; None if the cluster has none.

    If there are several, it is the first, as only one of them can hold the directory.

    Raises:
        UserError: The token is refused.
        JobError: The cluster does not answer.
    """
    with _explaining("the cluster does not list its jobs"):
        known = client.list_jobs()
    same = []
    for details in known:
        work = (details.metadata or {}).get(WORK_KEY)
        if work == job.work and not details.status.is_terminal():
            same.append(details)
    return min(same, key=lambda details: details.start_time or 0, default=None)


def submit(client: JobSubmissionClient, job: Submission) -> None:
    """Upload the files, unless the cluster has the same, and start the job.

    Raises:
        UserError: The token is refused.
        JobError: The cluster refuses the job, or does not answer.
    """
    with (
        _explaining(f"the cluster did not accept {job.submission_id}"),
        tempfile.TemporaryDirectory() as folder,
    ):
        job.copy_files(Path(folder))
        client.submit_job(
            entrypoint=job.entrypoint,
            submission_id=job.submission_id,
            runtime_env=job.runtime_env(Path(folder)),
            metadata=job.metadata,
        )


@contextmanager
def _explaining(problem: str) -> Iterator[None]:
    """Raise an error with one line if a request in the block fails.

    Raises:
        UserError: The token is refused.
        JobError: The request has failed for another reason; ``problem`` begins the line.
    """
    try:
        yield
    except AuthenticationError as error:
        raise _refused_token() from error
    except RAY_ERRORS as error:
        reason = _shorten_message(error)
        hint = "run the same command again: if the job has started, it attaches to it"
        if _NO_AGENT in reason:
            reason = "its head has no agent, which starts jobs"
            hint = (
                "the head may be just starting; or another process, such as another Ray, had taken "
                "the agent's port when the head started: start the head with another "
                "--dashboard-agent-listen-port (default: 52365)"
            )
        raise JobError(f"{problem}: {reason}: {hint}") from error


def follow(
    client: JobSubmissionClient, submission_id: str, *, was_known: bool = False
) -> Iterator[tuple[JobDetails, str]]:
    """Look at a job every second until it has ended; yield its state and what its log has got.

    The state is read before the log, so the log is complete when the state is final.

    Args:
        client: Client of the job's cluster.
        submission_id: The job.
        was_known: Whether the cluster has had this job. Then a cluster that does not know it was
            restarted.

    Raises:
        UserError: There is no such job, or the token is refused.
        JobError: The cluster was restarted; or it does not answer any more, and the job may run.
    """
    num_read = 0  # characters of the log
    silence = _Silence(submission_id)
    while True:
        try:
            details = client.get_job_info(submission_id)
            _refuse_driver(submission_id, details)
            was_known = True
            text = client.get_job_logs(submission_id)
        except AuthenticationError as error:
            raise _refused_token() from error
        except RAY_ERRORS as error:
            if _UNKNOWN_JOB in str(error):
                raise _explain_unknown_job(submission_id, was_known=was_known) from error
            silence.add(error)
        else:
            silence.end()
            yield details, text[num_read:]
            num_read = len(text)
            if details.status.is_terminal():
                return
        time.sleep(_DELAY_SECONDS + num_read * _DELAY_PER_CHARACTER)


class _Silence:
    """The time since the last answer of a cluster: the user is told, and at last it is an error."""

    def __init__(self, submission_id: str) -> None:
        """Begin now."""
        self._submission_id = submission_id
        self._last_answer = time.monotonic()
        self._is_told = False

    def add(self, error: Exception) -> None:
        """Note a request that failed.

        Raises:
            JobError: The last answer was too long ago.
        """
        seconds = time.monotonic() - self._last_answer
        reason = _shorten_message(error)
        if seconds > _MAX_SILENCE_SECONDS:
            raise JobError(
                f"{reason}; the job may still run: the same command attaches to it, or sentiflow "
                f"submit --attach {self._submission_id}"
            ) from error
        if seconds > _TELL_SECONDS and not self._is_told:
            self._is_told = True
            patience = to_words(_MAX_SILENCE_SECONDS)
            say("submit", f"the cluster does not answer ({reason}); trying for {patience}")

    def end(self) -> None:
        """Note an answer."""
        self._last_answer = time.monotonic()
        if self._is_told:
            self._is_told = False
            say("submit", "the cluster answers again")


def _refuse_driver(submission_id: str, details: JobDetails) -> None:
    """Refuse a driver that nobody submitted: Ray has no log of it.

    Raises:
        UserError: The id is of such a driver.
    """
    if details.type == JobType.DRIVER:
        raise UserError(
            f"{submission_id} is a driver that was not submitted as a job",
            hint="`ray job list` shows the submission_id of each job",
        )


def _explain_unknown_job(submission_id: str, *, was_known: bool) -> UserError | JobError:
    """Say why a cluster does not know a job."""
    if was_known:
        return JobError(
            f"the cluster was restarted, and {submission_id} has ended with it: the same command, "
            "`sentiflow submit VERB CONFIG`, resumes"
        )
    return UserError(
        f"the cluster has no job {submission_id}",
        hint="`ray job list` shows its jobs; a cluster that was restarted knows none: then submit "
        "the job again, it resumes",
    )


def _refused_token() -> UserError:
    """Say that the cluster does not take the token any more."""
    return UserError("the cluster refuses the token", hint=_ACCESS_HINT)


def explain_end(details: JobDetails) -> tuple[int, str]:
    """Return the exit code of a job that has ended, and in one line the reason if it failed.

    A job that was stopped, could not start or was lost has no exit code. The returned code is 1.
    """
    if details.status == JobStatus.SUCCEEDED:
        return 0, ""
    code = details.driver_exit_code or 1
    if code < 0:  # signal -code ended the driver; a shell returns 128 + signal
        code = 128 - code
    default = "it was stopped" if details.status == JobStatus.STOPPED else "Ray gives no reason"
    first, *others = (details.message or default).strip().split("\n")
    # After Ray's own line come the last lines of the log.
    errors = [line for line in others if line.startswith(_ERROR_PREFIX)]
    if errors:
        return code, errors[-1].removeprefix(_ERROR_PREFIX)
    return code, first.partition(", last available logs")[0]


def _shorten_message(error: Exception) -> str:
    """Return the system's reason in an error's message, or its last line: before may be a trace."""
    text = str(error).strip()
    reason = _SYSTEM_REASON.search(text)
    if reason:
        return reason[1]
    return text.rpartition("\n")[2].strip()[:_MAX_MESSAGE_LENGTH] or type(error).__name__
