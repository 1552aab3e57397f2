"""A program that stops itself before a visible step of its, and goes on when it is told to.

``python stopped_process.py FOLDER N -m MODULE ...`` or ``... -c CODE`` runs a program that sends
itself SIGSTOP right before its N-th step in a local folder: before a file is opened for writing,
moved or deleted there, by Arrow or by Python, in any thread. A lease does not count.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow import fs

LEASE = "_lease"
_BY_ARROW = ("move", "delete_file", "delete_dir", "delete_dir_contents", "open_output_stream")
_BY_PYTHON = ("os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink")


class Job:
    """Such a program, in a process of its own."""

    def __init__(self, folder: Path, after: int, *program: str, **options: Any) -> None:
        """Start it; it stops before the step with the number ``after``, which counts from 0."""
        self.folder = folder
        command = [sys.executable, __file__, str(folder), str(after), *program]
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **(defaults | options))

    def wait(self) -> bool:
        """Wait until it stops, or has ended; say whether it stopped."""
        ways = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        found = os.waitid(os.P_PID, self.process.pid, ways)
        return found is not None and found.si_code == os.CLD_STOPPED

    def make_old(self) -> None:
        """Let all claims to the folder be as old as those of dead jobs."""
        for claim in (self.folder / LEASE).glob("*.json"):
            os.utime(claim, (0, 0))

    def finish(self) -> tuple[int, str]:
        """Let it go on to its end; return its exit code, and what it wrote to standard error."""
        self.process.send_signal(signal.SIGCONT)
        _, errors = self.process.communicate(timeout=200)
        return self.process.returncode, errors


def stop_before_step(folder: str, after: int) -> None:
    """Let this process stop before a step in a folder."""
    left = iter(range(after, -1, -1))

    def step(path: Any) -> None:
        is_inside = isinstance(path, str) and f"{path}/".startswith(f"{folder}/")
        if is_inside and LEASE not in path.split("/") and next(left, None) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

    real = fs.LocalFileSystem

    def before(name: str) -> Callable[..., Any]:
        def call(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
            step(path)
            return getattr(real, name)(self, path, *arguments, **options)

        return call

    fs.LocalFileSystem = type("Stopping", (real,), {name: before(name) for name in _BY_ARROW})
    sys.addaudithook(lambda event, given: step(given[0]) if event in _BY_PYTHON else None)


def main(folder: str, after: str, kind: str, program: str, *arguments: str) -> None:
    """Run a program as ``python -m`` or ``python -c`` does."""
    stop_before_step(folder, int(after))
    sys.argv = [program, *arguments]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(program, {"__name__": "__main__"})


if __name__ == "__main__":
    main(*sys.argv[1:])
