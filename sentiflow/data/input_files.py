"""Files and globs -> the matching files, described by size, time and content as a stage's input."""

import contextlib
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence

from pyarrow import fs

from sentiflow.data import manifest, partitions
from sentiflow.data.download import SENTIMENT140
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress
from sentiflow.storage import filesystem, hashes
from sentiflow.storage.filesystem import FileState
from sentiflow.storage.uris import absolute_uri, is_local, join_member, split_member
from sentiflow.storage.uris import join as join_uri

_CHECK = "check the path"
"""Hint if no file has the name, or matches the glob."""
_DOWNLOAD = "get it with sentiflow download sentiment140, or make a similar one: sentiflow sample"
"""Hint if the training file of Sentiment140 is missing."""
_hashes: dict[str, str] = {}
"""Hashes of the files that this process has read, by :func:`_identify_state`."""


def expand(
    patterns: Sequence[str], *, setting: str = "", earlier: Input | None = None
) -> list[str]:
    """List the files that match some patterns, as :func:`find` does; return their URIs."""
    return [item["uri"] for item in find(patterns, setting=setting, earlier=earlier)]


def find(
    patterns: Sequence[str], *, setting: str = "", earlier: Input | None = None
) -> list[InputFile]:
    """List the files that match some patterns, in the order of the patterns.

    The matches of a glob are sorted by name. Patterns are as in Python's ``glob``: ``*`` and ``?``
    match within one path segment, ``**`` matches any number of directories, and none of them
    matches a name that begins with a dot. ``archive.zip::member`` is a member of each archive that
    matches ``archive.zip``; whether the archive contains it is not checked.

    In an object store a glob is one listing, which tells sizes and times: no object is asked for.

    Args:
        patterns: Files and globs.
        setting: The setting that names them, for messages.
        earlier: The files of a complete result. If they match the patterns and all of them are
            gone, the list is empty.

    Returns:
        The files without hashes. A member of an archive has the size and the time of the archive.

    Raises:
        UserError: A pattern matches nothing, a name is not a file, or a file is named twice.
    """
    places = [split_member(pattern) for pattern in patterns]
    try:
        matched = filesystem.map_files(_find_one, [files for files, _ in places])
        found = []
        for (_, member), states in zip(places, matched, strict=True):
            for uri, state in states.items():
                found.append(_describe_state(join_member(uri, member), state))
        _check_distinct([item["uri"] for item in found])
    except UserError as error:
        if earlier and are_gone(earlier, patterns):
            return []
        message = f"{setting}: {error}" if setting else str(error)
        raise UserError(message) from error
    return found


def _find_one(pattern: str) -> dict[str, FileState]:
    """Find the files that match one pattern without a member; return their states by URI."""
    info = filesystem.file_info(pattern)
    if info.type == fs.FileType.Directory:
        raise UserError(f"{pattern} is a directory", hint="name a file, or a glob: *.csv")
    if info.type == fs.FileType.File:
        return {pattern: filesystem.state_of(pattern, info)}
    if not any(mark in pattern for mark in "*?["):
        training_file = next(iter(SENTIMENT140.members))
        hint = _DOWNLOAD if pattern.endswith(f"/{training_file}") else _CHECK
        raise UserError(f"no such file: {pattern}", hint=hint)
    states = _find_local(pattern) if is_local(pattern) else _find_stored(pattern)
    if not states:
        raise UserError(f"no file matches {pattern}", hint=_CHECK)
    return states


def _find_local(pattern: str) -> dict[str, FileState]:
    """Find the files of this machine that match a pattern, in the order of their names."""
    states = {}
    for path in sorted(set(glob.glob(absolute_uri(pattern), recursive=True))):
        with contextlib.suppress(OSError):  # a broken link, or deleted just now
            info = os.stat(path)
            if stat.S_ISREG(info.st_mode):
                states[path] = FileState(info.st_size, info.st_mtime_ns)
    return states


def _find_stored(pattern: str) -> dict[str, FileState]:
    """Find the objects of a store that match a pattern, in the order of their names."""
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


