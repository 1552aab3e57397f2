"""URI -> file system and path; files are published atomically."""

import concurrent.futures
import contextlib
import contextvars
import fnmatch
import hashlib
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sentiflow.errors import UserError
from sentiflow.storage.uris import absolute_uri, is_local, join, join_member, split_member

PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""Texts and lists of numbers rarely repeat, so dictionaries would cost time and space."""
LEAF_BYTES = 1 << 16
"""Size of the blocks of :func:`tree_sha256`."""

_READ_BYTES = 64 * LEAF_BYTES
_FILES_AT_ONCE = 16

T = TypeVar("T")

_recorder: contextvars.ContextVar["_Recorder | None"] = contextvars.ContextVar(
    "recorder", default=None
)


class FileEntry(TypedDict):
    """A published file, as manifests list it."""

    path: str
    """Relative to the directory of the manifest."""
    rows: int | None
    """None if the file is not a table."""
    bytes: int
    sha256: NotRequired[str]
    """Only files of a model package have it."""


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Resolve ``uri`` to its file system and the path in it.

    A member of a zip archive stands for the archive, here and in the other functions of this
    module.

    Raises:
        UserError: The scheme is unknown or the URI malformed.
    """
    uri, _ = split_member(uri)
    if is_local(uri):
        return fs.LocalFileSystem(), absolute_uri(uri)
    try:
        return fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, NotImplementedError) as error:
        raise UserError(f"cannot open {uri}", hint=str(error).splitlines()[0]) from error


def file_info(uri: str) -> fs.FileInfo:
    """Look ``uri`` up: its type (``fs.FileType.NotFound`` if absent), size and time."""
    file_system, path = locate(uri)
    return file_system.get_file_info(path)


def map_files(work: Callable[[str], T], uris: Sequence[str]) -> list[T]:
    """Do the work on many files at a time: an object store is slow to answer for each."""
    with concurrent.futures.ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(work, uris))


def exists(uri: str) -> bool:
    """Say whether there is a file or directory at ``uri``."""
    return bool(file_info(uri).type != fs.FileType.NotFound)


def listing(uri: str, *, suffix: str = "", recursive: bool = True) -> list[str]:
    """List the files below the directory ``uri``, sorted, relative to it; none if absent."""
    return sorted(name for name in sizes(uri, recursive=recursive) if name.endswith(suffix))


def sizes(uri: str, *, recursive: bool = True) -> dict[str, int]:
    """Return the size of each file below the directory ``uri``, by its relative path."""
    file_system, path = locate(uri)
    selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    infos = file_system.get_file_info(selector)
    return {posixpath.relpath(i.path, path): i.size for i in infos if i.type == fs.FileType.File}


def delete(uri: str) -> None:
    """Remove the file or directory ``uri``, if it exists."""
    file_system, path = locate(uri)
    kind = file_system.get_file_info(path).type
    if kind == fs.FileType.Directory:
        file_system.delete_dir(path)
    elif kind == fs.FileType.File:
        file_system.delete_file(path)


def delete_empty(uri: str) -> None:
    """Remove a local directory if nothing is in it; object stores have no directories."""
    if is_local(uri):
        with contextlib.suppress(OSError):
            os.rmdir(locate(uri)[1])


def sha256(uri: str) -> str:
    """Hash the content of a file."""
    digest = hashlib.sha256()
    for block in _blocks(uri):
        digest.update(block)
    return digest.hexdigest()


def tree_sha256(uri: str) -> str:
    """Hash the content of a file; several tasks can each hash a piece of it.

    The result is the SHA-256 of the SHA-256 digests of blocks of ``LEAF_BYTES``.
    """
    return join_leaves(b"".join(map(hash_leaves, _blocks(uri))))


def hash_leaves(content: Any) -> bytes:
    """Hash a piece of a file that begins at a multiple of ``LEAF_BYTES``: for :func:`join_leaves`.

    Args:
        content: Bytes or a buffer, up to such a multiple or the end of the file.

    Returns:
        The digests of its blocks one after the other, empty for an empty piece.
    """
    with memoryview(content).cast("B") as view:
        starts = range(0, len(view), LEAF_BYTES)
        return b"".join(hashlib.sha256(view[i : i + LEAF_BYTES]).digest() for i in starts)


def join_leaves(digests: bytes) -> str:
    """Compute the :func:`tree_sha256` of a file from the digests of all its blocks, in order."""
    return hashlib.sha256(digests).hexdigest()


def _blocks(uri: str) -> Iterator[bytes]:
    """Read a file in blocks of whole leaves, except the last block, however short the reads."""
    file_system, path = locate(uri)
    with file_system.open_input_stream(path, compression=None) as stream:
        while block := stream.read(_READ_BYTES):
            while (rest := -len(block) % LEAF_BYTES) and (more := stream.read(rest)):
                block += more
            yield block


