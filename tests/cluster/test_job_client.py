"""A cluster that cannot take a job is refused, each reason in one line."""

import contextlib
import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
import requests

from sentiflow.cluster import job_client, ray_internals
from sentiflow.cluster.job_client import ClusterUnavailableError
from sentiflow.cluster.submission import Submission
from sentiflow.errors import JobError, UserError

TOKEN = "c0ffee" * 10
JOB = Submission("sentiflow-train-x-1a2b3c", "python jobs/train.py x", {}, {}, {}, {})


class FakeDashboard(ThreadingHTTPServer):
    """Answers as a dashboard of some versions, for who has the token."""

    ray_version, status = ray.__version__, 200
    text = b""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        header = self.headers.get("Authorization")
        status = self.server.status
        if status == 200 and header != f"Bearer {TOKEN}":
            status = 403 if header else 401
        answers = {
            "/api/version": {"version": "4", "ray_version": self.server.ray_version},
        }
        if self.path not in answers and status == 200:
            status = 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.server.text or json.dumps(answers.get(self.path)).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Have a home without a token, and no variables of Ray."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    levels = {name: logging.getLogger(name).level for name in job_client._NOISY}
    yield tmp_path
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def dashboard():
    server = FakeDashboard()
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def problem_of(address):
    with pytest.raises(UserError) as error:
        job_client.connect(address)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_a_token_in_rays_file_is_enough(dashboard, home):
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(f"{TOKEN}\n")
    assert job_client.connect(dashboard.address).address == dashboard.address


def test_a_token_is_found_where_ray_finds_it(dashboard, home, monkeypatch):
    (home / "token").write_text(TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    job_client.connect(dashboard.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    assert job_client.find_token() == "another"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert job_client.find_token() == ""


def test_a_missing_or_wrong_token_is_reported_with_where_it_belongs(dashboard, monkeypatch, home):
    assert "asks for a token: put that of its head" in problem_of(dashboard.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f00")
    assert "refuses the token: put that of its head" in problem_of(dashboard.address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "none"))
    assert "none is not a file" in problem_of(dashboard.address)


def test_another_ray_is_refused(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    job_client.connect(dashboard.address)
    dashboard.ray_version = "2.59.0"
    assert "has Ray 2.59.0, but this machine has Ray" in problem_of(dashboard.address)


@pytest.mark.parametrize("address", ["http://head:8265", "http://10.0.0.1:8265", "http://[bad"])
def test_a_token_is_not_sent_where_it_can_be_read(monkeypatch, address):
    monkeypatch.setattr(job_client.requests, "get", None)  # nothing is sent
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    problem = problem_of(address)
    assert f"the token would travel to {address} unencrypted: forward its port: ssh -L" in problem
    assert "RAY_AUTH_MODE=token" in problem


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("https://head", {"RAY_AUTH_TOKEN": TOKEN}),
        ("http://localhost:8265", {"RAY_AUTH_TOKEN": TOKEN}),
        ("http://[::1]:8265", {"RAY_AUTH_TOKEN": TOKEN}),
        ("http://head:8265", {"RAY_AUTH_TOKEN": TOKEN, "RAY_AUTH_MODE": "token"}),
        ("http://head:8265", {"RAY_AUTH_TOKEN": TOKEN, "RAY_AUTH_MODE": "disabled"}),
        ("http://head:8265", {}),
    ],
)
def test_a_token_is_sent_over_safe_connections(monkeypatch, address, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def get(url, headers, timeout):
        assert bool(headers) == (variables.get("RAY_AUTH_MODE") != "disabled" and bool(variables))
        raise requests.ConnectionError("it was asked")

    monkeypatch.setattr(job_client.requests, "get", get)
    assert "no cluster answers" in problem_of(address)


@pytest.mark.parametrize(
    ("status", "job", "error", "message"),
    [
        (404, "x", UserError, "there is no job x at"),
        (400, "x", JobError, "refuses: Request failed with status code 400: no"),
        (400, "x-404", JobError, "refuses: Request failed with status code 400: no"),
        (401, "x", JobError, "refuses the token"),
        (403, "x", JobError, "refuses the token"),
        (429, "x", ClusterUnavailableError, "status code 429: no"),
        (500, "x-404", ClusterUnavailableError, "status code 500: no"),
    ],
)
def test_an_answer_is_final_or_not_by_its_status(
    dashboard, monkeypatch, status, job, error, message
):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    client = job_client.connect(dashboard.address)
    assert client._jobs, "it is connected"
    dashboard.status, dashboard.text = status, b"no"
    with pytest.raises(error, match=message) as caught:
        client.read_state(job)
    assert type(caught.value) is error


def test_another_server_than_a_dashboard_is_refused(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    dashboard.status = 418
    assert "no cluster answers" in problem_of(dashboard.address)
    dashboard.status = 502
    assert "no cluster answers" in problem_of(dashboard.address)
    assert "no cluster answers at http://127.0.0.1:9: name its dashboard by" in problem_of(
        "http://127.0.0.1:9"
    )


def test_a_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(job_client, "_TIMEOUT", (0.2, 0.2))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # Ray may have been imported for clusters with one
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert "no cluster answers" in problem_of(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_rays_own_client_does_not_wait_for_a_server_that_hangs(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # Ray may have been imported for clusters with one
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises((requests.Timeout, ConnectionError)):
            ray_internals.connect_to_jobs(address, {}, (0.2, 0.2))


def test_the_address_is_the_options_or_rays_or_the_usual_one(monkeypatch):
    assert job_client.choose_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://a:1/")
    assert job_client.choose_address(None) == "http://a:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:1")
    assert job_client.choose_address(None) == "http://b:1"
    assert job_client.choose_address("https://c:1") == "https://c:1"


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001", "http://me:pw@head"])
def test_another_address_than_a_dashboards_is_refused(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as error:
        job_client.choose_address(None)
    assert "pw" not in str(error.value)


def test_the_address_that_is_asked_for_wins_over_rays_variables(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert job_client.connect(dashboard.address).address == dashboard.address


class FakeRayClient:
    """Fails to submit a job."""

    def __init__(self, error):
        self.error = error

    def submit_job(self, **options):
        raise self.error


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (requests.ConnectionError("gone"), "no answer from http://x; the job may run: .*--attach "),
        (
            RuntimeError("status code 400: Traceback\nValueError: no such thing."),
            r"http://x refuses: ValueError: no such thing\.$",
        ),
    ],
)
def test_a_job_that_cannot_be_submitted_has_failed(error, problem):
    client = job_client.JobClient("http://x")
    client._jobs = FakeRayClient(error)
    with pytest.raises(JobError, match=problem):
        client.submit(JOB)


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        (job_client.JobState("SUCCEEDED", exit_code=0), 0, ""),
        (job_client.JobState("FAILED", exit_code=2), 2, "exit code 2"),
        (job_client.JobState("FAILED", exit_code=130), 130, "exit code 130"),
        (job_client.JobState("FAILED", exit_code=-9), 137, "killed by signal 9"),
        (job_client.JobState("FAILED", exit_code=-11), 139, "signal 11"),
        (job_client.JobState("FAILED", "no room\nTraceback"), 1, "no room"),
        (job_client.JobState("FAILED"), 1, "Ray gives no reason"),
        (job_client.JobState("STOPPED"), 1, "it was stopped"),
    ],
)
def test_the_exit_code_is_the_jobs_own(state, code, reason):
    found, why = state.explain_end()
    assert found == code
    assert reason in why
