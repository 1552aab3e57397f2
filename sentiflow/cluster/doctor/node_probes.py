"""This machine -> facts about it that JSON can hold: what `doctor` asks of every node."""

import concurrent.futures
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

import sentiflow
from sentiflow.cluster import nodes
from sentiflow.cluster.doctor import torch_probe
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import without_credentials

PACKAGES = ("ray", "torch", "pyarrow", "pandas", "numpy", "mlflow", "torchtext")

_AT_ONCE = 16
_BEGINNING = 4096
_REQUEST_SECONDS = 5.0


def look(session_dirs: dict[str, str], folders: Sequence[str]) -> dict[str, Any]:
    """Describe the machine: versions, disks, memory, limits, and the token's file.

    Args:
        session_dirs: Ray's own directory on each node, by the node's id.
        folders: Local directories whose disk is of interest; they need not be there.
    """
    session_dir = session_dirs[nodes.here()]
    return {
        "versions": versions(),
        "code": _hash_code(),
        "session_disk": disk(session_dir),
        "disks": {folder: disk(folder) for folder in folders},
        "memory_bytes": _memory_bytes(),
        "shm_bytes": shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,  # noqa: S108
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "token": token(),
        "address": address(),
    }


def versions() -> dict[str, str]:
    """Give the version of Python, of sentiflow and of what decides results; "" for none."""
    found = {"python": platform.python_version(), "sentiflow": sentiflow.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def disk(folder: str) -> dict[str, int]:
    """Give the bytes in all and free of the disk on which a directory is, or would be."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    return {"total": usage.total, "free": usage.free, "device": os.stat(path).st_dev}


def token() -> dict[str, Any] | None:
    """Describe the file of the token by which Ray lets in; None if there is none."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not path.exists():
        return None
    return {"path": str(path), "mode": path.stat().st_mode & 0o777}


def address() -> dict[str, Any]:
    """Describe the machine's address: ``is_own``, ``by_name``.

    ``is_own``: an interface has the address by which Ray knows this node, or the environment names
    an interface. ``by_name`` is the address that its own name leads to; "" for none.
    """
    known = nodes.name_address()
    interfaces = psutil.net_if_addrs().values()
    is_own = any(found.address == known for each in interfaces for found in each)
    try:
        by_name = socket.gethostbyname(socket.gethostname())
    except OSError:
        by_name = ""
    return {"is_own": is_own or "GLOO_SOCKET_IFNAME" in os.environ, "by_name": by_name}


def read_clock() -> float:
    """Tell the time, in seconds since 1970."""
    return time.time()


def try_torch(timeout_seconds: float) -> dict[str, Any]:
    """Have torch multiply on the CPU and on each GPU; ``problem`` if it could not even start.

    Ray hides a node's GPUs from tasks that ask for none: here they are not hidden.
    """
    variables = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES" or v}
    command = [sys.executable, "-P", str(torch_probe.__file__)]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=timeout_seconds, env=variables
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"torch does not start or compute within {timeout_seconds:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        return {"problem": f"torch does not work: {lines[-1]}"}
    return json.loads(done.stdout.splitlines()[-1]) | {"problem": ""}


def read_beginnings(uris: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the first bytes of files; gives ``bytes``, the size, or ``problem``, for each."""
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(uris, pool.map(_read_beginning, uris), strict=True))


def ask_tracking(uri: str) -> str:
    """Ask an MLflow server whether it is there and lets this machine in; "" if so, or why not.

    Of a database only whether something listens at its address.
    """
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            return _ask_server(uri)
        port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(
            parts.scheme.partition("+")[0], 0
        )
        socket.create_connection((parts.hostname, port), timeout=_REQUEST_SECONDS).close()
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def ask_dashboard(address: str) -> int:
    """Ask Ray's dashboard for its jobs without a token; gives the status of its answer."""
    import requests

    url = f"http://{address}/api/jobs/"
    return requests.get(url, timeout=_REQUEST_SECONDS, allow_redirects=False).status_code


def _ask_server(uri: str) -> str:
    import requests

    environ, root = os.environ, without_credentials(uri).rstrip("/")
    headers, auth = {}, None
    if "MLFLOW_TRACKING_USERNAME" in environ:
        password = environ.get("MLFLOW_TRACKING_PASSWORD", "")
        auth = (environ["MLFLOW_TRACKING_USERNAME"], password)
    elif "MLFLOW_TRACKING_TOKEN" in environ:
        headers = {"Authorization": f"Bearer {environ['MLFLOW_TRACKING_TOKEN']}"}
    verify: bool | str = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or (
        environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() not in ("1", "true")
    )
    with requests.Session() as session:
        session.headers.update(headers)
        session.auth, session.verify = auth, verify
        health = session.get(f"{root}/health", timeout=_REQUEST_SECONDS)
        if health.status_code >= 500:
            return f"it answers with status {health.status_code}"
        search = session.post(
            f"{root}/api/2.0/mlflow/experiments/search",
            json={"max_results": 1},
            timeout=_REQUEST_SECONDS,
        )
    if "Host header" in search.text:
        return f"it takes no requests to {urlsplit(root).netloc} (mlflow server --allowed-hosts)"
    if search.status_code in (401, 403):
        return f"it refuses this node's credentials (status {search.status_code})"
    return "" if search.ok else f"it answers as no server of MLflow does ({search.status_code})"


def _read_beginning(uri: str) -> dict[str, Any]:
    try:
        file_system, path = filesystem.locate(uri)
        with file_system.open_input_stream(path, compression=None) as stream:
            stream.read(_BEGINNING)
        return {"bytes": filesystem.file_info(uri).size, "problem": ""}
    except OSError as error:
        return {"bytes": 0, "problem": _reason(error)}


def _reason(error: Exception) -> str:
    """Find the reason in a message that may be a long history."""
    if trouble := errors.find_store_trouble(str(error)):
        return trouble.what
    text = " ".join(str(error).split())
    system = re.findall(r"\[errno -?\d+\] (\w[\w ]+)", text, re.IGNORECASE)
    if system:  # the last is the cause of those before
        return system[-1].strip().lower()
    if "timed out" in text.lower():
        return "no answer in time"
    return without_credentials(text[:200]) or type(error).__name__


def _hash_code() -> str:
    """Hash the files of sentiflow, as two checkouts of one version may differ."""
    digest = hashlib.sha256()
    folder = Path(sentiflow.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _memory_bytes() -> int:
    """Give the memory that this process and its like may use in all: a container has less."""
    total = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(path) and (text := Path(path).read_text().strip()).isdigit():
            total = min(total, int(text))
    return total
