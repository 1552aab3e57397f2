"""A job whose server goes away ends as usual, and its runs are completed later."""

# ruff: noqa: F401, F811 - fixtures of another file

import logging
import re
import types

import pytest
from conftest import make_store, write_config
from mlflow import MlflowClient
from mlflow_server import Server
from test_outage import history, runs, server, started, store
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.outputs import OutputSpec
from sentiflow.pipeline import stages

pytestmark = pytest.mark.slow


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


def test_a_job_that_ran_without_the_store_is_imported_later(
    tmp_path, sample_csv, monkeypatch, caplog
):
    away = "http://127.0.0.1:9"
    run_stage(tmp_path, sample_csv, away, lambda: None, monkeypatch, required=False)
    assert caplog.messages[-1].endswith(f"sentiflow tracking import {tmp_path}/run")
    uri = make_store(tmp_path)
    command = ["tracking", "import", f"{tmp_path}/run", "--tracking-uri", uri]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert run.data.metrics == {"test/accuracy": 0.5, "test/loss": 0.25}


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
    (line,) = (line for line in lines if "the job continues without it" in line)
    assert line.endswith(f"sentiflow tracking import {tmp_path}/run")
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
    assert healthy.stderr.count("tracking  complete  ") == 4, healthy.stderr
    assert CliRunner().invoke(app, [*command, after]).exit_code == 0
    assert describe_runs(before) == describe_runs(after)


def describe_runs(uri: str) -> dict[str, object]:
    """Collect what must be equal in two stores."""
    client, found = MlflowClient(uri), {}
    experiment = client.get_experiment_by_name("test").experiment_id
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
            if k != "mlflow.log-model.history"
        }
        datasets = sorted(str(dict(item.dataset)) for item in run.inputs.dataset_inputs)
        files = {file.path for file in client.list_artifacts(run.info.run_id)} - {"settings.yaml"}
        versions = [v.version for v in client.search_model_versions("name = 'test'")]
        found[tags["sentiflow.stage"]] = (
            run.info.run_name, run.info.status, run.data.params, metrics, tags, datasets, files,
            versions,
        )  # fmt: skip
    return found
