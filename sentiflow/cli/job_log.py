"""Log of a submitted job -> its lines as they come, and the line that is its result as JSON."""

import json
from collections.abc import Callable


class JobLog:
    r"""The log of a job that prints its result as JSON: it is written without this result.

    Ray mixes a job's standard output and standard error. The result is the last line that is a JSON
    object or array.

    Example:
        >>> log = JobLog(lambda text: print(text, end=""))
        >>> log.add('score     done\n{"score":')
        score     done
        >>> log.add(" {}}\n")
        >>> log.end()
        {'score': {}}
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        """Begin a log; ``write`` takes each line that is not the result."""
        self._write = write
        self._unfinished = ""
        """The last line, whose end has not come yet."""
        self._result = ""
        """The last line that is JSON."""

    def add(self, text: str) -> None:
        """Add the next piece of the log, which may end within a line."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._add_line(line)

    def end(self) -> object:
        """Write what is left; return the result, or None if the log has none."""
        if self._unfinished:
            self._add_line(self._unfinished)
        return read_json(self._result)

    def _add_line(self, line: str) -> None:
        """Write a line; one that is JSON is held back until another one comes."""
        if read_json(line) is None:
            self._write(f"{line}\n")
            return
        if self._result:
            self._write(f"{self._result}\n")
        self._result = line


def read_json(line: str) -> object:
    """Read a line that is a JSON object or array; return None for any other line."""
    if not line.startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
