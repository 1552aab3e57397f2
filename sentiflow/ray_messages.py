"""What Ray prints into standard output -> standard error, each message cut to its first line."""

import contextlib
import io
import re
import sys
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
    with contextlib.redirect_stdout(sys.stderr if verbose else _Excerpt()):
        yield


class _Excerpt(io.TextIOBase):
    """Takes what is printed, and passes on the first line of a message of Ray's, and other lines.

    The lines that follow the first one are indented, or empty.
    """

    def __init__(self) -> None:
        self.rest = ""

    def write(self, text: str) -> int:
        """Take some text; a line is passed on when it is whole."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            plain = _COLOR.sub("", line).rstrip()
            if found := _FROM_RAY.match(plain):
                say("ray", found[1])
            elif plain and not plain.startswith((" ", "\t")):
                print(plain, file=sys.stderr)
        return len(text)
