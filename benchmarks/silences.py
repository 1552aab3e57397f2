"""How long commands say nothing: the longest time without a line on standard error or output.

    python benchmarks/silences.py "evaluate config.yaml --overwrite" "promote config.yaml"

Each argument is a command of sentiflow. A command has no terminal here, so it writes lines.
"""

import selectors
import shlex
import subprocess
import sys
import time
from typing import NamedTuple


class Silence(NamedTuple):
    """The longest time in which a command said nothing."""

    seconds: float
    after: str
    """The line before it; empty at the beginning."""
    total_seconds: float
    num_lines: int
    exit_code: int


def listen(arguments: list[str]) -> Silence:
    """Run a command, and listen to it."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "sentiflow", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    selector = selectors.DefaultSelector()
    for stream in (process.stdout, process.stderr):
        selector.register(stream, selectors.EVENT_READ)
    longest = 0.0
    after = last = ""
    last_at = began
    num_lines = 0
    while selector.get_map():
        for key, _ in selector.select():
            content = key.fileobj.read1(65536)
            now = time.monotonic()
            if now - last_at > longest:
                longest = now - last_at
                after = last
            last_at = now
            if not content:
                selector.unregister(key.fileobj)
                continue
            lines = content.decode(errors="replace").strip().splitlines()
            num_lines += len(lines)
            last = lines[-1] if lines else last
    return Silence(longest, after, time.monotonic() - began, num_lines, process.wait())


def main() -> None:
    """Print a line for each command."""
    for command in sys.argv[1:]:
        silence = listen(shlex.split(command))
        print(
            f"{silence.seconds:5.1f} s silent of {silence.total_seconds:6.1f} s, "
            f"{silence.num_lines} lines, exit {silence.exit_code}: {command}"
        )
        print(f"        after: {silence.after[:120]}")


if __name__ == "__main__":
    main()
