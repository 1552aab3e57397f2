"""Error of pydantic about a file of a result -> its first fault: the key, and what is wrong."""

from typing import NamedTuple

from pydantic import ValidationError

from sentiflow.errors import shorten

_MAX_KEY = 80
"""Maximum length of a key in a message, in characters: the file may come from a stranger."""


class Fault(NamedTuple):
    """A fault of a manifest, or of other settings in JSON."""

    key: str
    """Dotted key; ``all of it`` if the whole content is wrong."""
    message: str
    """What is wrong with its value."""
    is_missing: bool
    """Whether there is no such key."""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def find_first(error: ValidationError) -> Fault:
    """Find the first fault that an error lists."""
    listed = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in listed["loc"]) or "all of it"
    return Fault(shorten(key, _MAX_KEY), listed["msg"], listed["type"] == "missing")
