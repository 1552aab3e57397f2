"""Plain or compressed file, in UTF-16 or not -> its content, read forward in bounded memory."""

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
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import split_member

SUFFIXES = (".gz", ".zst", ".zip")
"""Suffixes of files that are unpacked while they are read."""
REFUSED = (".bz2", ".xz", ".lz4", ".br", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.zst")

_READ_BYTES = 1 << 22
_BLOCKS_AT_ONCE = 4
_MAX_RATIO = 200
"""A file that unpacks to more times its size is refused; texts are packed to a third or a tenth."""
_SAFE_BYTES = 1 << 30
"""Unpacked size that is always accepted."""
_DAMAGED = (
    EOFError,
    OSError,
    RuntimeError,  # an encrypted file, or a method that zipfile does not know
    UnicodeDecodeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowInvalid,
)


def is_compressed(uri: str) -> bool:
    """Say whether a file is compressed, by its name."""
    return split_member(uri)[0].lower().endswith(SUFFIXES)


def is_packed(uri: str) -> bool:
    """Say whether a file can be read forward only: it is compressed, or in UTF-16."""
    with open_content(uri) as content:
        content.read_block(0, len(codecs.BOM_UTF32_LE))
        return content.packed_size > 0


@dataclass
class Content:
    """The bytes of an open file."""

    uri: str
    stream: Any
    packed_size: int = 0
    """Size of a file that can be read forward only: it is compressed, or in UTF-16; else 0."""
    num_read: int = 0
    decoder: codecs.IncrementalDecoder | None = None
    """Decodes UTF-16, which is read as UTF-8; there is one from the first block on."""
    held: bytes = b""
    """Decoded bytes of the next block."""

    def read_block(self, number: int, size: int) -> bytes:
        """Read a block of ``size`` bytes; fewer at the end of the file.

        The first block is read before others. The others of a plain file can be read at the same
        time, those of one with a ``packed_size`` only in order.
        """
        block, packed = self.held, b"not the end"
        try:
            if not self.packed_size:
                left = self.stream.size() - number * size  # an object store refuses to read more
                block = bytes(self.stream.read_at(size, number * size)) if left > 0 else b""
                if not _is_utf16(block) or number:
                    return block
                self.packed_size, block = self.stream.size(), b""
                self.stream.seek(0)
            while packed and len(block) < size:
                packed = self.stream.read(size - len(block))
                if not self.num_read and not block and _is_utf16(packed):
                    self.decoder = codecs.getincrementaldecoder("utf-16")("replace")
                block += (
                    self.decoder.decode(packed, not packed).encode() if self.decoder else packed
                )
            block, self.held = block[:size], block[size:]
        except _DAMAGED as error:
            raise _damage(self.uri, error) from error
        self.num_read += len(block)
        if self.num_read > max(_SAFE_BYTES, _MAX_RATIO * self.packed_size):
            raise UserError(
                f"{self.uri} unpacks to more than {_MAX_RATIO} times its size",
                hint="is it damaged, or an attack? If it is right, unpack it first",
            )
        return block


@contextmanager
def open_content(uri: str) -> Iterator[Content]:
    """Open a file, plain or compressed (by its name), for reading.

    Args:
        uri: The file, or a member of an archive.

    Raises:
        UserError: Its compression is not supported, it is damaged, or it lacks the member.
    """
    archive, member = split_member(uri)
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
            stream = _open_stream(uri, file, member)
        except _DAMAGED as error:
            raise _damage(uri, error) from error
        with stream:
            yield Content(uri, stream, packed_size=file.size())


def read_blocks(uri: str, size: int) -> Generator[bytes]:
    """Read the content of a file in blocks of ``size`` bytes, the last one shorter.

    Blocks after the first are read ahead: of a plain file several at a time, because an object
    store is slow to answer; what is read forward only is unpacked by one thread. Close what is not
    read to its end: the garbage collector would wait for these threads in any other thread.
    """
    with open_content(uri) as content:
        block = content.read_block(0, size)
        at_once = 1 if content.packed_size else _BLOCKS_AT_ONCE
        coming: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for number in itertools.count(1):
                coming.append(pool.submit(content.read_block, number, size))
                if number < at_once:
                    continue
                if not block:
                    return
                yield block
                block = coming.popleft().result()


def _is_utf16(block: bytes) -> bool:
    """Say whether a text begins with a mark of UTF-16, which that of UTF-32 begins with, too."""
    return block[2:4] != b"\0\0" and block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _open_stream(uri: str, file: pa.NativeFile, member: str) -> Any:
    if file.size() == 0:
        raise EOFError("it is empty")
    archive = split_member(uri)[0]
    if archive.lower().endswith(".gz"):
        return gzip.open(pa.BufferedInputStream(file, _READ_BYTES))  # it asks for 8 KiB at a time
    if archive.lower().endswith(".zst"):
        return pa.CompressedInputStream(pa.BufferedInputStream(file, _READ_BYTES), "zstd")
    packed = zipfile.ZipFile(file)
    names = [item.filename for item in packed.infolist() if item.filename[-1:] not in ("/", "")]
    chosen = member or (names[0] if len(names) == 1 else "")
    if chosen not in names:
        problem = f"{uri} has no member {member}" if member else f"{uri} holds {len(names)} files"
        hint = "name one: " + ", ".join(f"{archive}::{name}" for name in names[:9])
        raise UserError(problem, hint=hint if names else "pack the CSV again")
    return packed.open(chosen)


def _damage(uri: str, error: Exception) -> UserError | JobError:
    if explained := errors.explain(error, uri=uri):
        return explained
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    way_out = "unpack it first" if isinstance(error, RuntimeError) else "is it complete?"
    problem = f"{uri} cannot be {'unpacked' if is_compressed(uri) else 'read'}"
    return UserError(problem, hint=f"{reason}; {way_out}")


def write_unpacked(uri: str, content: bytes) -> None:
    """Publish a piece of an unpacked file, compressed by lz4, for :func:`read_unpacked`."""
    packed = pa.compress(content, "lz4", asbytes=True) if content else b""
    filesystem.write_bytes(uri, packed + len(content).to_bytes(8, "little"))


def read_unpacked(uri: str) -> bytes:
    """Read a file of :func:`write_unpacked`."""
    stored = filesystem.read_bytes(uri)
    size = int.from_bytes(stored[-8:], "little")
    return bytes(pa.decompress(stored[:-8], size, "lz4", asbytes=True)) if size else b""
