"""Values fit into MLflow. Runs of killed processes are ended by the next command, no others."""

import contextlib
import os
import subprocess
from multiprocessing.connection import Connection

import psutil
import pytest
from conftest import make_store
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils import validation
from other_process import calling

from sentiflow.tracking import recording, runs


@example({".": "", "..": "", "": "", "a/../b": ""})
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=30), max_size=30))
def test_mlflow_takes_every_name(settings):
    params = runs.to_params(settings)
    assert bool(params) == bool(settings)
    for key, value in params.items():
        validation._validate_param(key, value)
        validation._validate_tag(key, value)
        validation._validate_metric_name(key)


def test_long_values_are_cut():
    space = {f"train.very.{'long.' * 60}{n}": "x" * 9000 for n in range(250)}
    params = runs.to_params({"sweep": {"space": space}})
    assert {len(value) for value in params.values()} == {6000}
    assert {len(key) for key in params} == {250}
    assert {len(value) for value in runs.to_tags(space).values()} == {8000}


def test_an_undefined_metric_is_left_out():
    assert runs.to_metrics({"a b": 1, "undefined": None}) == {"a b": 1.0}


def test_metrics_of_any_classes_have_names_of_their_own():
    names = ["très bien", "5 stars", "n/a", "a:b", "C++", "C##", "😀"]
    found = runs.to_metrics({f"test/f1_{name}": n for n, name in enumerate(names)})
    assert list(found.values()) == list(range(7))
    assert list(found)[:4] == [f"test/f1_{name}" for name in names[:4]]
    assert [name[:12] for name in found][4:] == ["test/f1_C__-", "test/f1_C__-", "test/f1__"]


def test_no_value_holds_a_secret():
    secret = {"space": {"csv": ["s3://AKIA:se/cret@bucket/x", "http://h/?access_key=se/cret&a=b"]}}
    params = runs.to_params(secret)
    tags = runs.to_tags({"reason": "cannot open s3://AKIA:se/cret@bucket/x"})
    assert "se/cret" not in f"{params}{tags}"
    assert "http://h/?access_key=***&a=b" in params["space.csv"]
    assert tags["reason"] == "cannot open s3://bucket/x"


def test_what_is_not_unicode_is_escaped():
    assert runs.to_tags({"file": "caf\udce9"}) == {"file": "caf\\udce9"}


# Open runs of killed processes


@pytest.fixture
def uri(tmp_path) -> str:
    return make_store(tmp_path)


def hold_open(pipe: Connection, uri: str) -> None:
    """Hold a run with a nested one open in another process."""
    store = recording.open_store(uri, experiment="laws", required=True)
    with store.run("train", group="0123abcd", tags={}) as recorder:
        recorder.begin_nested("0001", stage="train", tags={})
        recorder.log_metrics({"loss": 1.0})
        recorder.flush()
        pipe.send("ready")
        pipe.recv()


def open_again(uri: str) -> dict[str, object]:
    """Open the store as the next command does; returns its runs by name."""
    store = recording.open_store(uri, experiment="laws", required=True)
    found = MlflowClient(uri).search_runs([store.experiment_id])
    return {run.info.run_name: run for run in found}


def test_only_runs_of_killed_processes_are_ended(uri, caplog):
    caplog.set_level("INFO", "sentiflow")
    with calling(hold_open, uri) as (_, pipe):
        assert pipe.recv() == "ready"
        assert {run.info.status for run in open_again(uri).values()} == {"RUNNING"}
        assert not caplog.messages
    found = open_again(uri)
    assert {run.info.status for run in found.values()} == {"KILLED"}
    assert {run.data.tags["sentiflow.reason"] for run in found.values()} == {runs.REASON}
    last = MlflowClient(uri).get_metric_history(found["train abcd"].info.run_id, "loss")[0]
    assert found["train abcd"].info.end_time == last.timestamp
    assert found["0001"].info.end_time >= found["0001"].info.start_time
    assert len(caplog.messages) == 2


def test_only_runs_of_processes_of_this_host_are_ended(uri):
    cases = [
        ({}, "RUNNING"),
        ({runs.HOST_TAG: "another"}, "RUNNING"),
        ({runs.STARTED_TAG: "1.0"}, "KILLED"),  # its number went to another process
        ({runs.PID_TAG: "4194304"}, "KILLED"),  # no process has so high a number
        ({runs.HOST_TAG: "another", runs.PID_TAG: "4194304"}, "RUNNING"),
        ({runs.PID_TAG: "a stranger's"}, "RUNNING"),
        ({runs.PID_TAG: "-1"}, "RUNNING"),
        ({runs.PID_TAG: "9" * 30}, "KILLED"),
        ({runs.STARTED_TAG: "soon"}, "RUNNING"),
    ]
    store = recording.open_store(uri, experiment="laws", required=True)
    with contextlib.ExitStack() as stack:
        for number, (tags, _) in enumerate(cases):
            name = f"case {number}"
            stack.enter_context(store.run("train", group="0123abcd", tags=tags, name=name))
        found = open_again(uri)
        assert [found[f"case {n}"].info.status for n in range(len(cases))] == [
            status for _, status in cases
        ]


def test_a_run_that_ends_during_the_check_keeps_its_status(uri):
    store = recording.open_store(uri, experiment="laws", required=True)
    client = MlflowClient(uri)
    with store.run("train", group="0123abcd", tags={}) as recorder:
        seen = client.get_run(recorder.run_id)
    assert not runs._end_killed(client, seen)
    assert client.get_run(seen.info.run_id).info.status == "FINISHED"


def test_a_run_without_a_process_stays_open(uri):
    store = recording.open_store(uri, experiment="laws", required=True)
    MlflowClient(uri).create_run(store.experiment_id, run_name="by hand")
    assert open_again(uri)["by hand"].info.status == "RUNNING"


def test_a_zombie_process_is_not_running():
    with subprocess.Popen(["true"]) as process:
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        started = psutil.Process(process.pid).create_time() - psutil.boot_time()
        tags = {runs.PID_TAG: str(process.pid), runs.STARTED_TAG: str(started)}
        assert not runs._is_running(tags)
    assert runs._is_running(runs.describe_process())
    assert runs.describe_process()[runs.PID_TAG] == str(os.getpid())
