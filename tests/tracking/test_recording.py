import json
import math
import pickle
import sys
import threading
import time

import pytest
from conftest import make_store
from mlflow import MlflowClient

from sentiflow import __version__
from sentiflow.errors import JobError
from sentiflow.tracking import experiment_store, recording, runs
from sentiflow.tracking.model_registration import register


@pytest.fixture
def uri(tmp_path) -> str:
    return make_store(tmp_path)


@pytest.fixture
def store(uri) -> experiment_store.Store:
    return experiment_store.open_store(uri, experiment="laws", required=True)


def only_run(uri: str):
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "laws"]
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_the_store_gets_what_is_logged(store, uri):
    with recording.open_run(store, "train", group="0123abcd", tags={"more": "x"}) as recorder:
        recorder.log_settings({"model": {"cell": "gru"}, "long": "x" * 9000})
        recorder.log_metrics({"train/loss": 0.5, "undefined": None}, step=3)
        recorder.log_files({"plots/a.png": b"png"})
    run = only_run(uri)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.cell"] == "gru"
    assert len(run.data.params["long"]) == runs.MAX_PARAM_LENGTH
    assert run.data.metrics == {"train/loss": 0.5}
    assert run.data.tags["sentiflow.stage"] == "train"
    assert run.data.tags["more"] == "x"
    assert [f.path for f in MlflowClient(uri).list_artifacts(run.info.run_id)] == ["plots"]


def test_a_run_names_the_person_and_has_own_tags_which_the_manifest_keeps(store, uri):
    tags = {"team": "crm", "sentiflow.output_uri": "/x"}
    with recording.open_run(store, "sweep", group="0123abcd", user="anna", tags=tags) as recorder:
        nested = recorder.begin_nested("0001", stage="train", tags={})
        described = recorder.describe()
    expected = {"mlflow.user": "anna", "sentiflow.user": "anna", "team": "crm"}
    client = MlflowClient(uri)
    for run_id in (recorder.run_id, nested.run_id):
        run = client.get_run(run_id)
        assert expected.items() <= run.data.tags.items()
        assert run.info.user_id == "anna"
    assert expected.items() <= described["tags"].items()


def test_the_use_of_this_machine_is_logged_and_the_end_of_the_block_ends_it(
    store, uri, monkeypatch
):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        with recorder.watching_system():
            time.sleep(1)
        threads = {thread.name for thread in threading.enumerate()}
    points = MlflowClient(uri).get_metric_history(
        recorder.run_id, "system/system_memory_usage_megabytes"
    )
    assert [point.step for point in points] == [*range(len(points))]
    assert points
    assert "SystemMetricsMonitor" not in threads


def test_a_pickled_recorder_sends_nothing(store, uri):
    with recording.open_run(store, "sweep", group="0123abcd", tags={}) as recorder:
        copy = pickle.loads(pickle.dumps(recorder))
        copy.log_metrics({"train/loss": 0.5})
    assert not only_run(uri).data.metrics


def test_artifacts_lie_beside_the_sqlite_file_whatever_the_working_directory(
    store, uri, tmp_path, monkeypatch
):
    monkeypatch.chdir("/")
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        recorder.log_files({"a.txt": b"x"})
    assert len(list((tmp_path / "mlruns" / "laws").glob("*/artifacts/a.txt"))) == 1


def fail(error: BaseException, store: experiment_store.Store) -> None:
    with recording.open_run(store, "train", group="0123abcd", tags={}):
        raise error


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("no\nluck"), "FAILED", "no"),
        (KeyboardInterrupt(), "KILLED", "interrupted by SIGINT"),
        (KeyboardInterrupt(15), "KILLED", "interrupted by SIGTERM"),
        (SystemExit(1), "KILLED", "1"),
    ],
)
def test_a_run_that_fails_has_its_status_and_reason(store, uri, error, status, reason):
    with pytest.raises(type(error)):
        fail(error, store)
    run = only_run(uri)
    assert run.info.status == status
    assert run.data.tags["sentiflow.reason"] == reason


