"""Address of a Ray cluster -> its job server: submits jobs, and gives their state and log."""

import contextlib
import functools
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from sentiflow.cluster import ray_internals
from sentiflow.cluster.submission import Submission
from sentiflow.errors import JobError, UserError
from sentiflow.storage.uris import holds_credentials, names_this_machine

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and to wait for an answer."""
_REFUSED = (401, 403)
_STATUS = re.compile(r"Request failed with status code (\d+)")
"""How the errors of Ray's client begin."""
_PASSING = (408, 429)
"""Statuses after which the same request may succeed a moment later."""
_NOISY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_HOW_TO_GIVE = (
    "put that of its head (~/.ray/auth_token there) into RAY_AUTH_TOKEN, the file that "
    "RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
)


class ClusterUnavailableError(JobError):
    """The server does not answer, or answers with an error of its own; a later try may succeed."""


@dataclass(frozen=True)
class JobState:
    """What the cluster knows of a job."""

    status: str
    """``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``."""
    message: str = ""
    """Ray's explanation, of several lines."""
    exit_code: int | None = None
    """Exit code of the driver; None if it has not ended by itself."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What was stored with the job when it was submitted."""

    @property
    def is_final(self) -> bool:
        """Say whether the job has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    def explain_end(self) -> tuple[int, str]:
        """Return the exit code of a job that has ended, and in one line why it failed.

        The code is the job's own; 1 if it has none: it was stopped, could not start, or was lost.
        """
        if self.status == "SUCCEEDED":
            return 0, ""
        if self.status == "STOPPED":
            return 1, "it was stopped; the same command resumes it"
        if self.exit_code is None:
            return 1, self.message.strip().partition("\n")[0] or "Ray gives no reason"
        if self.exit_code < 0:
            return 128 - self.exit_code, f"its driver was killed by signal {-self.exit_code}"
        return self.exit_code or 1, f"exit code {self.exit_code}"


class JobClient:
    """A cluster's job server: a part of its dashboard."""

    def __init__(self, address: str, token: str = "") -> None:
        """Name the server and the token that it asks for."""
        self.address, self.has_token = address, bool(token)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def submit(self, submission: Submission) -> None:
        """Upload the files, unless the cluster has the same, and start the job.

        Raises:
            JobError: The cluster refuses the job, or does not answer.
        """
        job = submission.submission_id
        try:
            with tempfile.TemporaryDirectory() as folder, self._asking(job):
                submission.copy_files(Path(folder))
                self._jobs.submit_job(
                    entrypoint=submission.entrypoint,
                    submission_id=job,
                    runtime_env=submission.runtime_env(Path(folder)),
                    metadata=submission.metadata(),
                )
        except ClusterUnavailableError as error:
            raise JobError(f"{error}; the job may run: sentiflow submit --attach {job}") from error

    def read_state(self, submission_id: str) -> JobState:
        """Ask for the state of a job.

        Raises:
            UserError: There is no job of that name.
            ClusterUnavailableError: The server does not answer.
            JobError: It refuses to answer.
        """
        with self._asking(submission_id):
            found = self._jobs.get_job_info(submission_id)
        return JobState(
            status=found.status.value,
            message=found.message or "",
            exit_code=found.driver_exit_code,
            metadata=found.metadata or {},
        )

    def read_log(self, submission_id: str) -> str:
        """Read everything that a job has written so far; it raises as :meth:`read_state` does."""
        with self._asking(submission_id):
            return str(self._jobs.get_job_logs(submission_id))

    @functools.cached_property
    def _jobs(self) -> JobSubmissionClient:
        """Connect Ray's own client."""
        return ray_internals.connect_to_jobs(self.address, self._headers, _TIMEOUT)

    @contextlib.contextmanager
    def _asking(self, submission_id: str) -> Iterator[None]:
        """Make errors of Ray's client ours: what is final, and what a later try may change."""
        try:
            yield
        except AuthenticationError as error:
            raise JobError(f"{self.address} refuses the token") from error
        except (requests.RequestException, ConnectionError) as error:
            raise ClusterUnavailableError(f"no answer from {self.address}") from error
        except RuntimeError as error:
            found = _STATUS.match(str(error))
            status = int(found[1]) if found else 0
            if status == 404:
                raise UserError(
                    f"there is no job {submission_id} at {self.address}",
                    hint="`ray job list` shows the jobs that it knows",
                ) from error
            kind = ClusterUnavailableError if status >= 500 or status in _PASSING else JobError
            raise kind(f"{self.address} refuses: {_last_line(error)}") from error

    def read_ray_version(self) -> str:
        """Ask for the version of the cluster's Ray.

        Raises:
            UserError: No cluster answers, or it asks for a token or another token.
        """
        url = f"{self.address}/api/version"
        try:
            answer = requests.get(url, headers=self._headers, timeout=_TIMEOUT)
            if answer.status_code in _REFUSED:
                problem = "refuses the token" if self.has_token else "asks for a token"
                raise UserError(f"{self.address} {problem}", hint=_HOW_TO_GIVE)
            answer.raise_for_status()
            return str(answer.json()["ray_version"])
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"no cluster answers at {self.address}",
                hint="name its dashboard by --address, and forward its port 8265: "
                "ssh -L 8265:127.0.0.1:8265 HEAD",
            ) from error


