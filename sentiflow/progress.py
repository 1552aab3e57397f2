"""Progress of work -> one line that is rewritten on a terminal, otherwise a log line now and then.

A task that counts its units is shown with its speed and the time left, a step that counts nothing
with the time that it has taken so far. Of nested tasks the innermost is shown.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from sentiflow.errors import printable
from sentiflow.storage.uris import without_credentials

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 8.0
"""Seconds without a log line after which the running task is shown, if there is no terminal."""
_WATCH_SECONDS = 0.5
"""Seconds between two looks of a thread at the running task."""

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
    """Progress of a long task, shown as long as its block runs.

    Example:
        >>> with Progress("score", total=10, unit="rows") as progress:
        ...     progress.advance(10)
        >>> with Progress("card", what="reading the run"):
        ...     pass
    """

    def __init__(
        self,
        label: str,
        *,
        what: str = "",
        total: int | None = None,
        unit: str = "",
        later: int = 0,
    ) -> None:
        """Start at zero units.

        Args:
            label: Name of the stage or the command.
            what: What is done, such as ``pass 2 of 3``.
            total: Number of units of the task; None: it is unknown.
            unit: What is counted, such as ``rows``; empty: nothing is counted.
            later: Units of the same speed that follow this task: the time left includes them.
        """
        self.label = label
        self.what = what
        self.total = total
        self.unit = unit
        self.later = later
        self.note = ""
        """Said after the amount."""
        self.done = 0
        self.done_before = 0
        """Units that were done before the clock started."""
        self.started = time.monotonic()

    def __enter__(self) -> "Progress":
        """Show the task."""
        self.started = time.monotonic()
        if log.isEnabledFor(logging.INFO):
            screen.begin(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Show it no longer."""
        screen.end(self)

    @property
    def rate(self) -> float:
        """Units per second."""
        seconds = max(1e-9, time.monotonic() - self.started)
        return (self.done - self.done_before) / seconds

    def start_at(self, done: int) -> None:
        """Restart the clock at ``done`` units, which do not count for the speed."""
        self.started = time.monotonic()
        self.done = done
        self.done_before = done
        screen.move(self)

    def count(self, total: int, unit: str) -> None:
        """Count units from now on."""
        self.total = total
        self.unit = unit
        self.started = time.monotonic()
        screen.move(self)

    def advance(self, amount: int, note: str = "") -> None:
        """Add ``amount`` units; ``note`` is said after the amount from now on."""
        self.done += amount
        self.note = note
        screen.move(self)
        if self.done != self.total:
            screen.tell_if_due(self)

    def turn_to(self, what: str, *, units: int = 0) -> None:
        """Say what follows when all units are done: it counts nothing.

        Args:
            what: What follows.
            units: Its time, in units that were counted so far; 0: it is unknown.
        """
        self.note = ""
        if units and self.rate:
            self.note = f"of about {to_words(units / self.rate)}"
        self.what = what
        self.total = None
        self.unit = ""
        self.started = time.monotonic()
        self.done_before = self.done

    def describe(self) -> str:
        """Say how far the task is: amount, speed, time left or time so far, note."""
        rate = self.rate
        texts = []
        if self.total is not None:
            texts.append(f"{self.done:,} of {self.total:,} {self.unit}")
        elif self.unit:
            texts.append(f"{self.done:,} {self.unit}")
        if rate >= 1:
            texts.append(f"{rate:,.0f}/s")
        if rate and self.total is not None:
            units_left = self.total + self.later - self.done
            texts.append(f"{to_words(units_left / rate)} left")
        else:
            texts.append(f"{to_words(time.monotonic() - self.started)} so far")
        if self.note:
            texts.append(self.note)
        return ", ".join(texts)

    def to_line(self) -> str:
        """Write the line of the log."""
        separator = ": " if self.what and self.unit else ", "
        return separator.join([text for text in (self.what, self.describe()) if text])


