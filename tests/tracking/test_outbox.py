"""A real MLflow server goes away in the middle, and nothing is lost."""

import contextlib
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import write_config
from mlflow import MlflowClient
from mlflow_server import Server
from typer.testing import CliRunner

from sentiflow import pipeline
from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem
from sentiflow.tracking import mlflow_store, outbox, recording, run_records, unsent_files

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


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(outbox, "RETRY_EVERY_SECONDS", 0.5)
    monkeypatch.setattr(outbox, "RENEW_EVERY_SECONDS", 0.1)


@pytest.fixture
def unsent(tmp_path) -> str:
    return str(tmp_path / "run/mlflow-unsent-0123abcd.jsonl")


@pytest.fixture
def store(server, unsent) -> recording.Store:
    return recording.open_store(server.uri, experiment="laws", required=True, unsent_uri=unsent)


def open_run(store, stage="train"):
    return store.run(stage, group="0123abcd", tags={})


def runs(server: Server, stage: str) -> list:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("laws").experiment_id
    found = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    return [run for run in found if run.data.tags["sentiflow.stage"] == stage]


def history(server: Server, run_id: str, name: str = "loss") -> list[tuple[int, float]]:
    figures = MlflowClient(server.uri).get_metric_history(run_id, name)
    return [(figure.step, figure.value) for figure in figures]


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["tracking", "import", *arguments])


