import json
import subprocess

import pytest

from sentiflow import __version__
from sentiflow.tracking import provenance, runs

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


def test_the_commit_is_that_of_the_working_directory_if_it_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = {"sentiflow.version": __version__, "sentiflow.code": provenance.hash_code()}
    assert provenance.describe_code() == bare
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], check=True)
    assert provenance.describe_code() == bare
    (tmp_path / "a.py").write_text("1")
    subprocess.run(["git", "add", "a.py"], check=True)
    subprocess.run(["git", *who, "commit", "-qm", "a"], check=True)
    subprocess.run(["git", *who, "tag", "-am", "a", "v1"], check=True)
    tags = provenance.describe_code()
    assert len(commit := tags["mlflow.source.git.commit"]) == 40
    assert tags == bare | {"mlflow.source.git.commit": commit}
    (tmp_path / "a.py").write_text("2")
    assert provenance.describe_code() == tags | {"mlflow.source.git.dirty": "true"}
    monkeypatch.setenv("PATH", "")
    assert provenance.describe_code() == bare


def test_the_code_has_a_hash_that_changes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "tracking/provenance.py"))
    (tmp_path / "__pycache__").mkdir()
    seen = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "1"), ("b.yaml", "1")):
        (tmp_path / name).write_text(text)
        (tmp_path / "__pycache__/a.pyc").write_text(name + text)
        seen.add(provenance.hash_code())
        assert provenance.hash_code() in seen
    assert len(seen) == 4
    (tmp_path / "__pycache__/a.pyc").write_text("other")
    assert provenance.hash_code() in seen
