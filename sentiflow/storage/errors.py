"""Error of a disk or an object store -> one line: the fault, the location, what to do."""

import errno
import re

from sentiflow.errors import JobError, StorageError, shorten

_OF_STORE = re.compile(r"AWS Error (?P<code>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))? during ")
_NAMED = re.compile(r"ExceptionName: (\w+) Message:")
"""Arrow's message for an error that its client does not know."""
_NO_BUCKET = re.compile(r"Bucket '(.*?)' not found")
"""Arrow's message when it looks up the region of a bucket, before any other request."""
_KEY = re.compile(r"\bkey '(.*?)' in bucket '")
_BUCKET = re.compile(r"\bbucket '(.*?)'")
_REGION = re.compile(r"configured region is '.*?' while the bucket is located in '(.*?)'")
_ANSWERS = (
    (
        StorageError,
        re.compile("NO_SUCH_BUCKET"),
        "there is no bucket {bucket}",
        "create it, or check its name and AWS_ENDPOINT_URL",
    ),
    (
        StorageError,
        re.compile(
            "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH"
            "|INVALID_SIGNATURE|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|REQUEST_EXPIRED"
            "|REQUEST_TIME_TOO_SKEWED|ExpiredToken|InvalidToken|status 40[13]"
        ),
        "the object store refuses access ({detail})",
        "give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)",
    ),
    (
        JobError,
        re.compile(
            "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING"
            "|REQUEST_TIMEOUT|status 5.."
        ),
        "the object store is unavailable ({detail})",
        "check AWS_ENDPOINT_URL; run the same command again later to resume",
    ),
    (
        StorageError,
        re.compile("PermanentRedirect|AuthorizationHeaderMalformed|status 30[17]|UNKNOWN, .* 400"),
        "the bucket is in another region, or the credentials have expired ({detail})",
        "set AWS_DEFAULT_REGION to {region}, or AWS_ENDPOINT_URL, or renew the credentials",
    ),
)
"""What an error of a store means: whether the user must fix it, or it is temporary; its code or
status, the problem, and what to do. A status of 400 without a name answers HEAD requests, which get
no more detail."""
_DETAIL = re.compile(r"\. Detail: \[errno \d+\] ")
"""Between Arrow's message and that of the system."""


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
    if error.errno == errno.ENAMETOOLONG:
        return StorageError(shorten(_reason(error), 120), hint="choose a shorter path")
    return explain_text(str(error), uri=uri)


def explain_text(
    text: str, *, uri: str = "", names_location: bool = True
) -> StorageError | JobError | None:
    """Explain the error of an object store, given its text; None if there is none in it.

    Args:
        text: Arrow's message.
        uri: The file, in case the message names none.
        names_location: If not, the explanation is the same for all files.

    Example:
        >>> print(explain_text("When getting information for key 'a/b' in bucket 'there': AWS "
        ... "Error NO_SUCH_BUCKET during HeadObject operation: No response body."))
        s3://there/a/b: there is no bucket there: create it, or check its name and AWS_ENDPOINT_URL
    """
    absent, found, named = _NO_BUCKET.search(text), _OF_STORE.search(text), _NAMED.search(text)
    if not found and not absent:
        return None
    bucket, key = absent or _BUCKET.search(text), _KEY.search(text)
    if bucket:  # Arrow names neither while it reads a stream
        uri = f"s3://{bucket[1]}/{key[1]}" if key else f"s3://{bucket[1]}"
    detail, status = (found["code"], found["status"]) if found else ("NO_SUCH_BUCKET", "")
    if named:
        detail = named[1]
    if status:
        detail += f", status {status}"
    region = _REGION.search(text)
    known = {
        "bucket": bucket[1] if bucket else "of this name",
        "detail": detail,
        "region": region[1] if region else "its region",
    }
    for kind, pattern, what, hint in _ANSWERS:
        if pattern.search(detail):
            location = f"{uri}: " if uri and names_location else ""
            return kind(location + f"{what}: {hint}".format(**known))
    return None


def _reason(error: OSError) -> str:
    """Return the message of a system error in one line, without its number."""
    text = " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
    return _DETAIL.sub(": ", text)
