"""What a call of the Python interface shows, and which errors it raises."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sentiflow import progress
from sentiflow.errors import JobError, UserError, explain_absent
from sentiflow.storage import errors


@contextmanager
def reporting(verbose: bool = False) -> Iterator[None]:
    """Show the progress of a call; raise known errors as types of :mod:`sentiflow.errors`."""
    with progress.shown(verbose=verbose), warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            known = errors.explain_gone(error) or errors.explain(error) or explain_absent(error)
            explained = known or error
            if isinstance(explained, UserError | JobError):  # they name options of the command
                explained.args = (str(explained).replace("--overwrite", "overwrite=True"),)
            if explained is error:
                raise
            raise explained from error
