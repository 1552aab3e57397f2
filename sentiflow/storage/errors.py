"""Error of a disk or an object store -> one line: the fault, the location, what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sentiflow.errors import JobError, StorageError, UserError

_STORE_ERROR = re.compile(
    r"AWS Error (?P<code>[A-Z_]+(?: \(HTTP status \d+\))?) during "
    r"|Bucket '.*?' (?P<absent>not found)"
)
"""Part of Arrow's message that only an error of an object store has."""
_ERROR_NAME = re.compile(r"ExceptionName: (\w+) Message:")
"""Part of Arrow's message that names an error unknown to Arrow's client."""
_PLACE = re.compile(r"(?:\bkey '(?P<key>.*?)' in )?\b[bB]ucket '(?P<bucket>.*?)'")
"""Part of Arrow's message that names the object, or only its bucket."""
# "status 5" is an HTTP status from 500 to 599. Three statuses that begin with 4 are temporary, too:
# a timeout, a request that came too early, and too many requests.
_TEMPORARY = re.compile(
    "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
    "|status 5|status 408|status 425|status 429"
)
"""Codes of errors after which a later try may succeed."""
_GONE = ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND")
"""Codes of errors if an object does not exist."""
_RETRY = (
    "then run the same command again: what is finished is kept; without a change it fails again"
)
"""Whether to run a command again after a ``StorageError``."""
_DETAIL = re.compile(r"\. Detail: \[errno \d+\] ")
"""Separator of Arrow's message and the message of the operating system."""
_TEMPORARY_NUMBERS = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
    }
)
"""Numbers of system errors after which a later try may succeed: of a disk or the network."""


@contextmanager
def as_fault_of(uri: str, problem: str, *, hint: str = "") -> Iterator[None]:
    """Raise an error with one line if Arrow or the storage fails in the block.

    Args:
        uri: The file that the block reads.
        problem: Message if the file is at fault, not the storage.
        hint: What to do about it. Default: Arrow's message.

    Raises:
        UserError: The file cannot be read, or a location is wrong or forbidden.
        JobError: The storage has failed; a later try may succeed.
    """
    import pyarrow as pa  # imported here: a command that reads nothing starts faster without it

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        explained = explain(error, uri=uri)
        if explained:
            raise explained from error
        raise UserError(problem, hint=hint or str(error).splitlines()[0]) from error


def explain(error: BaseException, *, uri: str = "") -> StorageError | JobError | None:
    """Explain the error of a disk or an object store in one line.

    Args:
        error: Any error.
        uri: The file that was read or written, in case the error does not name it.

    Returns:
        A ``StorageError`` if the location is wrong or forbidden; a ``JobError`` if the same command
        can resume later; None for any other error, and for a forbidden location if the error does
        not name it.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, PermissionError | NotADirectoryError) or error.errno == errno.EROFS:
        names_location = error.filename is not None or "'/" in str(error)  # in Arrow's message
        if not names_location:
            return None
        hint = f"choose another location, or make it writable; {_RETRY}"
        return StorageError(_reason(error), hint=hint)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError(
            f"{_reason(error)}: free some space, and run the same command again to resume"
        )
    if error.errno in _TEMPORARY_NUMBERS:
        names_location = error.filename is not None or "'/" in str(error)
        location = f"{uri}: " if uri and not names_location else ""
        return JobError(f"{location}{_reason(error)}: run the same command again to resume")
    return explain_text(str(error), uri=uri)


def explain_gone(error: BaseException) -> JobError | None:
    """Explain in one line that a file is gone which was there before; None for any other error."""
    if not is_gone(error):
        return None
    return JobError(
        f"{describe(error)}: was it deleted, or replaced by another job, while this command ran? "
        "Then run the command again"
    )


def is_gone(error: BaseException) -> bool:
    """Say whether a file or an object does not exist."""
    if isinstance(error, FileNotFoundError):
        return True
    fault = _find_store_fault(str(error), "") if isinstance(error, OSError) else None
    return fault is not None and fault.detail.startswith(_GONE)


def is_temporary(error: BaseException) -> bool:
    """Say whether the same work may succeed a little later.

    It may after an I/O error of a disk, of the network or of an object store, also if another error
    was raised from it.
    """
    if isinstance(error, OSError):
        is_of_store = isinstance(explain_text(str(error)), JobError)
        return error.errno in _TEMPORARY_NUMBERS or is_of_store
    return error.__cause__ is not None and is_temporary(error.__cause__)


def explain_text(text: str, *, uri: str = "") -> StorageError | JobError | None:
    """Explain the message of an error of an object store; None for the message of another error.

    Args:
        text: Arrow's message.
        uri: The file, in case the message does not name it.

    Example:
        >>> error = explain_text("When getting information for key 'a/b' in bucket 'there': AWS "
        ... "Error NO_SUCH_BUCKET during HeadObject operation: No response body.")
        >>> print(str(error).partition(": check")[0])
        s3://there/a/b: the object store refuses (NO_SUCH_BUCKET)
    """
    fault = _find_store_fault(text, uri)
    if fault is None:
        return None
    if fault.is_temporary:
        return JobError(
            f"{fault}: check AWS_ENDPOINT_URL; run the same command again later to resume"
        )
    return StorageError(
        str(fault),
        hint="check the name of the bucket, the credentials (AWS_ACCESS_KEY_ID, a profile or a "
        f"role), AWS_DEFAULT_REGION and AWS_ENDPOINT_URL; {_RETRY}",
    )


def describe(error: BaseException) -> str:
    """Describe an error in one line, without advice: the location, and what is wrong.

    Example:
        >>> describe(OSError("When reading key 'a' in bucket 'b': AWS Error SLOW_DOWN during X: y"))
        's3://b/a: the object store is unavailable (SLOW_DOWN)'
    """
    fault = _find_store_fault(str(error), "")
    if fault:
        return str(fault)
    if isinstance(error, OSError):
        return _reason(error)
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[-1]


class _StoreFault(NamedTuple):
    """An error of an object store."""

    location: str
    """The object or its bucket; empty if it is unknown."""
    detail: str
    """The code of the error."""

    @property
    def is_temporary(self) -> bool:
        """Whether a later try may succeed."""
        return bool(_TEMPORARY.search(self.detail))

    def __str__(self) -> str:
        location = f"{self.location}: " if self.location else ""
        state = "is unavailable" if self.is_temporary else "refuses"
        return f"{location}the object store {state} ({self.detail})"


def _find_store_fault(text: str, uri: str) -> _StoreFault | None:
    """Find the error of an object store in a message; None if it is of another kind.

    Args:
        text: Arrow's message.
        uri: The file, in case the message does not name it.
    """
    fault = _STORE_ERROR.search(text)
    if not fault:
        return None
    place = _PLACE.search(text)
    if place:  # Arrow names no place while it reads a stream
        uri = f"s3://{place['bucket']}"
        if place["key"]:
            uri += f"/{place['key']}"
    detail = fault["code"] or fault["absent"]
    error_name = _ERROR_NAME.search(text)
    if error_name:
        detail += f" {error_name[1]}"
    return _StoreFault(uri, detail)


def _reason(error: OSError) -> str:
    """Return the message of a system error in one line, without its number."""
    text = " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
    return _DETAIL.sub(": ", text)
