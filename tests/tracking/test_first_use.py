"""The first use of an SQLite store is interrupted: the next command makes it, or uses it."""

import contextlib
import fcntl
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import pytest
from conftest import make_store
from other_process import calling

from sentiflow.errors import UnavailableError
from sentiflow.tracking import mlflow_store, recording


def open_store(pipe: Connection, path: Path, max_bytes: int = resource.RLIM_INFINITY) -> None:
    """Open a store in another process, whose files can have so many bytes; tell why it fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    try:
        recording.open_store(f"sqlite:///{path}", experiment="laws", required=True)
    except UnavailableError as error:
        pipe.send(str(error))


def count_bytes(folder) -> int:
    """Count the bytes of the store, whatever its name is at present."""
    count = 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has been renamed
            count += file.stat().st_size if file.suffix in (".db", ".new") else 0
    return count


def check_usable(path) -> None:
    """Record a run as the next command does."""
    store = recording.open_store(f"sqlite:///{path}", experiment="laws", required=True)
    with store.run("train", group="0123abcd", tags={}) as recorder:
        recorder.log_metrics({"loss": 1.0})
        assert recorder.flush()
    assert {item.name for item in path.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "num_bytes"),
    [
        *(pytest.param(signal.SIGKILL, n, marks=pytest.mark.soak) for n in (1, 150_000, 900_000)),
        (signal.SIGKILL, 450_000),
        pytest.param(signal.SIGINT, 450_000, marks=pytest.mark.soak),
    ],
)
def test_a_store_survives_the_end_of_the_process_that_makes_it_and_a_full_disk(
    tmp_path, number, num_bytes
):
    path = tmp_path / "mlflow.db"
    with calling(open_store, path) as (process, _):
        while count_bytes(tmp_path) < num_bytes:
            assert process.is_alive()
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.join()
    with calling(open_store, path, 300_000) as (_, pipe):
        said = pipe.recv()
    assert said.startswith(f"cannot reach the MLflow store sqlite:///{path}: "), said
    assert len(said.splitlines()) == 1
    check_usable(path)


@pytest.fixture
def lock(tmp_path) -> Iterator[IO[str]]:
    """Hold the lock of a store, as a process that hangs does."""
    with (tmp_path / "mlflow.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_wait_for_a_lock_is_said(tmp_path, lock, caplog, monkeypatch):
    make_store(tmp_path)
    monkeypatch.setattr(mlflow_store, "_AT_ONCE_SECONDS", 0.1)
    threading.Timer(0.5, lock.close).start()
    check_usable(tmp_path / "mlflow.db")
    assert caplog.messages == [f"waiting for another process, which holds {lock.name}"]


def test_a_lock_that_is_held_for_ever_is_an_error(tmp_path, lock, monkeypatch):
    monkeypatch.setattr(mlflow_store, "MAX_LOCK_SECONDS", 0.2)
    with pytest.raises(UnavailableError, match=f"another process has held {lock.name} for 0 s"):
        check_usable(tmp_path / "mlflow.db")
