"""Globs -> the files and objects that match them, as in Python's ``glob``.

``*`` and ``?`` match within one segment of a path, and ``**`` matches any number of directories.
None of them matches a name that begins with a dot or an underscore, as in Spark and Arrow: such
folders and files are unfinished or describe others (``_temporary``, ``_delta_log``, ``_SUCCESS``).
A segment that begins with the same mark matches them. The folder ``_col=value`` names a column, and
is like any other.
"""

import contextlib
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

from sentiflow.storage import filesystem
from sentiflow.storage.filesystem import FileState
from sentiflow.storage.uris import absolute_uri, is_local


def is_glob(uri: str) -> bool:
    """Say whether a URI may name several files."""
    return any(mark in uri for mark in "*?[")


class Found(NamedTuple):
    """The files that match a glob."""

    states: dict[str, FileState]
    """Their states by URI, in the order of their names."""
    left_out: list[str]
    """URIs of files that would match if no name began with an underscore."""


def find(pattern: str) -> Found:
    """Find the files that match a glob.

    In an object store this is one listing, which tells sizes and times: no object is asked for.
    """
    listed = _list_local(pattern) if is_local(pattern) else _list_stored(pattern)
    full_pattern = absolute_uri(pattern)
    states = {}
    left_out = []
    for uri, state in listed.items():
        if matches(uri, full_pattern):
            states[uri] = state
        elif "/_" in uri and matches(uri, full_pattern, sees_underscores=True):
            left_out.append(uri)
    return Found(states, left_out)


def _list_local(pattern: str) -> dict[str, FileState]:
    """List the files of this machine that match a glob as Python has it."""
    states = {}
    for path in sorted(set(glob.glob(absolute_uri(pattern), recursive=True))):
        with contextlib.suppress(OSError):  # a broken link, or deleted just now
            info = os.stat(path)
            if stat.S_ISREG(info.st_mode):
                states[path] = FileState(info.st_size, info.st_mtime_ns)
    return states


def _list_stored(pattern: str) -> dict[str, FileState]:
    """List the objects of a store that may match a glob."""
    before_marks = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    root = before_marks.rpartition("/")[0]
    below = pattern.removeprefix(f"{root}/")
    listed = filesystem.list_store(root, recursive="/" in below or "**" in below)
    return {f"{root}/{name}": listed[name] for name in sorted(listed)}


def matches(uri: str, pattern: str, *, sees_underscores: bool = False) -> bool:
    """Say whether a glob names a file, which need not exist; a URI without marks names itself.

    Args:
        uri: The file.
        pattern: The glob.
        sees_underscores: Whether marks match names that begin with an underscore.

    Example:
        >>> matches("/in/a.csv", "/in/*.csv"), matches("/in/sub/a.csv", "/in/*.csv")
        (True, False)
        >>> matches("/in/_a.csv", "/in/*.csv"), matches("/in/_a.csv", "/in/_*.csv")
        (False, True)
    """
    hidden = "." if sees_underscores else "._"
    return uri == pattern or _match_segments(uri.split("/"), pattern.split("/"), hidden)


def _match_segments(names: Sequence[str], segments: Sequence[str], hidden: str) -> bool:
    """Match the names in a path or key with the segments of a pattern, as ``glob`` does.

    Args:
        names: The path.
        segments: The pattern.
        hidden: Marks do not match names that begin with one of these characters.
    """
    if not names or not segments:
        return not names and not segments
    name = names[0]
    segment = segments[0]
    if segment != "**":
        if _is_hidden(name, hidden) and not segment.startswith(name[0]):
            return False
        fits = fnmatch.fnmatchcase(name, segment)
        return fits and _match_segments(names[1:], segments[1:], hidden)
    if len(segments) == 1:
        return not any(_is_hidden(each, hidden) for each in names)
    if _match_segments(names, segments[1:], hidden):  # ** may stand for no directory at all
        return True
    return not _is_hidden(name, hidden) and _match_segments(names[1:], segments, hidden)


def _is_hidden(name: str, hidden: str) -> bool:
    """Say whether marks do not match a name; the folder ``_col=value`` names a column."""
    is_column = name.startswith("_") and "=" in name
    return name.startswith(tuple(hidden)) and not is_column