def _describe_state(uri: str, state: FileState) -> InputFile:
    """Describe a file that was not read."""
    return {
        "uri": uri,
        "bytes": state.size,
        "modified_ns": state.modified_ns,
        "tree_sha256": "",
    }


def matches(uri: str, pattern: str) -> bool:
    """Say whether a pattern of :func:`expand` names a file, which need not exist.

    Example:
        >>> matches("/in/a.csv", "/in/*.csv"), matches("/in/sub/a.csv", "/in/*.csv")
        (True, False)
    """
    return uri == pattern or _match_segments(uri.split("/"), pattern.split("/"))


def _match_segments(parts: Sequence[str], segments: Sequence[str]) -> bool:
    """Match the parts of a path or key with the segments of a pattern, as ``glob`` does."""
    if not parts or not segments:
        return not parts and not segments
    is_hidden = parts[0].startswith(".")
    if segments[0] != "**":
        if is_hidden and not segments[0].startswith("."):
            return False
        fits = fnmatch.fnmatchcase(parts[0], segments[0])
        return fits and _match_segments(parts[1:], segments[1:])
    if len(segments) == 1:
        return not any(part.startswith(".") for part in parts)
    if _match_segments(parts, segments[1:]):  # ** may stand for no directory at all
        return True
    return not is_hidden and _match_segments(parts[1:], segments)


