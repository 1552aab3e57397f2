"""A real MLflow server fails: no job waits or fails, and the manifests have what it lacks."""

import contextlib
import signal
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_server import Server

from sentiflow.errors import JobError
from sentiflow.tracking import experiment_store, recording

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
def store(server) -> experiment_store.Store:
    return experiment_store.open_store(server.uri, experiment="laws", required=True)


def open_run(store, stage="train"):
    return recording.open_run(store, stage, group="0123abcd", tags={})


def find_run(server: Server, stage: str) -> Run:
    """Find the only run of a stage."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("laws").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`sentiflow.stage` = '{stage}'")
    return run


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
    with open_run(store, "hang") as recorder, hanging(server):
        for step in range(1, 2000):
            recorder.log_series([(step, {"loss": float(step)})])
        assert not recorder.store.flush()
        assert requests_made.count(recorder.run_id) == 1
    assert find_run(server, "hang").info.status == "RUNNING"


def test_what_mlflow_refuses_holds_nothing_up_and_is_said_once(server, store, caplog):
    with open_run(store, "refused") as recorder:
        recorder.log_settings({"seed": 1})
        recorder.log_settings({"seed": 2})
        recorder.log_settings({"seed": 2})
        recorder.log_metrics({"loss": 1.0})
    run = find_run(server, "refused")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert [m.startswith("MLflow refuses a part of the run: ") for m in caplog.messages] == [True]


def test_a_killed_server_costs_one_line_and_few_requests(server, caplog, requests_made):
    options = {"experiment": "laws", "repair": "sentiflow tracking import x"}
    store = experiment_store.open_store(server.uri, required=True, **options)
    with open_run(store, "killed") as recorder:
        for step in range(1, 60):
            if step == 20:
                recorder.store.flush()
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
    with pytest.raises(JobError, match="cannot reach the MLflow store"):
        experiment_store.open_store(server.uri, experiment="laws", required=True)


@pytest.mark.soak
def test_a_store_that_is_too_slow_is_waited_for_once(server, store, monkeypatch, caplog):
    monkeypatch.setattr(experiment_store, "MAX_WAIT_SECONDS", 0.5)
    with open_run(store, "slow") as recorder:
        recorder.store.flush()
        with hanging(server):
            recorder.log_metrics({"loss": 1.0})
            assert not recorder.store.flush()
            assert not recorder.store.flush()
    (line,) = caplog.messages
    assert line.startswith(f"the MLflow store {server.uri} is too slow; the job continues")
