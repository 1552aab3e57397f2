"""Ray's messages on standard output -> standard error, only the first line of each."""

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
    """Keep standard output free for results in the block: Ray prints there when a node has died.

    Args:
        verbose: Show the complete messages, a page each.
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
    """Passes on the first line of each message of Ray, and everything else.

    The other lines of a message are indented or empty. Ray prints from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest = ""
        self._is_in_message = False

    def write(self, text: str) -> int:
        """Take some text, and pass on the lines that are complete."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._pass_on(line)
        return len(text)

    def end(self) -> None:
        """Pass on a last line without a line break."""
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
