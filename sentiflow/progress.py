"""Progress of work -> a bar on a terminal, otherwise a log line every few seconds."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from sentiflow.errors import printable
from sentiflow.storage.uris import without_credentials

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 5.0
"""Seconds between two log lines of a progress without a bar."""

_IS_NOTEBOOK = Console().is_jupyter
"""Whether this process serves a notebook."""
console = Console(
    stderr=not _IS_NOTEBOOK,
    highlight=False,
    force_jupyter=False,
    force_terminal=False if _IS_NOTEBOOK else None,
)
"""Console for progress and logs; results go to standard output.

A notebook shows standard error in red. There, progress and logs go to standard output, in lines
without a bar."""


class Progress:
    """Progress of one long task.

    Example:
        >>> with Progress("score", total=10, unit="rows") as progress:
        ...     progress.advance(10)
    """

    def __init__(self, label: str, *, total: int, unit: str, later: int = 0) -> None:
        """Start at zero units.

        Args:
            label: Name of the stage.
            total: Number of units of the task.
            unit: What is counted, such as ``rows``.
            later: Units of the same speed that follow this task: the time left includes them.
        """
        self.label = label
        self.total = total
        self.unit = unit
        self.later = later
        self.done = 0
        self.done_before = 0
        """Units that were done before the clock started."""
        self.started = time.monotonic()
        self.last_line = self.started
        is_wanted = console.is_terminal and log.isEnabledFor(logging.INFO)
        self.bar = RichProgress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not is_wanted,
        )
        self.task = self.bar.add_task(label, total=total, left="")

    def __enter__(self) -> "Progress":
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        if not self.bar.disable:
            self.bar.stop()

    def start_at(self, done: int) -> None:
        """Restart the clock at ``done`` units, which do not count for the speed."""
        self.started = time.monotonic()
        self.last_line = self.started
        self.advance(done - self.done)
        self.done_before = done

    def advance(self, amount: int, note: str = "") -> None:
        """Add ``amount`` units; show the progress, and ``note`` beside it."""
        self.done += amount
        now = time.monotonic()
        seconds = max(1e-9, now - self.started)
        rate = (self.done - self.done_before) / seconds
        left = ""
        if rate:
            units_left = self.total + self.later - self.done
            left = f"{to_words(units_left / rate)} left"
        self.bar.update(
            self.task, advance=amount, description=f"{self.label} {note}".strip(), left=left
        )
        is_due = now - self.last_line >= LINE_EVERY_SECONDS
        if self.bar.disable and is_due and self.done < self.total:
            self.last_line = now
            line = f"{self.label:<9} {self.done:,} of {self.total:,} {self.unit}"
            pace = f"{rate:,.0f}/s" if rate >= 1 else ""
            texts = [text for text in (line, pace, left, note) if text]
            log.info("%s", ", ".join(texts))


def to_words(seconds: float) -> str:
    """Write a duration with about two significant figures.

    Example:
        >>> to_words(42.4), to_words(750), to_words(9000), to_words(90_000)
        ('42 s', '12 min', '2.5 h', '25 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 36_000:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 3600:,.0f} h"


def say(label: str, message: str) -> None:
    """Log one line about a stage for the user."""
    log.info("%s", f"{label:<9} {message}")


def clean(message: str) -> str:
    """Remove passwords from lines for a terminal, and escape control characters."""
    lines = without_credentials(message).split("\n")
    return "\n".join(printable(line) for line in lines)


class LogHandler(logging.Handler):
    """Writes log records above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with suppress(OSError):  # a closed or full standard error must not end a job
            console.print(clean(self.format(record)), markup=False, soft_wrap=True)


@contextmanager
def shown(*, verbose: bool = False) -> Iterator[None]:
    """Show the log and the progress of a block, in a notebook or on a terminal.

    Nothing is changed if the program has set the level of the logger ``sentiflow``, or the level of
    all loggers to ``INFO`` or lower.
    """
    logger = logging.getLogger("sentiflow")
    if logger.level or logger.isEnabledFor(logging.INFO):
        yield
        return
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)  # no advice to install ipywidgets
    handler = LogHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
