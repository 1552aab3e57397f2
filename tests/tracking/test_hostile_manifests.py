"""A stranger's manifest reads, overwrites and sends nothing outside of its directory."""

# ruff: noqa: F401, F811 - fixtures of another file

import json
import os
import socket
from pathlib import Path

import pytest
from conftest import messages
from mlflow import MlflowClient
from test_rebuild import invoke, output, publish_run, runs, send, uri

from sentiflow.data import manifest
from sentiflow.errors import JobError, UserError
from sentiflow.models.package_files import FILES
from sentiflow.tracking import mlflow_store

HOSTILE = [
    ("run.artifacts", ["../secret.txt"]),
    ("run.artifacts", ["/etc/passwd"]),
    ("run.artifacts", ["a/../../secret.txt"]),
    ("run.artifacts", ["report.html", "not-listed.html"]),
    ("run.experiment", "../../elsewhere"),
    ("run.experiment", "x' or '1' = '1"),
    ("run.group", "' or '1' = '1"),
    ("run.start", "soon"),
    ("run.params", {"a": 1}),
    ("run.metrics", {"a": "not a number"}),
    ("history", [{"epoch": "first"}]),
    ("history", [{"epoch": 1, "ended": "soon"}]),
]
"""Changes to a manifest, each by its dotted key."""


@pytest.mark.parametrize(("key", "value"), HOSTILE, ids=lambda item: str(item)[:30])
def test_a_hostile_manifest_is_refused_in_one_line_before_anything_is_written(
    output, tmp_path, key, value
):
    publish_run(output)
    (tmp_path / "secret.txt").write_text("a secret")
    path = Path(output, "report/manifest.json")
    record = json.loads(path.read_text())
    *outer, last = key.split(".")
    (record[outer[0]] if outer else record)[last] = value
    if value != ["report.html", "not-listed.html"] and last == "artifacts":
        record["files"] += [{"path": item, "rows": None, "bytes": 1} for item in value]
    path.write_text(json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    result = invoke(output, "--tracking-uri", f"sqlite:///{tmp_path}/absent.db")
    assert result.exit_code == 2, result.output
    (line,) = messages(result.stderr)
    assert line.startswith("sentiflow: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_out_of_the_output_is_not_followed(output, uri, tmp_path):
    publish_run(output)
    (tmp_path / "secret.txt").write_text("a secret")
    Path(output, "report/report.html").unlink()
    Path(output, "report/report.html").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UserError, match=r"report/report\.html is no regular file"):
        send(output, uri)


@pytest.mark.parametrize("name", ["../../../overwritten", "/overwritten", "settings.json"])
def test_a_hostile_model_package_overwrites_nothing_and_is_not_registered(
    output, uri, make_package, tmp_path, name
):
    package = Path(make_package(f"{output}/trained/model"))
    record = json.loads((package / "manifest.json").read_text())
    publish_run(output, model=record["fingerprint"])
    victim = tmp_path / "overwritten"
    victim.write_text("mine")
    if name in FILES:
        (package / name).unlink()
        (package / name).symlink_to(victim)
    record["files"][0]["path"] = name
    (package / "manifest.json").write_text(json.dumps(record))
    with pytest.raises((UserError, JobError)):
        send(output, uri)
    assert victim.read_text() == "mine"
    assert not MlflowClient(uri).search_registered_models()


def test_an_import_sends_nothing_to_a_host_that_a_manifest_names(output, uri, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        records = publish_run(output)
        for folder in ("prepared", "trained", "scored", "report"):
            path = Path(output, folder, "manifest.json")
            record = json.loads(path.read_text().replace(f"{output}/", f"{host}/"))
            record["tracking_uri"] = record["run"]["tracking_uri"] = host
            record["run"]["tags"] |= {"mlflow.parentRunId": "0" * 32, "sentiflow.invented": "1"}
            path.write_text(json.dumps(record))
        assert send(output, uri) == ["added"] * len(records)
        with pytest.raises(BlockingIOError):
            listener.accept()
    for run in runs(uri).values():
        assert not run.data.tags.keys() & {"mlflow.parentRunId", "sentiflow.invented"}
    assert mlflow_store.default_uri(None) != host
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"
