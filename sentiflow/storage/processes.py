"""Process -> a description by which other processes can tell whether it still runs."""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_SAME_SECONDS = 2.0
"""Two starts of a process that differ by less are the same: setting the clock changes them."""


@dataclass(frozen=True)
class ProcessName:
    """What tells one process from all others, on any host and after any restart."""

    host: str
    """The host's name, for people: two hosts may have the same."""
    boot_id: str
    """Of the host's last start, and of its container, which has process ids of its own."""
    pid: int
    started: float
    """Seconds between the start of the host and that of the process: clocks may be set."""

    def is_gone(self) -> bool:
        """Say whether it has certainly ended; False for a process of another host or container."""
        if (self.host, self.boot_id) != (socket.gethostname(), _boot_id()):
            return False
        try:
            os.kill(self.pid, 0)
            is_same = abs(find_start(self.pid) - self.started) < _SAME_SECONDS
            return not is_same or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except (ProcessLookupError, OverflowError):
            return True
        except (PermissionError, ValueError, psutil.Error):  # another user's; no id; ends now
            return False


def name_process() -> ProcessName:
    """Name this process."""
    pid = os.getpid()
    return ProcessName(socket.gethostname(), _boot_id(), pid, round(find_start(pid), 2))


def find_start(pid: int) -> float:
    """Return the seconds between the start of this host and that of a process of it.

    Raises:
        psutil.Error: It has ended.
    """
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _boot_id() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.is_file():  # not Linux
        return f"{uuid.getnode():x}"
    return f"{boot.read_text().strip()} {namespace.readlink()}"
