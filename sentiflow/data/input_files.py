"""Names of files and globs -> the files, described as an input by size, time and content."""

import fnmatch
import glob
import os
import re
from collections.abc import Collection, Sequence

from pyarrow import fs

from sentiflow.data import manifest
from sentiflow.data.download import SENTIMENT140
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress
from sentiflow.storage import filesystem, hashes
from sentiflow.storage.uris import absolute_uri, is_local, join_member, split_member

_CHECK = "check the path"
_DOWNLOAD = "get it by sentiflow download sentiment140, or a similar one by sentiflow sample"
_hashes: dict[str, str] = {}
"""Hashes of the files that this process has read, by :func:`_state_of`."""


def expand(
    patterns: Sequence[str], *, setting: str = "", earlier: Input | None = None
) -> list[str]:
    """List the files that match ``patterns``, in the given order, matches of a glob sorted by name.

    Patterns are those of Python's ``glob``: ``*`` and ``?`` match within one path segment, ``**``
    any number of directories, and none of them a name that begins with a dot.
    ``archive.zip::member`` is a member of each archive that matches ``archive.zip``; whether the
    archive contains it is not checked.

    Args:
        patterns: Files and globs.
        setting: The setting that names them, for messages.
        earlier: The files of a complete result. If they are those of the setting, and none is there
            any more, the list is empty.

    Raises:
        UserError: A pattern matches nothing, a name is not a file, or a file is named twice.
    """
    places = [split_member(pattern) for pattern in patterns]
    try:
        matched = filesystem.map_files(_expand_one, [archives for archives, _ in places])
        uris = [
            join_member(uri, member)
            for (_, member), archives in zip(places, matched, strict=True)
            for uri in archives
        ]
        _check_distinct(uris)
    except UserError as error:
        if earlier and are_gone(earlier, patterns):
            return []
        raise UserError(": ".join(filter(None, [setting, str(error)]))) from error
    return uris


def _expand_one(pattern: str) -> list[str]:
    info = filesystem.file_info(pattern)
    if info.type == fs.FileType.Directory:
        raise UserError(f"{pattern} is a directory", hint="name a file, or a glob: *.csv")
    if info.type == fs.FileType.File:
        return [pattern]
    if not any(mark in pattern for mark in "*?["):
        is_published = pattern.endswith(f"/{next(iter(SENTIMENT140.members))}")
        raise UserError(f"no such file: {pattern}", hint=_DOWNLOAD if is_published else _CHECK)
    if is_local(pattern):
        names = glob.glob(absolute_uri(pattern), recursive=True)
        uris = sorted({name for name in names if os.path.isfile(name)})
    else:
        root = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        below = pattern.removeprefix(f"{root}/")
        names = filesystem.listing(root, recursive="/" in below or "**" in below)
        uris = [uri for name in names if matches(uri := f"{root}/{name}", pattern)]
    if not uris:
        raise UserError(f"no file matches {pattern}", hint=_CHECK)
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


def are_gone(earlier: Input, patterns: Sequence[str]) -> bool:
    """Say whether files that were read before are those of a setting, and none is there any more.

    Args:
        earlier: Their description.
        patterns: Files and globs.
    """
    uris = [item["uri"] for item in earlier.get("files", [])]
    is_same = all(any(matches(uri, p) for p in patterns) for uri in uris)
    is_same &= all(any(matches(uri, p) for uri in uris) for p in patterns)
    return bool(uris) and is_same and not any(filesystem.map_files(filesystem.exists, uris))


def describe(uris: Sequence[str], *, earlier: Input | None = None) -> Input:
    """Describe input files: size, time and a hash of the content.

    A file whose size and time are the same as in ``earlier``, an earlier description, is not read.
    Each of the other files is read once in a process.

    Returns:
        ``files``, and a ``fingerprint`` over their contents in order.
    """
    described = earlier["files"] if earlier else []
    digests = _hashes | {_state_of(i): i["tree_sha256"] for i in described if i["tree_sha256"]}
    files = as_found(uris)["files"]
    missing = {item["uri"]: item for item in files if _state_of(item) not in digests}
    if missing:
        sizes = {uri: item["bytes"] for uri, item in missing.items()}
        with Progress("hash", total=sum(sizes.values()), unit="bytes") as progress:
            trees = hashes.hash_files(sizes, advance=progress.advance)
        _hashes.update({_state_of(missing[uri]): tree for uri, tree in trees.items()})
    digests |= _hashes
    return join([{**item, "tree_sha256": digests[_state_of(item)]} for item in files])


def check_unchanged(described: Input) -> None:
    """Check after reading that input files are still those that were described before it.

    A file of another time is compared by its content.

    Raises:
        UserError: A file was changed, replaced or deleted while it was read.
    """
    old = described.get("files", [])
    for item, now in zip(old, as_found([item["uri"] for item in old])["files"], strict=True):
        is_same = now["bytes"] == item["bytes"]
        if is_same and now["modified_ns"] != item["modified_ns"]:
            is_same = describe([item["uri"]])["files"][0]["tree_sha256"] == item["tree_sha256"]
        if not is_same:
            raise UserError(
                f"{item['uri']} was changed while it was read",
                hint="run the same command again when nothing writes to it",
            )


def check_part(described: Input, sources: Collection[str]) -> None:
    """Check after reading a part that it was read from what the job has described.

    Args:
        described: An input, a finished directory or files.
        sources: Those of the files from which the part was read.

    Raises:
        UserError: A file was changed, replaced or deleted.
        JobError: The directory was replaced.
    """
    if "uri" not in described:
        files = [item for item in described["files"] if item["uri"] in sources]
        check_unchanged({"fingerprint": "", "files": files})
    elif not manifest.read_input({"input": described}, "input"):
        raise JobError(f"{described['uri']} was replaced while it was read: run again")


def _state_of(item: InputFile) -> str:
    """Identify a file and its state, without its content."""
    return manifest.fingerprint([item["uri"], item["bytes"], item["modified_ns"]])


def add(earlier: Input, uris: Sequence[str]) -> Input | None:
    """Describe input files that begin with the files of an earlier description.

    No content is read: new files have no hash yet.

    Returns:
        The description; None if ``uris`` do not begin with the files of ``earlier``, or if these
        have changed.
    """
    files, old = as_found(uris)["files"], earlier["files"]
    without_hash = [{**item, "tree_sha256": ""} for item in old]
    return join(old + files[len(old) :]) if files[: len(old)] == without_hash else None


def as_found(uris: Sequence[str]) -> Input:
    """Describe input files without reading their content: by URI, size and time.

    Size and time of a member of an archive are those of the archive.
    """
    infos = zip(uris, filesystem.map_files(filesystem.file_info, uris), strict=True)
    files: list[InputFile] = [
        {"uri": uri, "bytes": info.size, "modified_ns": info.mtime_ns, "tree_sha256": ""}
        for uri, info in infos
    ]
    return {"fingerprint": manifest.fingerprint(files), "files": files}


def join(files: Sequence[InputFile]) -> Input:
    """Combine described files; the fingerprint depends on their contents, in order, alone."""
    contents = [manifest.identify_file(item) for item in files]
    return {"fingerprint": manifest.fingerprint(contents), "files": list(files)}
