"""URI -> file system and path; files are published atomically."""

import concurrent.futures
import contextlib
import contextvars
import errno
import functools
import hashlib
import math
import os
import posixpath
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, NotRequired, TypeVar

import pyarrow as pa
from pyarrow import fs
from pydantic import Field
from typing_extensions import TypedDict

from sentiflow.errors import UserError, printable, shorten
from sentiflow.storage import stores
from sentiflow.storage.uris import (
    absolute_uri,
    is_local,
    join,
    split_key,
    split_member,
)

_SECOND_NS = 10**9
"""Nanoseconds of a second."""
FILES_AT_ONCE = 16
"""Files to work on at the same time: an object store is slow, but answers many requests at once."""

_MAX_SHOWN = 300
"""Maximum length of a location in a message, in characters."""
_NUM_DELETIONS = 5
"""Number of times that a folder is deleted while another process still writes to it."""
_DELETION_WAIT_SECONDS = 0.1
"""Time between two of them."""

CHECK_SECONDS = 1.0
"""Minimum time between two checks of :func:`recording`."""
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that also runs while this process is stopped or the machine is suspended."""


S = TypeVar("S")
T = TypeVar("T")

_record: contextvars.ContextVar[Callable[[str, int], None]] = contextvars.ContextVar(
    "record", default=lambda uri, size: None
)
"""Called with URI and size of each file right before the file appears; see :func:`recording`."""


class FileEntry(TypedDict):
    """A published file, as manifests list it."""

    path: str
    """Relative to the directory of the manifest."""
    rows: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    """None if the file is not a table."""
    bytes: Annotated[int, Field(ge=0, lt=1 << 63)]
    sha256: NotRequired[str]
    """Only files that keep their names have one. The names of parts are never reused."""
    row_id_range: NotRequired[Annotated[list[int], Field(min_length=2, max_length=2)]]
    """Smallest and largest ``row_id`` of scored rows, if the corpus has its own row ids."""


class FileState(NamedTuple):
    """State of a file, which a listing tells without opening the file."""

    size: int
    """In bytes."""
    modified_ns: int
    """Time of the last change, in nanoseconds since 1970."""


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Resolve ``uri`` to its file system and the path in it.

    A member of a zip archive stands for the archive, here and in the other functions of this
    module. The text after the bucket is the literal key: ``%``, ``#`` and ``?`` have no meaning.

    Raises:
        UserError: The scheme is unknown, the URI is malformed, or a manifest in another store names
            it.
    """
    if isinstance(uri, stores.ForeignUri):
        raise _refuse(uri, "the manifest that names it is in another store")
    uri, _ = split_member(uri)
    if is_local(uri):
        return fs.LocalFileSystem(), absolute_uri(uri)
    store, key = split_key(uri)
    fault = stores.find_fault(store)
    if fault:
        raise _refuse(uri, fault)
    if "//" in f"/{key}":
        raise _refuse(uri, "a name between two slashes is empty")
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise _refuse(uri, "a name between two slashes is . or ..")
    try:
        file_system, root = _open_store(store, frozenset(os.environ.items()))
    except (pa.ArrowInvalid, NotImplementedError) as error:
        raise _refuse(uri, str(error).splitlines()[0]) from error
    return file_system, posixpath.join(root, key) if key else root


def _refuse(uri: str, hint: str) -> UserError:
    """Make the error for a location that is not opened."""
    return UserError(f"cannot open {shorten(printable(uri), _MAX_SHOWN)}", hint=hint)


@functools.lru_cache(maxsize=16)
def _open_store(store: str, environment: frozenset[tuple[str, str]]) -> tuple[fs.FileSystem, str]:
    """Open an object store, once for each state of the environment: connections are reused."""
    if store.startswith("s3://"):
        # a file below 10 MiB is then written by one request when it is closed; errors come then
        store += "?allow_delayed_open=true"
    return fs.FileSystem.from_uri(store)


def file_info(uri: str) -> fs.FileInfo:
    """Return the type (``fs.FileType.NotFound`` if absent), size and time of ``uri``."""
    file_system, path = locate(uri)
    return file_system.get_file_info(path)


def state_of(uri: str, info: fs.FileInfo) -> FileState:
    """Return the state of a file that :func:`file_info` or a listing has found.

    The protocol of S3 tells the time of one file in whole seconds. Listings of some stores are
    finer: their times are cut to seconds, so that both tell the same time.
    """
    modified_ns = info.mtime_ns
    if modified_ns and uri.startswith("s3://"):  # a file that is gone has no time
        modified_ns -= modified_ns % _SECOND_NS
    return FileState(info.size, modified_ns)


