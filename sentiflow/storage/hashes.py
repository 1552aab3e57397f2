"""Content of a file -> its SHA-256, whole or as a tree of blocks."""

import hashlib
from typing import Any

from sentiflow.storage import filesystem

LEAF_BYTES = 1 << 16
"""Size of the blocks of :func:`tree_sha256`."""

_READ_BYTES = 64 * LEAF_BYTES


def sha256(uri: str) -> str:
    """Hash the content of a file."""
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(uri: str) -> str:
    """Hash the content of a file; several tasks can each hash a piece of it.

    The result is the SHA-256 of the SHA-256 digests of blocks of ``LEAF_BYTES``.
    """
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as file:
        blocks = iter(lambda: file.read(_READ_BYTES), b"")
        return join_leaves(b"".join(map(hash_leaves, blocks)))


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
