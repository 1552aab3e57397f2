"""Content of a file -> its SHA-256, whole or as a tree of blocks."""

import concurrent.futures
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sentiflow.storage import filesystem

LEAF_BYTES = 1 << 16
"""Size of the blocks of :func:`tree_sha256`."""

_READ_BYTES = 64 * LEAF_BYTES
"""Bytes to read at once: a multiple of ``LEAF_BYTES``, so that no leaf is cut."""
_PIECE_BYTES = 16 * _READ_BYTES
"""Bytes that a thread hashes at once: a multiple of ``_READ_BYTES``."""


def sha256(uri: str) -> str:
    """Hash the content of a file."""
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(uri: str) -> str:
    """Hash the content of a file, as a tree: pieces of the file can be hashed at the same time.

    The result is the SHA-256 of the SHA-256 digests of blocks of ``LEAF_BYTES``, the leaves.
    """
    return join_leaves(_hash_range(uri))


class _Piece(NamedTuple):
    """A piece of a file, to be hashed at once."""

    uri: str
    start: int
    """Position of its first byte."""


def hash_files(files: Mapping[str, int], *, advance: Callable[[int], None]) -> dict[str, str]:
    """Compute the :func:`tree_sha256` of several files, many pieces at the same time.

    Args:
        files: The size of each file in bytes.
        advance: Called with the number of bytes of each piece when it is hashed.
    """
    pieces = []
    for uri, size in files.items():
        pieces += [_Piece(uri, start) for start in range(0, size, _PIECE_BYTES)]
    leaves = dict.fromkeys(files, b"")
    with concurrent.futures.ThreadPoolExecutor(filesystem.FILES_AT_ONCE) as pool:
        for piece, digests in zip(pieces, pool.map(_hash_piece, pieces), strict=True):
            leaves[piece.uri] += digests
            advance(min(_PIECE_BYTES, files[piece.uri] - piece.start))
    return {uri: join_leaves(digests) for uri, digests in leaves.items()}


def _hash_piece(piece: _Piece) -> bytes:
    """Return the digests of the leaves of a piece."""
    return _hash_range(piece.uri, piece.start, piece.start + _PIECE_BYTES)


def _hash_range(uri: str, start: int = 0, stop: float = math.inf) -> bytes:
    """Return the digests of the leaves of a file from ``start`` to ``stop``."""
    return b"".join(hash_leaves(chunk) for chunk in _read_chunks(uri, start, stop))


def hash_leaves(content: Any) -> bytes:
    """Hash the blocks of a piece of a file, for :func:`join_leaves`.

    Args:
        content: Bytes or a buffer. The piece begins at a multiple of ``LEAF_BYTES``. It ends at
            such a multiple, too, or at the end of the file.

    Returns:
        The joined digests of its blocks; empty for an empty piece.
    """
    digests = []
    with memoryview(content).cast("B") as view:
        for start in range(0, len(view), LEAF_BYTES):
            digests.append(hashlib.sha256(view[start : start + LEAF_BYTES]).digest())
    return b"".join(digests)


def join_leaves(digests: bytes) -> str:
    """Compute the :func:`tree_sha256` of a file from the digests of all its blocks, in order."""
    return hashlib.sha256(digests).hexdigest()


def _read_chunks(uri: str, start: int, stop: float) -> Iterator[bytes]:
    """Read a file from ``start`` to ``stop``, in chunks of ``_READ_BYTES``.

    ``stop - start`` is a multiple of ``_READ_BYTES``, or infinite for the rest of the file.
    """
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        while start < stop:
            chunk = file.read_at(_READ_BYTES, start)
            if not chunk:
                return
            yield chunk
            start += len(chunk)
