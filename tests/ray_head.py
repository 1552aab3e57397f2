"""A real Ray head on this machine that requires a token; tests submit jobs to it."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
_START_SECONDS = 120


class Head:
    """A head node with two cores, a home directory for its token, and its dashboard on loopback.

    It does not see the clone under test: a job runs the uploaded code or the installed package.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        num_cpus: int = 2,
        agent_port: int | None = None,
    ) -> None:
        """Choose ports and a token.

        Args:
            environment: Variables of the nodes, such as the keys of an object store.
            num_cpus: Number of cores that the head offers.
            agent_port: Port of the agent that starts jobs. Default: a free one.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="sfh", dir="/tmp"))  # sockets need a short path
        self.home = self.folder / "home"
        self.token = secrets.token_hex(32)
        self.num_cpus = num_cpus
        self.port, self.dashboard_port, free_port, self._client_port = _free_ports(4)
        self._agent_port = agent_port or free_port
        self.address = f"http://127.0.0.1:{self.dashboard_port}"
        self._environment = dict(environment or {})
        self._processes: list[subprocess.Popen[bytes]] = []
        path = self.home / ".ray" / "auth_token"
        path.parent.mkdir(parents=True)
        path.write_text(self.token)
        path.chmod(0o600)

    def start(self) -> None:
        """Start the head, and wait until jobs can be submitted."""
        self._ray_start(
            "--head", f"--port={self.port}", f"--temp-dir={self.folder}/ray",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard_port}",
            f"--ray-client-server-port={self._client_port}",
            f"--dashboard-agent-listen-port={self._agent_port}", num_cpus=self.num_cpus,
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self._processes[0].poll() is None, (self.folder / "start.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "start.log").read_text()
            with contextlib.suppress(OSError):  # the agent, which runs the jobs, starts last
                self.get("/api/v0/cluster_metadata")
                socket.create_connection(("127.0.0.1", self._agent_port), timeout=5).close()
                return
            time.sleep(0.2)

    def add_node(self, *, num_cpus: int) -> psutil.Process:
        """Start one more node on this machine; return its process."""
        (port,) = _free_ports(1)
        self._ray_start(
            f"--address=127.0.0.1:{self.port}", f"--dashboard-agent-listen-port={port}",
            num_cpus=num_cpus,
        )  # fmt: skip
        return psutil.Process(self._processes[-1].pid)

    def kill(self) -> None:
        """Kill all processes of the head and of added nodes; ``start`` starts a new head."""
        for process in self._processes:
            kill_tree(process.pid)
            process.wait()
        self._processes = []

    def stop(self) -> None:
        """Kill all processes of the head and of added nodes, and remove their files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client_environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a user with the token in a file and no variables of Ray."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_TRACKING_"))
        }
        own = {"HOME": str(self.home), "RAY_USAGE_STATS_ENABLED": "0"}
        return inherited | own | variables

    def get(self, path: str) -> dict:
        """Return the JSON at a path of the dashboard."""
        request = urllib.request.Request(
            f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def _ray_start(self, *options: str, num_cpus: int) -> None:
        command = [
            str(BIN / "ray"), "start", "--block", f"--num-cpus={num_cpus}",
            "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000",
            "--disable-usage-stats", *options,
        ]  # fmt: skip
        environment = self.client_environment(RAY_AUTH_MODE="token", **self._environment)
        environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"  # jobs run `python`
        environment.pop("PYTHONPATH", None)
        with (self.folder / "start.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, env=environment, cwd=self.folder, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip


def kill_tree(pid: int) -> None:
    """Kill a process and all of its children, as the loss of a machine does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _free_ports(number: int) -> list[int]:
    """Find free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