@contextlib.contextmanager
def hanging(server: Server) -> Iterator[None]:
    """Let the server take connections and answer nobody, for the block."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


def test_what_a_killed_server_misses_it_has_when_it_is_back(server, store, unsent, caplog):
    caplog.set_level("INFO", "sentiflow")
    longest = 0.0
    with open_run(store, "back") as recorder:
        for step in range(60):
            if step == 20:
                threading.Thread(target=server.kill).start()
            began = time.monotonic()
            recorder.log_metrics({"loss": 1 / (step + 1)}, step=step)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.02)
        recorder.log_settings({"late": {"seed": 3}})
        recorder.log_inputs({"prepared": {"uri": "/p", "fingerprint": "c5f0"}}, stage="train")
        recorder.log_files({"a/late.txt": b"late"})
        nested = recorder.begin_nested("0001-late", stage="nested", tags={"trial": "1"})
        nested.log_metrics({"loss": 0.5})
        nested.end("KILLED", reason="stopped")
        wait_until(lambda: filesystem.exists(unsent))
        server.start()
        wait_until(lambda: not filesystem.exists(unsent))
        recorder.log_metrics({"loss": 0.0}, step=60)
    assert longest < 3
    (run,) = runs(server, "back")
    assert history(server, run.info.run_id) == [(s, 1 / (s + 1)) for s in range(60)] + [(60, 0.0)]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"late.seed": "3"}
    assert run.data.tags["sentiflow.input.prepared"] == "c5f0"
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == ["c5f0"]
    assert [f.path for f in MlflowClient(server.uri).list_artifacts(run.info.run_id)] == ["a"]
    (below,) = runs(server, "nested")
    assert (below.info.run_name, below.info.status) == ("0001-late", "KILLED")
    assert below.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert below.data.tags["sentiflow.reason"] == "stopped"
    assert outbox.find(server.uri, unsent).num_unsent == 0
    away, back = [r.getMessage() for r in caplog.records if r.name == "sentiflow.tracking.outbox"]
    assert away.startswith(f"cannot reach the MLflow store {server.uri}: ")
    assert away.endswith(f"; going on, and keeping in {unsent} what it misses")
    assert back == f"the MLflow store {server.uri} answers again, and has what it missed"


def test_a_server_that_hangs_costs_a_job_one_timeout_and_doubles_nothing(
    server, store, unsent, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with open_run(store, "hang") as recorder, recorder.watching_system():
        recorder.log_metrics({"loss": 0.0}, step=0)
        with hanging(server):
            began = time.monotonic()
            for step in range(1, 200):
                recorder.log_metrics({"loss": float(step)}, step=step)
            assert 1 <= time.monotonic() - began < 3
            assert recorder.of_run("0" * 32).run_id == "0" * 32
            time.sleep(1)
        wait_until(lambda: not outbox.find(server.uri, unsent).away)
    (run,) = runs(server, "hang")
    assert history(server, run.info.run_id) == [(step, float(step)) for step in range(200)]
    load = history(server, run.info.run_id, "system/cpu_utilization_percentage")
    assert [step for step, _ in load] == [*range(len(load))]
    assert len(load) > 2


def test_what_a_server_misses_to_the_end_is_imported_later_and_only_once(
    server, store, unsent, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(outbox, "RETRY_EVERY_SECONDS", 1000)
    with open_run(store, "first") as recorder:
        recorder.log_metrics({"loss": 1.0, "nan": float("nan")}, step=0)
        server.kill()
        recorder.log_metrics({"loss": 0.5, "infinite": float("inf")}, step=1)
    begun = int(time.time() * 1000)
    with contextlib.suppress(ValueError), open_run(store, "second") as second:
        second.log_metrics({"loss": 0.25}, step=7)
        second.log_files({"b.bin": bytes(range(256))})
        recorder.of_run(recorder.run_id).log_metrics({"test": 0.75})
        raise ValueError("no luck with s3://AKIA:se/cret@bucket/x")
    ended = int(time.time() * 1000)
    store.close()
    assert second.run_id.startswith("unsent-")
    assert re.search(
        rf"^\d+ records are missing .*{server.uri}; .*: sentiflow tracking import {unsent}$",
        caplog.messages[-1],
    )
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(filesystem.read_bytes(unsent))
    away = invoke(unsent)
    assert away.exit_code == 1
    assert away.stderr.startswith(f"sentiflow: cannot reach the MLflow store {server.uri}")
    assert away.stderr.endswith(f"; {unsent} is kept\n")
    assert filesystem.read_bytes(unsent) == copy.read_bytes()

    server.start()
    half = copy.with_name("half.jsonl")  # as if the first import had ended in its middle
    half.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:-5]))
    for path in (str(half), unsent, str(copy)):
        result = invoke(path)
        assert result.exit_code == 0, result.stderr
        assert not filesystem.exists(path)
    assert "records are in http://127" in result.stderr
    (run,) = runs(server, "first")
    assert run.info.status == "FINISHED"
    assert history(server, run.info.run_id) == [(0, 1.0), (1, 0.5)]
    assert run.data.metrics["test"] == 0.75
    (other,) = runs(server, "second")
    assert (other.info.status, other.info.run_name) == ("FAILED", "second abcd")
    assert other.data.tags["sentiflow.reason"] == "no luck with s3://bucket/x"
    assert begun <= other.info.start_time <= other.info.end_time <= ended
    assert history(server, other.info.run_id) == [(7, 0.25)]
    path = MlflowClient(server.uri).download_artifacts(other.info.run_id, "b.bin", str(tmp_path))
    assert filesystem.read_bytes(path) == bytes(range(256))
    again = recording.open_store(server.uri, experiment="laws", required=True)
    with open_run(again, "later") as later:  # as evaluate does, which knows the run by a manifest
        later.of_run(second.run_id).log_metrics({"test": 0.5})
    assert runs(server, "second")[0].data.metrics["test"] == 0.5
    assert again.tracking_uri == server.uri


def test_what_a_killed_driver_had_kept_is_in_the_file(server, unsent):
    script = f"""
        from sentiflow.tracking import outbox, recording
        outbox.RENEW_EVERY_SECONDS = 0.1
        store = recording.open_store(
            {server.uri!r}, experiment="laws", required=True, unsent_uri={unsent!r}
        )
        with store.run("lost", group="0123abcd", tags={{}}) as recorder:
            print("ready", flush=True)
            for step in range(100):
                input()
                recorder.log_metrics({{"loss": step}}, step=step)
                print(step, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    quick = {"env": os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes, **quick) as process:
        assert process.stdout.readline() == "ready\n"
        with hanging(server):
            for step in range(3):
                process.stdin.write("\n")
                assert process.stdout.readline() == f"{step}\n"
            wait_until(
                lambda: filesystem.exists(unsent) and len(unsent_files.read(unsent).records) == 3
            )
            process.kill()
    assert invoke(unsent).exit_code == 0
    (run,) = runs(server, "lost")
    assert history(server, run.info.run_id) == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert run.info.status == "RUNNING"
    recording.open_store(server.uri, experiment="laws", required=True)
    assert runs(server, "lost")[0].info.status == "KILLED"


def test_an_end_that_was_kept_corrects_a_run_that_seemed_lost(server, store, unsent):
    client = MlflowClient(server.uri)
    with open_run(store, "corrected") as recorder:
        client.set_tag(recorder.run_id, "sentiflow.reason", "its process ended without a word")
        client.set_terminated(recorder.run_id, "KILLED")
    (run,) = runs(server, "corrected")
    assert run.info.status == "FINISHED"
    assert "sentiflow.reason" not in run.data.tags


def test_what_mlflow_refuses_is_kept_and_holds_nothing_up(server, store, unsent, caplog):
    with open_run(store, "refused") as recorder:
        recorder.log_settings({"seed": 1})
        recorder.log_settings({"seed": 2})
        recorder.log_metrics({"loss": 1.0})
    assert runs(server, "refused")[0].info.status == "FINISHED"
    assert "MLflow refuses params of the run" in caplog.text
    assert [record.kind for record in unsent_files.read(unsent).records] == ["params"]
    result = invoke(unsent)
    assert result.exit_code == 1
    assert f"MLflow refuses 1 of 1 records of {unsent}, which is kept: params" in result.stderr
    assert filesystem.exists(unsent)


def test_a_record_at_which_the_server_fails_holds_nothing_up(
    server, store, unsent, caplog, monkeypatch
):
    monkeypatch.setattr(mlflow_store, "_IS_OURS", False)  # an import is not patient then
    with open_run(store, "poison") as recorder:
        recorder.log_files({"a": b"a file"})
        recorder.log_files({"a/b": b"in a directory of the same name"})
        recorder.log_metrics({"loss": 1.0})
    (run,) = runs(server, "poison")
    assert (run.data.metrics, run.info.status) == ({"loss": 1.0}, "FINISHED")
    assert "MLflow refuses files of the run" in caplog.text
    assert [record.kind for record in unsent_files.read(unsent).records] == ["files"]
    assert invoke(unsent).exit_code == 1
    assert filesystem.exists(unsent)


def test_what_is_kept_goes_to_object_storage_too(server, bucket, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(outbox, "RETRY_EVERY_SECONDS", 1000)
    unsent = f"{bucket}/run/mlflow-unsent-0123abcd.jsonl"
    store = recording.open_store(server.uri, experiment="laws", required=True, unsent_uri=unsent)
    with hanging(server), open_run(store, "s3") as recorder:
        recorder.log_metrics({"loss": 1.0})
    assert filesystem.exists(unsent)
    result = invoke(unsent)
    assert result.exit_code == 0, result.stderr
    assert not filesystem.exists(unsent)
    assert runs(server, "s3")[0].data.metrics == {"loss": 1.0}


class KillingHandler(logging.Handler):
    """Kills a server when a stage says something."""

    def __init__(self, server: Server, word: str) -> None:
        super().__init__()
        self.server, self.word = server, word

    def emit(self, record: logging.LogRecord) -> None:
        if self.word in record.getMessage():
            self.server.kill()


@pytest.mark.ray
def test_a_whole_run_outlives_its_server_and_the_import_completes_the_record(
    server, tmp_path, sample_csv, resources, said, monkeypatch, capfd
):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    secret = server.uri.replace("//", "//me:wordthatnobodysees@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    monkeypatch.setattr(outbox, "RETRY_EVERY_SECONDS", 1000)
    config = settings.load(write_config(tmp_path, sample_csv, tracking={}))
    killing = KillingHandler(server, "epoch 2:")
    logging.getLogger("sentiflow").addHandler(killing)
    try:
        pipeline.run(config, pipeline.VERBS)
    finally:
        logging.getLogger("sentiflow").removeHandler(killing)
    lines = said.messages
    log = said.text
    record = manifest.read(str(tmp_path / "run/trained"))
    assert record["registered"] is None
    (unsent,) = (tmp_path / "run").glob("mlflow-unsent-*.jsonl")
    assert log.count("cannot reach the MLflow store") == 1
    assert "the model is not registered" in log
    assert lines[-1].endswith(f"sentiflow tracking import {unsent}")
    server.start()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    result = invoke(str(unsent))
    assert result.exit_code == 0, result.stderr
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("test").experiment_id
    by_stage = {run.data.tags["sentiflow.stage"]: run for run in client.search_runs([experiment])}
    assert {stage: run.info.status for stage, run in by_stage.items()} == dict.fromkeys(
        ("prepare", "train", "score", "evaluate"), "FINISHED"
    )
    run = client.get_run(record["mlflow_run_id"])
    assert [s for s, _ in history(server, run.info.run_id, "validation/accuracy")] == [*range(1, 7)]
    assert run.data.metrics["test/accuracy"] == by_stage["evaluate"].data.metrics["test/accuracy"]
    assert run.data.tags["sentiflow.fingerprint"] == record["fingerprint"]
    assert run.info.run_name.startswith("train gru(32) ")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"settings.yaml", "plots"}
    version = client.get_model_version_by_alias("test", "candidate")
    assert version.run_id == run.info.run_id
    kept = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    shown = "".join([log, *capfd.readouterr(), result.output])
    everything = written + kept + shown.encode()
    assert server.uri.encode() in everything
    assert b"wordthatnobodysees" not in everything


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path, unsent, caplog):
    tmp_path.joinpath("run").write_text("in the way")
    box = outbox.Outbox("http://127.0.0.1:9", unsent)
    box.take(run_records.End(run="0" * 32, status="FINISHED", time=1))
    time.sleep(0.5)
    box.flush()
    assert caplog.text.count("cannot write") == 1
    tmp_path.joinpath("run").unlink()
    box.flush()
    assert len(unsent_files.read(unsent).records) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", ", line 1 is no record for MLflow"),
        ("{}\n", ", line 1 is no record for MLflow"),
        ('HEADER\n{"kind": "metrics", "run": "a"}\n', ", line 2 is no record for MLflow"),
        ('HEADER\n{"kind": "other", "run": "a"}\n', ", line 2 is no record for MLflow"),
        ("HEADER\n\nx\n", ", line 2 is no record for MLflow"),
        ('HEADER\n{"kind": "tags", "run": "a", "val', ", line 2 is no record for MLflow"),
        ("NEWER\n", " needs a newer sentiflow"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path, content, problem):
    header = {"format_version": 1, "tracking_uri": "http://127.0.0.1:9", "experiment_id": "1"}
    newer = header | {"format_version": 2}
    path = tmp_path / "bad.jsonl"
    content = content.replace("HEADER", json.dumps(header)).replace("NEWER", json.dumps(newer))
    path.write_text(content)
    result = invoke(str(path))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"sentiflow: {path}{problem}")
    assert path.exists()
    assert invoke(str(tmp_path / "absent.jsonl")).exit_code == 2


