"""The owner of a lease: the process that writes to a directory, and whether it is still there."""

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import is_local, join

FOLDER = "_lease"
"""Folder of the claims in the directory."""
_REWRITE_SECONDS = 0.1
"""Maximum time that a claim cannot be read while its owner writes it again."""
_NUM_READS = 3
"""Number of times that a claim is read which is empty, or which the storage fails to read."""
_SAME_SECONDS = 2.0
"""Start times of a process that differ by less count as equal: setting the clock changes them."""


@dataclass(frozen=True)
class Owner:
    """A job that writes to a directory; it identifies its process uniquely among all hosts."""

    host: str
    """Name of the host, for people: two hosts may have the same name."""
    boot_id: str
    """Id of the host's last start, and of the container, which has its own process ids."""
    pid: int
    started: float
    """Start of the process, in seconds after the start of the host: the clock may be set later."""
    job: str
    """For people: its stage or command, and its submission id on a cluster."""
    since: str
    """Start of the lease: ISO 8601 in UTC, by the clock of the host."""
    uri: str = ""
    """The directory, as its job names it; empty in the claims of earlier versions."""
    user: str = ""
    """The person who runs the job; empty if it is unknown."""
    renewed: float = 0.0
    """Time of the last renewal: seconds since 1970, by the storage clock. Not part of a claim."""

    def is_gone(self) -> bool:
        """Say whether the job has certainly ended; False for a job of another host or container."""
        if self.host != socket.gethostname() or self.boot_id != _boot_id():
            return False
        try:
            os.kill(self.pid, 0)
            is_same = abs(_find_start(self.pid) - self.started) < _SAME_SECONDS
            return not is_same or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # a process of another user
            return False
        except ValueError:  # not a process id
            return False
        except psutil.Error:  # the process is just ending
            return False

    def works_elsewhere(self, claim: str) -> bool:
        """Say whether the claim certainly came here with its directory, by a rename or a copy.

        The job writes to the directory that it names. On this machine that can be another one: then
        there is not this claim. On other machines, and in containers, one directory may have
        several names.
        """
        if not (self.uri and is_local(self.uri) and is_local(claim)):
            return False
        if self.host != socket.gethostname() or self.boot_id != _boot_id():
            return False
        if not _has_same_mounts(self.pid):
            return False
        own = join(self.uri, FOLDER, os.path.basename(claim))
        try:
            return not os.path.samefile(filesystem.locate(own)[1], filesystem.locate(claim)[1])
        except (PermissionError, ValueError):  # the directory of another user; no path at all
            return False
        except (FileNotFoundError, NotADirectoryError):
            return os.path.exists(filesystem.locate(claim)[1])

    def describe(self, kind: str, now: float) -> str:
        """Name the person, the job and its process, its start, and the time of its last renewal.

        Args:
            kind: What to call the job: "another job".
            now: The time, by the storage clock.
        """
        whose = f"{kind} of {self.user}" if self.user else kind
        return (
            f"{whose} ({self.job}, process {self.pid} on {self.host}, since {self.since}, "
            f"last sign of life {max(0.0, now - self.renewed):.0f} s ago)"
        )


_CLAIM_KEYS = tuple(each.name for each in fields(Owner) if each.name != "renewed")
"""Keys of a claim. Other keys are of a later version of sentiflow."""
_NUMBERS: Mapping[str, tuple[type, ...]] = {"pid": (int,), "started": (int, float)}
"""Keys of a claim whose values are numbers, with their types; all others are texts."""


def name_owner(job: str, *, uri: str = "", user: str = "") -> Owner:
    """Describe this process as an owner of a directory."""
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=pid,
        started=round(_find_start(pid), 2),
        job=job,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        uri=uri,
        user=user,
    )


def _find_start(pid: int) -> float:
    """Return the seconds from the start of this host to the start of a process.

    Raises:
        psutil.Error: The process has ended.
    """
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _boot_id() -> str:
    """Identify the last start of this host, and this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not boot.is_file():  # not Linux
        return f"{uuid.getnode():x}"
    return f"{boot.read_text().strip()} {namespace.readlink()}"


def _has_same_mounts(pid: int) -> bool:
    """Say whether a process certainly finds the same files by the same paths as this one."""
    namespace = Path("/proc/self/ns/mnt")
    if not namespace.is_symlink():  # not Linux
        return True
    try:
        return namespace.readlink() == Path(f"/proc/{pid}/ns/mnt").readlink()
    except OSError:  # the process has ended, or is of another user
        return False


def _check_types(known: Mapping[str, Any]) -> None:
    """Check the values of a claim: whoever can write to a directory can write claims.

    Raises:
        TypeError: A value is of another type than this version writes.
    """
    for name, value in known.items():
        kinds = _NUMBERS.get(name, (str,))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{name} has another type")


def _read_claim(claim: str) -> bytes:
    """Read a claim; again if its owner seems to be renewing it.

    Meanwhile it is empty in a file system. An object store may fail to read it then.
    """
    for _ in range(_NUM_READS - 1):
        try:
            content = filesystem.read_bytes(claim)
            if content:
                return content
        except OSError as error:
            if not errors.is_temporary(error):
                raise
        time.sleep(_REWRITE_SECONDS)
    return filesystem.read_bytes(claim)


def read_owner(claim: str, renewed: float) -> Owner | None:
    """Read the owner in a claim; None if the claim has just been deleted.

    The owner is an unknown job if the claim is damaged, or may not be read: then the job may be
    alive.

    Raises:
        OSError: The storage has failed; a later try may succeed.
    """
    try:
        found = json.loads(_read_claim(claim))
        known = {name: found[name] for name in _CLAIM_KEYS if name in found}
        _check_types(known)
        return Owner(**known, renewed=renewed)
    except (OSError, ValueError, TypeError, RecursionError) as error:  # the last: nested too deeply
        if errors.is_gone(error):
            return None
        if errors.is_temporary(error):
            raise
        return Owner(
            host="an unknown host",
            boot_id="",
            pid=0,
            started=0.0,
            job="an unknown job",
            since="?",
            renewed=renewed,
        )