def _check_distinct(uris: Sequence[str]) -> None:
    """Check that no file is named twice, also not by another name or through a link."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for uri in uris:
        file, member = split_member(uri)
        if is_local(file):
            file = _follow_links(file, folders)
        real = join_member(file, member)
        if real in seen:
            again = "is named twice" if seen[real] == uri else f"is also {seen[real]}"
            raise UserError(f"{uri} {again}", hint="name each file once")
        seen[real] = uri


def _follow_links(path: str, folders: dict[str, str]) -> str:
    """Return the path of a file without links, as ``os.path.realpath`` does.

    Args:
        path: The file.
        folders: The folders that were resolved already, with their paths without links. There are
            few, and each step of a path is a call of the system.
    """
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    file = os.path.join(folders[folder], name)
    return os.path.realpath(file) if os.path.islink(file) else file


def are_gone(earlier: Input, patterns: Sequence[str]) -> bool:
    """Say whether all files of an earlier run are gone, while the setting still names them.

    Args:
        earlier: The files, as they were described.
        patterns: Files and globs of the setting. Each file must match one, and each must match a
            file.
    """
    uris = [item["uri"] for item in earlier.get("files", [])]
    if not uris:
        return False
    for uri in uris:
        if not any(matches(uri, pattern) for pattern in patterns):
            return False
    for pattern in patterns:
        if not any(matches(uri, pattern) for uri in uris):
            return False
    return not any(filesystem.map_files(filesystem.exists, uris))


def describe(uris: Sequence[str], *, earlier: Input | None = None) -> Input:
    """Describe input files: size, time and a hash of the content.

    A file is read at most once in this process. It is not read if it has the same size and time as
    in ``earlier``.

    Args:
        uris: The files.
        earlier: An earlier description, perhaps of other files, too.

    Returns:
        ``files``, and a ``fingerprint`` over their contents in order.
    """
    known = earlier.get("files", []) if earlier else []  # without files, it was a model
    return join(add_hashes(as_found(uris)["files"], known=known))


def add_hashes(files: Sequence[InputFile], *, known: Sequence[InputFile] = ()) -> list[InputFile]:
    """Add the hashes of files that were found; see :func:`describe`.

    Args:
        files: The files, as :func:`find` describes them.
        known: Earlier descriptions, perhaps of other files, too.
    """
    trees = dict(_hashes)
    for item in known:
        if item["tree_sha256"]:
            trees[_identify_state(item)] = item["tree_sha256"]
    unknown = {item["uri"]: item for item in files if _identify_state(item) not in trees}
    if unknown:
        sizes = {uri: item["bytes"] for uri, item in unknown.items()}
        with (
            naming_changes(join(list(unknown.values()))),
            Progress("hash", total=sum(sizes.values()), unit="bytes") as progress,
        ):
            hashed = hashes.hash_files(sizes, advance=progress.advance)
        for uri, tree in hashed.items():
            _hashes[_identify_state(unknown[uri])] = tree
    trees |= _hashes
    described: list[InputFile] = []
    for item in files:
        described.append({**item, "tree_sha256": trees[_identify_state(item)]})
    return described


def check_unchanged(described: Input) -> None:
    """Check after reading that input files have not changed since they were described.

    If only the time of a file has changed, its content is compared.

    Raises:
        UserError: A file was changed, replaced or deleted while it was read.
    """
    files = described.get("files", [])
    found = as_found([item["uri"] for item in files])["files"]
    for item, now in zip(files, found, strict=True):
        is_same = now["bytes"] == item["bytes"]
        if is_same and now["modified_ns"] != item["modified_ns"]:
            read_again = describe([item["uri"]])["files"][0]
            is_same = read_again["tree_sha256"] == item["tree_sha256"]
        if not is_same:
            change = "deleted" if now["bytes"] is None else "changed"
            raise UserError(
                f"{item['uri']} was {change} while it was read",
                hint="run the same command again when nothing writes to it",
            )


@contextlib.contextmanager
def naming_changes(described: Input) -> Iterator[None]:
    """If reading fails in the block, say whether a file was changed or deleted meanwhile.

    A file that is replaced while it is read may cause any error, also the error of a damaged file.

    Args:
        described: The input that the block reads: files, or a finished directory.

    Raises:
        UserError: A file was changed, replaced or deleted.
        JobError: The directory was replaced.
    """
    try:
        yield
    except Exception:
        check_part(described, {item["uri"] for item in described.get("files", [])})
        raise


def check_part(described: Input, sources: Collection[str]) -> None:
    """Check after reading a part that its files have not changed since the job described them.

    Args:
        described: An input: files, or a finished directory from :func:`watch`.
        sources: URIs of the files from which the part was read.

    Raises:
        UserError: A file was changed, replaced or deleted.
        JobError: The directory was replaced.
    """
    if "uri" not in described:
        files = [item for item in described["files"] if item["uri"] in sources]
        check_unchanged({"fingerprint": "", "files": files})
    elif not _is_unchanged(described):
        raise JobError(f"{described['uri']} was replaced while it was read: run again")


def watch(directory: Input) -> Input:
    """Add the size and time of its manifest to a described directory, for :func:`check_part`.

    Tasks get this description. The manifests of outputs have the description without it.
    """
    return {**directory, "manifest_state": _find_manifest_state(directory["uri"])}


def _is_unchanged(watched: Input) -> bool:
    """Say whether a directory is still the one that :func:`watch` has described.

    The manifest is read only if its size or time has changed. It lists all files of the directory,
    and every part of a job asks.
    """
    state = watched.get("manifest_state")
    if state and state == _find_manifest_state(watched["uri"]):
        return True
    return manifest.read_input({"input": watched}, "input") is not None


def _find_manifest_state(uri: str) -> list[int]:
    """Return size and time (nanoseconds since 1970) of a manifest; empty if there is none."""
    info = filesystem.file_info(join_uri(uri, manifest.MANIFEST))
    if not info.is_file:
        return []
    return [info.size, info.mtime_ns]


def _identify_state(item: InputFile) -> str:
    """Identify a file and its state, without reading its content."""
    return manifest.fingerprint([item["uri"], item["bytes"], item["modified_ns"]])


def as_found(uris: Sequence[str]) -> Input:
    """Describe input files without reading their content: by URI, size and time.

    A member of an archive has the size and the time of the archive.
    """
    infos = filesystem.map_files(filesystem.file_info, uris)
    files = []
    for uri, info in zip(uris, infos, strict=True):
        files.append(_describe_state(uri, filesystem.state_of(uri, info)))
    return join(files)


def join(files: Sequence[InputFile]) -> Input:
    """Combine described files.

    The fingerprint depends only on their contents and partition columns, in order; for files that
    were not read, on their URIs, sizes and times.
    """
    contents = []
    for item in files:
        is_read = bool(item["tree_sha256"])
        contents.append(partitions.identify(item) if is_read else _identify_state(item))
    return {"fingerprint": manifest.fingerprint(contents), "files": list(files)}
