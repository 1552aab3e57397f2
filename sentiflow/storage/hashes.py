"""Content of a file -> its SHA-256, whole or as a tree of blocks."""

import concurrent.futures
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sentiflow.storage import filesystem

LEAF_BYTES = 1 << 16
"""Size of the blocks of :func:`tree_sha256`."""

_READ_BYTES = 64 * LEAF_BYTES
_PIECE_BYTES = 16 * _READ_BYTES


def sha256(uri: str) -> str:
    """Hash the content of a file."""
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(uri: str) -> str:
    """Hash the content of a file; several tasks can each hash a piece of it.

    The result is the SHA-256 of the SHA-256 digests of blocks of ``LEAF_BYTES``.
    """
    return join_leaves(b"".join(map(hash_leaves, _blocks(uri))))


def hash_files(files: Mapping[str, int], *, advance: Callable[[int], None]) -> dict[str, str]:
    """Compute the :func:`tree_sha256` of several files, pieces of them at the same time.

    Args:
        files: The size of each file in bytes.
        advance: Called with the bytes of each piece that is done.
    """
    pieces = [(uri, at) for uri, size in files.items() for at in range(0, size, _PIECE_BYTES)]
    leaves = dict.fromkeys(files, b"")
    with concurrent.futures.ThreadPoolExecutor(filesystem.FILES_AT_ONCE) as pool:
        for (uri, at), digests in zip(pieces, pool.map(_hash_piece, pieces), strict=True):
            leaves[uri] += digests
            advance(min(_PIECE_BYTES, files[uri] - at))
    return {uri: join_leaves(digests) for uri, digests in leaves.items()}


def _hash_piece(piece: tuple[str, int]) -> bytes:
    uri, at = piece
    return b"".join(map(hash_leaves, _blocks(uri, at, at + _PIECE_BYTES)))


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


def _blocks(uri: str, start: int = 0, stop: float = math.inf) -> Iterator[bytes]:
    """Read a file from ``start`` on in blocks of whole leaves, except its last block."""
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        while start < stop and (block := file.read_at(_READ_BYTES, start)):
            yield block
            start += len(block)
