"""Open runs whose process is gone -> ended as killed."""

import os
import socket
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets
from sentiflow.tracking.mlflow_values import now_ms

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run

HOST_TAG, PID_TAG, STARTED_TAG = "sentiflow.host", "sentiflow.pid", "sentiflow.started"
TAGS = (HOST_TAG, PID_TAG, STARTED_TAG)

REASON_TAG = "sentiflow.reason"
REASON = "its process is gone"

_OUTERMOST = "pid:[4026531836]"
"""The namespace of Linux's processes outside of containers."""
_SAME_SECONDS = 2.0
"""Setting the clock changes the start of a process by so much at most."""


def describe_process() -> dict[str, str]:
    """Name this process by tags, so that other processes can check whether it still runs."""
    return {
        HOST_TAG: _name_host(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: f"{_started(os.getpid()):.2f}",
    }


def end_orphaned(client: MlflowClient, experiment_id: str) -> list[str]:
    """End the experiment's open runs whose processes on this host are gone.

    Runs of other hosts and of other containers stay open: their processes cannot be checked here.

    Returns:
        Their ids.
    """
    wanted = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{_name_host()}'"
    ended = []
    for run in mlflow_store.ask(lambda: client.search_runs([experiment_id], filter_string=wanted)):
        if not _is_running(run.data.tags) and mlflow_store.ask(partial(_end, client, run)):
            ended.append(run.info.run_id)
    return ended


def _end(client: MlflowClient, run: Run) -> bool:
    """End a run, unless it has ended meanwhile; return whether it was ended here."""
    run_id, last = run.info.run_id, _find_last_time(client, run)
    if client.get_run(run_id).info.status != "RUNNING":
        return False
    client.set_tag(run_id, REASON_TAG, REASON)
    client.set_terminated(run_id, "KILLED", last)
    return True


def _find_last_time(client: MlflowClient, run: Run) -> int:
    """Find the time of the last metric; now, if there is none."""
    times = [
        point.timestamp
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return max(times, default=now_ms())


def _is_running(tags: dict[str, str]) -> bool:
    """Check whether a process runs; where that cannot be known, it does."""
    if not tags.keys() >= {PID_TAG, STARTED_TAG}:
        return True
    try:
        pid, started = int(tags[PID_TAG]), float(tags[STARTED_TAG])
        is_same = abs(_started(pid) - started) < _SAME_SECONDS
        return is_same and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, ValueError, OverflowError):  # tags that sentiflow did not write
        return True


def _started(pid: int) -> float:
    """Return when a process started, in seconds since the machine did, whatever its clock says."""
    return psutil.Process(pid).create_time() - psutil.boot_time()


def _name_host() -> str:
    """Name the host and its container, which has process ids of its own."""
    link = Path("/proc/self/ns/pid")
    namespace = str(link.readlink()) if link.is_symlink() else _OUTERMOST
    inside = "" if namespace == _OUTERMOST else f" {namespace}"
    machine = Path("/etc/machine-id")  # two machines may have the name localhost
    number = f" {machine.read_text()[:8].strip()}" if machine.is_file() else ""
    return f"{socket.gethostname()}{number}{inside}"
