"""Several jobs on one SQLite file; addresses with passwords."""

import contextlib
import errno
import io
import logging
import os
import re
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    MlflowException,
)
from other_process import calling

from sentiflow.config import settings
from sentiflow.errors import JobError, UserError
from sentiflow.tracking import mlflow_store, recording, sending

NUM_JOBS, NUM_STEPS = 2, 20


def record(pipe: Connection, uri: str, folder: Path) -> None:
    """Record a run in another process; tell what it logs."""
    os.environ["TMPDIR"] = str(folder)  # MLflow's own lock is there
    heard = io.StringIO()
    logging.basicConfig(stream=heard, format="%(message)s", force=True)
    store = recording.open_store(uri, experiment="laws", required=True)
    with store.run("train", group="0123abcd", tags={}, name=folder.name) as recorder:
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.ECONNREFUSED, errno.ENETUNREACH])
def test_the_reason_of_the_system_is_whole(number):
    error = OSError(number, os.strerror(number), "/ro/.mlflow.db.new")
    line = mlflow_store.unreachable("sqlite:////ro/mlflow.db", error)
    reason = os.strerror(number)
    assert line == f"cannot reach the MLflow store sqlite:////ro/mlflow.db: {reason}"


def test_a_database_that_is_away_is_said_soon_and_no_error_shows_a_password():
    away = "postgresql://me:secret@127.0.0.1:9/db"
    began = time.monotonic()
    with pytest.raises((JobError, UserError)) as error:  # here may be no driver for it
        recording.open_store(away, experiment="laws", required=True)
    assert time.monotonic() - began < 30
    assert "secret" not in str(error.value)
    assert "secret" not in repr(recording.Store(sending.Sender(away), "1"))


def test_settings_refuse_a_key_even_if_it_is_not_encoded():
    raw = {"name": "a", "output_uri": "b", "prepare": {"csv": "s3://AKIA:se/cr+et@bucket/x.csv"}}
    with pytest.raises(UserError, match="holds a user name or password") as error:
        settings.validate(raw, source="x")
    assert "cr+et" not in str(error.value)
    space = {"train.init_from": [["s3://AKIA:se/cr+et@bucket/x"]]}
    with pytest.raises(UserError, match=r"sweep\.space\.train\.init_from holds a user name"):
        settings.validate(raw | {"prepare": {"csv": "x"}, "sweep": {"space": space}}, source="x")
    raw |= {"prepare": {"csv": "x", "max_length": "s3://AKIA:se/cr+et@bucket/x.csv"}}
    with pytest.raises(UserError, match=r"prepare\.max_length") as error:
        settings.validate(raw, source="x")
    assert "cr+et" not in str(error.value)
