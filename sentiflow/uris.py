"""Location as typed -> absolute URI, and paths below it."""

import os
import posixpath
import re

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/")


def absolute_uri(uri: str, *, base: str | None = None) -> str:
    """Make a location independent of the working directory.

    Args:
        uri: ``relative/path``, ``/absolute/path``, or ``scheme://…``, which stays as it is.
        base: What a relative path is relative to; the working directory by default.

    Example:
        >>> absolute_uri("data/tweets.csv", base="/home/ada")
        '/home/ada/data/tweets.csv'
        >>> absolute_uri("s3://bucket/key/")
        's3://bucket/key'
    """
    uri = uri.removeprefix("file://")
    if _SCHEME.match(uri):
        return uri.rstrip("/")
    return os.path.normpath(os.path.join(base or os.getcwd(), os.path.expanduser(uri)))


def is_local(uri: str) -> bool:
    """Say whether ``uri`` names a file of this machine."""
    return uri.startswith("file://") or not _SCHEME.match(uri)


def as_typed(uri: str) -> str:
    """Write a location below the working directory relative to it, others as they are."""
    if not is_local(uri):
        return uri
    relative = os.path.relpath(uri)
    return uri if relative.startswith("..") else relative


def join(uri: str, *parts: str) -> str:
    """Append path segments to ``uri``."""
    return posixpath.join(uri, *parts)
