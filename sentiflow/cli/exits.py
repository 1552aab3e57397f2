"""Turns errors of a command into one line on standard error and an exit code."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from sentiflow.errors import JobError, UserError
from sentiflow.progress import LogHandler
from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials


@contextmanager
def reporting(verbose: bool = False) -> Iterator[None]:
    """Set logging up for a block or a function; turn failures into one line and an exit code.

    Args:
        verbose: Also show the messages of Ray and MLflow.

    Raises:
        typer.Exit: 2: the user's input or settings are wrong. 1: the job failed, or its output was
            closed. 130: it was interrupted.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(name)s: %(message)s" if verbose else "%(message)s",
        handlers=[LogHandler()],
        force=True,
    )
    logging.getLogger("sentiflow").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        warnings.simplefilter("ignore")
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to resume", code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except Exception as error:
        known = errors.explain(error) or error
        if isinstance(known, UserError):
            _fail(str(known), code=2)
        if not isinstance(known, JobError):
            traceback.print_exc()
            _fail(f"the job failed: {type(error).__name__}: {error}", code=1)
        _fail(str(known), code=1)


def _fail(message: str, *, code: int) -> NoReturn:
    typer.echo(f"sentiflow: {without_credentials(message)}", err=True)
    raise typer.Exit(code)
