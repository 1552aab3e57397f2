"""``sentiflow ui``: a store -> MLflow's web interface, open on the training runs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import Overrides, Verbose
from sentiflow.config import settings
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline import signals
from sentiflow.progress import say
from sentiflow.storage.uris import without_credentials

_HOST = "127.0.0.1"
_MAX_START_SECONDS = 120
_MAX_END_SECONDS = 10

ConfigPath = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="A settings file (YAML): its store and its runs."),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port of the web interface.")]
NoBrowser = Annotated[
    bool, typer.Option("--no-browser", help="Print the address; open no web browser.")
]

TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", metavar="URI", help="Another MLflow store.")
]


def ui(
    config: ConfigPath = None,
    overrides: Overrides = None,
    port: Port = 5000,
    no_browser: NoBrowser = False,
    tracking_uri: TrackingUri = None,
    verbose: Verbose = False,
) -> None:
    """Show the runs in MLflow's web interface, on this machine only, until Ctrl-C.

    The store is that of CONFIG, else MLFLOW_TRACKING_URI, else mlflow.db. If it is a server, its
    page is opened.
    """
    with reporting(verbose):
        resolved = settings.load(config, overrides or ()) if config else None
        from sentiflow.tracking import pages, store_address

        uri = tracking_uri or (resolved.tracking.uri if resolved else None)
        store = store_address.default_uri(uri)
        page = pages.require_page(store, resolved.name if resolved else "")
        if store.startswith("http"):
            _show(f"{store}{page}", opens=not no_browser)
            return
        known, address = store_address.with_password(store), f"http://{_HOST}:{port}"
        with (
            contextlib.suppress(KeyboardInterrupt),
            _serving(known, port, verbose=verbose) as server,
        ):
            say("ui", f"MLflow shows {store}; Ctrl-C ends it")
            _show(f"{address}{page}", opens=not no_browser)
            server.wait()


def _show(address: str, *, opens: bool) -> None:
    """Print an address, and open it in a web browser where there is a desktop."""
    typer.echo(address)
    sys.stdout.flush()
    has_desktop = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    is_mac = sys.platform == "darwin" and "SSH_CONNECTION" not in os.environ
    if opens and (has_desktop or is_mac):
        webbrowser.open(address)


@contextlib.contextmanager
def _serving(store: str, port: int, *, verbose: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on loopback for the block; Ctrl-C and SIGTERM end it, too.

    Raises:
        UserError: The port is in use.
        JobError: The server does not start.
    """
    _check_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", _HOST, "--port", str(port)]
    # A variable keeps a password out of the list of processes. No job of ours runs on the server.
    variables = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    interrupts = signals.handled(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile() as log, interrupts:
        server = subprocess.Popen(  # noqa: S603
            command,
            env=os.environ | variables,
            stdout=None if verbose else log,
            stderr=None if verbose else log,
            start_new_session=True,
        )
        try:
            _wait(server, port)
            yield server
            if server.poll() is not None:
                raise JobError(f"MLflow's server has ended{_last_line(log)}")
        except TimeoutError:
            raise JobError(f"MLflow's server does not start{_last_line(log)}") from None
        finally:
            _end(server)


def _check_free(port: int) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((_HOST, port))
        except OSError as error:
            reason = error.strerror.lower() if error.strerror else "it cannot be used"
            raise UserError(f"port {port}: {reason}", hint="name another with --port") from error


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers.

    Raises:
        TimeoutError: It has ended, or does not answer.
    """
    last = time.monotonic() + _MAX_START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None and time.monotonic() < last:
        with contextlib.suppress(OSError):
            opener.open(f"http://{_HOST}:{port}/health", timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its worker; one that hangs is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, number)
            server.wait(_MAX_END_SECONDS)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f": {without_credentials(lines[-1])}" if lines else ""
