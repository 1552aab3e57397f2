"""MLflow's web interface opens on the training runs."""

import json

import pytest
from conftest import make_store
from mlflow import MlflowClient

from sentiflow.errors import JobError, UserError
from sentiflow.tracking import pages, recording

(TAG,) = pages.VIEW_TAGS


@pytest.fixture
def uri(tmp_path) -> str:
    return make_store(tmp_path)


def record_run(uri: str, experiment: str, stage: str = "train", **metrics: float) -> str:
    """Record a run of a stage; return the id of its experiment."""
    store = recording.open_store(uri, experiment=experiment, required=True)
    with store.run(stage, group="0123abcd", tags={}, name=f"runs: {stage}") as recorder:
        recorder.log_metrics({name.replace("_", "/", 1): value for name, value in metrics.items()})
    return store.experiment_id


def page_of(experiment_id: str) -> str:
    query = "workflowType=machine_learning&viewStateShareKey=sentiflow"
    return f"/#/experiments/{experiment_id}/runs?{query}"


def test_the_page_of_an_experiment_shows_its_trainings(uri, tmp_path):
    experiment = record_run(uri, "laws")
    assert pages.find_page(uri, "laws") == page_of(experiment)
    assert pages.find_page(uri, "another") == ""
    assert pages.find_page(f"sqlite:///{tmp_path}/none.db", "laws") == ""
    assert pages.find_page("http://127.0.0.1:9", "laws") == ""


def test_an_experiment_has_the_view_which_stays_as_the_user_changes_it(uri):
    client = MlflowClient(uri)
    client.create_experiment("changed", tags={TAG: "mine"})
    other = client.create_experiment("other")
    for experiment in ("new", "changed", "other"):
        record_run(uri, experiment)
    tags = {each.name: each.tags.get(TAG) for each in client.search_experiments()}
    view = tags["new"]
    assert tags == {"Default": None, "new": view, "changed": "mine", "other": None}
    assert pages.find_page(uri, "other") == page_of(other).partition("&")[0]
    state = json.loads(json.loads(view)["state"])
    assert state["selectedColumns"][:2] == ["metrics.`test/accuracy`", "metrics.`test/f1_macro`"]


def test_without_a_name_the_latest_run_decides(uri, tmp_path):
    with pytest.raises(UserError, match=r"there is no run in sqlite:///.*: sentiflow run CONFIG"):
        pages.require_page(uri)
    first, second = record_run(uri, "first"), record_run(uri, "second")
    assert pages.require_page(uri) == page_of(second)
    record_run(uri, "first", stage="score")
    assert pages.require_page(uri) == page_of(first)
    assert pages.require_page(uri, "second") == page_of(second)
    with pytest.raises(UserError, match=r"there is no run of third in sqlite"):
        pages.require_page(uri, "third")
    with pytest.raises(UserError, match="there is no MLflow store"):
        pages.require_page(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(JobError, match="cannot look for runs"):
        pages.require_page("http://127.0.0.1:9")
