"""A user's own tags for the runs in MLflow: which names and values are allowed."""

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from sentiflow.errors import shorten

MAX_TAGS = 50
"""Maximum number of tags: MLflow takes 100 at once, and a run has tags of sentiflow, too."""
MAX_NAME_LENGTH = 250
"""Maximum characters of a name in MLflow."""
MAX_VALUE_LENGTH = 5000
"""Maximum characters of a value."""
_RESERVED = ("mlflow.", "sentiflow.")
"""Beginnings of the names that MLflow and sentiflow use themselves."""
_NAME = re.compile(r"[\w\-. /:]+")
"""Characters that MLflow allows in a name."""


def check_name(name: str) -> str:
    """Check the name of a tag; return it.

    MLflow may use a name as the path of a file, so ``a//b`` and ``../a`` are refused, too.

    Raises:
        ValueError: MLflow does not allow the name, or it is reserved.
    """
    if name.lower().startswith(_RESERVED):
        raise ValueError(f"names that begin with {' or '.join(_RESERVED)} are reserved")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a name has at most {MAX_NAME_LENGTH} characters")
    if not _NAME.fullmatch(name) or name.strip() != name or is_unsafe_path(name):
        raise ValueError("a name has letters, digits, _ - . : / and blanks between them")
    return name


def is_unsafe_path(name: str) -> bool:
    """Say whether a name would not be the path of a file below a folder of MLflow.

    Example:
        >>> is_unsafe_path("a/b"), is_unsafe_path("a//b"), is_unsafe_path("../a")
        (False, True, True)
    """
    is_changed = posixpath.normpath(name) != name
    return is_changed or name == "." or name.startswith(("/", ".."))


def is_own(name: str) -> bool:
    """Say whether a tag of a run may be a user's own: its name is allowed and not reserved."""
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _check_tags(value: Any) -> Any:
    """Check a mapping of tags; numbers and truth values become text, as they are written in YAML.

    Nested mappings are names with dots, as on the command line: ``tracking.tags.a.b=c``.

    Raises:
        ValueError: A name or value is not allowed, or there are too many tags.
    """
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping of names and values, such as {team: crm}")
    tags = {}
    for name, item in _flatten(value):
        try:
            tags[check_name(name)] = _to_text(item)
        except ValueError as error:
            raise ValueError(f"{shorten(name)!r}: {error}") from error
    if len(tags) > MAX_TAGS:
        raise ValueError(f"{len(tags)} tags; a run has at most {MAX_TAGS} of your own")
    return tags


def _flatten(value: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the names of tags with their values; a name within a mapping begins with its names."""
    pairs: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            pairs += _flatten(item, f"{name}.")
        else:
            pairs.append((name, item))
    return pairs


def _to_text(value: Any) -> str:
    """Return the value of a tag as text.

    Raises:
        ValueError: It is empty, too long, or neither a text, a number nor a truth value.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ValueError("a value must be a text or a number")
    text = str(value)
    if not text.strip() or len(text) > MAX_VALUE_LENGTH:
        raise ValueError(f"a value has 1 to {MAX_VALUE_LENGTH:,} characters")
    return text


Tags = Annotated[dict[str, str], BeforeValidator(_check_tags)]
"""A user's own tags: values by name."""
