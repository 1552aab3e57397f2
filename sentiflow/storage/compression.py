"""Plain or compressed file, also in UTF-16 -> its content in blocks, read in bounded memory."""

import codecs
import collections
import concurrent.futures
import gzip
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors, filesystem, unpacking
from sentiflow.storage.uris import split_member

SUFFIXES = (".gz", ".zst", ".zip")
"""Suffixes of files that are unpacked while they are read."""
REFUSED = (".bz2", ".xz", ".lz4", ".br", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.zst")
"""Suffixes of compressed files that are not supported."""

_READ_BYTES = 1 << 22
"""Compressed bytes to read at once."""
_BLOCKS_AT_ONCE = 4
"""Blocks of a plain file to read at the same time."""
_READ_ERRORS = (
    EOFError,
    OSError,
    RuntimeError,  # an encrypted file, or a method that zipfile does not know
    UnicodeDecodeError,  # a zip archive whose names are damaged
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowInvalid,
)
"""Errors of a storage, or of a damaged file."""


def is_compressed(uri: str) -> bool:
    """Say whether a file is compressed, by its name."""
    return split_member(uri)[0].lower().endswith(SUFFIXES)


def is_forward_only(uri: str) -> bool:
    """Say whether a file can only be read forward: it is compressed, or in UTF-16.

    Such a file is called a forward-only file.
    """
    with open_content(uri) as content:
        content.read_block(0, len(codecs.BOM_UTF32_LE))  # this detects UTF-16
        return content.forward_size > 0


@dataclass
class Content:
    """The bytes of an open file."""

    uri: str
    stream: Any
    """A file of Arrow; for a compressed file, a stream of its unpacked bytes."""
    forward_size: int = 0
    """Stored size of a forward-only file (compressed, or in UTF-16); 0: blocks can be read in any
    order."""
    num_read: int = 0
    """Bytes that were read of a forward-only file, after decompression."""
    decoder: codecs.IncrementalDecoder | None = None
    """Decoder of a file in UTF-16, set when the first block is read. Blocks are UTF-8."""
    held: bytes = b""
    """Beginning of the next block, which was decoded together with the last one."""

    def read_block(self, number: int, size: int) -> bytes:
        """Read a block of ``size`` bytes; fewer at the end of the file.

        The first block must be read first. Other blocks of a plain file can be read at the same
        time; blocks of a forward-only file must be read in order.

        Raises:
            UserError: The file is damaged, or unpacks to far more than its size.
            JobError: The storage has failed.
        """
        try:
            if not self.forward_size:
                block = self._read_plain(number, size)
                if number > 0 or not _is_utf16(block):
                    return block
                # UTF-16 can only be read forward: read the first block again, through the decoder.
                self.forward_size = self.stream.size()
                self.stream.seek(0)
            block = self._read_forward(size)
        except _READ_ERRORS as error:
            raise _explain(self.uri, error) from error
        self.num_read += len(block)
        if unpacking.is_too_much(self.num_read, stored=self.forward_size):
            raise UserError(
                f"{self.uri} unpacks to more than {unpacking.MAX_RATIO} times its size",
                hint="is it damaged, or a zip bomb? If you trust it, unpack it first",
            )
        return block

    def _read_plain(self, number: int, size: int) -> bytes:
        """Read a block of a plain file, wherever it is."""
        start = number * size
        if start >= self.stream.size():  # an object store refuses to read beyond the end
            return b""
        return bytes(self.stream.read_at(size, start))

    def _read_forward(self, size: int) -> bytes:
        """Read the next ``size`` bytes, after decompression and decoding.

        The first read finds UTF-16.
        """
        block = self.held
        while len(block) < size:
            content = self.stream.read(size - len(block))
            is_first_read = self.num_read == 0 and not block
            if is_first_read and _is_utf16(content):
                self.decoder = codecs.getincrementaldecoder("utf-16")("replace")
            is_end = not content
            if self.decoder:
                content = self.decoder.decode(content, is_end).encode()
            block += content
            if is_end:
                break
        self.held = block[size:]
        return block[:size]


@contextmanager
def open_content(uri: str) -> Iterator[Content]:
    """Open a plain or compressed file for reading; its suffix names the compression.

    Args:
        uri: The file, or a member of an archive.

    Raises:
        UserError: The compression is not supported, the file is damaged, or it lacks the member.
    """
    archive, _ = split_member(uri)
    if archive.lower().endswith(REFUSED):
        raise UserError(
            f"{uri} is packed in a format that is not supported",
            hint=f"unpack it, or use {', '.join(SUFFIXES)}",
        )
    file_system, path = filesystem.locate(archive)
    with file_system.open_input_file(path) as file:
        if not is_compressed(uri):
            yield Content(uri, file)
            return
        try:
            stream = _open_stream(uri, file)
        except _READ_ERRORS as error:
            raise _explain(uri, error) from error
        with stream:
            yield Content(uri, stream, forward_size=file.size())


def read_first(uri: str, size: int) -> bytes:
    """Read the first ``size`` bytes of the content of a file."""
    with open_content(uri) as content:
        enough = max(size, len(codecs.BOM_UTF32_LE))  # to detect UTF-16
        return content.read_block(0, enough)[:size]


def read_blocks(uri: str, size: int) -> Generator[bytes]:
    """Read the content of a file in blocks of ``size`` bytes, the last one shorter.

    Blocks after the first are read ahead in other threads. Several blocks of a plain file are read
    at the same time, because an object store is slow to answer. A forward-only file is read by one
    thread. Close the generator if you stop early: otherwise the garbage
    collector waits for these threads, in whichever thread it runs.
    """
    with open_content(uri) as content:
        block = content.read_block(0, size)
        if len(block) < size:  # this is all, as in most of many small files
            if block:
                yield block
            return
        at_once = 1 if content.forward_size else _BLOCKS_AT_ONCE
        coming: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            numbers = itertools.count(1)
            for number in itertools.islice(numbers, at_once):
                coming.append(pool.submit(content.read_block, number, size))
            while block:
                yield block
                block = coming.popleft().result()
                coming.append(pool.submit(content.read_block, next(numbers), size))


def _is_utf16(block: bytes) -> bool:
    """Say whether a text begins with a byte order mark of UTF-16."""
    is_utf32 = block[2:4] == b"\0\0"  # the mark of UTF-32 begins like the mark of UTF-16
    return block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not is_utf32


def _open_stream(uri: str, file: pa.NativeFile) -> Any:
    """Open the content of a compressed file.

    Raises:
        UserError: It is an archive without the member, or with several files and none is named.
    """
    if file.size() == 0:
        raise EOFError("it is empty")
    archive, member = split_member(uri)
    if archive.lower().endswith(".gz"):
        return gzip.open(pa.BufferedInputStream(file, _READ_BYTES))  # gzip reads only 8 KiB at once
    if archive.lower().endswith(".zst"):
        return pa.CompressedInputStream(pa.BufferedInputStream(file, _READ_BYTES), "zstd")
    opened = zipfile.ZipFile(file)
    names = [name for name in opened.namelist() if name and not name.endswith("/")]
    if not member and len(names) == 1:
        return opened.open(names[0])
    if member in names:
        return opened.open(member)
    problem = f"{uri} has no member {member}" if member else f"{uri} holds {len(names)} files"
    hint = "pack the CSV again"
    if names:
        hint = "name one: " + ", ".join(f"{archive}::{name}" for name in names[:9])
    raise UserError(problem, hint=hint)


def _explain(uri: str, error: Exception) -> UserError | JobError:
    """Make the error message for a file that cannot be read, from one of ``_READ_ERRORS``."""
    explained = errors.explain(error, uri=uri)
    if explained:
        return explained
    verb = "unpacked" if is_compressed(uri) else "read"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    way_out = "unpack it first" if isinstance(error, RuntimeError) else "is it complete?"
    return UserError(f"{uri} cannot be {verb}", hint=f"{reason}; {way_out}")


def write_piece(uri: str, content: bytes) -> None:
    """Publish a piece of the content of a file for :func:`read_piece`.

    It is stored compressed by lz4; the last 8 bytes are the size of the content.
    """
    packed = pa.compress(content, "lz4", asbytes=True) if content else b""
    filesystem.write_bytes(uri, packed + len(content).to_bytes(8, "little"))


def read_piece(uri: str) -> bytes:
    """Read a file that :func:`write_piece` has written."""
    stored = filesystem.read_bytes(uri)
    size = int.from_bytes(stored[-8:], "little")
    if size == 0:
        return b""
    return bytes(pa.decompress(stored[:-8], size, "lz4", asbytes=True))
