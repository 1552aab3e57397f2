"""A log is written completely and once, and a job has ended only when its state is final."""

import pytest

from sentiflow.cluster import log_streaming
from sentiflow.cluster.job_client import ClusterUnavailableError, JobState
from sentiflow.errors import JobError, UserError

LOG = "".join(f"line {number}\n" for number in range(30))


class FakeClient:
    """A job whose log grows with each connection, and whose states are given."""

    address = "http://head:8265"

    def __init__(self, streams, states, log=LOG):
        self.streams, self.states, self.log = list(streams), list(states), log
        self.whole = log

    def read_state(self, submission_id):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def read_log(self, submission_id):
        if isinstance(self.whole, Exception):
            raise self.whole
        return self.whole

    def tail_log(self, submission_id, write):
        """Give the log in pieces up to a length, then break or close."""
        length, end = self.streams.pop(0) if self.streams else (0, "close")
        for first in range(0, length, 7):
            write(self.log[first : min(first + 7, length)])
        if isinstance(end, Exception):
            raise end


RUNNING, DONE = JobState("RUNNING"), JobState("SUCCEEDED", exit_code=0)
AWAY = ClusterUnavailableError("no answer from http://head:8265")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Wait for nothing."""
    monkeypatch.setattr(log_streaming, "_DELAY_SECONDS", 0.01)


def follow(client, **options):
    written = []
    result = log_streaming.follow(client, "job", written.append, **options)
    return "".join(written), result


@pytest.mark.parametrize(
    "streams",
    [
        [(len(LOG), "close")],
        [(100, "close"), (len(LOG), "close")],
        [(100, AWAY), (50, AWAY), (120, AWAY), (len(LOG), "close")],
        [(0, "close"), (0, AWAY), (9, "close")],
    ],
    ids=str,
)
def test_the_log_is_written_completely_and_without_repetition(streams):
    client = FakeClient(streams, [RUNNING] * len(streams) + [DONE])
    assert follow(client) == (LOG, DONE)


def test_the_end_of_a_log_is_not_the_end_of_the_job():
    client = FakeClient([(40, "close")] * 4, [RUNNING] * 4 + [JobState("FAILED", exit_code=3)])
    assert follow(client)[1].explain_end() == (3, "exit code 3")
    assert client.streams == []


def test_an_outage_and_its_end_are_reported_once(said):
    states = [RUNNING, AWAY, AWAY, AWAY, RUNNING, DONE]
    assert follow(FakeClient([(40, AWAY), (80, "close")], states))[0] == LOG
    lines = [line for line in said.messages if line.startswith("submit")]
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "no answer from http://head:8265; the job continues, trying again",
        "connected to http://head:8265 again",
    ]


def test_the_result_has_the_metadata_of_the_job():
    done = JobState("SUCCEEDED", exit_code=0, metadata={"a": "b"})
    assert follow(FakeClient([], [AWAY, AWAY, done]))[1].metadata == {"a": "b"}


def test_a_refusal_ends_it_at_once():
    states = [RUNNING, JobError("does not take the token"), DONE]
    with pytest.raises(JobError, match="does not take the token"):
        follow(FakeClient([(40, AWAY)], states))


def test_a_client_that_stays_unavailable_ends_it_and_the_command_to_attach_is_shown():
    client = FakeClient([(40, AWAY)], [RUNNING, AWAY])
    with pytest.raises(JobError, match=r"the job may still run: sentiflow submit --attach job"):
        follow(client, patience_seconds=0.1)


def test_a_job_that_is_lost_has_failed_and_an_unknown_one_is_a_user_error():
    unknown = UserError("there is no job job at http://head:8265")
    with pytest.raises(UserError):
        follow(FakeClient([], [unknown]))
    with pytest.raises(JobError, match="its jobs are lost"):
        follow(FakeClient([(40, AWAY)], [RUNNING, unknown]))


def test_a_log_on_a_dead_node_is_reported_as_incomplete(said):
    client = FakeClient([(40, "close")], [RUNNING, JobState("FAILED", "Node died.\nmore")])
    client.whole = AWAY
    text, result = follow(client)
    assert text == LOG[:40]
    assert result.explain_end() == (1, "Node died.")
    assert "the end of the log cannot be read" in said.text


def test_a_pending_job_is_reported_once(said, monkeypatch):
    monkeypatch.setattr(log_streaming, "_PENDING_SECONDS", 0)
    pending = JobState("PENDING", "waiting for the runtime environment")
    assert follow(FakeClient([], [pending] * 5 + [DONE]))[0] == LOG
    assert said.text.count("the job has not started: waiting for the runtime environment") == 1
