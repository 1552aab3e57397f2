"""The processes of a Ray that this one has started: how they start, and what follows if one ends.

Nothing here concerns a Ray that was joined. Import it after :mod:`connection`, which sets what Ray
reads when it is imported.
"""

import logging
import os
import re
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray

from sentiflow.cluster import session_folder
from sentiflow.errors import JobError
from sentiflow.progress import say

log = logging.getLogger(__name__)

END_SECONDS = 8.0
"""How long a command that has failed waits for the end of Ray."""
_WATCH_SECONDS = 0.5
"""How often a thread looks for the end of Ray, which the main thread may not see."""

_own: dict[str, psutil.Process] = {}
"""The processes of a Ray that was started here, by name; empty if none was."""
end_noticed = threading.Event()
"""Whether :func:`end_with_ray` has noticed the end of that Ray."""


def is_running_here() -> bool:
    """Say whether a Ray was started here, and not left yet."""
    return bool(_own)


def leave() -> None:
    """Leave Ray, and end one that was started here."""
    left = _with_children(_own.values()) if find_end() else []  # they would stay for long
    _own.clear()
    end_noticed.clear()
    _end_monitor()
    ray.shutdown()
    _kill(left)


def start(**options: Any) -> None:
    """Start Ray; a start that timed out, as on a busy machine, is tried once more.

    Raises:
        JobError: Both starts timed out.
    """
    before = psutil.Process().children()
    for number in (1, 2):
        try:
            ray.init(**options)
        except Exception as error:  # Ray has no narrower class for it
            if "timed out" not in str(error).lower():
                raise
            _kill(_with_children(_find_processes(before)))
            if number == 2:
                raise JobError(
                    "Ray's start on this machine has timed out twice; if the machine is less busy, "
                    f"run the same command again. Ray's logs: {session_folder.logs()}"
                ) from error
            say("ray", "its start has timed out: starting it once more")
        else:
            _own.update({process.name(): process for process in _find_processes(before)})
            return


def _find_processes(before: Sequence[psutil.Process]) -> list[psutil.Process]:
    """List the processes of Ray that this process has started, but for those ``before``."""
    folder, found = str(Path(ray.__file__).parent), []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child not in before and any(part.startswith(folder) for part in child.cmdline()):
                found.append(child)
    return found


def _with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """List processes, and those that they have started and that still run."""
    found = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            found += process.children(recursive=True)
    return found


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def end_with_ray(number: int, frame: object) -> None:
    """End the work, as a handler of SIGCHLD, if a Ray that was started here has ended.

    Raises:
        KeyboardInterrupt: It has. Code of Ray that waits drops all other errors of a handler, and
            tidies up after them, for minutes. :func:`connection.starting` makes it an error.
    """
    if find_end():
        signal.signal(number, signal.SIG_DFL)  # it must not interrupt what is done at the end
        end_noticed.set()
        say("ray", "has ended: stopping")  # at once, as threads of Ray may end this process, too
        raise KeyboardInterrupt


def end_if_stuck(is_over: threading.Event) -> None:
    """End the process, if it should be over and waits for an answer of a GCS that has ended.

    Nothing interrupts that, and Ray ends the process after a minute.
    """
    while not is_over.wait(_WATCH_SECONDS):
        if has_ended("gcs_server") and not is_over.wait(END_SECONDS):
            log.error("sentiflow: %s", find_end())
            os._exit(1)


def find_end() -> str:
    """Say that a Ray that was started here has ended; empty while it runs, or if none was."""
    if not has_ended("raylet") and not has_ended("gcs_server"):
        return ""
    return (
        "Ray has ended on this machine, perhaps for lack of memory; run the same command again: it "
        f"resumes. Ray's logs: {session_folder.logs()}"
    )


def has_ended(name: str) -> bool:
    """Say whether a process of a Ray that was started here has ended."""
    try:
        return name in _own and bool(_own[name].status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _end_monitor() -> None:
    """Kill the autoscaler of a cluster that this process has started.

    Ray would send it SIGTERM, which it ignores, and wait a second before it kills it.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(re.search(r"/autoscaler/.*/monitor\.py$", part) for part in child.cmdline()):
                child.kill()
