"""A log is written whole and once, and a job has ended when its state is final, not before."""

import asyncio
import itertools

import pytest

from sentiflow.cluster import log_streaming
from sentiflow.cluster.job_client import AwayError, State
from sentiflow.errors import JobError, UserError

LOG = "".join(f"line {number}\n" for number in range(30))


class FakeServer:
    """A job whose log grows with each connection, and whose server plays a script."""

    address = "http://head:8265"

    def __init__(self, streams, states, log=LOG):
        self.streams, self.states, self.log = list(streams), list(states), log
        self.whole = log

    def look(self, submission_id):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def read_log(self, submission_id):
        if isinstance(self.whole, Exception):
            raise self.whole
        return self.whole

    async def tail_log(self, submission_id):
        """Give the log in pieces up to a length, then break, close or hang."""
        length, end = self.streams.pop(0) if self.streams else (0, "hang")
        for first in range(0, length, 7):
            yield self.log[first : min(first + 7, length)]
        if isinstance(end, Exception):
            raise end
        if end == "hang":
            await asyncio.sleep(3600)


RUNNING, DONE = State("RUNNING"), State("SUCCEEDED", exit_code=0)
AWAY = AwayError("no answer from http://head:8265")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Wait for nothing."""
    monkeypatch.setattr(log_streaming, "_QUIET_SECONDS", 0.02)
    monkeypatch.setattr(log_streaming, "_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(log_streaming, "_MAX_DELAY_SECONDS", 0.01)


def follow(server, **options):
    written = []
    ending = log_streaming.follow(server, "job", written.append, **options)
    return "".join(written), ending


@pytest.mark.parametrize(
    "streams",
    [
        [(len(LOG), "close")],
        [(100, "close"), (len(LOG), "close")],
        [(100, AWAY), (50, AWAY), (120, AWAY), (len(LOG), "close")],
        [(100, "hang")],
        [(0, "hang")],
        [(0, "close"), (0, AWAY), (9, "hang")],
    ],
    ids=str,
)
def test_the_log_is_written_whole_and_nothing_twice(streams):
    server = FakeServer(streams, [RUNNING] * len(streams) + [DONE])
    assert follow(server) == (LOG, log_streaming.Ending("SUCCEEDED", 0))


def test_a_log_that_ends_is_no_job_that_has_ended():
    server = FakeServer([(40, "close")] * 4, [RUNNING] * 4 + [State("FAILED", exit_code=3)])
    assert follow(server)[1] == log_streaming.Ending("FAILED", 3, "exit code 3")
    assert server.streams == []


def test_a_connection_that_seems_dead_is_made_anew(monkeypatch):
    monkeypatch.setattr(log_streaming, "_STALE_SECONDS", 0.05)
    server = FakeServer([(40, "hang"), (len(LOG), "hang")], [RUNNING] * 20 + [DONE])
    server.whole = AWAY
    assert follow(server)[0] == LOG


def test_a_server_that_comes_back_is_said_once(said):
    states = [RUNNING, AWAY, AWAY, AWAY, RUNNING, DONE]
    assert follow(FakeServer([(40, AWAY), (80, "close")], states))[0] == LOG
    lines = [line for line in said.messages if line.startswith("submit")]
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "no answer from http://head:8265; the job goes on, trying again",
        "connected to http://head:8265 again",
    ]


def test_what_is_kept_with_the_job_comes_with_its_end_though_the_server_was_away_first():
    done = State("SUCCEEDED", exit_code=0, metadata={"a": "b"})
    assert follow(FakeServer([], [AWAY, AWAY, done]))[1].metadata == {"a": "b"}


def test_a_server_that_refuses_to_tell_is_not_asked_again():
    states = [RUNNING, JobError("does not take the token"), DONE]
    with pytest.raises(JobError, match="does not take the token"):
        follow(FakeServer([(40, AWAY)], states))


def test_a_server_that_stays_away_is_given_up_and_the_way_back_named():
    server = FakeServer([(40, AWAY)], [RUNNING, AWAY])
    with pytest.raises(JobError, match=r"the job may go on: sentiflow submit --attach job"):
        follow(server, patience_seconds=0.1)


def test_a_job_that_was_forgotten_has_failed_and_one_that_never_was_is_a_mistake():
    unknown = UserError("there is no job job at http://head:8265")
    with pytest.raises(UserError):
        follow(FakeServer([], [unknown]))
    with pytest.raises(JobError, match="has forgotten the job"):
        follow(FakeServer([(40, AWAY)], [RUNNING, unknown]))


def test_a_log_whose_machine_is_gone_is_said_to_be_cut(said):
    server = FakeServer([(40, "close")], [RUNNING, State("FAILED", "Node died.\nmore")])
    server.whole = AWAY
    text, ending = follow(server)
    assert text == LOG[:40]
    assert ending == log_streaming.Ending("FAILED", 1, "Node died.")
    assert "the end of the log cannot be read" in said.text


def test_a_job_that_waits_is_said_to_wait(said, monkeypatch):
    monkeypatch.setattr(log_streaming, "_PENDING_SECONDS", 0)
    pending = State("PENDING", "waiting for the runtime environment")
    assert follow(FakeServer([(0, "hang"), (9, "hang")], [pending] * 5 + [DONE]))[0] == LOG
    assert said.text.count("the job has not started: waiting for the runtime environment") == 1


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        (State("SUCCEEDED", exit_code=0), 0, ""),
        (State("FAILED", exit_code=2), 2, "exit code 2"),
        (State("FAILED", exit_code=130), 130, "exit code 130"),
        (State("FAILED", exit_code=-9), 137, "SIGKILL; was there too little memory"),
        (State("FAILED", exit_code=-11), 139, "signal 11"),
        (State("FAILED", "no room\nTraceback"), 1, "no room"),
        (State("FAILED"), 1, "Ray does not say why"),
        (State("STOPPED"), 1, "it was stopped"),
    ],
)
def test_the_exit_code_is_the_jobs_own(state, code, reason):
    _, ending = follow(FakeServer([], itertools.repeat(state, 2)))
    assert ending.exit_code == code
    assert reason in ending.reason
