"""Runs a program that stops itself before one of its steps in a folder, and can be continued.

``python stopped_process.py FOLDER N -m MODULE ...`` or ``... -c CODE`` runs a program that sends
itself SIGSTOP right before step N in a local folder, counted from 0. In a step Arrow or Python, in
any thread, opens a file there for writing, moves it or deletes it. Claims of a lease do not count.
"""

import itertools
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
_ARROW_METHODS = ("move", "delete_file", "delete_dir", "delete_dir_contents", "open_output_stream")
"""Methods of Arrow's local file system that are steps."""
_PYTHON_EVENTS = ("os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink")
"""Python's audit events that are steps."""


class Job:
    """Such a program, in another process."""

    def __init__(self, folder: Path, after: int, *program: str, **options: Any) -> None:
        """Start the program; it stops after the first ``after`` steps."""
        self.folder = folder
        command = [sys.executable, __file__, str(folder), str(after), *program]
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **(defaults | options))

    def wait(self) -> bool:
        """Wait until the program stops or ends; say whether it has stopped."""
        ways = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        found = os.waitid(os.P_PID, self.process.pid, ways)
        return found is not None and found.si_code == os.CLD_STOPPED

    def make_old(self) -> None:
        """Make all claims to the folder so old that their jobs count as dead."""
        for claim in (self.folder / LEASE).glob("*.json"):
            os.utime(claim, (0, 0))

    def finish(self) -> tuple[int, str]:
        """Continue the program to its end; return its exit code and its standard error."""
        self.process.send_signal(signal.SIGCONT)
        _, errors = self.process.communicate(timeout=200)
        return self.process.returncode, errors


def stop_before_step(folder: str, after: int) -> None:
    """Make this process stop before its next step in a folder, after ``after`` steps."""
    numbers = itertools.count()  # several threads may draw from it

    def begin_step(path: Any) -> None:
        is_inside = isinstance(path, str) and f"{path}/".startswith(f"{folder}/")
        if not is_inside or LEASE in path.split("/"):
            return
        if next(numbers) == after:
            os.kill(os.getpid(), signal.SIGSTOP)

    real = fs.LocalFileSystem

    def count(name: str) -> Callable[..., Any]:
        def call(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
            begin_step(path)
            return getattr(real, name)(self, path, *arguments, **options)

        return call

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PYTHON_EVENTS:
            begin_step(arguments[0])

    methods = {name: count(name) for name in _ARROW_METHODS}
    fs.LocalFileSystem = type("Stopping", (real,), methods)
    sys.addaudithook(audit)


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
