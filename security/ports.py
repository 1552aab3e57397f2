"""List every socket that a process listens on while jobs run, and its purpose.

First a whole local run with two training workers on a small synthetic corpus is watched. Then the
head of a cluster, which is started as in ``ray_cluster.yaml``, but on free ports. SECURITY.md has
the result.

    python security/ports.py
"""

import contextlib
import ipaddress
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from sentiflow.data import sample


class Role(NamedTuple):
    """A kind of process."""

    pattern: str
    """Found in the command line of such a process."""
    name: str
    meaning: str
    """What it listens for."""


class Listener(NamedTuple):
    """A socket that a process listens on."""

    role: str
    """Name of the role, or the beginning of the command line."""
    address: str
    port: int


ROLES = (
    Role(r"gcs_server", "GCS", "the cluster's directory of nodes, actors and jobs"),
    Role(r"raylet", "raylet", "scheduling of a node, and its objects for other nodes"),
    Role(
        r"DashboardAgent|dashboard/agent",
        "agent",
        "a node's jobs and logs for the dashboard; metrics",
    ),
    Role(
        r"RuntimeEnvAgent|runtime_env/agent",
        "runtime_env agent",
        "unpacks what a job brings along",
    ),
    Role(r"dashboard/dashboard", "dashboard", "pages, job submission; metrics"),
    Role(r"autoscaler/.*monitor", "autoscaler", "metrics"),
    Role(r"client\.server", "Ray client", "drivers that run elsewhere"),
    Role(
        r"ray::.*Train|TrainWorker",
        "training worker",
        "tasks, and gradients of the other workers",
    ),
    Role(r"ray::|default_worker", "worker", "tasks, and their results for other workers"),
    Role(r"sentiflow|jobs/", "driver", "results of its tasks"),
)
"""All roles. A process has the first one that fits."""
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "ray-client-server-port",
    "object-manager-port",
    "node-manager-port",
    "metrics-export-port",
)
"""Options of ``ray start`` for a port."""


def processes_of(root: psutil.Process) -> Iterator[psutil.Process]:
    """Yield a process and all its descendants."""
    yield root
    yield from root.children(recursive=True)


def listeners_of(process: psutil.Process) -> set[Listener]:
    """List the sockets that a process listens on."""
    try:
        command = " ".join(process.cmdline()) or process.name()
        connections = process.net_connections(kind="tcp")
    except psutil.Error:  # it has ended
        return set()
    role = name_role(command)
    listeners = set()
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN:
            listeners.add(Listener(role, connection.laddr.ip, connection.laddr.port))
    return listeners


def name_role(command: str) -> str:
    """Name the role of a process by its command line."""
    for role in ROLES:
        if re.search(role.pattern, command):
            return role.name
    return command[:40]


def watch(command: subprocess.Popen[bytes], seconds: float | None = None) -> None:
    """Watch a command until it ends, or for some time, and print the sockets."""
    found: set[Listener] = set()
    began = time.monotonic()
    while command.poll() is None and (seconds is None or time.monotonic() - began < seconds):
        for process in processes_of(psutil.Process(command.pid)):
            found |= listeners_of(process)
        time.sleep(0.1)
    ports: dict[tuple[str, str], set[int]] = defaultdict(set)
    for listener in found:
        reachable = reach(listener.address)
        ports[listener.role, reachable].add(listener.port)
    meanings = {role.name: role.meaning for role in ROLES}
    for (role, address), numbers in sorted(ports.items()):
        listed = ", ".join(str(number) for number in sorted(numbers)[:4])
        if len(numbers) > 4:
            listed += ", ..."
        print(f"{role:<18} {address:<15} {listed:<32} {meanings.get(role, '')}")


def reach(address: str) -> str:
    """Say where an address can be reached from."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return "loopback"
    if ip.is_unspecified:
        return "all interfaces"
    return str(ip)


def free_ports(number: int) -> list[int]:
    """Find different ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(number):  # a port that is bound is not found twice
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        return ports


def local_run(folder: Path) -> subprocess.Popen[bytes]:
    """Start a whole run with two training workers."""
    (folder / "tweets.csv").write_bytes(b"".join(sample.generate(num_rows=5000, seed=0)))
    config = {
        "name": "ports",
        "output_uri": str(folder / "run"),
        "prepare": {"csv": str(folder / "tweets.csv")},
        "train": {"num_workers": 2, "num_epochs": 2, "model": {"hidden_size": 16}},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "sentiflow", "run", str(folder / "config.yaml")]
    return subprocess.Popen(command, env=os.environ | {"HOME": str(folder)})


def head(folder: Path) -> subprocess.Popen[bytes]:
    """Start a head as in ``ray_cluster.yaml``, on free ports, as a child of this process."""
    token = folder / ".ray" / "auth_token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(secrets.token_hex(32))
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block",
        "--disable-usage-stats", "--num-cpus", "2", "--dashboard-host", "127.0.0.1",
        "--temp-dir", str(folder / "ray"), "--min-worker-port", "0", "--max-worker-port", "0",
    ]  # fmt: skip
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        command += [f"--{name}", str(port)]
    variables = {"HOME": str(folder), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)


def main() -> None:
    """Watch a local run, then the head of a cluster."""
    with tempfile.TemporaryDirectory(prefix="ports") as folder:
        print("A local run:")
        watch(local_run(Path(folder)))
        print("\nThe head of a cluster:")
        started = head(Path(folder))
        watch(started, seconds=20)
        started.terminate()
        started.wait()


if __name__ == "__main__":
    main()
