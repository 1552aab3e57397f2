"""What Ray prints into standard output -> standard error, each message cut to its first line."""

import contextlib
import io
import re
import sys
import threading
from collections.abc import Iterator

from sentiflow.progress import say

_COLOR = re.compile(r"\x1b\[\d+m")
_FROM_RAY = re.compile(r"\((?:raylet|autoscaler|gcs_server)[^)]*\) (.*)")


@contextlib.contextmanager
def aside(*, verbose: bool) -> Iterator[None]:
    """Keep standard output for results in the block: Ray prints there when a node has died.

    Args:
        verbose: Show its messages whole; a page each.
    """
    if verbose:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    excerpt = _Excerpt()
    with contextlib.redirect_stdout(excerpt):
        try:
            yield
        finally:
            excerpt.end()


class _Excerpt(io.TextIOBase):
    """Takes what is printed, and passes on of a message of Ray's the first line, else all.

    The lines of a message that follow the first one are indented, or empty. Threads of Ray print,
    too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest = ""
        self._is_in_message = False

    def write(self, text: str) -> int:
        """Take some text; a line is passed on when it is whole."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._pass_on(line)
        return len(text)

    def end(self) -> None:
        """Pass on a last line that has no end."""
        if self._rest:
            self.write("\n")

    def _pass_on(self, line: str) -> None:
        plain = _COLOR.sub("", line).rstrip()
        if found := _FROM_RAY.match(plain):
            self._is_in_message = True
            say("ray", found[1])
        elif not self._is_in_message or (plain and not plain[0].isspace()):
            self._is_in_message = False
            print(plain, file=sys.stderr)
