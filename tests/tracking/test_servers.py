"""The servers that docs/tracking_servers.md starts: its commands are typed, and jobs use them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_model_registry
from conftest import PROJECT, make_store, write_config

from sentiflow.config import settings
from sentiflow.errors import UnavailableError
from sentiflow.pipeline.preflight import machine_checks
from sentiflow.tracking import experiment_store, mlflow_store, recording

pytestmark = pytest.mark.slow


def read_commands(heading: str, replaced: dict[str, str]) -> list[str]:
    """Read the commands below a heading of the page, as a user types them here."""
    page = (PROJECT / "docs/tracking_servers.md").read_text()
    _, section = page.split(f"\n## {heading}\n")
    blocks = re.findall(r"^```bash\n(.*?)^```$", section.split("\n#")[0], re.DOTALL | re.MULTILINE)
    for old, new in replaced.items():
        blocks = [block.replace(old, new) for block in blocks]
    return blocks


def type_in(commands: str, folder: Path) -> dict[str, object]:
    """Prepare a shell in which commands are typed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {"args": ["bash", "-ec", commands], "cwd": folder, "env": environment}


@contextlib.contextmanager
def serving(heading: str, folder: Path, **replaced: str) -> Iterator[tuple[int, list[str]]]:
    """Start the server of a section; return its port, and the commands that come after it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    make_store(folder)
    known = {"/srv/mlflow": str(folder), "0.0.0.0": "127.0.0.1", "5000": str(port)}
    known |= {"mlflow.example": "localhost", "--port": "--workers 1 --port"} | replaced
    first, *others = read_commands(heading, known)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            **type_in(first, folder), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for_port(server, port)
        yield port, others
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_port(server: subprocess.Popen, port: int) -> None:
    while True:
        assert server.poll() is None, "it has ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        time.sleep(0.1)


def record(uri: str) -> None:
    """Record a run with all that a stage logs, and read it back."""
    store = experiment_store.open_store(
        mlflow_store.default_uri(uri), experiment="laws", required=True
    )
    with recording.open_run(store, "train", group="0123abcd", tags={}) as recorder:
        recorder.log_metrics({"loss": 1.0})
        recorder.log_files({"a.txt": b"a"})
    assert recorder.store.flush()
    client = mlflow_store.make_client(store.uri)
    assert client.get_run(recorder.run_id).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(recorder.run_id)] == ["a.txt"]


def refusal(uri: str) -> str:
    """Return why a store cannot be used."""
    with pytest.raises(UnavailableError) as error:
        experiment_store.open_store(mlflow_store.default_uri(uri), experiment="laws", required=True)
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.soak
def test_a_server_is_known_by_the_names_that_it_allows(tmp_path):
    with serving("A server", tmp_path) as (port, _):
        record(f"http://localhost:{port}")
        assert "--allowed-hosts HOST:PORT" in refusal(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Iterator[tuple[int, str]]:
    """Start a server with a private CA; gives its port and the CA's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    with serving("TLS", folder) as (port, _):
        yield port, str(folder / "ca.pem")


@pytest.mark.soak
def test_a_server_with_a_private_ca_is_trusted_as_mlflow_trusts_it(tls, tmp_path, monkeypatch):
    port, ca = tls
    uri = f"https://localhost:{port}"
    assert "set MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(uri)
    config = settings.load(write_config(tmp_path, tmp_path, tracking={"uri": uri}))
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, ca)
            assert machine_checks.check_tracking(config) == f"{uri} answers"
            patch.setenv(name, f"{ca}x")
            assert f"there is no file {ca}x" in refusal(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", ca)
    record(uri)


def test_a_package_is_registered_at_a_server_and_comes_back(
    tls, make_package, tmp_path, monkeypatch
):
    port, ca = tls
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", ca)
    uri = f"https://localhost:{port}"
    laws = test_model_registry.register_laws(make_package(), uri)
    test_model_registry.check_it_comes_back(laws, tmp_path)
    test_model_registry.check_a_model_of_another_kind_is_refused(uri, tmp_path)
    test_model_registry.check_a_download_that_fails_leaves_no_finished_package(
        laws, tmp_path, monkeypatch
    )


@pytest.fixture
def no_user(monkeypatch) -> None:
    """Take back what an address with a password sets."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")


@pytest.mark.soak
def test_a_server_with_users_asks_for_a_password(tmp_path, no_user):
    pytest.importorskip("flask_wtf", reason="needs the extra auth")
    with serving("Users and passwords", tmp_path) as (port, (add_user, *_)):
        host = f"localhost:{port}"
        assert "it answers 401; set MLFLOW_TRACKING_USERNAME" in refusal(f"http://{host}")
        assert "it answers 401" in refusal(f"http://admin:wrong@{host}")
        record(f"http://admin:long-admin-password@{host}")
        subprocess.run(**type_in(add_user, tmp_path), check=True)
        recorder = experiment_store.open_store(
            mlflow_store.default_uri(f"http://ann:long-password-of-ann@{host}"),
            experiment="of ann", required=True,
        )  # fmt: skip
        assert recorder.experiment_id
