"""The whole pipeline on an S3 endpoint: moto's server, on loopback."""

import numpy as np
import pytest
from conftest import write_config

from sentiflow import storage
from sentiflow.model_package import ModelPackage

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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
