"""Progress of work -> a bar on a terminal, otherwise a log line every few seconds."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from sentiflow.storage.uris import without_credentials

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 5.0
_CHANGE_EVERY_SECONDS = 0.5
"""How often the line of a notebook changes."""
_MAX_LINES = 100
"""Lines that are shown in a notebook, the last ones."""

console = Console(stderr=True, highlight=False)
"""Console for progress and logs; results go to standard output."""


class Progress:
    """Progress of one long task.

    Example:
        >>> with Progress("score", total=10, unit="rows") as progress:
        ...     progress.advance(10)
    """

    def __init__(self, label: str, *, total: int, unit: str, total_bytes: int = 0) -> None:
        """Start at zero of ``total`` units, which amount to ``total_bytes``."""
        self.label, self.total, self.unit, self.total_bytes = label, total, unit, total_bytes
        self.done = self.done_bytes = self.before = 0
        self.started = self.last_line = time.monotonic()
        is_wanted = console.is_terminal and log.isEnabledFor(logging.INFO)
        self.bar = _make_bar() if is_wanted else None
        self.task = self.bar.add_task(label, total=total) if self.bar else None

    def __enter__(self) -> "Progress":
        """Show the bar."""
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()
        if _cell:
            _cell.show()

    def start_at(self, done: int) -> None:
        """Restart the clock, with ``done`` units done before."""
        self.started = self.last_line = time.monotonic()
        self.advance(done - self.done)
        self.before = done

    def advance(self, amount: int, note: str = "", *, num_bytes: int = 0) -> None:
        """Add ``amount`` units; ``note`` is shown beside the progress."""
        self.done += amount
        self.done_bytes += num_bytes
        note = note or self._bytes()
        if self.bar and self.task is not None:
            self.bar.update(self.task, advance=amount, description=f"{self.label} {note}".strip())
            return
        pause = _CHANGE_EVERY_SECONDS if _cell else LINE_EVERY_SECONDS
        if time.monotonic() - self.last_line < pause or self.done >= self.total:
            return
        self.last_line = time.monotonic()
        if _cell:
            _cell.show(self._line(note))
        else:
            log.info("%s", self._line(note))

    def _bytes(self) -> str:
        if not self.total_bytes:
            return ""
        return f"{self.done_bytes / 1e6:,.0f} of {self.total_bytes / 1e6:,.0f} MB"

    def _line(self, note: str) -> str:
        rate = (self.done - self.before) / (time.monotonic() - self.started)
        remaining = (self.total - self.done) / rate if rate else 0
        line = f"{self.label:<9} {self.done:,} of {self.total:,} {self.unit}"
        return f"{line}, {rate:,.0f}/s, {remaining:.0f} s left{', ' + note if note else ''}"


def say(label: str, message: str) -> None:
    """Log one line about a stage for the user."""
    log.info("%s", f"{label:<9} {message}")


def _make_bar() -> RichProgress:
    return RichProgress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class LogHandler(logging.Handler):
    """Writes log records above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with suppress(OSError):  # standard error is closed or full, which must not end a job
            console.print(without_credentials(self.format(record)), markup=False, soft_wrap=True)


class CellHandler(logging.Handler):
    """Writes log records to one output of a notebook's cell, and below them a line that changes."""

    def __init__(self, display: Any) -> None:
        """Begin without lines.

        Args:
            display: ``IPython.display.display``.
        """
        super().__init__()
        self.lines: list[str] = []
        self._display = display
        self._output: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.lines.append(without_credentials(self.format(record)))
        self.show()

    def show(self, running: str = "") -> None:
        """Show the lines so far and what is running."""
        lines = [*self.lines, running] if running else self.lines
        if not lines and self._output is None:
            return
        text = {"text/plain": "\n".join(lines[-_MAX_LINES:])}
        if self._output is None:
            self._output = self._display(text, raw=True, display_id=True)
        else:
            self._output.update(text, raw=True)


_cell: CellHandler | None = None
"""The output of the cell that runs."""


@contextmanager
def shown(*, verbose: bool = False) -> Iterator[None]:
    """Show the log and the progress of a call to who called it, in a notebook or on a terminal.

    A program that has set the level of the logger ``sentiflow``, or of all loggers, has decided
    what to show.
    """
    global _cell
    logger = logging.getLogger("sentiflow")
    if _cell or logger.level or logger.isEnabledFor(logging.INFO):
        yield
        return
    display = _find_display()
    handler: logging.Handler = LogHandler()
    if display is not None:
        handler = _cell = CellHandler(display)
        logging.getLogger("ray.widgets").setLevel(logging.WARNING)  # it would ask for ipywidgets
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
        _cell = None


def _find_display() -> Any:
    """Find the function that shows something below a notebook's cell; None outside of one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return None
    from importlib import import_module

    return import_module("IPython.display").display
