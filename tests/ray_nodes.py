"""A real Ray cluster of several nodes on this machine, each with a different environment."""

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import PROJECT

BIN = Path(sys.executable).parent
NAMESPACE = ["unshare", "--mount", "--propagation", "private"]


def free_port() -> int:
    """Find a free port on loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@functools.cache
def may_mount() -> bool:
    """Say whether a process can mount file systems in a new namespace: root often can."""
    if shutil.which("unshare") is None:
        return False
    trial = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(trial, capture_output=True).returncode == 0


class RayNodes:
    """Nodes started by ``ray start``, with their sessions in short paths."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.temp_dir = tempfile.mkdtemp(prefix="sfray")  # the path of a socket must be short
        self.port = free_port()
        self.dashboard_port = free_port()
        self.dashboard = f"http://127.0.0.1:{self.dashboard_port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment = inherited | {
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.environment |= environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.starts: list[Callable[[], subprocess.Popen[bytes]]] = []
        self.restarted: set[int] = set()

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment of a command that uses the cluster."""
        return self.environment | {"RAY_ADDRESS": f"127.0.0.1:{self.port}"}

    def own_dir(self, number: int) -> str:
        """Return the directory of a node: in a shared one, nodes overwrite each other's jobs."""
        return f"{self.temp_dir}/{number}"

    def start_head(self, *options: str) -> None:
        """Start the head, and do not wait for it."""
        head = ["--head", "--port", str(self.port)]
        head += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(self.dashboard_port)]
        head += ["--ray-client-server-port", str(free_port())]
        self._start([*head, *options], environment={}, before="")

    def start_node(
        self, *options: str, environment: Mapping[str, str] | None = None, before: str = ""
    ) -> None:
        """Start another node after the head has started.

        Args:
            options: Options of ``ray start``.
            environment: Variables that differ on this node.
            before: Shell commands to run first, in a new mount namespace; for root only.
        """
        self.wait_for_port(self.port)
        address = f"127.0.0.1:{self.port}"
        self._start(["--address", address, *options], environment=environment or {}, before=before)

    def wait_for_port(self, port: int) -> None:
        """Wait until a port accepts connections."""
        deadline = time.monotonic() + 90
        while True:
            self._restart_ended()
            assert time.monotonic() < deadline
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return

    def wait_for_nodes(self) -> None:
        """Wait until all nodes have started, and the dashboard listens."""
        self.wait_for_port(self.dashboard_port)
        deadline = time.monotonic() + 90
        for number in range(len(self.processes)):
            log = Path(f"{self.own_dir(number)}.log")
            while b"Ray runtime started" not in log.read_bytes():
                self._restart_ended()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def _start(
        self, options: Sequence[str], *, environment: Mapping[str, str], before: str
    ) -> None:
        number = len(self.processes)
        Path(self.own_dir(number)).mkdir()
        command = ["ray", "start", "--block", "--disable-usage-stats", *options]
        command += ["--temp-dir", self.own_dir(number)]
        command += ["--min-worker-port", "0", "--max-worker-port", "0"]
        command += ["--dashboard-agent-listen-port", str(free_port())]
        if before:
            script = f'{before}\nexec "$@"'
            namespace = NAMESPACE if may_mount() else []
            command = [*namespace, "sh", "-ec", script, "sh", *command]
        self.starts.append(
            functools.partial(self._run, number, command, env=self.environment | dict(environment))
        )
        self.processes.append(self.starts[number]())

    def _run(self, number: int, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        with open(f"{self.own_dir(number)}.log", "wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.temp_dir,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )

    def _restart_ended(self) -> None:
        """Start each node that has ended once more: on a busy machine ``ray start`` gives up."""
        for number, process in enumerate(self.processes):
            if process.poll() is not None:
                assert number not in self.restarted, Path(f"{self.own_dir(number)}.log").read_text()
                self.restarted.add(number)
                self.processes[number] = self.starts[number]()

    def kill(self) -> None:
        """Kill all nodes, whose processes then end, too, and remove their files."""
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.temp_dir, ignore_errors=True)
