"""Command -> its exit code; an error is one line on standard error.

The code says whether the same command may succeed later. 0: done. 1: it may. 2: it will not, as the
input or the settings are wrong. 3 (:data:`NOT_BETTER`): a comparison had this result. 129, 130 or
143: a signal has ended the command, which resumes if it is given again.
"""

import io
import logging
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from sentiflow.errors import JobError, UserError, explain_absent
from sentiflow.progress import LogHandler, clean
from sentiflow.storage.errors import explain, explain_gone

log = logging.getLogger(__name__)

NOT_BETTER = 3
"""Exit code of a comparison in which the new model is worse, or not good enough to replace the old
one. The same command would end with it again."""


@dataclass
class Interruption:
    """What a command writes if a signal ends it. The command may change it while it runs."""

    line: str = "sentiflow: interrupted; run the same command again to resume"


def run(app: typer.Typer) -> None:
    """Run a command line; characters that the encoding of standard output lacks are escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        # After an error or a signal a thread of Ray may still work. In a normal exit it would
        # crash, or keep the process alive.
        if isinstance(ended.code, int) and ended.code != 0:
            try:
                sys.stdout.flush()
            finally:
                os._exit(ended.code)
        raise


def run_alone(
    command: Callable[..., None],
    *,
    meaning: str | None = None,
    command_class: type[TyperCommand] | None = None,
) -> None:
    """Run one command as a script, as the files in ``jobs/`` do."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=meaning, cls=command_class)(command)
    run(app)


@contextmanager
def reporting(verbose: bool = False, *, is_remote: bool = False) -> Iterator[Interruption]:
    """Set logging up for a block or a function; turn failures into one line and an exit code.

    Args:
        verbose: Also show the messages of Ray and MLflow.
        is_remote: The work is done on other machines, so there is little to end here. All signals
            but the first are ignored, Ctrl-C included: ``timeout`` sends each one twice.

    Yields:
        What is written on a signal.

    Raises:
        typer.Exit: 2: the user's input or settings are wrong. 1: the job failed, or its output
            could not be written. 130, 143, 129: Ctrl-C, SIGTERM or the end of the terminal
            (SIGHUP) interrupted the job.
    """
    _set_up_logging(verbose)
    interruption = Interruption()
    received: list[int] = []
    before = _find_handlers(with_ctrl_c=is_remote)

    def interrupt(number: int, frame: object) -> NoReturn:
        for each in before:  # a shell may send a signal again while the run ends
            signal.signal(each, signal.SIG_IGN)
        received.append(number)
        if not is_remote:
            log.error(interruption.line)  # at once: Ray may end this process on the same signal
        # Code of Ray that waits for a result drops or changes all other errors that a signal
        # handler raises.
        raise KeyboardInterrupt(number)

    for each in before:
        signal.signal(each, interrupt)
    try:
        yield interruption
        sys.stdout.flush()
    except KeyboardInterrupt:
        is_written = bool(received) and not is_remote
        if not is_written:
            log.error(interruption.line)
        number = received[0] if received else signal.SIGINT
        raise typer.Exit(128 + number) from None
    except BrokenPipeError as error:
        if not _is_reader_gone():  # the pipe or connection of another process is broken
            raise typer.Exit(_print_error(error)) from None
        # At exit Python writes the rest of its buffer, which would raise the error again. So the
        # null device takes the place of standard output.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        raise typer.Exit(1) from None
    except Exception as error:
        raise typer.Exit(_print_error(error)) from None
    finally:
        if not (is_remote and received):  # else signals stay ignored until the process has ended
            for number, handler in before.items():
                signal.signal(number, handler)


def _find_handlers(*, with_ctrl_c: bool) -> dict[int, Any]:
    """Return the handlers of the signals that end a command, by signal.

    A signal that the caller ignores is left out: ``nohup`` ignores SIGHUP.
    """
    numbers = [signal.SIGTERM, signal.SIGHUP]
    if with_ctrl_c:
        numbers.append(signal.SIGINT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    return {number: handler for number, handler in handlers.items() if handler in defaults}


def _is_reader_gone() -> bool:
    """Say whether nobody reads standard output or standard error any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream.fileno(), 0)  # no events: only errors and hang-ups are reported
    return bool(poll.poll(0))


def _set_up_logging(verbose: bool) -> None:
    """Show sentiflow's messages, and errors of other packages; with ``verbose`` all messages."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(name)s: %(message)s" if verbose else "%(message)s",
        handlers=[LogHandler()],
        force=True,
    )
    logging.getLogger("sentiflow").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        warnings.simplefilter("ignore")


def _print_error(error: Exception) -> int:
    """Print an error as one line, an unexpected one with its traceback; return the exit code."""
    # a file is gone, a disk or an object store has failed, or a package is not installed
    explained = explain_gone(error) or explain(error) or explain_absent(error) or error
    message = str(explained)
    if explained is not error:
        log.debug("%s", traceback.format_exc().rstrip())
    if not isinstance(explained, UserError | JobError):
        typer.echo(clean(traceback.format_exc().rstrip()), err=True)
        message = f"the job failed: {type(error).__name__}: {error}"
    typer.echo(clean(f"sentiflow: {message}"), err=True)
    return 2 if isinstance(explained, UserError) else 1
