"""List what listens while jobs run: every socket of every process, and what it is for.

First a whole local run, with two training workers on a small synthetic corpus; then the head of a
cluster, started as ``ray_cluster.yaml`` does, but on free ports. SECURITY.md holds the result.

    python security/ports.py
"""

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

import psutil
import yaml

from sentiflow.data import sample

ROLES = (
    (r"gcs_server", "GCS", "the cluster's directory of nodes, actors and jobs"),
    (r"raylet", "raylet", "scheduling of a node, and its objects for other nodes"),
    (
        r"DashboardAgent|dashboard/agent",
        "agent",
        "a node's jobs and logs for the dashboard; metrics",
    ),
    (r"RuntimeEnvAgent|runtime_env/agent", "runtime_env agent", "unpacks what a job brings along"),
    (r"dashboard/dashboard", "dashboard", "pages, job submission; metrics"),
    (r"autoscaler/.*monitor", "autoscaler", "metrics"),
    (r"client\.server", "Ray client", "drivers that run elsewhere"),
    (r"ray::.*Train|TrainWorker", "training worker", "tasks, and gradients of the other workers"),
    (r"ray::|default_worker", "worker", "tasks, and their results for other workers"),
    (r"sentiflow|jobs/", "driver", "results of its tasks"),
)
"""How a process is known by its command line, what it is called, and what it listens for."""


def processes_of(root: psutil.Process) -> Iterator[psutil.Process]:
    """Yield a process and all that it has started."""
    yield root
    yield from root.children(recursive=True)


def listeners_of(process: psutil.Process) -> set[tuple[str, str, int]]:
    """List the sockets on which a process listens: role, address, port."""
    try:
        command = " ".join(process.cmdline()) or process.name()
        connections = process.net_connections(kind="tcp")
    except psutil.Error:  # it has ended
        return set()
    role = next((name for form, name, _ in ROLES if re.search(form, command)), command[:40])
    return {(role, c.laddr.ip, c.laddr.port) for c in connections if c.status == "LISTEN"}


def watch(command: subprocess.Popen[bytes], seconds: float | None = None) -> None:
    """Watch a command until it ends, or for some time, and print what listened."""
    found: set[tuple[str, str, int]] = set()
    began = time.monotonic()
    while command.poll() is None and (seconds is None or time.monotonic() - began < seconds):
        for process in processes_of(psutil.Process(command.pid)):
            found |= listeners_of(process)
        time.sleep(0.1)
    ports: dict[tuple[str, str], set[int]] = defaultdict(set)
    for role, address, port in found:
        ports[role, reach(address)].add(port)
    meanings = {name: meaning for _, name, meaning in ROLES}
    for (role, address), numbers in sorted(ports.items()):
        listed = ", ".join(map(str, sorted(numbers)[:4])) + (", ..." if len(numbers) > 4 else "")
        print(f"{role:<18} {address:<15} {listed:<32} {meanings.get(role, '')}")


def reach(address: str) -> str:
    """Say from where an address can be reached."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return "loopback" if ip.is_loopback else "all interfaces" if ip.is_unspecified else str(ip)


def free_port() -> int:
    """Find a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def local_run(folder: Path) -> subprocess.Popen[bytes]:
    """Start a whole run with two training workers."""
    (folder / "tweets.csv").write_bytes(b"".join(sample.generate(num_rows=5000, seed=0)))
    config = {
        "name": "ports", "output_uri": str(folder / "run"),
        "prepare": {"csv": str(folder / "tweets.csv")},
        "train": {"num_workers": 2, "num_epochs": 2, "model": {"hidden_size": 16}},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "sentiflow", "run", str(folder / "config.yaml")]
    return subprocess.Popen(command, env=os.environ | {"HOME": str(folder)})


def head(folder: Path) -> subprocess.Popen[bytes]:
    """Start a head as ``ray_cluster.yaml`` does, on free ports, in this process's own tree."""
    token = folder / ".ray" / "auth_token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(secrets.token_hex(32))
    options = ["--head", "--block", "--disable-usage-stats", "--num-cpus", "2"]
    options += ["--dashboard-host", "127.0.0.1", "--temp-dir", str(folder / "ray")]
    options += ["--min-worker-port", "0", "--max-worker-port", "0"]
    for name in ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port",
                 "object-manager-port", "node-manager-port", "metrics-export-port"):  # fmt: skip
        options += [f"--{name}", str(free_port())]
    command = [str(Path(sys.executable).parent / "ray"), "start", *options]
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
