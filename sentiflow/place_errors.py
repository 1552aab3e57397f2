"""Error of a disk or an object store -> one line: what is wrong, where, what to do."""

import errno
import re
from dataclasses import dataclass
from typing import Any

from sentiflow.errors import JobError, UserError

_OF_STORE = re.compile(
    r"AWS Error (?P<code>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))? during \w+ operation:"
    r"(?P<said>[^\n]*)"
)
_KEY = re.compile(r"\bkey '(.*?)' in bucket '")
_BUCKET = re.compile(r"\bbucket '(.*?)'")
_REGIONS = re.compile(r"configured region is '(.*?)' while the bucket is located in '(.*?)'")
_NAMED = re.compile(r"ExceptionName: (\w+) Message:")
"""How Arrow passes on what its client has no code for."""
_NOISE = re.compile(
    r"No response body\.|Unable to parse ExceptionName: \w+ Message: | ?\(Request ID: [^)]*\)"
    r"| ?Details: .*|\bcurlCode: \d+, "
)
_REFUSED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH"
    "|REQUEST_TIME_TOO_SKEWED|ExpiredToken|InvalidToken"
)
_AWAY = re.compile(
    "NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class StoreTrouble:
    """What an object store has against a request."""

    place: str
    """The URI that was asked for; of the bucket alone if that is all that is known."""
    what: str
    """It names no key, and so is the same for all files of a bucket."""
    hint: str
    is_mistake: bool = True
    """The user alone can put it right: it will not pass."""


def explain(error: BaseException) -> UserError | JobError | None:
    """Make one line of the error of a disk or an object store.

    Returns:
        A `UserError` if the place is wrong or forbidden, a `JobError` if the same command may go
        on later; None if it is the error of something else.
    """
    if not isinstance(error, OSError):
        return None
    if isinstance(error, PermissionError | NotADirectoryError):
        return UserError(_reason(error), hint="choose another place, or make it writable")
    if error.errno in _FULL:
        return JobError(f"{_reason(error)}: make room there, and the same command goes on")
    return explain_text(str(error))


def explain_text(text: str) -> UserError | JobError | None:
    """Do the same for an error of an object store of which only the text is left."""
    trouble = find_store_trouble(text)
    if trouble is None:
        return None
    problem = f"{trouble.place}: {trouble.what}"
    if trouble.is_mistake:
        return UserError(problem, hint=trouble.hint)
    return JobError(f"{problem}: {trouble.hint}")


def find_store_trouble(text: str) -> StoreTrouble | None:
    """Find what an object store has said in Arrow's message; None if it is another message.

    Example:
        >>> find_store_trouble("When getting information for key 'a/b' in bucket 'there': AWS "
        ... "Error ACCESS_DENIED during HeadObject operation: No response body.").what
        'the object store refuses access (ACCESS_DENIED)'
    """
    found, bucket = _OF_STORE.search(text), _BUCKET.search(text)
    if not found or not bucket:
        return None
    key, named = _KEY.search(text), _NAMED.search(text)
    place = f"s3://{bucket[1]}/{key[1]}" if key else f"s3://{bucket[1]}"
    code, status = named[1] if named else found["code"], int(found["status"] or 0)
    said = _NOISE.sub("", found["said"]).strip(" .;")
    detail = f"{code}: {said}" if said else code
    if code == "NO_SUCH_BUCKET":
        what = f"there is no bucket {bucket[1]}"
        return StoreTrouble(place, what, "make it, or check its name and AWS_ENDPOINT_URL")
    if regions := _REGIONS.search(text):
        what = f"the bucket is in the region {regions[2]}, and asked for in '{regions[1]}'"
        return StoreTrouble(place, what, f"set AWS_DEFAULT_REGION={regions[2]}")
    if _REFUSED.fullmatch(code) or status in (401, 403):
        what = f"the object store refuses access ({detail})"
        hint = "give credentials that may use it (AWS_ACCESS_KEY_ID, a profile or a role)"
        return StoreTrouble(place, what, hint)
    if _AWAY.fullmatch(code) or status >= 500:
        what = f"the object store is away or failing ({detail})"
        hint = "check AWS_ENDPOINT_URL; when it is well again, the same command goes on"
        return StoreTrouble(place, what, hint, is_mistake=False)
    return None


def _reason(error: Any) -> str:
    """Give the message of a system's error in one line, without its number."""
    return " ".join(str(error).split()).removeprefix(f"[Errno {error.errno}] ")
