"""The first use of an SQLite store is interrupted: the next command makes it, or uses it."""

import contextlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from sentiflow.tracking import recording

OPEN = """
    import resource, sys
    from sentiflow.errors import UnavailableError
    from sentiflow.tracking import recording
    print("ready", flush=True)
    input()
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    try:
        recording.open_store("sqlite:///" + sys.argv[1], experiment="laws", required=True)
    except UnavailableError as error:
        sys.exit(str(error))
"""


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Begin to open a store in another process."""
    command = [sys.executable, "-c", textwrap.dedent(OPEN), *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()
    return process


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
        (signal.SIGKILL, 1),
        (signal.SIGKILL, 150_000),
        (signal.SIGKILL, 450_000),
        (signal.SIGKILL, 900_000),
        (signal.SIGINT, 450_000),
    ],
)
def test_a_store_survives_the_end_of_the_process_that_makes_it(tmp_path, number, num_bytes):
    path = tmp_path / "mlflow.db"
    with begin(str(path)) as process:
        while count_bytes(tmp_path) < num_bytes:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(number)
    check_usable(path)


@pytest.mark.slow
def test_a_store_survives_a_full_disk(tmp_path):
    path = tmp_path / "mlflow.db"
    process = begin(str(path), "300000")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert said.startswith(f"cannot reach the MLflow store sqlite:///{path}: "), said
    assert len(said.splitlines()) == 1
    check_usable(path)
