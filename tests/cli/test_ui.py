"""``sentiflow ui``: a real server, and what a browser shows of it."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from conftest import make_store
from test_cli import invoke, one_line

from sentiflow.tracking import experiment_store, mlflow_store, recording

needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium on this machine"
)


@pytest.fixture
def uri(tmp_path, monkeypatch) -> str:
    """Make a store with a training."""
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = experiment_store.open_store(uri, experiment="airline", required=True)
    with recording.open_run(
        store, "train", group="0123abcd", tags={}, name="runs: train"
    ) as recorder:
        recorder.log_metrics({"test/accuracy": 0.75})
    return uri


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def showing(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``sentiflow ui`` for the block, which begins when it answers; gives its address, too."""
    command = [sys.executable, "-m", "sentiflow", "ui", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            address = process.stdout.readline().strip()
            while is_free(urlsplit(address).port):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            yield process, address
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_the_server_imports_nothing_from_the_working_directory(uri, tmp_path, monkeypatch):
    """A store may have been given away in a directory with modules."""
    monkeypatch.chdir(tmp_path)
    for name in ("stranger", "uvicorn"):
        (tmp_path / f"{name}.py").write_text(f"open('{tmp_path}/has_run', 'w')\n")
    commands = []
    monkeypatch.setattr("os.execve", lambda program, words, environment: commands.append(words))
    invoke("ui", "--port", str(free_port()))
    command = ["stranger:app" if word.startswith("mlflow.") else word for word in commands[0]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 'Could not import module "stranger"' in ended.stderr
    assert not (tmp_path / "has_run").exists()


@pytest.mark.soak
@pytest.mark.slow
@needs_browser
def test_the_address_leads_to_the_trainings(uri):
    from playwright.sync_api import sync_playwright

    port = free_port()
    with showing("--port", str(port)) as (process, address), sync_playwright() as playwright:
        server = f"http://127.0.0.1:{port}"
        assert address == f"{server}/#/experiments/1/runs?workflowType=machine_learning"
        of_server = invoke("ui", "--tracking-uri", server)
        assert of_server.stdout == f"{address}\n", "of a server only the address is printed"
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        tab = browser.new_page(viewport={"width": 1700, "height": 900})
        tab.goto(address)
        tab.get_by_text("runs: train").first.wait_for(timeout=60_000)
        browser.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    assert is_free(port)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_a_signal_to_its_process_ends_the_server(uri, number):
    port = free_port()
    with showing("--port", str(port)) as (process, _):
        process.send_signal(number)
        assert process.wait(30) == -number
        assert is_free(port)


def test_the_experiment_of_the_config_is_shown_or_the_latest(uri, tmp_path):
    store = experiment_store.open_store(uri, experiment="second", required=True)
    with recording.open_run(store, "prepare", group="0123abcd", tags={}):
        pass
    page = "/#/experiments/{}/runs?workflowType=machine_learning".format
    assert mlflow_store.find_page(uri) == page(store.experiment_id)
    assert mlflow_store.find_page(uri, "airline") == page("1")


def test_what_cannot_be_shown_is_said_in_one_line(uri, tmp_path, monkeypatch):
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\noutput_uri: x\n")
    assert "there is no run of mine in sqlite" in one_line(invoke("ui", str(config)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    assert "there is no MLflow store" in one_line(invoke("ui"))