def read_bytes(uri: str) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: There is none.
    """
    file_system, path = locate(uri)
    with file_system.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


@contextlib.contextmanager
def publish(uri: str) -> Iterator[Any]:
    """Open ``uri`` for writing so that it appears completely or not at all.

    A local file is written under a temporary name in the same directory and renamed. For an object
    store the content is kept in memory and uploaded at the end, because Arrow would complete the
    upload of a half-written object. Directories are not created there, as each would be an object
    and a request. When this returns, the content is safely stored.
    """
    file_system, path = locate(uri)
    recorder = _recorder.get()
    if not isinstance(file_system, fs.LocalFileSystem):
        buffer = pa.BufferOutputStream()
        yield buffer
        content = buffer.getvalue()
        if recorder:
            recorder.add(uri, content.size)
        with file_system.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        return
    file_system.create_dir(posixpath.dirname(path), recursive=True)
    target = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with file_system.open_output_stream(target, compression=None) as stream:
            yield stream
        size = _sync(target)
        if recorder:
            recorder.add(uri, size)
        file_system.move(target, path)
    except BaseException as error:
        if file_system.get_file_info(target).type == fs.FileType.File:
            file_system.delete_file(target)
        if (
            isinstance(error, OSError) and error.errno and not error.filename
        ):  # Arrow does not name the file
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise


def _sync(path: str) -> int:
    """Wait until the disk has a file, so that it outlives a power failure; return its size."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


@dataclass
class _Recorder:
    """Files published in a context, and the check before each of them."""

    check: Callable[[], None]
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, uri: str, size: int) -> None:
        self.check()
        self.sizes[uri] = size


@contextlib.contextmanager
def recording(check: Callable[[], None] = lambda: None) -> Iterator[dict[str, int]]:
    """List the files that this thread publishes in the context: the bytes of each, by URI.

    Args:
        check: Called right before each file appears; may raise to prevent it.
    """
    recorder = _Recorder(check)
    token = _recorder.set(recorder)
    try:
        yield recorder.sizes
    finally:
        _recorder.reset(token)


def move(uri: str, to: str) -> None:
    """Move a file within a file system, in place of an older one; an object store copies it."""
    file_system, path = locate(uri)
    _, target = locate(to)
    if isinstance(file_system, fs.LocalFileSystem):
        file_system.create_dir(posixpath.dirname(target), recursive=True)
    file_system.move(path, target)


def write_bytes(uri: str, content: bytes) -> None:
    """Publish ``content`` as the file ``uri``."""
    with publish(uri) as stream:
        stream.write(content)


def write_parquet(uri: str, table: pa.Table) -> dict[str, int]:
    """Publish ``table`` as one Parquet file; return its ``rows`` and ``bytes``."""
    with publish(uri) as stream:
        pq.write_table(table, stream, **PARQUET_OPTIONS)
        size = stream.tell()
    return {"rows": table.num_rows, "bytes": size}


def write_arrow(uri: str, table: pa.Table) -> None:
    """Publish ``table`` as an Arrow file: larger than Parquet, but faster to write and read."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with publish(uri) as stream, pa.ipc.new_file(stream, table.schema, options=options) as writer:
        writer.write_table(table)


def read_arrow(uri: str) -> pa.Table:
    """Read a file of :func:`write_arrow`."""
    file_system, path = locate(uri)
    with file_system.open_input_file(path) as file:
        return pa.ipc.open_file(file).read_all()


def write_part(root: str, path: str, table: pa.Table) -> list[FileEntry]:
    """Publish a table as ``path`` below ``root``; an empty table is not written and not listed."""
    if table.num_rows == 0:
        return []
    size = write_parquet(join(root, path), table)["bytes"]
    return [{"path": path, "rows": table.num_rows, "bytes": size}]


def read_rows(uri: str, start: int, stop: int, *, columns: Sequence[str]) -> pa.Table:
    """Read rows ``start`` to ``stop`` of a Parquet file, and only the row groups with these rows.

    Columns that the file lacks are ignored.
    """
    file_system, path = locate(uri)
    file = pq.ParquetFile(path, filesystem=file_system)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(ends, stop)
    known = [name for name in columns if name in file.schema_arrow.names]
    table = file.read_row_groups(list(range(first, last + 1)), columns=known)
    before = start - (ends[first] - sizes[first])
    return table.slice(before, stop - start).combine_chunks()


def read_parquet(uri: str, *, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file."""
    file_system, path = locate(uri)
    return pq.ParquetFile(path, filesystem=file_system).read(columns=columns)


def expand(patterns: list[str]) -> list[str]:
    """List the files that match ``patterns``, in the given order, matches of a glob sorted by name.

    ``archive.zip::member`` is a member of each archive that matches ``archive.zip``; whether the
    archive contains it is not checked.

    Raises:
        UserError: A pattern matches nothing, or a name is not a file.
    """
    uris = []
    for pattern in patterns:
        archives, member = split_member(pattern)
        uris += [join_member(uri, member) for uri in _expand_one(archives)]
    return uris


def _expand_one(pattern: str) -> list[str]:
    if not any(mark in pattern for mark in "*?[") or (is_local(pattern) and exists(pattern)):
        info = file_info(pattern)
        if info.type == fs.FileType.NotFound:
            raise UserError(f"no such file: {pattern}", hint="check the path")
        if info.type == fs.FileType.Directory:
            raise UserError(f"{pattern} is a directory", hint="name a file, or a glob: *.csv")
        return [pattern]
    root = pattern.split("*")[0].split("?")[0].split("[")[0].rpartition("/")[0]
    recursive = "/" in pattern.removeprefix(root).lstrip("/")
    names = [join(root, name) for name in listing(root, recursive=recursive)]
    found = [name for name in names if _matches(name, pattern)]
    if not found:
        raise UserError(f"no file matches {pattern}", hint="check the path")
    return found


def _matches(name: str, pattern: str) -> bool:
    """Match as a shell does: ``*`` and ``?`` match within one path segment."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
