"""Command -> its exit code; an error is one line on standard error."""

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
from typing import NoReturn

import typer

from sentiflow.errors import JobError, UserError
from sentiflow.progress import LogHandler, clean
from sentiflow.storage.errors import explain, explain_gone

log = logging.getLogger(__name__)


def run(app: typer.Typer) -> None:
    """Run a command line; characters that the encoding of standard output lacks are escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        # 1: the job failed; above 128: a signal ended it. Then a thread of Ray may still work. In a
        # normal exit it would crash, or keep the process alive.
        if isinstance(ended.code, int) and (ended.code == 1 or ended.code > 128):
            try:
                sys.stdout.flush()
            finally:
                os._exit(ended.code)
        raise


def run_alone(command: Callable[..., None], *, meaning: str | None = None) -> None:
    """Run one command as a script, as the files in ``jobs/`` do."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=meaning)(command)
    run(app)


@contextmanager
def reporting(verbose: bool = False) -> Iterator[None]:
    """Set logging up for a block or a function; turn failures into one line and an exit code.

    Args:
        verbose: Also show the messages of Ray and MLflow.

    Raises:
        typer.Exit: 2: the user's input or settings are wrong. 1: the job failed, or its output
            could not be written. 130, 143, 129: Ctrl-C, SIGTERM or the end of the terminal
            (SIGHUP) interrupted the job.
    """
    _set_up_logging(verbose)
    received: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        # A shell may send the signal again while the run ends.
        signal.signal(number, signal.SIG_IGN)
        received.append(number)
        _say_interrupted()  # at once: Ray may have got the signal, too, and end this process
        raise_interrupt(number, frame)

    # A signal that the caller ignores stays ignored: nohup ignores SIGHUP.
    candidates = (signal.SIGTERM, signal.SIGHUP)
    handled = [number for number in candidates if signal.getsignal(number) == signal.SIG_DFL]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        if not received:
            received.append(signal.SIGINT)
            _say_interrupted()
        raise typer.Exit(128 + received[0]) from None
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
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


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
    # a file is gone, or a disk or an object store has failed
    explained = explain_gone(error) or explain(error) or error
    message = str(explained)
    if explained is not error:
        log.debug("%s", traceback.format_exc().rstrip())
    if not isinstance(explained, UserError | JobError):
        typer.echo(clean(traceback.format_exc().rstrip()), err=True)
        message = f"the job failed: {type(error).__name__}: {error}"
    typer.echo(clean(f"sentiflow: {message}"), err=True)
    return 2 if isinstance(explained, UserError) else 1


def raise_interrupt(number: int, frame: object) -> NoReturn:
    """End the work on a signal as Ctrl-C does: the MLflow run ends as killed, and Ray stops.

    It raises no other error, because code of Ray that waits for a result drops or changes all
    others that a signal handler raises.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt(number)


def _say_interrupted() -> None:
    """Log that the command was interrupted, and how to resume."""
    log.error("sentiflow: interrupted; run the same command again to resume")
