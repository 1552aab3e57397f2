"""The first use of an SQLite store is interrupted: the next command makes it, or uses it."""

import contextlib
import os
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from other_process import calling

from sentiflow.errors import UnavailableError
from sentiflow.tracking import recording


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
    left = [item.name for item in path.parent.iterdir() if not item.name.startswith(".")]
    assert left == ["mlflow.db"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "num_bytes"),
    [
        *(pytest.param(signal.SIGKILL, n, marks=pytest.mark.soak) for n in (1, 150_000, 900_000)),
        (signal.SIGKILL, 450_000),
        pytest.param(signal.SIGINT, 450_000, marks=pytest.mark.soak),
    ],
)
def test_a_store_survives_a_full_disk_and_the_end_of_the_process_that_makes_it(
    tmp_path, number, num_bytes
):
    path = tmp_path / "mlflow.db"
    with calling(open_store, path, 300_000) as (_, pipe):
        said = pipe.recv()
    assert said.startswith(f"cannot reach the MLflow store sqlite:///{path}: "), said
    assert len(said.splitlines()) == 1
    with calling(open_store, path) as (process, _):
        while count_bytes(tmp_path) < num_bytes:
            assert process.is_alive()
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.join()
    check_usable(path)
