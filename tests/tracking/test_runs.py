"""Names and values fit into MLflow, hold no secret, and say where a result comes from."""

import json
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.tracking import runs

FILES = [
    {"uri": f"s3://bucket/in/tweets-{n}.csv", "bytes": 10, "modified_ns": 1, "tree_sha256": "a"}
    for n in range(120)
]


def to_dataset(value, *, stage="train"):
    """Give the only dataset, and what it was read for."""
    (dataset,) = runs.to_datasets({"corpus": value}, stage=stage)
    return dataset.dataset, dataset.tags[0].value


def test_a_directory_has_the_name_of_the_input():
    dataset, context = to_dataset({"uri": "/runs/prepared", "fingerprint": "c5f0"})
    assert (dataset.name, dataset.digest) == ("corpus", "c5f0")
    assert (dataset.source_type, context) == ("local", "training")
    assert json.loads(dataset.source) == {"uri": "/runs/prepared"}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (FILES[:1], "tweets-0.csv"),
        (FILES[:3], "tweets-0.csv and 2 more"),
        ([FILES[0] | {"uri": "/in/a.zip::train/tweets.csv"}], "tweets.csv"),
    ],
)
def test_files_have_the_name_of_the_first(files, name):
    assert to_dataset({"fingerprint": "c5f0", "files": files})[0].name == name


def test_many_files_are_counted_and_not_all_named():
    dataset, context = to_dataset({"fingerprint": "c5" * 32, "files": FILES}, stage="score")
    assert len(dataset.digest) == 36
    assert (dataset.source_type, context) == ("s3", "scoring")
    assert len(json.loads(dataset.source)["uris"]) == 100
    assert json.loads(dataset.profile) == {"files": 120, "bytes": 1200}


@pytest.mark.parametrize(
    ("earlier", "changes"),
    [
        ([], ""),
        ([{}], ""),  # the same
        ([{"seed": "1"}], "seed=0"),
        ([{"seed": "1", "model.cell": "rnn"}, {"model.cell": "rnn"}], "cell=gru"),  # most similar
        ([{"seed": "1"}, {"seed": "2"}, {}], "seed=0"),
        ([{"of an older version": "1"}], ""),
        (
            [{"a": "x", "b": "x", "model.cell": "x", "seed": "x"}],
            "seed=0, cell=gru, a=1 and 1 more",
        ),
        ([{"long": "x"}], f"long={'a' * 24}"),
    ],
)
def test_a_training_is_named_by_what_differs_from_the_most_similar_one(earlier, changes):
    params = {
        "seed": "0",
        "model.cell": "gru",
        "a": "1",
        "b": "1",
        "long": "a" * 30,
    }
    params = {f"train.{key}": value for key, value in params.items()}
    known = [params | {f"train.{key}": value for key, value in each.items()} for each in earlier]
    assert runs.find_changes(params, known) == changes


def test_directories_are_no_parameters():
    """They would be the first that differ, wherever runs are compared."""
    settings = {"train": {"output_uri": "a", "prepared_uri": "b", "seed": 0}}
    assert runs.to_params(settings) == {"train.seed": "0"}


def test_the_commit_is_that_of_the_working_directory_if_it_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = {"sentiflow.version": __version__, "sentiflow.code": runs.hash_code()}
    assert runs.describe_code() == bare
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], check=True)
    assert runs.describe_code() == bare
    (tmp_path / "a.py").write_text("1")
    subprocess.run(["git", "add", "a.py"], check=True)
    subprocess.run(["git", *who, "commit", "-qm", "a"], check=True)
    subprocess.run(["git", *who, "tag", "-am", "a", "v1"], check=True)
    tags = runs.describe_code()
    assert len(commit := tags["mlflow.source.git.commit"]) == 40
    assert tags == bare | {"mlflow.source.git.commit": commit}
    (tmp_path / "a.py").write_text("2")
    assert runs.describe_code() == tags | {"mlflow.source.git.dirty": "true"}
    monkeypatch.setenv("PATH", "")
    assert runs.describe_code() == bare


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


def test_the_code_has_a_hash_that_changes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "tracking/runs.py"))
    (tmp_path / "__pycache__").mkdir()
    seen = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "1"), ("b.yaml", "1")):
        (tmp_path / name).write_text(text)
        (tmp_path / "__pycache__/a.pyc").write_text(name + text)
        seen.add(runs.hash_code())
        assert runs.hash_code() in seen
    assert len(seen) == 4
    (tmp_path / "__pycache__/a.pyc").write_text("other")
    assert runs.hash_code() in seen


@example({".": "", "..": "", "": "", "a/../b": ""})
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=30), max_size=30))
def test_mlflow_takes_every_name(settings):
    params = runs.to_params(settings)
    others = [key for key in settings if key.rpartition(".")[2] not in runs._LOCATION_SETTINGS]
    assert bool(params) == bool(others), "only locations are left out"
    for key, value in params.items():
        validation._validate_param(key, value)
        validation._validate_tag(key, value)
        validation._validate_metric_name(key)


def test_long_values_are_cut():
    space = {f"train.very.{'long.' * 60}{n}": "x" * 9000 for n in range(250)}
    params = runs.to_params({"sweep": {"space": space}})
    assert {len(value) for value in params.values()} == {6000}
    assert {len(key) for key in params} == {250}
    assert {len(value) for value in runs.to_tags(space).values()} == {8000}


def test_metrics_of_any_classes_have_names_of_their_own():
    names = ["très bien", "5 stars", "n/a", "a:b", "C++", "C##", "😀"]
    found = runs.to_metrics({f"test/f1_{name}": n for n, name in enumerate(names)})
    assert list(found.values()) == list(range(7))
    assert list(found)[:4] == [f"test/f1_{name}" for name in names[:4]]
    assert [name[:12] for name in found][4:] == ["test/f1_C__-", "test/f1_C__-", "test/f1__"]


def test_no_value_holds_a_secret():
    secret = {"space": {"csv": ["s3://AKIA:se/cret@bucket/x", "http://h/?access_key=se/cret&a=b"]}}
    params = runs.to_params(secret)
    tags = runs.to_tags({"reason": "cannot open s3://AKIA:se/cret@bucket/x"})
    assert "se/cret" not in f"{params}{tags}"
    assert "http://h/?access_key=***&a=b" in params["space.csv"]
    assert tags["reason"] == "cannot open s3://bucket/x"


def test_what_is_not_unicode_is_escaped():
    assert runs.to_tags({"file": "caf\udce9"}) == {"file": "caf\\udce9"}
