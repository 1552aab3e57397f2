"""Error of a disk or an object store -> one line: the fault, the location, what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sentiflow.errors import JobError, StorageError, UserError

_OF_STORE = re.compile(
    r"AWS Error (?P<code>[A-Z_]+(?: \(HTTP status \d+\))?) during "
    r"|Bucket '.*?' (?P<absent>not found)"
)
_NAMED = re.compile(r"ExceptionName: (\w+) Message:")
"""Arrow's message for an error that its client does not know."""
_PLACE = re.compile(r"(?:\bkey '(?P<key>.*?)' in )?\b[bB]ucket '(?P<bucket>.*?)'")
_IS_TEMPORARY = re.compile(
    "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
    "|status 5"
)
_DETAIL = re.compile(r"\. Detail: \[errno \d+\] ")
"""Between Arrow's message and that of the system."""


@contextmanager
def as_fault_of(uri: str, problem: str, *, hint: str = "") -> Iterator[None]:
    """Read a file in the block: an error of Arrow or of the storage becomes one line.

    Args:
        uri: The file.
        problem: What is wrong with it, unless the storage has failed.
        hint: What to do about it. Default: what Arrow says.

    Raises:
        UserError: The file cannot be read, or a location is wrong or forbidden.
        JobError: The storage has failed; a later try may succeed.
    """
    import pyarrow as pa  # not for a command that reads nothing

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        fault = UserError(problem, hint=hint or str(error).splitlines()[0])
        raise explain(error, uri=uri) or fault from error


def explain(error: BaseException, *, uri: str = "") -> StorageError | JobError | None:
    """Make one line of the error of a disk or an object store.

    Args:
        error: Any error.
        uri: The file that was read or written, in case the error does not name it.

    Returns:
        A `StorageError` if the location is wrong or forbidden, a `JobError` if the same command can
        resume later; None if it is another kind of error, or names no location.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, PermissionError | NotADirectoryError) or error.errno == errno.EROFS:
        names_location = error.filename is not None or "'/" in str(error)
        hint = "choose another location, or make it writable"
        return StorageError(_reason(error), hint=hint) if names_location else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError(
            f"{_reason(error)}: free some space, and run the same command again to resume"
        )
    return explain_text(str(error), uri=uri)


def explain_text(text: str, *, uri: str = "") -> StorageError | JobError | None:
    """Explain the error of an object store, given its text; None if there is none in it.

    Args:
        text: Arrow's message.
        uri: The file, in case the message names none.

    Example:
        >>> error = explain_text("When getting information for key 'a/b' in bucket 'there': AWS "
        ... "Error NO_SUCH_BUCKET during HeadObject operation: No response body.")
        >>> print(str(error).partition(": check")[0])
        s3://there/a/b: the object store refuses (NO_SUCH_BUCKET)
    """
    answer = _OF_STORE.search(text)
    if not answer:
        return None
    place, named = _PLACE.search(text), _NAMED.search(text)
    if place:  # Arrow names none while it reads a stream
        uri = "/".join(filter(None, [f"s3://{place['bucket']}", place["key"]]))
    location = f"{uri}: " if uri else ""
    detail = " ".join(filter(None, [answer["code"] or answer["absent"], named and named[1]]))
    if _IS_TEMPORARY.search(detail):
        return JobError(
            f"{location}the object store is unavailable ({detail}): check AWS_ENDPOINT_URL; run "
            "the same command again later to resume"
        )
    return StorageError(
        f"{location}the object store refuses ({detail})",
        hint="check the name of the bucket, the credentials (AWS_ACCESS_KEY_ID, a profile or a "
        "role), AWS_DEFAULT_REGION and AWS_ENDPOINT_URL",
    )


def _reason(error: OSError) -> str:
    """Return the message of a system error in one line, without its number."""
    text = " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
    return _DETAIL.sub(": ", text)
