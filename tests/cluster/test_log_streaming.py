"""A log is written completely and once, and a job has ended only when its state is final."""

import pytest

from sentiflow.cluster import log_streaming
from sentiflow.cluster.job_client import ClusterUnavailableError, JobState
from sentiflow.errors import JobError, UserError

LOG = "".join(f"line {number}\n" for number in range(30))


class FakeClient:
    """A job whose states and logs are given, one for each request; the last stays."""

    address = "http://head:8265"

    def __init__(self, states, logs=(LOG,)):
        self.states, self.logs = list(states), list(logs)

    def _next(self, answers):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read_state(self, submission_id):
        return self._next(self.states)

    def read_log(self, submission_id):
        return self._next(self.logs)


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
    "lengths",
    [
        [None],
        [0, 100, None],
        [100, AWAY, AWAY, 120, None],
        [100, 0, None],
    ],
    ids=str,
)
def test_the_log_is_written_completely_and_without_repetition(lengths):
    logs = [n if n is AWAY else LOG[:n] for n in lengths]
    client = FakeClient([RUNNING] * (len(logs) - 1) + [DONE], logs)
    assert follow(client) == (LOG, DONE)


def test_the_exit_code_is_that_of_the_final_state():
    client = FakeClient([RUNNING] * 4 + [JobState("FAILED", exit_code=3)], [LOG[:40]] * 4 + [LOG])
    text, state = follow(client)
    assert (text, state.explain_end()) == (LOG, (3, "exit code 3"))


def test_an_outage_and_its_end_are_reported_once(said):
    states = [RUNNING, AWAY, AWAY, AWAY, RUNNING, DONE]
    assert follow(FakeClient(states, [LOG[:40], LOG]))[0] == LOG
    lines = [line for line in said.messages if line.startswith("submit")]
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "no answer from http://head:8265; the job continues, trying again",
        "connected to http://head:8265 again",
    ]


def test_the_result_has_the_metadata_of_the_job():
    done = JobState("SUCCEEDED", exit_code=0, metadata={"a": "b"})
    assert follow(FakeClient([AWAY, AWAY, done]))[1].metadata == {"a": "b"}


def test_a_refusal_ends_it_at_once():
    states = [RUNNING, JobError("does not take the token"), DONE]
    with pytest.raises(JobError, match="does not take the token"):
        follow(FakeClient(states))


def test_a_client_that_stays_unavailable_ends_it_and_the_command_to_attach_is_shown():
    client = FakeClient([RUNNING, AWAY])
    with pytest.raises(JobError, match=r"the job may still run: sentiflow submit --attach job"):
        follow(client, patience_seconds=0.1)


def test_a_job_that_is_lost_has_failed_and_an_unknown_one_is_a_user_error():
    unknown = UserError("there is no job job at http://head:8265")
    with pytest.raises(UserError):
        follow(FakeClient([unknown]))
    with pytest.raises(JobError, match="its jobs are lost"):
        follow(FakeClient([RUNNING, unknown]))


@pytest.mark.parametrize("error", [AWAY, JobError("refused"), UserError("there is no job")])
def test_a_log_on_a_dead_node_is_reported_as_incomplete(said, error):
    client = FakeClient([RUNNING, JobState("FAILED", "Node died.\nmore")], [LOG[:40], error])
    text, result = follow(client)
    assert text == LOG[:40]
    assert result.explain_end() == (1, "Node died.")
    assert "the end of the log cannot be read" in said.text


def test_a_pending_job_is_reported_once(said, monkeypatch):
    monkeypatch.setattr(log_streaming, "_PENDING_SECONDS", 0)
    pending = JobState("PENDING", "waiting for the runtime environment")
    assert follow(FakeClient([pending] * 5 + [DONE]))[0] == LOG
    assert said.text.count("the job has not started: waiting for the runtime environment") == 1