class Steps:
    """The numbered steps of a command that counts nothing.

    Example:
        >>> steps = Steps("evaluate", read="reading the rows", draw="drawing the plots")
        >>> with steps.show("draw") as step:
        ...     step.what
        'step 2 of 2, drawing the plots'
    """

    def __init__(self, label: str, **meanings: str) -> None:
        """Number the steps.

        Args:
            label: Name of the stage or the command.
            meanings: What each step does, in order, by a short name.
        """
        self.label = label
        self.meanings = meanings

    def show(self, name: str) -> Progress:
        """Make the progress of a step, for a ``with`` block."""
        number = 1 + list(self.meanings).index(name)
        return Progress(
            self.label, what=f"step {number} of {len(self.meanings)}, {self.meanings[name]}"
        )


class _Amount(ProgressColumn):
    """What a task does and how far it is, written anew while the bar is shown."""

    def render(self, task: Task) -> Text:
        """Write the cell."""
        progress: Progress = task.fields["progress"]
        return Text(clean(progress.to_line()))


class _Screen:
    """Shows the innermost of the running tasks of this process.

    A task may say nothing for long, so a thread looks at it where there is no terminal.
    """

    def __init__(self) -> None:
        """Begin without a task."""
        self._lock = threading.RLock()
        self._tasks: list[Progress] = []
        self._bars: Bars | None = None
        self._bar_of: dict[Progress, TaskID] = {}
        self._is_over = threading.Event()
        self._said_at = time.monotonic()
        """When a line was written last, or when the first task began after a time without any."""
        self._idle_since = self._said_at

    def begin(self, task: Progress) -> None:
        """Show a task, in place of the one that it is a part of."""
        with self._lock:
            now = time.monotonic()
            if not self._tasks:
                if now - self._idle_since >= LINE_EVERY_SECONDS:
                    self._said_at = now
                self._start()
            self._tasks.append(task)
            self._add_bar(task)

    def end(self, task: Progress) -> None:
        """Show the task that this one was a part of, or nothing."""
        with self._lock:
            if task not in self._tasks:
                return
            self._tasks.remove(task)
            self._remove_bar(task)
            if not self._tasks:
                self._stop()
                self._idle_since = time.monotonic()

    def move(self, task: Progress) -> None:
        """Move the bar of a task to what is done."""
        with self._lock:
            if self._bars and task in self._bar_of:
                self._bars.update(self._bar_of[task], completed=task.done, total=task.total)

    def note_line(self) -> None:
        """Note that a line was written: the running task need not be shown soon."""
        self._said_at = time.monotonic()

    def tell_if_due(self, task: Progress | None = None) -> None:
        """Write a line about a task, or about the innermost one, if there was none for long."""
        with self._lock:
            if not self._tasks or self._bars:
                return
            if time.monotonic() - self._said_at < LINE_EVERY_SECONDS:
                return
            self.note_line()
            told = task or self._tasks[-1]
            say(told.label, told.to_line())

    def _start(self) -> None:
        """Show a bar on a terminal; elsewhere start the thread."""
        if console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description:<9}"),
                BarColumn(bar_width=20),
                _Amount(Column(no_wrap=True)),
                console=console,
                transient=True,
                redirect_stdout=False,  # results go there, not above the bar
            )
            self._bars.start()
            return
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, args=(self._is_over,), daemon=True).start()

    def _stop(self) -> None:
        """Remove the bar, or end the thread."""
        if self._bars:
            self._bars.stop()
            self._bars = None
        self._is_over.set()

    def _watch(self, is_over: threading.Event) -> None:
        """Tell about the innermost task now and then, until there is none."""
        while not is_over.wait(_WATCH_SECONDS):
            self.tell_if_due()

    def _add_bar(self, task: Progress) -> None:
        """Show the bar of a task alone."""
        if not self._bars:
            return
        for bar in self._bar_of.values():
            self._bars.update(bar, visible=False)
        self._bar_of[task] = self._bars.add_task(task.label, total=task.total, progress=task)

    def _remove_bar(self, task: Progress) -> None:
        """Show the bar of the innermost task that is left."""
        if not self._bars:
            return
        self._bars.remove_task(self._bar_of.pop(task))
        if self._tasks:
            self._bars.update(self._bar_of[self._tasks[-1]], visible=True)


screen = _Screen()
"""The screen of this process."""


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
        screen.note_line()
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