def test_the_manifest_describes_what_was_logged_with_and_without_a_store(store):
    for opened in (store, experiment_store.Store("", "laws")):
        tags = {"sentiflow.version": "1", "sentiflow.output_uri": "/x"}
        with recording.open_run(opened, "evaluate", group="0123abcd", tags=tags) as recorder:
            recorder.log_settings({"evaluate": {"seed": 3}})
            recorder.log_metrics({"rows": 7, "infinite": float("inf"), "undefined": None})
            recorder.log_metrics({"train/loss": 0.5}, step=2)
            recorder.log_files({"settings.yaml": b""}, are_outputs=False)
            recorder.log_files({"report.html": b"page"})
            recorder.make_training_recorder("").log_metrics({"test/accuracy": 0.5})
            described = recorder.describe()
        assert described["experiment"] == "laws"
        assert (described["group"], described["name"]) == ("0123abcd", "evaluate abcd")
        assert described["start"] <= described["end"]
        assert described["params"] == {"evaluate.seed": "3"}
        assert described["metrics"] == {"rows": 7.0}
        assert described["artifacts"] == ["report.html"]
        assert described["training"] == {"metrics": {"test/accuracy": 0.5}, "tags": {}}
        assert described["tags"]["sentiflow.version"] == "1"
        assert "sentiflow.output_uri" not in described["tags"]
        assert bool(described["mlflow_run_id"]) == (opened is store)
        json.dumps(described, allow_nan=False)


def test_an_unavailable_server_stops_the_job_only_if_it_is_required(caplog):
    away = "http://127.0.0.1:9"
    with pytest.raises(JobError, match="cannot reach the MLflow store"):
        experiment_store.open_store(away, experiment="laws", required=True)
    without = experiment_store.open_store(away, experiment="laws", required=False)
    assert not without.experiment_id
    with recording.open_run(without, "train", group="0123abcd", tags={}) as recorder:
        recorder.log_metrics({"loss": 1.0})
    assert not recorder.store.flush()
    assert "the job continues without it" in caplog.text