def choose_address(option: str | None) -> str:
    """Choose the address: the option, else Ray's variables, else a dashboard on this machine.

    Raises:
        UserError: It is not the address of a dashboard.
    """
    named = (option, *map(os.environ.get, _ADDRESSES), DEFAULT_ADDRESS)
    address = next(filter(None, named))
    if holds_credentials(address):
        raise UserError("the cluster's address holds a password", hint=_HOW_TO_GIVE)
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"{address} is not the address of a dashboard",
            hint="write http://HOST:8265 after --address or into RAY_API_SERVER_ADDRESS",
        )
    return address.rstrip("/")


def connect(address: str, *, verbose: bool = False) -> JobClient:
    """Connect to a cluster that has the same version of Ray, with the token of this machine.

    Raises:
        UserError: It does not answer, asks for a token or another one, or has another Ray; or the
            token could be read on the way.
    """
    if not verbose:  # Ray logs lines about each upload, request and connection
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
    for name in _ADDRESSES:  # for Ray's client they would override the address
        os.environ.pop(name, None)
    if token := find_token():
        _check_encryption(address)
    client = JobClient(address, token)
    version = client.read_ray_version()
    if version != ray.__version__:  # Python may differ: a submission is text and a zip archive
        raise UserError(
            f"{address} has Ray {version}, but this machine has Ray {ray.__version__}",
            hint="install the same on both, from constraints.txt",
        )
    return client


def find_token() -> str:
    """Read the token of Ray's clusters where Ray looks for it; empty if there is none.

    Ray itself uses the token only if ``RAY_AUTH_MODE`` was ``token`` when it was imported.

    Raises:
        UserError: ``RAY_AUTH_TOKEN_PATH`` does not name a file.
    """
    if _mode() == "disabled":
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or Path.home() / ".ray" / "auth_token")
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    if named:
        raise UserError(f"RAY_AUTH_TOKEN_PATH={named} is not a file", hint="it must hold the token")
    return ""


def _mode() -> str:
    """Return what the user has said to Ray about tokens."""
    return os.environ.get("RAY_AUTH_MODE", "").lower()


def _check_encryption(address: str) -> None:
    """Refuse to send the token unencrypted, unless the user has said that the network is safe."""
    if address.startswith("http://") and not names_this_machine(address) and _mode() != "token":
        raise UserError(
            f"the token would travel to {address} unencrypted",
            hint="forward its port: ssh -L 8265:127.0.0.1:8265 HEAD, or name an https:// address; "
            "RAY_AUTH_MODE=token says that the network is trusted",
        )


def _last_line(error: object) -> str:
    """Return the last line of a message: that of a failed request is a traceback of the server."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
