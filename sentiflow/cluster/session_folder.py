"""User and ``RAY_TMPDIR`` -> a folder for Ray's sessions that no other local user can enter.

Ray lets everybody write to its sessions (mode 0777): sockets, logs, code of jobs. Who can reach the
sockets can disturb a run or take it over. So the sessions are in a folder of mode 0700.
"""

import os
import sys
from pathlib import Path

from sentiflow.errors import UserError

VARIABLE = "RAY_TMPDIR"
REMEDY = (
    f"name a folder of your own in {VARIABLE}, with a short path; if it is missing, it is made "
    "with mode 0700"
)
_MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103
_LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_MAX_PATH = _MAX_SOCKET_PATH - len(_LONGEST_SOCKET)


def choose() -> Path:
    """Name the folder: ``RAY_TMPDIR``, or the user's own in the folder that Ray would use."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    shared = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    return Path(shared or "/tmp").absolute() / f"sentiflow-{os.getuid()}"  # noqa: S108


def prepare() -> Path:
    """Make the folder if it is missing, check it, and name it to Ray by ``RAY_TMPDIR``.

    Raises:
        UserError: Other users could enter or replace it, or its path is too long.
    """
    folder = choose()
    if not os.path.lexists(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if problem := find_problem(folder):
        raise UserError(f"Ray's folder {folder} {problem}", hint=REMEDY)
    os.environ[VARIABLE] = str(folder.resolve())
    return folder.resolve()


def logs() -> Path:
    """Name the folder with the logs of the Ray that was started last."""
    return choose() / "ray/session_latest/logs"


def find_problem(folder: Path) -> str:
    """Say why Ray should not use a folder that exists; empty if other users cannot enter it."""
    target = folder.resolve()
    if not target.is_dir():
        return "is not a directory"
    if {folder.lstat().st_uid, target.stat().st_uid} != {os.getuid()}:  # of a link and its target
        return "belongs to another user"
    if (mode := target.stat().st_mode & 0o777) & 0o077:
        return f"can be entered by other users (mode {mode:04o})"
    for parent in target.parents:
        mode = parent.stat().st_mode & 0o7777
        if mode & 0o022 and not mode & 0o1000:  # only the sticky bit protects what is in it
            return f"can be replaced by other users (mode {mode:04o} of {parent})"
    if (length := len(os.fsencode(target))) > _MAX_PATH:
        return f"has a path of {length} characters, and Ray's sockets allow {_MAX_PATH}"
    return ""
