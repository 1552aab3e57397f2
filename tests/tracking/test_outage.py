"""A real MLflow server fails: no job waits or fails, and the manifests have what it lacks."""

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow_server import Server

from sentiflow.errors import JobError, UserError
from sentiflow.tracking import recording

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(started) -> Server:
    started.start()
    return started


@pytest.fixture
def store(server) -> recording.Store:
    return recording.open_store(server.uri, experiment="laws", required=True)


def open_run(store, stage="train"):
    return store.run(stage, group="0123abcd", tags={})


def runs(server: Server, stage: str, experiment: str = "laws") -> list:
    client = MlflowClient(server.uri)
    known = client.get_experiment_by_name(experiment).experiment_id
    found = client.search_runs([known], order_by=["attributes.start_time ASC"])
    return [run for run in found if run.data.tags["sentiflow.stage"] == stage]


def history(server: Server, run_id: str, name: str = "loss") -> list[tuple[int, float]]:
    points = MlflowClient(server.uri).get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in points)


@contextlib.contextmanager
def hanging(server: Server) -> Iterator[None]:
    """Let the server take connections and answer nobody, for the block."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.fixture
def requests_made(monkeypatch) -> list[str]:
    """Note each try of a request that logs something."""
    made = []
    log_batch = MlflowClient.log_batch

    def note(client, run_id, **parts):
        made.append(run_id)
        return log_batch(client, run_id, **parts)

    monkeypatch.setattr(MlflowClient, "log_batch", note)
    return made


def test_a_server_that_hangs_is_asked_once(server, store, monkeypatch, requests_made):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with (
        open_run(store, "hang") as recorder,
        recorder.watching_system(),
        contextlib.ExitStack() as stack,
    ):
        time.sleep(2)
        recorder.flush()
        stack.enter_context(hanging(server))
        del requests_made[:]
        for step in range(1, 2000):
            recorder.log_series([(step, {"loss": float(step)})])
        assert not recorder.flush()
        assert requests_made.count(recorder.run_id) == 1
    (run,) = runs(server, "hang")
    assert run.info.status == "RUNNING"
    load = history(server, run.info.run_id, "system/cpu_utilization_percentage")
    assert [step for step, _ in load] == [*range(len(load))]
    assert len(load) > 1


def test_what_mlflow_refuses_holds_nothing_up_and_is_said_once(server, store, caplog):
    with open_run(store, "refused") as recorder:
        recorder.log_settings({"seed": 1})
        recorder.log_settings({"seed": 2})
        recorder.log_settings({"seed": 2})
        recorder.log_metrics({"loss": 1.0})
    (run,) = runs(server, "refused")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert [m.startswith("MLflow refuses a part of the run: ") for m in caplog.messages] == [True]


def test_a_killed_server_costs_one_line_and_few_requests(server, caplog, requests_made):
    options = {"experiment": "laws", "repair": "sentiflow tracking import x"}
    store = recording.open_store(server.uri, required=True, **options)
    with open_run(store, "killed") as recorder:
        assert recording.read_tags(server.uri, recorder.run_id)["sentiflow.stage"] == "killed"
        with pytest.raises(UserError, match="cannot read the run 0000"):
            recording.read_tags(server.uri, "0" * 32)
        for step in range(1, 60):
            if step == 20:
                recorder.flush()
                server.kill()
                del requests_made[:]
            recorder.log_metrics({"loss": float(step)}, step=step)
            recorder.log_series([(step, {"step/loss": 1.0})])
        recorder.log_files({"a.txt": b"late"})
        nested = recorder.begin_nested("0001-late", stage="train", tags={})
        nested.log_metrics({"loss": 0.5})
        nested.end("KILLED", reason="stopped")
    with open_run(store, "next") as following:
        following.log_metrics({"loss": 1.0})
        assert not following.run_id
    assert len(requests_made) <= 22  # tries of one call within 2 s
    (line,) = caplog.messages
    assert line.startswith(f"cannot reach the MLflow store {server.uri}: ")
    assert line.endswith(
        "; the job continues without it; to add its runs later: sentiflow tracking import x"
    )
    behind = MlflowClient(f"sqlite:///{server.folder}/server.db")
    points = behind.get_metric_history(recorder.run_id, "loss")
    assert sorted((p.step, p.value) for p in points) == [(s, float(s)) for s in range(1, 20)]
    with pytest.raises(JobError, match="cannot read the run"):
        recording.read_tags(server.uri, recorder.run_id)
    with pytest.raises(JobError, match="cannot reach the MLflow store"):
        recording.open_store(server.uri, experiment="laws", required=True)


def test_a_store_that_is_too_slow_is_waited_for_once(server, store, monkeypatch, caplog):
    monkeypatch.setattr(recording, "MAX_WAIT_SECONDS", 0.5)
    with open_run(store, "slow") as recorder:
        recorder.flush()
        with hanging(server):
            recorder.log_metrics({"loss": 1.0})
            assert not recorder.flush()
            assert not recorder.flush()
    (line,) = caplog.messages
    assert line.startswith(f"the MLflow store {server.uri} is too slow; the job continues")