def test_the_password_for_an_import_comes_from_option_or_variable(monkeypatch):
    header = unsent_files.Header(format_version=1, tracking_uri="http://host:1", experiment_id="1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:other@elsewhere:1")
    assert unsent_files.find_store(header, None) == "http://host:1"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:one@host:1")
    assert unsent_files.find_store(header, None) == "http://host:1"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "one"
    assert unsent_files.find_store(header, "http://bob:t%40o@there:2") == "http://there:2"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "t@o"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "bob"


def test_a_server_that_stops_answering_is_away_for_who_reads(server, store):
    with open_run(store, "read") as recorder:
        assert recording.read_tags(server.uri, recorder.run_id)["sentiflow.stage"] == "read"
        with pytest.raises(UserError, match="there is no run 0000"):
            recording.read_tags(server.uri, "0" * 32)
    server.kill()
    with pytest.raises(JobError, match="cannot reach the MLflow store"):
        recording.read_tags(server.uri, recorder.run_id)
    with pytest.raises(JobError, match="cannot reach the MLflow store"):
        recording.open_store(server.uri, experiment="laws", required=True)
    without = recording.open_store(server.uri, experiment="laws", required=False)
    assert without == recording.Store()


def test_a_run_that_the_server_made_but_could_not_answer_is_not_made_twice(
    server, store, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(
            contextlib.closing(sqlite3.connect(server.folder / "server.db"))
        )
        other.execute("BEGIN EXCLUSIVE")  # so the server takes the request, and answers too late
        recorder = stack.enter_context(open_run(store, "slow"))
        other.rollback()
        recorder.log_metrics({"loss": 1.0}, step=1)
        wait_until(lambda: not outbox.find(server.uri, store.unsent_uri).away)
    (run,) = runs(server, "slow")
    assert run.info.status == "FINISHED"
    assert history(server, run.info.run_id) == [(1, 1.0)]


def test_a_run_of_a_server_that_answers_has_no_provisional_id(server, store):
    with open_run(store, "plain") as recorder:
        assert not recorder.run_id.startswith("unsent-")
    (run,) = runs(server, "plain")
    assert "sentiflow.provisional_id" not in run.data.tags


def test_what_a_store_refuses_ends_no_job_and_is_told_once(server, unsent, caplog):
    gone = recording.Store(server.uri, "123456789", unsent)
    with gone.run("train", group="0123abcd", tags={}) as recorder:
        for step in range(3):
            recorder.log_metrics({"loss": 1.0}, step=step)
        recorder.set_tags({"file": "caf\udce9.csv"})
    assert sum("refuses metrics" in message for message in caplog.messages) == 1
    kinds = [record.kind for record in unsent_files.read(unsent).records]
    assert kinds == ["begin", "metrics", "metrics", "metrics", "tags", "end"]


def test_figures_of_a_long_outage_are_joined(unsent):
    kept = outbox.Outbox("http://127.0.0.1:9", unsent)
    for step in range(3000):
        kept.take(*run_records.make_metrics("0" * 32, [(step, {"loss": float(step)})]))
    assert kept.num_unsent < 10
    kept.flush()
    records = unsent_files.read(unsent).records
    steps = [value[3] for record in records for value in record.values]
    assert steps == list(range(3000))


def test_the_credentials_of_one_file_are_not_those_of_the_next(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@a.example")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    header = unsent_files.Header(
        format_version=1, tracking_uri="http://a.example", experiment_id=""
    )
    with unsent_files.keeping_credentials():
        assert unsent_files.find_store(header, None) == "http://a.example"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