def map_files(work: Callable[[S], T], files: Iterable[S]) -> list[T]:
    """Call ``work`` on each file, many at the same time; return the results in order."""
    with concurrent.futures.ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return list(pool.map(work, files))


def exists(uri: str) -> bool:
    """Say whether there is a file or directory at ``uri``."""
    return bool(file_info(uri).type != fs.FileType.NotFound)


def check_writable(uri: str) -> None:
    """Check that a local directory can be written or created, without writing.

    Raises:
        UserError: The directory, or its nearest parent that exists, is a file or read-only.
    """
    path = find_existing(uri)
    if not os.path.isdir(path):
        raise UserError(f"{uri}: {path} is a file, not a directory", hint="choose another location")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{uri}: {path} cannot be written", hint="choose another location")


def find_existing(uri: str) -> str:
    """Return the path of a local location if it exists, otherwise its nearest existing parent."""
    path = absolute_uri(uri)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def listing(uri: str, *, recursive: bool = True) -> list[str]:
    """List the files below the directory ``uri``, sorted, relative to it; none if it is absent.

    Args:
        uri: The directory.
        recursive: Whether to list the files of its folders in an object store, which may be
            millions. Files on disk are always listed.
    """
    return sorted(sizes(uri, recursive=recursive))


def sizes(uri: str, *, recursive: bool = True) -> dict[str, int]:
    """Return the size of each file below the directory ``uri``, by its relative path.

    Links below the directory are not followed; the directory itself may be a link. The arguments
    are the same as for :func:`listing`.
    """
    if not is_local(uri):
        states = list_store(uri, recursive=recursive)
        return {path: state.size for path, state in states.items()}
    _, root = locate(uri)
    size_by_path = {}
    for path in _walk(uri):
        with contextlib.suppress(FileNotFoundError):  # deleted just now
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode):
                size_by_path[os.path.relpath(path, root)] = info.st_size
    return size_by_path


def list_store(uri: str, *, recursive: bool = True) -> dict[str, FileState]:
    """List the objects below a folder of an object store: their states by relative path.

    One request tells of a thousand objects.
    """
    file_system, root = locate(uri)
    selector = fs.FileSelector(root, recursive=recursive, allow_not_found=True)
    infos = file_system.get_file_info(selector)
    prefix = f"{root.rstrip('/')}/"
    return {info.path.removeprefix(prefix): state_of(uri, info) for info in infos if info.is_file}


def find_link(uri: str) -> str:
    """Return the path of a link below a local directory; empty if there is none.

    A writer that follows the link would write elsewhere.
    """
    if is_local(uri):
        for path in _walk(uri):
            if os.path.islink(path):
                return path
    return ""


def _walk(uri: str) -> Iterator[str]:
    """List all files, folders and links below a local directory, without following links."""
    _, root = locate(uri)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            yield os.path.join(folder, name)


def delete(uri: str) -> None:
    """Remove the file or directory ``uri``, if it exists; a link is removed, not its target.

    Another process may remove it at the same time, or still write to the directory.

    Raises:
        OSError: It cannot be removed. ``ENOTEMPTY``: another process keeps writing to it.
    """
    file_system, path = locate(uri)
    if is_local(uri) and os.path.islink(path):
        os.unlink(path)
        return
    kind = file_system.get_file_info(path).type
    if kind == fs.FileType.Directory:
        _delete_folder(file_system, path)
    elif kind == fs.FileType.File:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            file_system.delete_file(path)


def _delete_folder(file_system: fs.FileSystem, path: str) -> None:
    """Remove a directory with its files, again if files have come or gone meanwhile."""
    for number in range(1, _NUM_DELETIONS + 1):
        try:
            file_system.delete_dir(path)
            return
        except OSError as error:
            if file_system.get_file_info(path).type == fs.FileType.NotFound:
                return
            has_changed = error.errno in (errno.ENOENT, errno.ENOTEMPTY)
            if not has_changed or number == _NUM_DELETIONS:
                raise
        time.sleep(_DELETION_WAIT_SECONDS)


def delete_empty(uri: str) -> None:
    """Remove a local directory if it is empty; object stores have no directories."""
    if is_local(uri):
        with contextlib.suppress(OSError):
            os.rmdir(locate(uri)[1])


