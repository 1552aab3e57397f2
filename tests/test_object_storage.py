"""The whole pipeline on an S3 endpoint: moto's server, on loopback."""

import boto3
import numpy as np
import pytest
from conftest import write_config
from moto.server import ThreadedMotoServer

from sentiflow import storage
from sentiflow.model_package import ModelPackage

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def bucket() -> str:
    """Start an S3 endpoint with one bucket, and let this process and its children know it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="corpus")
        yield "s3://corpus"
    server.stop()


def test_a_run_on_object_storage_leaves_what_a_local_run_leaves(
    tmp_path, sample_csv, finished_run, bucket, sentiflow
):
    storage.write_bytes(f"{bucket}/in/tweets.csv", sample_csv.read_bytes())
    path = write_config(tmp_path, sample_csv)
    changes = [f"output_uri={bucket}/run", f"prepare.csv={bucket}/in/*.csv", "train.num_epochs=1"]
    first = sentiflow("run", path, *changes)
    assert first.returncode == 0, first.stderr
    assert "complete:" not in first.stderr
    names = storage.listing(f"{bucket}/run/scored", suffix=".parquet")
    ours, theirs = (
        np.concatenate(
            [storage.read_parquet(f"{root}/{name}")["row_id"].to_numpy() for name in names]
        )
        for root in (f"{bucket}/run/scored", finished_run / "run/scored")
    )
    np.testing.assert_array_equal(ours, theirs)
    assert len(ModelPackage.load(f"{bucket}/run/trained/model").vocabulary) > 100
    assert sentiflow("run", path, *changes).stderr.count("complete:") == 4