def test_a_run_whose_files_need_a_missing_package_gets_all_but_the_files(
    store, uri, monkeypatch, caplog
):
    MlflowClient(uri).create_experiment("far", "s3://bucket/folder")
    monkeypatch.setitem(sys.modules, "boto3", None)
    store = experiment_store.open_store(uri, experiment="far", required=True)
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        recorder.log_files({"a.txt": b"a"})
        recorder.log_metrics({"loss": 1.0})
    run = MlflowClient(uri).get_run(recorder.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    (line,) = caplog.messages
    assert line.startswith("MLflow refuses a part of the run: ")
    assert line.endswith("install sentiflow[s3]")


def test_what_is_reserved_comes_first_and_is_no_number_until_it_is_measured(store, uri):
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        recorder.reserve_metrics(["at_a_glance/test_accuracy"])
        recorder.log_series([(1, {"step/accuracy": 0.5})])
        recorder.store.flush()
        assert math.isnan(only_run(uri).data.metrics["at_a_glance/test_accuracy"])
        recorder.log_metrics({"at_a_glance/test_accuracy": 0.75})
    assert list(only_run(uri).data.metrics) == ["at_a_glance/test_accuracy", "step/accuracy"]
    assert only_run(uri).data.metrics["at_a_glance/test_accuracy"] == 0.75
    assert recorder.describe()["metrics"] == {"at_a_glance/test_accuracy": 0.75}


def test_a_run_that_is_continued_gets_a_point_for_each_time(store, uri):
    settings = {"trends": {"by": "day"}}
    params = runs.to_params(settings)
    output = "/home/o'neill/trends"
    for number, share in enumerate((0.5, 0.6, 0.7)):
        earlier = store.find_earlier("trends", output, params)
        assert bool(earlier) == (number > 0)
        tags = {runs.OUTPUT_TAG: output}
        group = f"0123abc{number}"
        with recording.open_run(
            store, "trends", group=group, tags=tags, earlier=earlier
        ) as recorder:
            recorder.log_settings(settings)
            recorder.log_metrics({"trends/share_good": share})
    run = only_run(uri)
    assert (run.info.status, run.data.tags["sentiflow.run"]) == ("FINISHED", "0123abc2")
    points = MlflowClient(uri).get_metric_history(run.info.run_id, "trends/share_good")
    assert [(point.step, point.value) for point in points] == [(0, 0.5), (1, 0.6), (2, 0.7)]
    assert run.data.metrics["trends/share_good"] == 0.7
    assert recorder.describe()["tags"]["sentiflow.times_repeated"] == "2"
    assert store.find_earlier("trends", output, params | {"trends.by": "week"}) is None
    assert store.find_earlier("trends", "/home/o_neill/trends", params) is None


def test_a_model_that_is_not_registered_has_the_true_reason(store):
    store.repair = "sentiflow tracking import x"
    options = {"group": "0123abcd", "tags": {}, "registers_model": True}
    with recording.open_run(store, "evaluate", **options) as recorder:
        assert register(recorder, "m", "aa", run_id="", text="", tags={}) is None
        later = "to register it later: sentiflow tracking import x"
        assert recorder.unregistered == (f"the training has no run in this MLflow store; {later}")
        store.fail("cannot reach the MLflow store http://h: Connection refused")
        assert register(recorder, "m", "aa", run_id="0", text="", tags={}) is None
    assert recorder.unregistered == (
        f"cannot reach the MLflow store http://h: Connection refused; {later}"
    )
    with recording.open_run(store, "evaluate", group="0123abcd", tags={}) as other:
        register(other, "m", "aa", run_id="", text="", tags={})
    assert not other.unregistered


def test_a_nested_run_shares_group_and_lineage_of_its_parent(store, uri):
    tags = {"sentiflow.input.prepared": "c5f0", "sentiflow.output_uri": "/x"}
    with recording.open_run(store, "sweep", group="0b1c3f2a", tags=tags) as recorder:
        nested = recorder.begin_nested("0001", stage="train", tags={"sentiflow.trial": "0001"})
        nested.end("FINISHED")
    found = MlflowClient(uri).get_run(nested.run_id).data.tags
    assert found["mlflow.parentRunId"] == recorder.run_id
    assert found["sentiflow.stage"] == "train"
    assert found["sentiflow.run"] == "0b1c3f2a"
    assert found["sentiflow.input.prepared"] == "c5f0"
    assert "sentiflow.output_uri" not in found


@pytest.mark.ray
@pytest.mark.slow
def test_every_stage_records_its_inputs_output_and_code(finished_run):
    uri = f"sqlite:///{finished_run}/mlflow.db"
    folder = finished_run / "run"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("test").experiment_id
    runs = {run.data.tags["sentiflow.stage"]: run for run in client.search_runs([experiment])}
    stages = {
        "prepare": ("prepared", "preparation", {"csv": "tweets.csv"}),
        "train": ("trained", "training", {"prepared": "prepared"}),
        "score": ("scored", "scoring", {"model": "model", "corpus": "corpus"}),
        "evaluate": ("report", "evaluation", {"scored": "scored"}),
    }
    assert len({run.data.tags["sentiflow.run"] for run in runs.values()}) == 1
    for stage, (place, context, names) in stages.items():
        record = json.loads((folder / place / "manifest.json").read_text())
        run = runs[stage]
        assert run.data.tags["sentiflow.output_uri"] == str(folder / place)
        assert run.data.tags["sentiflow.fingerprint"] == record["fingerprint"]
        assert run.data.tags["sentiflow.version"] == __version__
        datasets = {item.dataset.name: item for item in run.inputs.dataset_inputs}
        assert set(datasets) == set(names.values())
        for name, shown in names.items():
            fingerprint = record["inputs"][name]["fingerprint"]
            assert run.data.tags[f"sentiflow.input.{name}"] == fingerprint
            assert [tag.value for tag in datasets[shown].tags] == [context]
    assert runs["train"].info.run_name == "run: gru(32)"
