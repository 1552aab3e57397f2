"""How large the content of a file may be, compared with the file."""

MAX_RATIO = 200
"""Maximum ratio of the unpacked size of a file to its size; texts have a ratio of 3 to 10."""
SAFE_BYTES = 1 << 30
"""Unpacked size that is accepted with any ratio."""


def is_too_much(unpacked: int, *, stored: int) -> bool:
    """Say whether a file unpacks to so much that it is damaged, or made to fill the memory.

    Args:
        unpacked: Size of the content, in bytes.
        stored: Size of the file, in bytes.

    Example:
        >>> is_too_much(1 << 31, stored=1000), is_too_much(1 << 29, stored=1000)
        (True, False)
    """
    return unpacked > max(SAFE_BYTES, MAX_RATIO * stored)
