"""A real MLflow server that tests may kill, stop and start again on the same port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from conftest import make_store


class Server:
    """An MLflow server on loopback, with an SQLite store and artifacts below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers."""
        if self.process is None:
            command = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1"]
            command += ["--host", "127.0.0.1", "--port", str(self.port)]
            command += ["--backend-store-uri", make_store(self.folder, "server.db")]
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        while True:
            assert self.process.poll() is None, "the server has ended"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server and its worker, as if the machine were lost."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        """Send a signal to the server and its worker."""
        assert self.process is not None, "start the server first"
        os.killpg(self.process.pid, number)
