"""A job records in a real PostgreSQL, without a server of MLflow, and outlives its crash."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_servers import record

from sentiflow.tracking import mlflow_store, recording

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

BY_DEBIAN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/none"))
SEARCHED = f"{os.environ['PATH']}:{BY_DEBIAN}"


@pytest.fixture
def database() -> Iterator[tuple[str, Callable[..., None]]]:
    """Start a server on loopback; give its address, and a function that runs its programs."""
    if not shutil.which("initdb", path=SEARCHED):
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        if user:
            shutil.chown(folder, user)
        Path(folder, "password").write_text("se/cr@et")

        def call(program: str, *arguments: str) -> None:
            command = [shutil.which(program, path=SEARCHED), *arguments]
            environment = os.environ | {"PGPASSWORD": "se/cr@et"}
            subprocess.run(command, check=True, cwd=folder, env=environment, user=user)

        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -p {port}"
        call("initdb", "--username=mlflow", "--auth=scram-sha-256", "--pwfile=password", "data")
        call("pg_ctl", "start", "--wait", "-D", "data", "-o", options, "-l", "log")
        call("createdb", "--host=127.0.0.1", f"--port={port}", "-Umlflow", "mlflow")
        yield f"postgresql://mlflow:se%2Fcr%40et@127.0.0.1:{port}/mlflow", call
        with contextlib.suppress(subprocess.CalledProcessError):  # the test has stopped it
            call("pg_ctl", "stop", "--mode=immediate", "-D", "data")


def test_a_job_records_in_a_database_and_outlives_its_crash(
    database, tmp_path, monkeypatch, caplog
):
    address, call = database
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    record(address)
    uri = mlflow_store.default_uri(address)
    store = recording.open_store(uri, experiment="laws", required=True)
    with store.run("train", group="0123abcd", tags={}) as recorder:
        recorder.store.flush()
        call("pg_ctl", "stop", "--mode=immediate", "-D", "data")
        recorder.log_metrics({"loss": 1.0})
    (line,) = caplog.messages
    assert line.startswith(f"cannot reach the MLflow store {uri}: ")
    assert "et@" not in line
