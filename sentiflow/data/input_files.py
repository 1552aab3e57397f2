"""Files and globs -> the matching files, described by size, time and content as a stage's input."""

import contextlib
import functools
import os
from collections.abc import Collection, Iterator, Sequence

from pyarrow import fs

from sentiflow.data import manifest, partitions
from sentiflow.data.download import SENTIMENT140
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, globs, hashes
from sentiflow.storage.filesystem import FileState
from sentiflow.storage.uris import display_uri, is_local, join, join_member, split_member

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
    patterns: Sequence[str],
    *,
    setting: str = "",
    earlier: Input | None = None,
    may_be_gone: Collection[str] = (),
) -> list[InputFile]:
    """List the files that match some patterns, in the order of the patterns.

    The matches of a glob are sorted by name (:mod:`globs`). ``archive.zip::member`` is a member of
    each archive that matches ``archive.zip``; whether the archive contains it is not checked.

    Args:
        patterns: Files and globs.
        setting: The setting that names them, for messages.
        earlier: The files of a complete result. If they match the patterns and all of them are
            gone, the list is empty.
        may_be_gone: Files that may be gone. A pattern that matches one of them need not match
            another file.

    Returns:
        The files without hashes. A member of an archive has the size and the time of the archive.

    Raises:
        UserError: A pattern matches nothing, a name is not a file, or a file is named twice.
    """
    places = [split_member(pattern) for pattern in patterns]
    try:
        matched = filesystem.map_files(_find_one, [files for files, _ in places])
        found = []
        for pattern, (files, member), states in zip(patterns, places, matched, strict=True):
            if not states and not any(named_by(uri, [pattern]) for uri in may_be_gone):
                raise _explain_none(files)
            for uri, state in states.items():
                found.append(_describe_state(join_member(uri, member), state))
        _check_distinct([item["uri"] for item in found])
    except UserError as error:
        if earlier and are_gone(earlier, patterns):
            return []
        message = f"{setting}: {error}" if setting else str(error)
        raise UserError(message) from error
    return found


def named_by(uri: str, patterns: Sequence[str]) -> bool:
    """Say whether a setting names a file of an earlier run, which may be gone.

    Earlier versions also read files whose names begin with an underscore.
    """
    return any(globs.matches(uri, pattern, sees_underscores=True) for pattern in patterns)


def _find_one(pattern: str) -> dict[str, FileState]:
    """Find the files of one pattern, which names no member; return their states by URI.

    Raises:
        UserError: It is a directory.
    """
    info = filesystem.file_info(pattern)
    if info.type == fs.FileType.Directory:
        raise UserError(f"{pattern} is a directory", hint="name a file, or a glob: *.csv")
    if info.type == fs.FileType.File:
        return {pattern: filesystem.state_of(pattern, info)}
    if not globs.is_glob(pattern):
        return {}
    found = globs.find(pattern)
    if found.left_out:
        _tell_left_out(pattern, len(found.left_out), found.left_out[0])
    return found.states


@functools.cache
def _tell_left_out(pattern: str, count: int, example: str) -> None:
    """Tell the user which files a glob leaves out; once, though a command looks several times."""
    files = "1 file is" if count == 1 else f"{count:,} files are"
    say(
        "input",
        f"{files} left out, because a name begins with _: {display_uri(example)}; to read such "
        f"files, write the _ in the pattern {display_uri(pattern)}",
    )


def _explain_none(pattern: str) -> UserError:
    """Make the error for a pattern without a file."""
    if globs.is_glob(pattern):
        return UserError(f"no file matches {pattern}", hint=_CHECK)
    training_file = next(iter(SENTIMENT140.members))
    hint = _DOWNLOAD if pattern.endswith(f"/{training_file}") else _CHECK
    return UserError(f"no such file: {pattern}", hint=hint)


def _describe_state(uri: str, state: FileState) -> InputFile:
    """Describe a file that was not read."""
    return {
        "uri": uri,
        "bytes": state.size,
        "modified_ns": state.modified_ns,
        "tree_sha256": "",
    }


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
            problem = "is named twice" if seen[real] == uri else f"is also {seen[real]}"
            raise UserError(f"{uri} {problem}", hint="name each file once")
        seen[real] = uri


