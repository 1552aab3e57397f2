"""Names and values fit into MLflow, hold no secret, and say which code made a result."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.tracking import runs


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


def git(folder: Path, *words: str) -> None:
    user = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", f"core.hooksPath={os.devnull}"]
    subprocess.run(["git", *user, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository with one commit, as the working directory."""
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init")
    (folder / "a.txt").write_text("a")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


def test_a_changed_file_makes_the_commit_dirty(repository):
    clean = runs.read_commit()
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (repository / "untracked.txt").write_text("a")
    os.utime(repository / "a.txt", (0, 0))  # the same content
    assert runs.read_commit() == clean
    (repository / "a.txt").write_text("b")
    assert runs.read_commit() == f"{clean}-dirty"


def test_a_directory_without_a_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.read_commit() == ""


@pytest.mark.parametrize("name", ["core.fsmonitor", "filter.x.clean", "filter.x.process", "hook"])
def test_a_repository_of_a_stranger_runs_no_program(repository, tmp_path, name):
    """A run that was given away may be in a repository, whose configuration names programs."""
    commit = runs.read_commit()
    (repository / ".gitattributes").write_text("*.txt filter=x\n")
    program = f"touch {tmp_path}/has_run; cat"
    if name == "hook":
        hook = repository / ".git/hooks/post-index-change"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\n{program}\n")
        hook.chmod(0o755)
    else:
        git(repository, "config", name, program)
    os.utime(repository / "a.txt", (0, 0))
    assert runs.read_commit() == commit
    assert not (tmp_path / "has_run").exists()
