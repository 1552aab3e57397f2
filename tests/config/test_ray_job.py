"""A submitted job must not use relative locations or a local MLflow store."""

import pytest

from sentiflow.config import ray_job
from sentiflow.errors import UserError
from sentiflow.tracking import runs


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
    assert ray_job.refuse_store("http://tracking:5000") is None


def test_a_run_of_a_submitted_job_names_it_and_its_commit(monkeypatch):
    assert runs.SUBMISSION_TAG not in runs.describe_code()
    assert not ray_job.is_here()
    job = '{"runtime_env": {}, "metadata": {"job_submission_id": "sentiflow-run-x-1a2b3c"}}'
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    monkeypatch.setenv(runs.COMMIT_VARIABLE, "c0ffee")
    assert ray_job.is_here()
    tags = runs.describe_code()
    assert tags[runs.SUBMISSION_TAG] == "sentiflow-run-x-1a2b3c"
    assert tags[runs.COMMIT_TAG] == "c0ffee"
    assert runs.DIRTY_TAG not in tags
    monkeypatch.setenv(runs.COMMIT_VARIABLE, "c0ffee-dirty")
    tags = runs.describe_code()
    assert (tags[runs.COMMIT_TAG], tags[runs.DIRTY_TAG]) == ("c0ffee", "true")
