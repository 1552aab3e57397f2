"""Error of a disk or an object store -> one line: the fault, the location, what to do."""

import errno
import re
from dataclasses import dataclass

from sentiflow.errors import JobError, StorageError

_OF_STORE = re.compile(
    r"AWS Error (?P<code>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+) "
    r"operation:(?P<said>[^\n]*)"
)
_KEY = re.compile(r"\bkey '(.*?)' in bucket '")
_BUCKET = re.compile(r"\bbucket '(.*?)'")
_NO_BUCKET = re.compile(r"Bucket '(.*?)' not found")
"""Arrow's message when it looks up the region of a bucket, before any other request."""
_REGION = re.compile(r"configured region is '.*?' while the bucket is located in '(.*?)'")
_NAMED = re.compile(r"ExceptionName: (\w+) Message:")
"""Arrow's message for an error that its client does not know."""
_NOISE = re.compile(
    r"No response body\.|Unable to parse ExceptionName: \w+ Message: | ?\(Request ID: [^)]*\)"
    r"| ?Details: .*|\bcurlCode: \d+, | ?Looks like the configured region .*| on resource: .*"
)
_REFUSED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH"
    "|INVALID_SIGNATURE|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|REQUEST_EXPIRED"
    "|REQUEST_TIME_TOO_SKEWED|ExpiredToken|InvalidToken"
)
_ELSEWHERE = re.compile("PermanentRedirect|AuthorizationHeaderMalformed")
_UNAVAILABLE = re.compile(
    "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
)
_DETAIL = re.compile(r"\. Detail: \[errno \d+\] ")
"""Between Arrow's message and that of the system."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class StoreTrouble:
    """The reason why an object store has not served a request."""

    uri: str
    """The requested URI, or that of the bucket; empty if unknown."""
    what: str
    """Names no file, so that it is the same on all nodes."""
    hint: str
    is_mistake: bool = True
    """Whether the user must fix it; other errors are temporary."""


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
    if error.errno in _FULL:
        return JobError(
            f"{_reason(error)}: free some space, and run the same command again to resume"
        )
    return explain_text(str(error), uri=uri)


def explain_text(text: str, *, uri: str = "") -> StorageError | JobError | None:
    """Explain the error of an object store, given its text."""
    trouble = find_store_trouble(text)
    if trouble is None:
        return None
    location = trouble.uri or uri
    problem = f"{location}: {trouble.what}" if location else trouble.what
    if trouble.is_mistake:
        return StorageError(problem, hint=trouble.hint)
    return JobError(f"{problem}: {trouble.hint}")


def find_store_trouble(text: str) -> StoreTrouble | None:
    """Find the answer of an object store in Arrow's message; None if there is none.

    Example:
        >>> find_store_trouble("When getting information for key 'a/b' in bucket 'there': AWS "
        ... "Error ACCESS_DENIED during HeadObject operation: No response body.").what
        'the object store refuses access (ACCESS_DENIED)'
    """
    if absent := _NO_BUCKET.search(text):
        return _no_bucket(f"s3://{absent[1]}", absent[1])
    found = _OF_STORE.search(text)
    if not found:
        return None
    named, region = _NAMED.search(text), _REGION.search(text)
    bucket, uri = _find_uri(text)
    code, status = named[1] if named else found["code"], int(found["status"] or 0)
    said = _NOISE.sub("", found["said"]).strip(" .;")
    detail = f"{code}: {said}" if said else f"{code}, status {status}" if status else code
    if code == "NO_SUCH_BUCKET":
        return _no_bucket(uri, bucket)
    if _REFUSED.fullmatch(code) or status in (401, 403):
        hint = "give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)"
        return StoreTrouble(uri, f"the object store refuses access ({detail})", hint)
    if _UNAVAILABLE.fullmatch(code) or status >= 500:
        hint = "check AWS_ENDPOINT_URL; run the same command again later to resume"
        return StoreTrouble(uri, f"the object store is unavailable ({detail})", hint, False)
    if region or _ELSEWHERE.fullmatch(code) or status in (301, 307):
        name = f"the region {region[1]}" if region else "another region"
        hint = f"set AWS_DEFAULT_REGION{f'={region[1]}' if region else ''}, or AWS_ENDPOINT_URL"
        return StoreTrouble(uri, f"the bucket is in {name}", hint)
    if status == 400 and found["operation"].startswith("Head"):  # the answer has no more detail
        hint = "have the credentials expired, or is the bucket in another region?"
        return StoreTrouble(uri, f"the object store refuses the request ({detail})", hint)
    return None


def _find_uri(text: str) -> tuple[str, str]:
    """Find the bucket and the URI that Arrow names; it does not while it reads a stream."""
    bucket, key = _BUCKET.search(text), _KEY.search(text)
    if not bucket:
        return "", ""
    return bucket[1], f"s3://{bucket[1]}/{key[1]}" if key else f"s3://{bucket[1]}"


def _no_bucket(uri: str, name: str) -> StoreTrouble:
    problem = f"there is no bucket {name}" if name else "there is no such bucket"
    return StoreTrouble(uri, problem, "create it, or check its name and AWS_ENDPOINT_URL")


def _reason(error: OSError) -> str:
    """Return the message of a system error in one line, without its number."""
    text = " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
    return _DETAIL.sub(": ", text)
