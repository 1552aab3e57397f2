"""Time and memory of a command and of all processes that it starts.

The processes are looked at every tenth of a second until they end. So what a process does after
the last look is missing: at most a tenth of a second. Linux only.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

_SECONDS_BETWEEN = 0.1
"""Between two looks."""
_PATIENCE_SECONDS = 20
"""For processes that outlive their command."""
_GONE = (psutil.Error, OSError)
"""What is raised if a process has ended."""


class Usage(NamedTuple):
    """What a command has used."""

    seconds: float
    cpu_s: float
    """CPU seconds of all processes."""
    driver_cpu_s: float
    """CPU seconds of the process of the command: the driver."""
    driver_mb: float
    """Peak memory of the driver."""
    worker_mb: float
    """Peak memory of the largest other process, with the shared memory that it has read."""


class Killed(NamedTuple):
    """A command that was killed."""

    usage: Usage
    was_running: bool
    """Whether it was killed before its end."""


@dataclass
class _Seen:
    """What was seen of a process."""

    process: psutil.Process
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    def look(self) -> bool:
        """Look at the process; says whether it runs."""
        try:
            if self.process.status() == psutil.STATUS_ZOMBIE:
                return False
            times = self.process.cpu_times()
            peak = _read_peak_mb(self.process.pid)
        except _GONE:
            return False
        self.cpu_s = max(self.cpu_s, times.user + times.system)
        self.peak_mb = max(self.peak_mb, peak)
        return True


@dataclass
class _Watch:
    """A process, and all processes that it has started."""

    command: psutil.Process
    seen: dict[int, _Seen] = field(default_factory=dict)

    def look(self) -> int:
        """Look at all processes; returns how many run."""
        with suppress(*_GONE):
            for process in (self.command, *self.command.children(recursive=True)):
                self.seen.setdefault(process.pid, _Seen(process))
        return sum(each.look() for each in self.seen.values())


def run(
    verb: str,
    *arguments: object,
    folder: Path | None = None,
    log: Path | None = None,
    **environment: str,
) -> Usage:
    """Run a command of sentiflow.

    Args:
        verb: The command.
        arguments: Its arguments.
        folder: Its working directory. None: the directory of this process.
        log: File to write its output to. None: the output is deleted.
        environment: Variables to set for it.

    Raises:
        RuntimeError: It failed.
    """
    place = _Place(folder, log, environment)
    return _run(verb, arguments, place, must_end=None).usage


def run_until(is_over: Callable[[], bool], verb: str, *arguments: object) -> Killed:
    """Run a command of sentiflow, and kill its process when ``is_over`` says so.

    Raises:
        RuntimeError: It failed before.
    """
    return _run(verb, arguments, _Place(), must_end=is_over)


@dataclass(frozen=True)
class _Place:
    """Where a command runs, see :func:`run`."""

    folder: Path | None = None
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def _run(
    verb: str,
    arguments: tuple[object, ...],
    place: _Place,
    *,
    must_end: Callable[[], bool] | None,
) -> Killed:
    """Run a command of sentiflow, and look at its processes."""
    command = [sys.executable, "-m", "sentiflow", verb, *map(str, arguments)]
    is_killed = False
    with place.log.open("w+b") if place.log else tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=place.folder,
            env=os.environ | place.environment,
        )
        watch = _Watch(psutil.Process(child.pid))
        while child.poll() is None:
            watch.look()
            if must_end and not is_killed and must_end():
                child.kill()
                is_killed = True
            time.sleep(_SECONDS_BETWEEN)
        seconds = time.perf_counter() - began
        _wait_for_others(watch)
        log.seek(0)
        written = log.read().decode(errors="replace")
    if child.returncode and not is_killed:
        line = " ".join(command[1:])
        raise RuntimeError(f"{line}: exit code {child.returncode}\n{written[-4000:]}")
    driver = watch.seen.pop(child.pid)
    others = [*watch.seen.values()]
    usage = Usage(
        seconds=seconds,
        cpu_s=driver.cpu_s + sum(each.cpu_s for each in others),
        driver_cpu_s=driver.cpu_s,
        driver_mb=driver.peak_mb,
        worker_mb=max((each.peak_mb for each in others), default=0.0),
    )
    return Killed(usage, was_running=is_killed and child.returncode < 0)


def _wait_for_others(watch: _Watch) -> None:
    """Look at processes that outlive the command until they end, or for 20 seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while watch.look() and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN)


def _read_peak_mb(pid: int) -> float:
    """Read the peak memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes[0]) * 1024 / 1e6 if kilobytes else 0.0
