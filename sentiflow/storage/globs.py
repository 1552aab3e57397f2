"""Names of files and globs -> the files that they stand for."""

import fnmatch
import glob
import itertools
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

    def expand_one(pattern: str) -> list[str]:
        archives, member = split_member(pattern)
        return [join_member(uri, member) for uri in _expand_one(archives)]

    uris = list(itertools.chain.from_iterable(filesystem.map_files(expand_one, patterns)))
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
    found = _glob_here(pattern) if is_local(pattern) else _glob_store(pattern)
    if not found:
        raise UserError(f"no file matches {pattern}", hint="check the path")
    return found


def matches(uri: str, pattern: str) -> bool:
    """Say whether a pattern of :func:`expand` names a file, which need not exist.

    Example:
        >>> matches("/in/a.csv", "/in/*.csv"), matches("/in/sub/a.csv", "/in/*.csv")
        (True, False)
    """
    return uri == pattern or _matches(uri.split("/"), pattern.split("/"))


def _glob_here(pattern: str) -> list[str]:
    names = glob.glob(absolute_uri(pattern), recursive=True)
    found = sorted({name for name in names if os.path.isfile(name)})
    for name in found:
        if os.fsencode(name) != name.encode(errors="replace"):
            raise UserError(f"the name {name!a} is not UTF-8", hint="rename the file")
    return found


def _glob_store(pattern: str) -> list[str]:
    root = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    wanted = pattern.removeprefix(f"{root}/").split("/")
    recursive = len(wanted) > 1 or wanted == ["**"]
    names = filesystem.listing(root, recursive=recursive)
    return [join(root, name) for name in names if _matches(name.split("/"), wanted)]


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Match the segments of a key as Python's ``glob`` matches those of a path."""
    if not parts or not wanted:
        return not parts and not wanted
    is_hidden = parts[0].startswith(".")
    if wanted[0] != "**":
        fits = fnmatch.fnmatchcase(parts[0], wanted[0])
        visible = not is_hidden or wanted[0].startswith(".")
        return fits and visible and _matches(parts[1:], wanted[1:])
    if len(wanted) == 1:
        return not any(part.startswith(".") for part in parts)
    return _matches(parts, wanted[1:]) or (not is_hidden and _matches(parts[1:], wanted))


def _check_distinct(uris: Sequence[str]) -> None:
    """Check that all files differ, whatever the names and links by which they are reached."""
    seen: dict[object, str] = {}
    for uri in uris:
        archive, member = split_member(uri)
        found = os.stat(filesystem.locate(archive)[1]) if is_local(archive) else None
        identity = (found.st_dev, found.st_ino, member) if found else uri
        if identity in seen:
            again = "is named twice" if seen[identity] == uri else f"is also {seen[identity]}"
            raise UserError(f"{uri} {again}", hint="name each file once")
        seen[identity] = uri
