"""Globs -> the files and objects that match them, as in Python's ``glob``.

``*`` and ``?`` match within one segment of a path, ``**`` matches any number of directories, and
none of them matches a name that begins with a dot.
"""

import contextlib
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Sequence

from sentiflow.storage import filesystem
from sentiflow.storage.filesystem import FileState
from sentiflow.storage.uris import absolute_uri, is_local


def is_glob(uri: str) -> bool:
    """Say whether a URI may name several files."""
    return any(mark in uri for mark in "*?[")


def find(pattern: str) -> dict[str, FileState]:
    """Find the files that match a glob; return their states by URI, in the order of their names.

    In an object store this is one listing, which tells sizes and times: no object is asked for.
    """
    return _find_local(pattern) if is_local(pattern) else _find_stored(pattern)


def _find_local(pattern: str) -> dict[str, FileState]:
    """Find the files of this machine that match a glob."""
    states = {}
    for path in sorted(set(glob.glob(absolute_uri(pattern), recursive=True))):
        with contextlib.suppress(OSError):  # a broken link, or deleted just now
            info = os.stat(path)
            if stat.S_ISREG(info.st_mode):
                states[path] = FileState(info.st_size, info.st_mtime_ns)
    return states


def _find_stored(pattern: str) -> dict[str, FileState]:
    """Find the objects of a store that match a glob."""
    before_marks = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    root = before_marks.rpartition("/")[0]
    below = pattern.removeprefix(f"{root}/")
    listed = filesystem.list_store(root, recursive="/" in below or "**" in below)
    states = {}
    for name in sorted(listed):
        uri = f"{root}/{name}"
        if matches(uri, pattern):
            states[uri] = listed[name]
    return states


def matches(uri: str, pattern: str) -> bool:
    """Say whether a glob names a file, which need not exist; a URI without marks names itself.

    Example:
        >>> matches("/in/a.csv", "/in/*.csv"), matches("/in/sub/a.csv", "/in/*.csv")
        (True, False)
    """
    return uri == pattern or _match_segments(uri.split("/"), pattern.split("/"))


def _match_segments(names: Sequence[str], segments: Sequence[str]) -> bool:
    """Match the names in a path or key with the segments of a pattern, as ``glob`` does."""
    if not names or not segments:
        return not names and not segments
    is_hidden = names[0].startswith(".")
    if segments[0] != "**":
        if is_hidden and not segments[0].startswith("."):
            return False
        fits = fnmatch.fnmatchcase(names[0], segments[0])
        return fits and _match_segments(names[1:], segments[1:])
    if len(segments) == 1:
        return not any(name.startswith(".") for name in names)
    if _match_segments(names, segments[1:]):  # ** may stand for no directory at all
        return True
    return not is_hidden and _match_segments(names[1:], segments)
