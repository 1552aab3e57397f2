"""How far a preparation or a scoring is comes to MLflow while it runs; an outage costs nothing."""

import threading
import time

import pytest
from conftest import make_store
from mlflow import MlflowClient

from sentiflow.tracking import experiment_store, live_metrics, mlflow_store, recording
from sentiflow.tracking.live_metrics import LiveMetrics


@pytest.fixture
def watched(monkeypatch):
    """Metrics that are logged, with a clock that the test moves."""
    now = [100.0]
    logged = []
    monkeypatch.setattr(live_metrics.time, "monotonic", lambda: now[0])
    watch = LiveMetrics("prepare", lambda metrics, step: logged.append((step, metrics)))

    def at(seconds, nth, num_rows):
        now[0] = 100.0 + seconds
        watch(nth, num_rows)
        return logged

    return at


def test_a_point_comes_every_ten_seconds_with_the_rate_since_then(watched):
    watched(0, (1, 2), 0)
    for second in range(1, 26):
        watched(second, (1, 2), 100 * second)
    watched(26, (2, 2), 0)
    logged = watched(36, (2, 2), 3000)
    expected = []
    for step, rows, rate, number in ((10, 1000, 100, 1), (20, 2000, 100, 1), (36, 3000, 300, 2)):
        point = {"live_rows": rows, "live_rows_per_second": rate, "live_pass": number}
        expected.append((step, {f"prepare/{name}": value for name, value in point.items()}))
    assert logged == expected


def test_a_short_stage_logs_nothing_and_a_single_pass_has_no_number(watched):
    watched(0, (1, 1), 0)
    assert watched(9, (1, 1), 50) == []
    (point,) = watched(11, (1, 1), 90)
    assert set(point[1]) == {"prepare/live_rows", "prepare/live_rows_per_second"}


@pytest.fixture
def store(tmp_path):
    return experiment_store.open_store(make_store(tmp_path), experiment="laws", required=True)


def open_run(store):
    return recording.open_run(store, "score", group="0123abcd", tags={})


def test_the_store_has_the_points_while_the_stage_runs(store, monkeypatch):
    monkeypatch.setattr(live_metrics, "_EVERY_SECONDS", 0.0)
    client = MlflowClient(store.uri)
    with open_run(store) as recorder:
        watch = recorder.watch_rows("score")
        watch((1, 1), 0)
        for part in (1, 2, 3):
            watch((1, 1), 1000 * part)
            store._offering.join()
        points = client.get_metric_history(recorder.run_id, "score/live_rows")
        assert client.get_run(recorder.run_id).info.status == "RUNNING"
        described = recorder.describe()
    assert [point.value for point in points] == [1000.0, 2000.0, 3000.0]
    assert described["metrics"] == {}, "the manifest does not keep them"


def test_a_point_that_fails_or_hangs_changes_nothing(store, monkeypatch):
    calls = []
    called = threading.Event()

    def hang(client, run_id, **parts):
        calls.append(run_id)
        called.set()
        time.sleep(0.5)
        raise ConnectionError("the server is away")

    with open_run(store) as recorder:
        monkeypatch.setattr(MlflowClient, "log_batch", hang)
        began = time.monotonic()
        for number in range(100):
            recorder._offer_metrics({"score/live_rows": float(number)}, number)
        assert time.monotonic() - began < 0.4
        assert called.wait(60), "a busy machine starts the thread late"
        assert len(calls) == 1, "no call waits behind another"
        store._offering.join()
        monkeypatch.undo()
        recorder.log_metrics({"score/rows": 7.0})
        assert store.flush()
    assert MlflowClient(store.uri).get_run(recorder.run_id).data.metrics == {"score/rows": 7.0}


def test_without_a_store_nothing_is_offered(monkeypatch):
    calls = []
    monkeypatch.setattr(mlflow_store, "make_client", calls.append)
    watch = recording.Recorder().watch_rows("score")
    watch._began -= 60
    watch._logged_at -= 60
    watch((1, 1), 0)
    watch((1, 1), 10)
    assert not calls