def _follow_links(path: str, folders: dict[str, str]) -> str:
    """Return the path of a file without links, as ``os.path.realpath`` does.

    Args:
        path: The file.
        folders: The folders that were resolved already, with their paths without links; the folder
            of the file is added. Resolving asks the system about each step of a path, and many
            files share a folder.
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
        if not any(globs.matches(uri, pattern) for pattern in patterns):
            return False
    for pattern in patterns:
        if not any(globs.matches(uri, pattern) for uri in uris):
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
    return combine(add_hashes(describe_unread(uris), known=known))


def add_hashes(files: Sequence[InputFile], *, known: Sequence[InputFile] = ()) -> list[InputFile]:
    """Add the hashes of files that were found; see :func:`describe`.

    Args:
        files: The files, as :func:`find` describes them.
        known: Earlier descriptions, perhaps of other files, too.
    """
    digests = dict(_hashes)
    for item in known:
        if item["tree_sha256"]:
            digests[_identify_state(item)] = item["tree_sha256"]
    unknown = {item["uri"]: item for item in files if _identify_state(item) not in digests}
    if unknown:
        sizes = {uri: item["bytes"] for uri, item in unknown.items()}
        with (
            naming_changes(combine(list(unknown.values()))),
            Progress("hash", total=sum(sizes.values()), unit="bytes") as progress,
        ):
            hashed = hashes.hash_files(sizes, advance=progress.advance)
        for uri, digest in hashed.items():
            _hashes[_identify_state(unknown[uri])] = digest
    digests |= _hashes
    described: list[InputFile] = []
    for item in files:
        described.append({**item, "tree_sha256": digests[_identify_state(item)]})
    return described


def size_and_member(item: InputFile) -> tuple[int, str]:
    """Return size and member name of a file; files that differ in these are not compared.

    The members of an archive have one size, that of the archive. So their names are needed, too.
    """
    return item["bytes"], split_member(item["uri"])[1]


def check_unchanged(described: Input) -> None:
    """Check after reading that input files have not changed since they were described.

    If only the time of a file has changed, its content is compared.

    Raises:
        UserError: A file was changed, replaced or deleted while it was read.
    """
    files = described.get("files", [])
    with Progress("files", what="checking that no input file has changed"):
        states = describe_unread([item["uri"] for item in files])
    for item, now in zip(files, states, strict=True):
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

    Each part of a job asks, and the manifest is long, because it lists all files of the directory.
    So it is read only if its size or time has changed.
    """
    state = watched.get("manifest_state")
    if state and state == _find_manifest_state(watched["uri"]):
        return True
    return manifest.read_input({"input": watched}, "input") is not None


def _find_manifest_state(uri: str) -> list[int]:
    """Return size and time (nanoseconds since 1970) of a manifest; empty if there is none."""
    info = filesystem.file_info(join(uri, manifest.MANIFEST))
    if not info.is_file:
        return []
    return [info.size, info.mtime_ns]


def _identify_state(item: InputFile) -> str:
    """Identify a file by URI, size and time, without its content."""
    return manifest.fingerprint([item["uri"], item["bytes"], item["modified_ns"]])


def describe_unread(uris: Sequence[str]) -> list[InputFile]:
    """Describe files without reading them: by URI, size and time, without hashes.

    A member of an archive has the size and the time of the archive.
    """
    infos = filesystem.map_files(filesystem.file_info, uris)
    files = []
    for uri, info in zip(uris, infos, strict=True):
        files.append(_describe_state(uri, filesystem.state_of(uri, info)))
    return files


def combine(files: Sequence[InputFile]) -> Input:
    """Combine described files to one input, with a fingerprint over the files in order.

    The fingerprint depends on the content and the partition columns of each file; if a file has no
    hash yet, on its URI, size and time.
    """
    identities = []
    for item in files:
        if item["tree_sha256"]:
            identities.append(partitions.identify(item))
        else:
            identities.append(_identify_state(item))
    return {"fingerprint": manifest.fingerprint(identities), "files": list(files)}
