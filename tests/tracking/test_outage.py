"""A real MLflow server fails: no job waits or fails, and the manifests have what it lacks."""

import contextlib
import logging
import re
import signal
import sqlite3
import time
import types
from collections.abc import Iterator

import pytest
from conftest import write_config
from mlflow import MlflowClient
from mlflow_server import Server
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.output_status import OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline import stages
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


def test_a_killed_server_slows_nothing_and_costs_one_line(server, store, caplog):
    longest = 0.0
    with open_run(store, "killed") as recorder:
        for step in range(1, 60):
            if step == 20:
                recorder.flush()
                server.kill()
            began = time.monotonic()
            recorder.log_metrics({"loss": float(step)}, step=step)
            recorder.log_series([(step, {"step/loss": 1.0})])
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        recorder.log_files({"a.txt": b"late"})
        nested = recorder.begin_nested("0001-late", stage="train", tags={})
        nested.log_metrics({"loss": 0.5})
        nested.end("KILLED", reason="stopped")
        ended = time.monotonic()
    assert time.monotonic() - ended < 3
    assert longest < 0.1
    assert not recorder.is_complete
    (line,) = caplog.messages
    assert line.startswith(f"cannot reach the MLflow store {server.uri}: ")
    assert line.endswith("; the job continues without it")
    server.start()
    (run,) = runs(server, "killed")
    assert history(server, run.info.run_id) == [(s, float(s)) for s in range(1, 20)]


def test_a_server_that_hangs_makes_only_the_end_wait_for_one_timeout(server, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with (
        open_run(store, "hang") as recorder,
        recorder.watching_system(),
        contextlib.ExitStack() as stack,
    ):
        time.sleep(0.7)
        recorder.flush()
        stack.enter_context(hanging(server))
        began = time.monotonic()
        for step in range(1, 2000):
            recorder.log_series([(step, {"loss": float(step)})])
        assert time.monotonic() - began < 0.5
        began = time.monotonic()
        assert not recorder.flush()
        assert time.monotonic() - began < 4
    (run,) = runs(server, "hang")
    assert run.info.status == "RUNNING"
    load = history(server, run.info.run_id, "system/cpu_utilization_percentage")
    assert [step for step, _ in load] == [*range(len(load))]
    assert len(load) > 1


def test_a_full_queue_drops_step_metrics_and_nothing_else(server, store, monkeypatch):
    monkeypatch.setattr(recording, "MAX_QUEUED", 50)
    with open_run(store, "full") as recorder:
        recorder.flush()
        with hanging(server):
            for step in range(1, 200):
                recorder.log_series([(step, {"loss": float(step)})])
        recorder.flush()
        assert recorder.is_complete
        recorder.log_metrics({"rows": 3.0})
    (run,) = runs(server, "full")
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 3.0)
    assert 50 <= len(history(server, run.info.run_id)) < 60


def test_what_a_full_queue_cannot_take_is_left_to_the_manifest(server, store, monkeypatch):
    monkeypatch.setattr(recording, "MAX_QUEUED", 0)
    with open_run(store, "small") as recorder:
        recorder.log_series([(1, {"loss": 1.0})])
        assert recorder.is_complete
        recorder.log_metrics({"loss": 1.0})
        assert not recorder.is_complete


def test_a_failed_stage_whose_server_was_away_leaves_its_run_to_the_next_command(server, store):
    with contextlib.suppress(ValueError), open_run(store, "failed") as recorder:
        server.kill()
        recorder.log_metrics({"loss": 1.0})
        recorder.flush()
        server.start()
        raise ValueError("no luck")
    (run,) = runs(server, "failed")
    assert run.info.status == "RUNNING"
    assert run.data.tags.keys() >= {"sentiflow.host", "sentiflow.pid", "sentiflow.started"}


def test_the_reason_of_a_failed_stage_holds_no_secret(server, store):
    with contextlib.suppress(ValueError), open_run(store, "secret"):
        raise ValueError("no luck with s3://AKIA:se/cret@bucket/x")
    (run,) = runs(server, "secret")
    assert run.info.status == "FAILED"
    assert run.data.tags["sentiflow.reason"] == "no luck with s3://bucket/x"


