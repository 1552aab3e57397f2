"""Ray on this machine: its private folder, its start and end, a watch over its processes.

This module does nothing to a cluster that was joined. Import it after :mod:`connection`, which sets
the variables that Ray reads when it is imported.

Ray lets everybody write to its sessions (mode 0777): sockets, logs, code of jobs. A user who can
reach the sockets can disturb a run or take it over. So the sessions are in a folder of mode 0700.
"""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray

from sentiflow.errors import JobError, UserError

log = logging.getLogger(__name__)

_FOLDER_VARIABLE = "RAY_TMPDIR"
"""Variable by which the user and sentiflow name the folder to Ray."""

END_SECONDS = 8.0
"""Seconds that a command which has failed waits for the end of Ray."""
_WATCH_SECONDS = 0.2
"""Seconds between two looks of a thread at Ray's processes."""

_GRACE_SECONDS = 2.0
"""Seconds that this process may take to end by itself after Ray, as one signal may end both."""

_processes: dict[str, psutil.Process] = {}
"""Processes of the Ray that was started here, by the name of the program; empty if none was."""


def choose_folder() -> Path:
    """Return the folder for sessions: ``RAY_TMPDIR``, or this user's folder in Ray's default."""
    named = os.environ.get(_FOLDER_VARIABLE)
    if named:
        return Path(named).absolute()
    shared = "/tmp"  # noqa: S108
    if sys.platform == "linux":
        shared = os.environ.get("TMPDIR") or shared
    return Path(shared).absolute() / f"sentiflow-{os.getuid()}"


def prepare_folder() -> None:
    """Make the folder if it is missing, check it, and name it to Ray by ``RAY_TMPDIR``.

    Raises:
        UserError: Other users could enter or replace the folder.
    """
    folder = choose_folder()
    if not os.path.lexists(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = _find_problem(folder)
    if problem:
        raise UserError(
            f"Ray's folder {folder} {problem}",
            hint=f"name a folder of your own in {_FOLDER_VARIABLE}, with a short path; "
            "if it is missing, it is made with mode 0700",
        )
    os.environ[_FOLDER_VARIABLE] = str(folder.resolve())


def name_logs() -> Path:
    """Return the folder with the logs of the Ray that was started last."""
    return choose_folder() / "ray/session_latest/logs"


def _find_problem(folder: Path) -> str:
    """Say why Ray should not use a folder that exists; empty if other users cannot enter it."""
    target = folder.resolve()
    owners = {folder.lstat().st_uid, target.stat().st_uid}  # of a link and its target
    if owners != {os.getuid()}:
        return "belongs to another user"
    mode = target.stat().st_mode & 0o777
    if mode & 0o077:  # any right of the group or of other users
        return f"can be entered by other users (mode {mode:04o})"
    for parent in target.parents:
        mode = parent.stat().st_mode & 0o7777
        if mode & 0o022 and not mode & 0o1000:  # writable by other users, without the sticky bit
            return f"can be replaced by other users (mode {mode:04o} of {parent})"
    return ""


def start(**options: Any) -> None:
    """Start Ray, and note its processes.

    Raises:
        JobError: The start timed out, as on a busy machine.
    """
    children_before = psutil.Process().children()
    try:
        ray.init(**options)
    except Exception as error:  # Ray has no class of errors for a timeout
        if "timed out" not in str(error).lower():
            raise
        for process in _find_programs(children_before).values():
            with suppress(psutil.Error):
                process.kill()
        raise JobError(
            "Ray's start on this machine has timed out; if the machine is less busy, run the same "
            f"command again. Ray's logs: {name_logs()}"
        ) from error
    _processes.update(_find_programs(children_before))


def _find_programs(children_before: Sequence[psutil.Process]) -> dict[str, psutil.Process]:
    """Find the programs of Ray among this process's children, without ``children_before``."""
    folder = str(Path(ray.__file__).parent)
    started = set(psutil.Process().children()).difference(children_before)
    found = {}
    for process in started:
        with suppress(psutil.Error):
            programs = [part for part in process.cmdline() if part.startswith(folder)]
            if programs:
                found[Path(programs[0]).name] = process
    return found


def leave() -> None:
    """Leave Ray; a Ray that was started here ends."""
    if "monitor.py" in _processes:  # this program ignores SIGTERM: Ray would wait a second for it
        with suppress(psutil.Error):
            _processes["monitor.py"].kill()
    _processes.clear()
    ray.shutdown()


def end_with_ray(is_over: threading.Event) -> None:
    """Watch a Ray that was started here; if it ends before ``is_over``, end this process.

    Without this watch, Ray ends the process without a message, or lets it wait without limit.
    """
    while not is_over.wait(_WATCH_SECONDS):
        if _has_program_ended("raylet") or _has_program_ended("gcs_server"):
            log.error(
                "sentiflow: Ray has ended on this machine, perhaps for lack of memory; run the "
                "same command again: it resumes. Ray's logs: %s",
                name_logs(),
            )
            if not is_over.wait(_GRACE_SECONDS):
                _kill_processes()
                os._exit(1)


def _kill_processes() -> None:
    """Kill Ray's processes that are left: by themselves they would run on for a long time."""
    for process in _processes.values():
        with suppress(psutil.Error):
            for descendant in process.children(recursive=True):
                descendant.kill()
            process.kill()


def _has_program_ended(name: str) -> bool:
    """Say whether a program of Ray has ended. An ended child is a zombie until it is waited for."""
    process = _processes.get(name)
    if process is None:
        return False
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
