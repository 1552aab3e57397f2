"""A cluster that cannot take a job is refused, each reason in one line."""

import contextlib
import json
import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
import requests
from ray._raylet import AuthenticationTokenLoader
from ray.job_submission import JobDetails

from sentiflow.cluster import job_client
from sentiflow.cluster.submission import OUTPUT_KEY, USER_KEY, WORK_KEY, Submission
from sentiflow.config import settings
from sentiflow.errors import JobError, UnavailableError, UserError

TOKEN = "c0ffee" * 10
JOB = Submission(
    submission_id="sentiflow-train-x-1a2b3c",
    entrypoint="python jobs/train.py x",
    config=settings.load({"name": "x", "output_uri": "s3://b/x"}),
    variables={},
    named={},
    files={},
    output_uri="s3://b/x",
    work="c0ffee",
    user="ann",
)


class Handler(BaseHTTPRequestHandler):
    """Answers as a dashboard, for who has the token."""

    def do_GET(self):
        header = self.headers.get("Authorization")
        status = self.server.status
        if status == 200 and header != f"Bearer {TOKEN}":
            status = 403 if header else 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture(autouse=True)
def home(tmp_path):
    """Have a home without a token, and no variables of Ray.

    A Ray of other tests in this process would end it: it frees objects by calls, now and then,
    and needs the token for them. So ``conftest.py`` puts this file before all others.
    """
    assert not ray.is_initialized()
    levels = {name: logging.getLogger(name).level for name in job_client._RAY_LOGGERS}
    loader = AuthenticationTokenLoader.instance()  # keeps what it has read
    with pytest.MonkeyPatch.context() as patch:
        for name in ("API_SERVER_ADDRESS", "ADDRESS", "AUTH_TOKEN", "AUTH_TOKEN_PATH", "AUTH_MODE"):
            patch.delenv(f"RAY_{name}", raising=False)
        patch.setenv("HOME", str(tmp_path))
        loader.reset_cache()
        yield tmp_path
    loader.reset_cache()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def dashboard():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.status = 200
    server.answer = json.dumps({"version": "4", "ray_version": ray.__version__}).encode()
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def problem_of(address, kind=UserError):
    with pytest.raises(kind) as error:
        job_client.connect(address)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_a_token_is_found_where_ray_finds_it(dashboard, home, monkeypatch):
    (home / "token").write_text(TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    job_client.connect(dashboard.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    assert job_client.find_token() == "another"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert job_client.find_token() == ""  # none is sent


def test_a_missing_or_wrong_token_is_reported_with_where_it_belongs(dashboard, monkeypatch, home):
    assert "asks for a token: put the token of its head" in problem_of(dashboard.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f00")
    assert "refuses the token: put the token of its head" in problem_of(dashboard.address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")


@pytest.mark.parametrize("address", ["http://head:8265", "http://10.0.0.1:8265", "http://[bad"])
def test_a_token_is_not_sent_where_it_can_be_read(monkeypatch, address):
    monkeypatch.setattr(requests, "request", None)  # nothing is sent
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
    ],
)
def test_a_token_is_sent_over_safe_connections(monkeypatch, address, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def request(*arguments, headers, **options):
        assert TOKEN in str(headers)
        raise requests.ConnectionError("it was asked")

    monkeypatch.setattr(requests, "request", request)
    assert "no cluster answers" in problem_of(address, UnavailableError)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]"])
def test_another_server_than_a_dashboard_is_refused(dashboard, monkeypatch, answer):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    dashboard.answer = answer
    assert "is not the dashboard of a Ray cluster: name it by" in problem_of(dashboard.address)


@pytest.mark.parametrize("status", [404, 418, 429, 502, 503])
def test_a_cluster_that_may_just_be_starting_is_worth_a_retry(dashboard, monkeypatch, status):
    """A proxy in front of a head that is replaced answers 404 or 503."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    dashboard.status = status
    assert "no cluster answers" in problem_of(dashboard.address, UnavailableError)


def test_a_cluster_that_does_not_answer_is_worth_a_retry():
    problem = problem_of("http://127.0.0.1:9", UnavailableError)
    assert problem.startswith("no cluster answers at http://127.0.0.1:9: name its dashboard by")
    assert problem.endswith("if the cluster is just starting, run the same command again")


def test_a_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(job_client, "_TIMEOUT", (0.2, 0.2))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # Ray may have been imported for clusters with one
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "no cluster answers" in problem_of(address, UnavailableError)


def test_the_address_is_the_options_or_rays_or_the_usual_one(monkeypatch):
    assert job_client.choose_address(None) == "http://127.0.0.1:8265"
    for variables, expected in (
        ({"RAY_ADDRESS": "http://a:1/"}, "http://a:1"),
        ({"RAY_ADDRESS": "http://a:1/", "RAY_API_SERVER_ADDRESS": "http://b:1"}, "http://b:1"),
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert job_client.choose_address(None) == expected
        assert not variables.keys() & os.environ.keys(), "Ray's client would prefer them"
    assert job_client.choose_address("https://c:1") == "https://c:1"


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001", "http://me:pw@head"])
def test_another_address_than_a_dashboards_is_refused(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="is not the address of a dashboard: write") as error:
        job_client.choose_address(None)
    assert "pw" not in str(error.value)


class FakeRayClient:
    """A job whose states and logs are given, one for each request; the last stays."""

    def __init__(self, states=(), logs=("",), *, submitted=None, listed=()):
        self.states = list(states)
        self.logs = list(logs)
        self.submitted = submitted
        self.listed = listed

    def _next(self, answers):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get_job_info(self, job):
        return self._next(self.states)

    def get_job_logs(self, job):
        return self._next(self.logs)

    def list_jobs(self):
        return self._next([self.listed])

    def submit_job(self, **options):
        self.options = options
        if self.submitted:
            raise self.submitted


REFUSED = ray.exceptions.AuthenticationError("no")


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        (
            requests.ConnectionError("gone"),
            JobError,
            "accept sentiflow-train-x-1a2b3c: gone: run the same .* it attaches to it$",
        ),
        (
            RuntimeError("status code 400: Traceback\nValueError: no such thing."),
            JobError,
            ": ValueError: no",
        ),
        (
            RuntimeError("status code 500: No available agent to submit job, please try later."),
            JobError,
            "its head has no agent, .* another Ray, had taken .*--dashboard-agent-listen-port",
        ),
        (REFUSED, UserError, "the cluster refuses the token: put the token of its head"),
    ],
)
def test_a_job_that_cannot_be_submitted_has_failed(error, kind, problem):
    with pytest.raises(kind, match=problem):
        job_client.submit(FakeRayClient(submitted=error), JOB)


def test_ray_keeps_where_the_results_are_and_what_the_work_is():
    client = FakeRayClient()
    job_client.submit(client, JOB)
    named = {OUTPUT_KEY: "s3://b/x", USER_KEY: "ann", WORK_KEY: "c0ffee"}
    assert client.options["metadata"] == named


LOG = "".join(f"line {number}\n" for number in range(30))
AWAY = requests.ConnectionError("pool(…): Max retries (…: [Errno 111] Connection refused'))")
LOST = RuntimeError("Request failed with status code 404: Job job does not exist.")
PROXIES = [
    RuntimeError(f"Request failed with status code {text}.")
    for text in ("502: Bad Gateway", "404: page not found", "429: Too Many Requests", "408: late")
]
"""Answers of a proxy in front of a cluster."""


def state(status, message=None, code=None, **fields):
    return JobDetails(
        **{"type": "SUBMISSION", "entrypoint": "x"} | fields,
        status=status, message=message, driver_exit_code=code,
    )  # fmt: skip


RUNNING = state("RUNNING")
DONE = state("SUCCEEDED", code=0)


def follow(states, logs=(LOG,), **options):
    looks = list(job_client.follow(FakeRayClient(states, logs), "job", **options))
    return "".join(text for _, text in looks), looks[-1][0]


@pytest.fixture
def quick(monkeypatch):
    """Wait for nothing."""
    monkeypatch.setattr(job_client, "_DELAY_SECONDS", 0)


@pytest.mark.parametrize(
    "logs",
    [[LOG], ["", LOG[:9], LOG], [LOG[:9], AWAY, AWAY, LOG], [LOG[:9], *PROXIES, LOG]],
)
def test_the_log_is_complete_when_the_state_is_final_whatever_fails_before(quick, logs):
    assert follow([RUNNING] * (len(logs) - 1) + [DONE], logs) == (LOG, DONE)


@pytest.mark.parametrize(
    ("states", "logs", "error", "problem"),
    [
        ([LOST], [LOG], UserError, "the cluster has no job job: `ray job list` shows its jobs"),
        ([RUNNING, LOST], [LOG], JobError, "the cluster was restarted, and job .* resumes$"),
        ([RUNNING], [LOG, LOST], JobError, "the cluster was restarted"),
        ([REFUSED], [LOG], UserError, "the cluster refuses the token: put"),
        ([state("RUNNING", type="DRIVER")], [LOG], UserError, "job is a driver that was not"),
        (
            [RUNNING, AWAY],
            [LOG],
            JobError,
            "Connection refused; the job may still run: .* --attach job",
        ),
    ],
)
def test_a_job_that_cannot_be_followed_is_one_line(
    quick, monkeypatch, states, logs, error, problem
):
    monkeypatch.setattr(job_client, "_MAX_SILENCE_SECONDS", 0.05)
    with pytest.raises(error, match=problem):
        follow(states, logs)


def test_a_cluster_that_lost_a_job_at_once_was_restarted(quick):
    with pytest.raises(JobError, match="the cluster was restarted"):
        follow([LOST], was_known=True)


def test_a_silence_is_told_once_and_its_end_too(quick, monkeypatch, said):
    monkeypatch.setattr(job_client, "_TELL_SECONDS", -1)
    assert follow([RUNNING, AWAY, AWAY, AWAY, DONE]) == (LOG, DONE)
    assert said.messages == [
        "submit    the cluster does not answer (Connection refused); trying for 10 min",
        "submit    the cluster answers again",
    ]


def test_the_same_work_is_found_while_it_runs():
    same = {"metadata": {WORK_KEY: "c0ffee"}}
    jobs = [
        state("RUNNING"),
        state("RUNNING", metadata={WORK_KEY: "other"}),
        state("STOPPED", **same, start_time=1),
        state("RUNNING", **same, start_time=3, submission_id="later"),
        state("PENDING", **same, start_time=2, submission_id="first"),
    ]
    found = job_client.find_same_work(FakeRayClient(listed=jobs), JOB)
    assert found.submission_id == "first"
    assert job_client.find_same_work(FakeRayClient(listed=jobs[:3]), JOB) is None
    with pytest.raises(
        JobError, match="does not list its jobs: Connection refused: run the same command"
    ):
        job_client.find_same_work(FakeRayClient(listed=AWAY), JOB)


@pytest.mark.parametrize(
    ("details", "code", "reason"),
    [
        (DONE, 0, ""),
        (state("FAILED", "exit code 2", 2), 2, "exit code 2"),
        (state("FAILED", "killed", -9), 137, "killed"),
        (state("FAILED", "no room\nTraceback"), 1, "no room"),
        (
            state("FAILED", "exit code 2, last available logs (…):\nsentiflow: no file\nbye", 2),
            2,
            "no file",
        ),
        (
            state("FAILED", "exit code 1, last available logs (…):\n\n1 error", 1),
            1,
            "exit code 1",
        ),
        (state("FAILED"), 1, "Ray gives no reason"),
        (state("STOPPED", "it was stopped by Ray"), 1, "it was stopped by Ray"),
        (state("STOPPED"), 1, "it was stopped"),
    ],
)
def test_the_exit_code_is_the_jobs_own(details, code, reason):
    assert job_client.explain_end(details) == (code, reason)
