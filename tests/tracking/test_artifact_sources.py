"""MLflow's files are fetched from a store or from the MLflow server, and sent nowhere else."""
# ruff: noqa: F811 -- fixtures are imported

import pytest
from conftest import make_store
from listening_host import host  # noqa: F401
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from sentiflow.errors import UserError
from sentiflow.tracking import (
    artifact_sources,
    commands,
    experiment_store,
    model_registry,
    recording,
)

SERVER = "http://tracking:5000"
GOOD = [
    "/data/mlruns/1/models/m-1/artifacts",
    "file:///data/mlruns/1",
    "s3://bucket/mlflow/1",
    "gs://bucket/1",
    "abfss://container@account.dfs.core.windows.net/1",
    "wasbs://container@account.blob.core.windows.net/1",
    "dbfs:/databricks/mlflow",
    "mlflow-artifacts:/1/models/m-1/artifacts",
    "mlflow-artifacts://tracking:5000/1",
    "http://tracking:5000/api/2.0/mlflow-artifacts/artifacts/1",
]
BAD = [
    "http://evil:5000/1",
    "https://tracking:5000@evil/1",
    "http://tracking/1",
    "mlflow-artifacts://evil:5000/1",
    "mlflow-artifacts://tracking:99999999/1",
    "ftp://evil/1",
    "sftp://evil/1",
    "s3://b?endpoint_override=evil/1",
    "hdfs://me@evil/1",
    "evil://1",
    "s3://b\x1b[2J/1",
]


@pytest.mark.parametrize("source", GOOD)
def test_a_model_in_a_store_or_on_the_server_is_fetched(source):
    artifact_sources.check(source, uri="models:/a/1", tracking_uri=SERVER)


@pytest.mark.parametrize("source", BAD, ids=ascii)
def test_a_model_on_another_host_is_not_fetched(source):
    with pytest.raises(UserError, match=r"^models:/a/1 is kept at ") as error:
        artifact_sources.check(source, uri="models:/a/1", tracking_uri=SERVER)
    assert str(error.value).isprintable()


def test_a_local_store_has_no_server():
    local = "sqlite:////data/mlflow.db"
    artifact_sources.check("/data/mlruns/1", uri="models:/a/1", tracking_uri=local)
    with pytest.raises(UserError):
        artifact_sources.check("http://evil/1", uri="models:/a/1", tracking_uri=local)


@pytest.fixture(params=["http", "mlflow-artifacts"])
def elsewhere(request, host, tmp_path, monkeypatch) -> str:
    """A store whose experiment ``laws`` keeps its files on a stranger's host; the reader's keys."""
    uri = make_store(tmp_path)
    location = f"{request.param}://{host.address}/x"
    MlflowClient(uri).create_experiment("laws", artifact_location=location)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return uri


def make_run(uri: str) -> str:
    """Make a run of the experiment ``laws``, and return its id."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("laws").experiment_id
    return client.create_run(experiment, tags={"sentiflow.stage": "train"}).info.run_id


def test_the_settings_of_a_run_are_not_fetched_from_another_host(elsewhere, host):
    run = f"runs:/{make_run(elsewhere)}"
    with pytest.raises(UserError, match=f"^{run} is kept at .*: repeat it with its settings file"):
        commands.load("run", run, {"output_uri": "/new"})
    assert not host.arrived


def test_the_files_of_a_run_are_not_sent_to_another_host(elsewhere, host, said):
    store = experiment_store.open_store(elsewhere, experiment="laws", required=True)
    with recording.open_run(store, "evaluate", group="0123abcd", tags={}) as recorder:
        recorder.log_files({"report.html": b"texts"})
        recorder.log_metrics({"test/accuracy": 0.75})
    assert not host.arrived
    assert "MLflow refuses a part of the run: runs:/" in said.text
    data = MlflowClient(elsewhere).get_run(recorder.run_id).data
    assert data.metrics == {"test/accuracy": 0.75}, "all else is logged"


def test_the_card_of_a_version_is_not_sent_to_another_host(elsewhere, host):
    client = MlflowClient(elsewhere)
    run_id = make_run(elsewhere)
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.create_registered_model("laws")
    client.create_model_version("laws", source="s3://bucket/1", run_id=run_id)
    version = model_registry.Version("laws", 1)
    with pytest.raises(UserError, match=r"^models:/laws/1 is kept at "):
        model_registry.describe(
            version, tags={}, files={"model_card.md": b"a"}, tracking_uri=elsewhere
        )
    assert not host.arrived


def test_the_comparison_of_a_version_is_not_fetched_from_another_host(elsewhere, host, monkeypatch):
    monkeypatch.setattr(
        MlflowClient,
        "get_model_version_download_uri",
        lambda *arguments: f"http://{host.address}/x",
    )
    version = model_registry.Version("laws", 1)
    with pytest.raises(UserError, match=r"^models:/laws/1 is kept at "):
        model_registry.read_file(version, "comparison.json", tracking_uri=elsewhere)
    assert not host.arrived
