"""Error of a disk or an object store -> one line: what is wrong, where, what to do."""

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
"""Where Arrow looks for the region of a bucket before anything else."""
_REGION = re.compile(r"configured region is '.*?' while the bucket is located in '(.*?)'")
_NAMED = re.compile(r"ExceptionName: (\w+) Message:")
"""How Arrow passes on what its client has no code for."""
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
_AWAY = re.compile(
    "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class StoreTrouble:
    """What an object store has against a request."""

    place: str
    """The URI that was asked for, or the bucket's if no more is known, or nothing."""
    what: str
    """It names no file of ours, and so is the same on all nodes."""
    hint: str
    is_mistake: bool = True
    """The user alone can put it right: it will not pass."""


def explain(error: BaseException, *, uri: str = "") -> StorageError | JobError | None:
    """Make one line of the error of a disk or an object store.

    Args:
        error: Any error.
        uri: What was read or written, in case that the error does not say so.

    Returns:
        A `StorageError` if the place is wrong or forbidden, a `JobError` if the same command may go
        on later; None if it is the error of something else, or names no place.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, PermissionError | NotADirectoryError):
        names_place = error.filename is not None or "'/" in str(error)
        hint = "choose another place, or make it writable"
        return StorageError(_reason(error), hint=hint) if names_place else None
    if error.errno in _FULL:
        return JobError(f"{_reason(error)}: make room there, and the same command goes on")
    return explain_text(str(error), uri=uri)


def explain_text(text: str, *, uri: str = "") -> StorageError | JobError | None:
    """Do the same for an error of an object store of which only the text is left."""
    trouble = find_store_trouble(text)
    if trouble is None:
        return None
    place = trouble.place or uri
    problem = f"{place}: {trouble.what}" if place else trouble.what
    if trouble.is_mistake:
        return StorageError(problem, hint=trouble.hint)
    return JobError(f"{problem}: {trouble.hint}")


def find_store_trouble(text: str) -> StoreTrouble | None:
    """Find what an object store has said in Arrow's message; None if it is another message.

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
    bucket, place = _find_place(text)
    code, status = named[1] if named else found["code"], int(found["status"] or 0)
    said = _NOISE.sub("", found["said"]).strip(" .;")
    detail = f"{code}: {said}" if said else f"{code}, status {status}" if status else code
    if code == "NO_SUCH_BUCKET":
        return _no_bucket(place, bucket)
    if _REFUSED.fullmatch(code) or status in (401, 403):
        what = f"the object store refuses access ({detail})"
        hint = "give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)"
        return StoreTrouble(place, what, hint)
    if _AWAY.fullmatch(code) or status >= 500:
        what = f"the object store is away or failing ({detail})"
        hint = "check AWS_ENDPOINT_URL; when it is well again, the same command goes on"
        return StoreTrouble(place, what, hint, is_mistake=False)
    if region or _ELSEWHERE.fullmatch(code) or status in (301, 307):
        what = f"the bucket is in {f'the region {region[1]}' if region else 'another region'}"
        hint = f"set AWS_DEFAULT_REGION{f'={region[1]}' if region else ''}, or AWS_ENDPOINT_URL"
        return StoreTrouble(place, what, hint)
    if status == 400 and found["operation"].startswith("Head"):  # such an answer says no more
        what = f"the object store refuses the request ({detail})"
        hint = "have the credentials expired, or is the bucket in another region?"
        return StoreTrouble(place, what, hint)
    return None


def _find_place(text: str) -> tuple[str, str]:
    """Find the bucket and the URI that Arrow names, if it does: where it reads on, it does not."""
    bucket, key = _BUCKET.search(text), _KEY.search(text)
    if not bucket:
        return "", ""
    return bucket[1], f"s3://{bucket[1]}/{key[1]}" if key else f"s3://{bucket[1]}"


def _no_bucket(place: str, name: str) -> StoreTrouble:
    what = f"there is no bucket {name}" if name else "there is no such bucket"
    return StoreTrouble(place, what, "make it, or check its name and AWS_ENDPOINT_URL")


def _reason(error: OSError) -> str:
    """Give the message of a system's error in one line, without its number."""
    return " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
