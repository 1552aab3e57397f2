"""Which store a job uses; several jobs on one SQLite file; no message shows a password."""

import base64
import contextlib
import http.server
import io
import logging
import os
import re
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from conftest import messages, write_config
from mlflow import MlflowClient
from mlflow.exceptions import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    MlflowException,
)
from other_process import calling
from test_cli import invoke

from sentiflow.errors import UserError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import experiment_store, mlflow_store, recording
from sentiflow.tracking.mlflow_store import default_uri

NUM_JOBS, NUM_STEPS = 2, 20


def record(pipe: Connection, uri: str, folder: Path) -> None:
    """Record a run in another process; tell what it logs."""
    os.environ["TMPDIR"] = str(folder)  # MLflow's own lock is there
    heard = io.StringIO()
    logging.basicConfig(stream=heard, format="%(message)s", force=True)
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    with recording.open_run(
        store, "train", group="0123abcd", tags={}, name=folder.name
    ) as recorder:
        recorder.log_inputs({"prepared": {"uri": "/p", "fingerprint": "c5"}}, stage="train")
        for step in range(NUM_STEPS):
            recorder.log_metrics({"loss": step, "accuracy": step}, step=step)
        recorder.log_settings({"seed": 1})
        recorder.log_files({"a.txt": b"a"})
    pipe.send(heard.getvalue())


@pytest.mark.slow
def test_jobs_that_make_and_use_one_store_at_the_same_time_lose_nothing(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    with contextlib.ExitStack() as stack:
        jobs = []
        for number in range(NUM_JOBS):
            folder = tmp_path / f"job-{number}"
            folder.mkdir()
            jobs.append(stack.enter_context(calling(record, uri, folder)))
        for _, pipe in jobs:
            assert pipe.recv() == ""
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "laws"]
    found = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in found] == ["FINISHED"] * NUM_JOBS
    for run in found:
        assert [item.dataset.digest for item in run.inputs.dataset_inputs] == ["c5"]
        for name in ("loss", "accuracy"):
            points = client.get_metric_history(run.info.run_id, name)
            assert [point.step for point in points] == [*range(NUM_STEPS)]
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (MlflowException("(sqlite3.OperationalError) database is locked"), 3),
        (MlflowException("(sqlite3.IntegrityError) UNIQUE", error_code=BAD_REQUEST), 3),
        (MlflowException("twice", error_code=RESOURCE_ALREADY_EXISTS), 3),
        (OSError("reset"), 3),
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), 1),
    ],
)
def test_what_fails_at_once_is_tried_again_for_a_moment_and_a_refusal_is_final(
    monkeypatch, error, tries
):
    clock = iter((0, 1, 1.9, 2.1))
    monkeypatch.setattr(mlflow_store.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(mlflow_store.time, "sleep", lambda seconds: None)
    asked = []

    def answer(number: int) -> str:
        asked.append(number)
        if len(asked) < number:
            raise error
        return "done"

    with pytest.raises(type(error), match=re.escape(str(error))):
        mlflow_store.ask(lambda: answer(99))
    assert len(asked) == tries


def test_the_default_store_is_sqlite_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert default_uri(None) == "http://127.0.0.1:5000"
    assert default_uri("sqlite:////x.db") == "sqlite:////x.db"


def test_a_submitted_job_refuses_a_store_that_is_a_file(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri("http://tracking:5000") == "http://tracking:5000"
    for uri in (None, "sqlite:////m.db"):
        with pytest.raises(UserError, match="would be lost"):
            default_uri(uri)


def test_a_password_in_an_address_is_used_and_not_shown(monkeypatch):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Be silent."""

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://ann:s%40cret@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    uri = default_uri(None)
    assert uri == f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(MlflowException):
        mlflow_store.make_client(uri).get_run("0" * 32)
    server.shutdown()
    assert asked[-1][1] == "Basic " + base64.b64encode(b"ann:s@cret").decode()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a", "http://host:5000/a"),
        ("http://me:se/cr@et@host:5000/a", "http://host:5000/a"),
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("http://me@corp.com:secret@host:5000/a", "http://host:5000/a"),
        ("postgresql://host/db?password=secret", "postgresql://host/db?password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("sqlite:////home/me@work/x.db", "sqlite:////home/me@work/x.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("http://[::1]/a@b", "http://[::1]/a@b"),
        ("http://me:secret@[::1]:5000/a", "http://[::1]:5000/a"),
        ("http://[:sec]ret@host/a", "http://host/a"),
    ],
)
def test_an_address_is_shown_without_password(uri, shown):
    assert without_credentials(uri) == shown


MISTYPED = [
    "me:hush@host:5000", "http//me:hush@host", "http:/me:hush@host", "htp://me:hush@host",
    "HTTP://me:hush@host", " http://me:hush@host", "http://me:hush @host",
    "http://me:hush@host:50x", "http://me:hu/sh@host", "http://me:hush@[::1", "http://me:hush@",
    "https:///me:hush@", "postgres://me:hush@host/db", "postgresql:/me:hush@host/db",
    "s3://me:hush@bucket", "postgresql://me:hush@host/db",
    "sqlite:/x.db", "sqlite://x.db", "mlruns", "file:///mlruns",
]  # fmt: skip


@pytest.mark.parametrize("uri", MISTYPED)
def test_a_mistyped_address_gives_one_line_without_its_password(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = str(write_config(tmp_path, tmp_path / "no.csv", tracking={}))
    result = invoke("run", config)
    (line,) = messages(result.stderr)
    assert result.exit_code == 2, line
    assert "is not the address of " in line
    assert "hu" not in line


def test_a_store_whose_making_was_interrupted_has_not_its_name_yet(tmp_path, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "search_experiments", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mlflow_store.make(f"sqlite:///{tmp_path}/mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()
