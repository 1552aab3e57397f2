"""A submitted job must not use relative locations or a local MLflow store."""

import pytest

from sentiflow.config import ray_job
from sentiflow.errors import UserError
from sentiflow.tracking import provenance


@pytest.mark.parametrize("uri", ["runs/x", "./x", "../x", "x.csv", "a/b.zip::c.csv"])
def test_a_relative_location_is_refused_by_its_key(uri):
    with pytest.raises(UserError, match=r"^score\.corpus='.*' is relative, .* absolute URI$"):
        ray_job.refuse_relative("score.corpus", uri)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:////shared/mlflow.db"])
def test_a_store_that_is_a_file_is_refused(uri):
    with pytest.raises(
        UserError, match=r"^tracking\.uri: .* set tracking.uri or MLFLOW_TRACKING_URI"
    ):
        ray_job.refuse_store(uri)
    assert ray_job.refuse_store("postgresql://tracking/db") is None


def test_a_run_of_a_submitted_job_names_it_and_its_commit(monkeypatch):
    assert provenance.SUBMISSION_TAG not in provenance.describe_code()
    assert not ray_job.is_here()
    job = '{"runtime_env": {}, "metadata": {"job_submission_id": "sentiflow-run-x-1a2b3c"}}'
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    monkeypatch.setenv(provenance.COMMIT_VARIABLE, "c0ffee")
    assert ray_job.is_here()
    tags = provenance.describe_code()
    assert tags[provenance.SUBMISSION_TAG] == "sentiflow-run-x-1a2b3c"
    assert tags[provenance.COMMIT_TAG] == "c0ffee"
    assert provenance.DIRTY_TAG not in tags
    monkeypatch.setenv(provenance.COMMIT_VARIABLE, "c0ffee-dirty")
    tags = provenance.describe_code()
    assert (tags[provenance.COMMIT_TAG], tags[provenance.DIRTY_TAG]) == ("c0ffee", "true")
