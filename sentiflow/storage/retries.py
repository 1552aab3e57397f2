"""Work that reads from a disk or an object store -> its result, repeated after I/O errors."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors

log = logging.getLogger(__name__)

MAX_FAILURES = 5
"""Number of tries of a part, or of a step of the driver."""
_FIRST_WAIT_SECONDS = 1.0
"""Wait after the first I/O error; each further wait is twice as long."""

T = TypeVar("T")


def repeat_after_io_errors(
    work: Callable[[], T], *, place: str, max_failures: int = MAX_FAILURES
) -> T:
    """Do some work; after an I/O error wait, and do it again.

    Args:
        work: The work. It can be repeated.
        place: What it reads, for a message.
        max_failures: Number of tries; the I/O error of the last one ends the job.

    Raises:
        JobError: Each try has ended with an I/O error.
    """
    num_failures = 0
    while True:
        try:
            return work()
        except (OSError, UserError, JobError) as error:
            if not errors.is_temporary(error):
                raise
            num_failures += 1
            if num_failures == max_failures:
                line = errors.explain(error, uri=place) or error
                raise JobError(f"after {num_failures} tries: {line}") from error
            log.warning("%s: repeated after an I/O error: %s", place, errors.describe(error))
        seconds = _FIRST_WAIT_SECONDS * 2 ** (num_failures - 1)
        # work that failed together should not ask the store together again
        time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311
