"""``sentiflow ui``: a real server, and what a browser shows of it."""

import contextlib
import re
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
from test_run_pages import page_of, record_run

needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium on this machine"
)


@pytest.fixture
def uri(tmp_path, monkeypatch) -> str:
    """Make a store with two trainings and one more run."""
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    record_run(uri, "airline", "prepare", prepare_rows=3)
    record_run(uri, "airline", train_loss=1, system_cpu=2, test_accuracy=0.75, test_f1_macro=0.5)
    record_run(uri, "airline", train_loss=1, system_cpu=2, test_accuracy=0.875, test_f1_macro=0.5)
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


@pytest.mark.browser
@pytest.mark.slow
@needs_browser
def test_the_address_shows_the_trainings_with_their_test_accuracy(uri):
    from playwright.sync_api import sync_playwright

    port = free_port()
    with showing("--port", str(port)) as (process, address), sync_playwright() as playwright:
        assert address == f"http://127.0.0.1:{port}{page_of('1')}"
        of_server = invoke("ui", "--tracking-uri", f"http://127.0.0.1:{port}")
        assert of_server.stdout == f"{address}\n", "of a server only the address is printed"
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        tab = browser.new_page(viewport={"width": 1700, "height": 900})
        tab.goto(address)
        headers = tab.get_by_role("columnheader")
        tab.get_by_text("test/f1_macro").first.wait_for(timeout=60_000)
        names = [text.strip() for text in headers.all_inner_texts() if text.strip()]
        assert names.index("test/accuracy") < names.index("test/f1_macro")
        cells = tab.get_by_role("gridcell")
        cells.filter(has_text="0.75").first.wait_for()
        texts = [text.strip() for text in cells.all_inner_texts()]
        assert sum("runs: train" in text for text in texts) == 2
        assert not any("runs: prepare" in text for text in texts)
        shown = [text for text in texts if text in ("0.75", "0.875")]
        assert shown == ["0.875", "0.75"]  # the best first
        tab.goto("about:blank")
        tab.goto(f"{address}&compareRunsMode=CHART")
        tab.get_by_text("System metrics").first.wait_for(timeout=60_000)
        sections = re.findall(
            r"^(test|train|System metrics)\s*\(", tab.locator("body").inner_text(), re.MULTILINE
        )
        assert sections == ["test", "train", "System metrics"]
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


def test_what_cannot_be_shown_is_said_in_one_line(uri, tmp_path, monkeypatch):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        assert re.search(
            rf"port {port}: .*in use: .*--port", one_line(invoke("ui", "--port", port))
        )
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\noutput_uri: x\n")
    assert "there is no run of mine in sqlite" in one_line(invoke("ui", str(config)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    assert "there is no MLflow store" in one_line(invoke("ui"))
