"""Address of a Ray cluster -> its server for jobs, which submits them and tells of them."""

import logging
import os
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

# Ray reads it when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import aiohttp
import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from sentiflow.cluster.submission import Submission
from sentiflow.errors import JobError, UserError
from sentiflow.storage.uris import holds_credentials, names_this_machine

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_SECONDS = (10, 120)
"""To connect, and for an answer: Ray itself would wait for ever."""
_TRIES_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""A head that has just started has no agent yet that would take a job."""
_TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
_NOISY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_HOW_TO_GIVE = "put it into ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"


_NOT_NOW = (408, 429)
"""Among the answers of a server that mean that the question is wrong, those that do not."""


class AwayError(JobError):
    """A server that does not answer, or not well; later it may."""


class _StatusError(RuntimeError):
    """An answer that is none, with its status."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.status_code} {_last_line(answer.text)}")
        self.status = answer.status_code


@dataclass(frozen=True)
class State:
    """What the cluster knows of a job."""

    status: str
    message: str = ""
    exit_code: int | None = None
    """Of the driver; None if it has not ended by itself."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Say whether the job has ended."""
        return self.status in _TERMINAL


class JobClient:
    """The part of a cluster's dashboard that is for jobs."""

    def __init__(self, address: str, client: JobSubmissionClient, *, guarded: bool) -> None:
        """Take a client that is connected, and whether it has shown a token."""
        self.address, self._client, self.guarded = address, client, guarded

    def submit(self, submission: Submission, *, folder: Path) -> None:
        """Upload the working directory, unless the cluster has the same, and start the job.

        Raises:
            JobError: The cluster refuses, or goes away before it can be known.
        """
        for delay in _TRIES_SECONDS:
            try:
                return self._submit(submission, folder)
            except AwayError as error:
                problem = error
            if self._knows(submission.submission_id):  # the answer alone was lost
                return None
            time.sleep(delay)
        raise JobError(f"the job was not submitted: {problem}") from problem

    def _submit(self, submission: Submission, folder: Path) -> None:
        try:
            self._client.submit_job(
                entrypoint=submission.entrypoint,
                submission_id=submission.submission_id,
                runtime_env=submission.runtime_env(folder),
                metadata=submission.metadata(),
            )
        except (RuntimeError, AuthenticationError) as error:
            raise JobError(f"the cluster refuses the job: {_last_line(error)}") from error

    def _knows(self, submission_id: str) -> bool:
        try:
            self.look(submission_id)
        except (UserError, JobError):
            return False
        return True

    def look(self, submission_id: str) -> State:
        """Ask for the state of a job.

        Raises:
            UserError: There is none of that name.
            AwayError: The server does not answer.
            JobError: It answers that it will not tell.
        """
        try:
            found = self._client.get_job_info(submission_id)
        except AuthenticationError as error:
            raise JobError(
                f"{self.address} does not take the token that is here; the job may go on: "
                f"sentiflow submit --attach {submission_id}"
            ) from error
        except _StatusError as error:
            if error.status == 404:
                raise UserError(
                    f"there is no job {submission_id} at {self.address}",
                    hint="`ray job list` names those that are",
                ) from error
            if error.status in _NOT_NOW:
                raise AwayError(f"{self.address} answers: {error}") from error
            raise JobError(f"{self.address} does not tell of the job: {error}") from error
        except (RuntimeError, ValueError) as error:
            raise AwayError(_last_line(error)) from error
        return State(
            status=str(found.status.value),
            message=found.message or "",
            exit_code=found.driver_exit_code,
            metadata=found.metadata or {},
        )

    def read_log(self, submission_id: str) -> str:
        """Read all that a job has written so far.

        Raises:
            AwayError: The server does not answer, or not the machine that has the log.
        """
        try:
            return self._client.get_job_logs(submission_id)
        except (RuntimeError, AuthenticationError) as error:
            raise AwayError(_last_line(error)) from error

    def is_here(self) -> bool:
        """Say whether this machine is all of the cluster, as far as its server tells."""
        try:
            answer = self._client._do_request("GET", "/nodes?view=summary").json()
            nodes = [node["raylet"] for node in answer["data"]["summary"]]
            places = {
                (node["nodeManagerHostname"], node["nodeManagerAddress"])
                for node in nodes
                if node["state"] == "ALIVE"
            }
        except (AwayError, AuthenticationError, ValueError, KeyError, TypeError):
            return False
        name = socket.gethostname()
        return bool(places) and all(host == name and _is_mine(ip) for host, ip in places)

    async def tail_log(self, submission_id: str) -> AsyncGenerator[str, None]:
        """Give what a job writes, from its beginning, as it writes it.

        It ends with the job, and also if the server just closes the connection.

        Raises:
            AwayError: The connection broke.
        """
        try:
            async for text in self._client.tail_job_logs(submission_id):
                yield text
        except (aiohttp.ClientError, RuntimeError, OSError) as error:
            raise AwayError(_last_line(error)) from error


