"""Jobs record in a real PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_servers import record

from sentiflow.errors import UnavailableError
from sentiflow.tracking import mlflow_store, recording

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

BY_DEBIAN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/none"))
SEARCHED = f"{os.environ['PATH']}:{BY_DEBIAN}"


class Database:
    """A PostgreSQL server on loopback with one user and one database, ``mlflow``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.user = folder, None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self.user = "nobody"
            shutil.chown(folder, self.user)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        (folder / "password").write_text("se/cr@et")
        self.call(
            "initdb", "--username=mlflow", "--auth=scram-sha-256", "--pwfile=password", "data"
        )
        self.start()
        self.call("createdb", "--host=127.0.0.1", f"--port={self.port}", "-Umlflow", "mlflow")

    @property
    def uri(self) -> str:
        return f"postgresql://mlflow:se%2Fcr%40et@127.0.0.1:{self.port}/mlflow"

    def call(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL."""
        path = shutil.which(program, path=SEARCHED)
        assert path, f"{program} is beside initdb"
        environment = os.environ | {"PGPASSWORD": "se/cr@et"}
        command = [path, *arguments]
        with (self.folder / "log").open("a") as log:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, user=self.user, stdout=log, stderr=log
            )
        assert done.returncode == 0, (self.folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -p {self.port}"
        self.call("pg_ctl", "start", "--wait", "-D", "data", "-o", options)

    def stop(self) -> None:
        """Stop it as a crash of the machine would."""
        self.call("pg_ctl", "stop", "--mode=immediate", "-D", "data")


@pytest.fixture
def database(monkeypatch) -> Iterator[Database]:
    if not shutil.which("initdb", path=SEARCHED):
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        found = Database(Path(folder))
        yield found
        found.stop()


def test_a_database_that_crashes_costs_one_line_and_no_work(
    database, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    uri = mlflow_store.default_uri(database.uri)
    assert uri == f"postgresql://127.0.0.1:{database.port}/mlflow"
    store = recording.open_store(uri, experiment="laws", required=True)
    with store.run("train", group="0123abcd", tags={}) as recorder:
        recorder.flush()
        database.stop()
        recorder.log_metrics({"loss": 1.0})
    (line,) = caplog.messages
    assert line.startswith(f"cannot reach the MLflow store {uri}: ")
    assert line.endswith("; the job continues without it")
    with pytest.raises(UnavailableError) as error:
        recording.open_store(uri, experiment="laws", required=True)
    assert "et@" not in f"{line} {error.value}"
    database.start()
    assert recording.open_store(uri, experiment="laws", required=True).experiment_id
    record(database.uri)
