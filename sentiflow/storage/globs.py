"""Names of files and globs -> the files that they stand for."""

import fnmatch
import glob
import os
import re
from collections.abc import Sequence

from pyarrow import fs

from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, is_local, join, join_member, split_member


def expand(patterns: list[str]) -> list[str]:
    """List the files that match ``patterns``, in the given order, matches of a glob sorted by name.

    Patterns are those of Python's ``glob``: ``*`` and ``?`` match within one path segment, ``**``
    any number of directories, and none of them a name that begins with a dot.
    ``archive.zip::member`` is a member of each archive that matches ``archive.zip``; whether the
    archive contains it is not checked.

    Raises:
        UserError: A pattern matches nothing, a name is not a file, or a file is named twice.
    """
    places = [split_member(pattern) for pattern in patterns]
    matched = filesystem.map_files(_expand_one, [archives for archives, _ in places])
    uris = [
        join_member(uri, member)
        for (_, member), archives in zip(places, matched, strict=True)
        for uri in archives
    ]
    _check_distinct(uris)
    return uris


def _expand_one(pattern: str) -> list[str]:
    info = filesystem.file_info(pattern)
    if info.type == fs.FileType.Directory:
        raise UserError(f"{pattern} is a directory", hint="name a file, or a glob: *.csv")
    if info.type == fs.FileType.File:
        return [pattern]
    if not any(mark in pattern for mark in "*?["):
        raise UserError(f"no such file: {pattern}", hint="check the path")
    if is_local(pattern):
        names = glob.glob(absolute_uri(pattern), recursive=True)
        uris = sorted({name for name in names if os.path.isfile(name)})
    else:
        root = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        below = pattern.removeprefix(f"{root}/")
        names = filesystem.listing(root, recursive="/" in below or "**" in below)
        uris = [uri for name in names if matches(uri := join(root, name), pattern)]
    if not uris:
        raise UserError(f"no file matches {pattern}", hint="check the path")
    return uris


def matches(uri: str, pattern: str) -> bool:
    """Say whether a pattern of :func:`expand` names a file, which need not exist.

    Example:
        >>> matches("/in/a.csv", "/in/*.csv"), matches("/in/sub/a.csv", "/in/*.csv")
        (True, False)
    """
    return uri == pattern or _matches(uri.split("/"), pattern.split("/"))


def _matches(parts: Sequence[str], segments: Sequence[str]) -> bool:
    """Match the segments of a path or key as Python's ``glob`` does."""
    if not parts or not segments:
        return not parts and not segments
    is_hidden = parts[0].startswith(".")
    if segments[0] != "**":
        fits = fnmatch.fnmatchcase(parts[0], segments[0])
        is_visible = not is_hidden or segments[0].startswith(".")
        return fits and is_visible and _matches(parts[1:], segments[1:])
    if len(segments) == 1:
        return not any(part.startswith(".") for part in parts)
    return _matches(parts, segments[1:]) or (not is_hidden and _matches(parts[1:], segments))


def _check_distinct(uris: Sequence[str]) -> None:
    """Check that all files differ, whatever the names and links that lead to them."""
    seen: dict[str, str] = {}
    for uri in uris:
        archive, member = split_member(uri)
        file = os.path.realpath(archive) if is_local(archive) else archive
        first = seen.setdefault(join_member(file, member), uri)
        if first is not uri:
            again = "is named twice" if first == uri else f"is also {first}"
            raise UserError(f"{uri} {again}", hint="name each file once")