class _Client(JobSubmissionClient):
    """Ray's client, with limits of time, and one error for a server that is away."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        try:
            answer = super()._do_request(method, endpoint, timeout=_SECONDS, **options)
        except requests.RequestException as error:
            raise AwayError(f"no answer from {self._address}") from error
        if answer.status_code >= 500:
            raise AwayError(
                f"{self._address} answers: {answer.status_code} {_last_line(answer.text)}"
            )
        return answer

    def _raise_error(self, r: requests.Response) -> NoReturn:
        raise _StatusError(r)


def choose_address(option: str | None) -> str:
    """Decide which cluster is meant: the option, Ray's variables, or the dashboard right here.

    Raises:
        UserError: It is no address of a dashboard.
    """
    named = [(f"--address {option}", option)]
    named += [(f"{name}={os.environ.get(name)}", os.environ.get(name)) for name in _ADDRESSES]
    source, address = next(((s, a) for s, a in named if a), ("", DEFAULT_ADDRESS))
    assert address is not None, "one is the default"
    if holds_credentials(address):
        raise UserError("the cluster's address holds a password", hint=_HOW_TO_GIVE)
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{source} is no address of a dashboard", hint="write http://HOST:8265")
    return address.rstrip("/")


def connect(address: str, *, verbose: bool = False) -> JobClient:
    """Connect to a cluster of the same Ray as here, with the token that is here.

    Raises:
        UserError: It does not answer, wants a token or another one, or has another Ray; or the
            token could be read on the way.
    """
    if not verbose:
        _quiet()
    for name in _ADDRESSES:  # they would go before the address that is asked for
        os.environ.pop(name, None)
    token, origin = _find_token()
    if token:
        _check_way(address)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        client = _Client(address, headers=headers)
        metadata = client._do_request("GET", "/api/v0/cluster_metadata").json()["data"]
    except AwayError as error:
        raise UserError(
            f"no cluster answers at {address}",
            hint="name it by --address, and forward its port 8265: ssh -L 8265:127.0.0.1:8265 HEAD",
        ) from error
    except AuthenticationError as error:
        if not token:
            problem = f"{address} wants a token, and there is none"
            raise UserError(problem, hint=_HOW_TO_GIVE) from error
        raise UserError(
            f"{address} refuses the token of {origin}",
            hint="put the one there that its head has in ~/.ray/auth_token",
        ) from error
    except (RuntimeError, requests.RequestException, ValueError, KeyError) as error:
        raise UserError(
            f"{address} answers as no dashboard of Ray does", hint="write http://HOST:8265"
        ) from error
    _check_version(address, metadata["rayVersion"])
    return JobClient(address, client, guarded=bool(token))


def read_token() -> str:
    """Read the token of Ray's clusters, where Ray looks for it; nothing if there is none.

    Ray would use it only if ``RAY_AUTH_MODE`` was ``token`` when it was imported.

    Raises:
        UserError: ``RAY_AUTH_TOKEN_PATH`` names no file.
    """
    return _find_token()[0]


def _find_token() -> tuple[str, str]:
    """Read the token, and name the variable or file that holds it; nothing if there is none."""
    if _mode() == "disabled":
        return "", ""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if path.is_file():
        return path.read_text(encoding="utf-8").strip(), str(path)
    if named:
        raise UserError(f"RAY_AUTH_TOKEN_PATH={named} is no file", hint="it must hold the token")
    return "", ""


def _mode() -> str:
    """Give what the user has told Ray of tokens."""
    return os.environ.get("RAY_AUTH_MODE", "").lower()


def _check_way(address: str) -> None:
    """Make sure that nobody reads the token on its way, or that the user says that nobody can."""
    if address.startswith("http://") and not names_this_machine(address) and _mode() != "token":
        raise UserError(
            f"the token would travel to {address} unencrypted",
            hint="forward its port: ssh -L 8265:127.0.0.1:8265 HEAD, or name an https:// address; "
            "RAY_AUTH_MODE=token says that the network is trusted",
        )


def _check_version(address: str, ray_version: str) -> None:
    """Make sure that the cluster has the Ray that sentiflow was tested with, as there is here.

    Its Python may be another one: what is submitted is text and a zip archive.
    """
    if ray_version != ray.__version__:
        raise UserError(
            f"{address} has Ray {ray_version}, but here is Ray {ray.__version__}",
            hint="install the same on both, from constraints.txt",
        )


def _is_mine(ip: str) -> bool:
    """Say whether an address is one of this machine's."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def _quiet() -> None:
    """Silence what Ray says of each upload, request and connection."""
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


def _last_line(error: object) -> str:
    """Give the end of a message, which for a failed request is a traceback of the server."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
