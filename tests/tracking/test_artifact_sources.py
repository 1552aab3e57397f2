"""The files of a model are fetched from a store or from the MLflow server, and nowhere else."""

import pytest

from sentiflow.errors import UserError
from sentiflow.tracking import artifact_sources

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