def delete_empty_parents(uri: str, paths: Iterable[str]) -> None:
    """Remove the folders of some files that are gone, if they are empty, then the directory.

    Other empty folders stay.

    Args:
        uri: A directory. In an object store there is nothing to do.
        paths: The files, relative to it.
    """
    if not is_local(uri):
        return
    folders = set()
    for path in paths:
        folder = posixpath.dirname(path)
        while folder:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    inner_first = sorted(folders, key=len, reverse=True)
    for folder in inner_first:
        delete_empty(join(uri, folder))
    delete_empty(uri)


def delete_empty_folders(uri: str) -> None:
    """Remove empty folders of a local directory, the innermost first, then the empty directory."""
    if is_local(uri):
        inner_first = sorted(_walk(uri), reverse=True)
        for path in (*inner_first, uri):
            delete_empty(path)


def read_bytes(uri: str) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    file_system, path = locate(uri)
    # a stream would be read in small pieces
    with naming(path), file_system.open_input_file(path) as file:
        return bytes(file.read())


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Add the path to a system error of Arrow in the block that does not name it."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename and path not in str(error):
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise


@contextlib.contextmanager
def publish(uri: str) -> Iterator[Any]:
    """Open ``uri`` for writing so that it appears completely or not at all.

    A local file is written under a temporary name in the same directory and renamed. For an object
    store the content is kept in memory and uploaded at the end, because Arrow would complete the
    upload of a half-written object. An object store gets no directories, because each would be an
    object and a request. After the ``with`` block the content is safely stored.
    """
    file_system, path = locate(uri)
    if not isinstance(file_system, fs.LocalFileSystem):
        buffer = pa.BufferOutputStream()
        yield buffer
        content = buffer.getvalue()
        record = _record.get()
        record(uri, content.size)
        with file_system.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        return
    file_system.create_dir(posixpath.dirname(path), recursive=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with file_system.open_output_stream(temporary, compression=None) as stream:
            yield stream
        size = _sync(temporary)
        record = _record.get()
        record(uri, size)
        file_system.move(temporary, path)
    except BaseException as error:
        if file_system.get_file_info(temporary).type == fs.FileType.File:
            file_system.delete_file(temporary)
        if isinstance(error, OSError) and error.errno and not error.filename:
            # Arrow does not name the file
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise


def _sync(path: str) -> int:
    """Wait until a file is on disk and survives a power failure; return its size."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def recording(check: Callable[[], None] = lambda: None) -> Iterator[dict[str, int]]:
    """Record the files that this thread publishes in the ``with`` block: their sizes by URI.

    Args:
        check: Called right before a file appears, unless the last call was less than
            ``CHECK_SECONDS`` ago. It may raise, so that the file does not appear. Also called after
            an error of the storage. Then it may raise a better explanation.
    """
    recorded: dict[str, int] = {}
    last_check = -math.inf

    def record(uri: str, size: int) -> None:
        nonlocal last_check
        now = time.clock_gettime(CLOCK)
        if now > last_check + CHECK_SECONDS:
            check()
            last_check = now
        recorded[uri] = size

    token = _record.set(record)
    try:
        yield recorded
    except OSError:
        check()
        raise
    finally:
        _record.reset(token)


def move(uri: str, to: str) -> None:
    """Move a file within a file system; an older file at ``to`` is replaced."""
    file_system, path = locate(uri)
    _, target = locate(to)
    if isinstance(file_system, fs.LocalFileSystem):
        file_system.create_dir(posixpath.dirname(target), recursive=True)
    file_system.move(path, target)


def write_bytes(uri: str, content: bytes) -> None:
    """Publish ``content`` as the file ``uri``."""
    with publish(uri) as stream:
        stream.write(content)


def write_file(root: str, path: str, content: bytes, *, rows: int | None = None) -> FileEntry:
    """Publish ``content`` as ``path`` below ``root``, with its SHA-256 for the manifest."""
    write_bytes(join(root, path), content)
    digest = hashlib.sha256(content).hexdigest()
    return {"path": path, "rows": rows, "bytes": len(content), "sha256": digest}


def write_arrow(uri: str, table: pa.Table) -> None:
    """Publish ``table`` as an Arrow file: larger than Parquet, but faster to write and read."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with publish(uri) as stream, pa.ipc.new_file(stream, table.schema, options=options) as writer:
        writer.write_table(table)


def read_arrow(uri: str) -> pa.Table:
    """Read a file that :func:`write_arrow` has written."""
    return pa.ipc.open_file(read_bytes(uri)).read_all()