def test_a_run_that_the_server_made_but_could_not_answer_is_not_made_twice(
    server, store, monkeypatch
):
    made = []
    create = MlflowClient.create_run

    def create_and_break(client, *arguments, **options):
        made.append(create(client, *arguments, **options))
        if len(made) == 1:
            raise OSError("connection reset")
        return made[-1]

    monkeypatch.setattr(MlflowClient, "create_run", create_and_break)
    with open_run(store, "once") as recorder:
        recorder.log_metrics({"loss": 1.0}, step=1)
    (run,) = runs(server, "once")
    assert (run.info.run_id, len(made)) == (recorder.run_id, 1)
    assert history(server, run.info.run_id) == [(1, 1.0)]


def test_what_mlflow_refuses_holds_nothing_up_and_is_said_once(server, store, caplog):
    with open_run(store, "refused") as recorder:
        recorder.log_settings({"seed": 1})
        recorder.log_settings({"seed": 2})
        recorder.log_settings({"seed": 2})
        recorder.log_metrics({"loss": 1.0})
    (run,) = runs(server, "refused")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert [m.startswith("MLflow refuses a part of the run: ") for m in caplog.messages] == [True]


def test_a_locked_database_behind_the_server_loses_no_epoch(server, store):
    with open_run(store, "locked") as recorder:
        recorder.flush()
        with contextlib.closing(sqlite3.connect(server.folder / "server.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            recorder.log_metrics({"loss": 1.0}, step=1)
            time.sleep(1)
            other.rollback()
    (run,) = runs(server, "locked")
    assert run.info.status == "FINISHED"
    assert history(server, run.info.run_id) == [(1, 1.0)]


def test_a_server_that_stops_answering_is_unavailable_for_readers(server, store):
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
    assert not without.experiment_id


def make_stage(during) -> types.SimpleNamespace:
    """Make a stage that logs and publishes, and calls ``during`` between the two."""

    def describe_output(config):
        return OutputSpec("evaluate", config.evaluate.output_uri, {}, {})

    def run(config, output, recorder):
        output.begin()
        recorder.log_metrics({"test/accuracy": 0.5})
        recorder.flush()
        during()
        recorder.log_series([(1, {"step/loss": 1.0})])
        recorder.log_metrics({"test/loss": 0.25})
        return output.publish(counts={}, files=[], seconds=1, run=recorder.describe())

    return types.SimpleNamespace(describe_output=describe_output, run=run)


def run_stage(folder, csv, uri, during, monkeypatch, **tracking):
    monkeypatch.setattr(stages, "_stage", lambda verb: make_stage(during))
    path = write_config(folder, csv, tracking={"uri": uri} | tracking)
    stages.run(settings.load(path), ["evaluate"])


def test_a_server_that_is_back_at_the_end_of_a_stage_gets_what_it_missed(
    server, tmp_path, sample_csv, monkeypatch, caplog
):
    caplog.set_level("INFO", "sentiflow")

    original = Output.publish

    def publish(*arguments, **options):
        record = original(*arguments, **options)
        time.sleep(1)
        server.start()
        return record

    monkeypatch.setattr(Output, "publish", publish)
    run_stage(tmp_path, sample_csv, server.uri, server.kill, monkeypatch)
    (run,) = runs(server, "evaluate", "test")
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test/accuracy": 0.5, "test/loss": 0.25}
    assert caplog.messages[-1].endswith("has all runs, without their metrics by step")


def test_a_job_that_ran_without_the_store_is_imported_later(
    server, tmp_path, sample_csv, monkeypatch, caplog
):
    server.kill()
    run_stage(
        tmp_path, sample_csv, server.uri, lambda: None, monkeypatch, required=False
    )  # fmt: skip
    assert caplog.messages[-1].endswith(f"sentiflow tracking import {tmp_path}/run")
    server.start()
    before = len(runs(server, "evaluate", "test")) if _has(server, "test") else 0
    command = ["tracking", "import", f"{tmp_path}/run", "--tracking-uri", server.uri]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    found = runs(server, "evaluate", "test")
    assert len(found) == before + 1
    assert found[-1].data.metrics == {"test/accuracy": 0.5, "test/loss": 0.25}


def _has(server: Server, experiment: str) -> bool:
    return MlflowClient(server.uri).get_experiment_by_name(experiment) is not None


class KillingHandler(logging.Handler):
    """Kills a server when a stage says something."""

    def __init__(self, server: Server, word: str) -> None:
        super().__init__()
        self.server, self.word = server, word

    def emit(self, record: logging.LogRecord) -> None:
        if self.word in record.getMessage():
            self.server.kill()


@pytest.mark.ray
@pytest.mark.soak
def test_a_whole_run_outlives_its_server_and_the_import_completes_the_record(
    tmp_path, sample_csv, resources, said, monkeypatch, capfd, tmp_path_factory
):
    server = Server(tmp_path_factory.mktemp("whole"))
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    secret = server.uri.replace("//", "//me:wordthatnobodysees@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    config = settings.load(write_config(tmp_path, sample_csv, tracking={}), ["train.num_epochs=3"])
    killing = KillingHandler(server, "epoch 2:")
    logging.getLogger("sentiflow").addHandler(killing)
    try:
        stages.run(config, stages.VERBS)
    finally:
        logging.getLogger("sentiflow").removeHandler(killing)
    log, lines = said.text, said.messages
    record = manifest.read(str(tmp_path / "run/trained"))
    assert record["registered"] is None
    assert log.count("the job continues without it") >= 1
    assert lines[-1].endswith(f"sentiflow tracking import {tmp_path}/run")
    assert "metrics by step are lost" in lines[-1]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    server.start()
    try:
        result = CliRunner().invoke(app, ["tracking", "import", str(tmp_path / "run")])
        assert result.exit_code == 0, result.stderr
        client = MlflowClient(server.uri)
        verbs = ("prepare", "train", "score", "evaluate")
        by_stage = {stage: runs(server, stage, "test") for stage in verbs}
        assert {stage: len(found) for stage, found in by_stage.items()} == dict.fromkeys(verbs, 1)
        assert {found[0].info.status for found in by_stage.values()} == {"FINISHED"}
        run = client.get_run(record["mlflow_run_id"])
        epochs = history(server, run.info.run_id, "validation/accuracy")
        assert epochs == [
            (epoch["epoch"], pytest.approx(epoch["validation_accuracy"]))
            for epoch in record["history"]
        ]
        evaluated = by_stage["evaluate"][0].data.metrics
        assert run.data.metrics["test/accuracy"] == evaluated["test/accuracy"]
        assert run.data.tags["sentiflow.fingerprint"] == record["fingerprint"]
        assert run.info.run_name == "run: gru(32)"
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files == {"settings.yaml", "plots"}
        version = client.get_model_version_by_alias("test", "candidate")
        assert version.run_id == run.info.run_id
    finally:
        server.kill()
    kept = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    shown = "".join([log, *capfd.readouterr(), result.output])
    everything = written + kept + shown.encode()
    assert server.uri.encode() in everything
    assert b"wordthatnobodysees" not in everything


@pytest.mark.ray
def test_an_imported_run_equals_the_one_that_a_healthy_store_has(finished_run, tmp_path):
    """All but step and system metrics, the settings file and the process is in the manifests."""
    before, after = f"sqlite:///{finished_run}/mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"
    command = ["tracking", "import", str(finished_run / "run"), "--tracking-uri"]
    healthy = CliRunner().invoke(app, [*command, before])
    assert healthy.stderr.count("tracking  complete   ") == 4, healthy.stderr
    assert CliRunner().invoke(app, [*command, after]).exit_code == 0
    assert describe_runs(before) == describe_runs(after)


def describe_runs(uri: str) -> dict[str, object]:
    """Collect what must be equal in two stores."""
    client, found = MlflowClient(uri), {}
    experiment = client.get_experiment_by_name("test").experiment_id
    process = {"sentiflow.host", "sentiflow.pid", "sentiflow.started", "mlflow.log-model.history"}
    for run in client.search_runs([experiment]):
        metrics = {
            name: sorted(
                (p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
            if not name.startswith(("step/", "system/"))
        }
        tags = {
            k: re.sub(r"#/experiments/\d+/runs/\w{32}/", "#/", v)  # each store has ids of its own
            for k, v in run.data.tags.items()
            if k not in process
        }
        datasets = sorted(str(dict(item.dataset)) for item in run.inputs.dataset_inputs)
        files = {file.path for file in client.list_artifacts(run.info.run_id)} - {"settings.yaml"}
        versions = [v.version for v in client.search_model_versions("name = 'test'")]
        found[tags["sentiflow.stage"]] = (
            run.info.run_name, run.info.status, run.data.params, metrics, tags, datasets, files,
            versions,
        )  # fmt: skip
    return found
