"""A file of a result -> its content. The result may come from a stranger.

A file of a result is a regular file, as a listing has it: never a link, a pipe, a device or a
socket, which might be endless, wait for ever, or lead elsewhere.
"""

import contextlib
import os
import stat

from sentiflow.errors import UserError, printable, shorten
from sentiflow.storage import filesystem, unpacking
from sentiflow.storage.uris import is_local

_MAX_SHOWN = 300
"""Maximum length of a path in a message, in characters."""
_HINT = "copy the whole directory again"


def read(uri: str, *, max_bytes: int) -> bytes:
    """Read a file; of a file of more than ``max_bytes`` only so much, and one byte more.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is no regular file, or nearly all of it is a hole, which takes no disk.
    """
    file_system, path = filesystem.locate(uri)
    if is_local(uri):
        _check_regular(path)
    with filesystem.naming(path), file_system.open_input_file(path) as file:
        return bytes(file.read(min(file.size(), max_bytes + 1)))


def _check_regular(path: str) -> None:
    """Check that a path is a regular file, before it is opened: a pipe would wait for a writer.

    Raises:
        UserError: It is something else, or nearly all of it is a hole.
    """
    info = os.lstat(path)
    shown = shorten(printable(path), _MAX_SHOWN)
    if not stat.S_ISREG(info.st_mode):
        raise UserError(f"{shown} is no regular file", hint=_HINT)
    if info.st_size <= unpacking.SAFE_BYTES:
        return
    stored = _count_data(path, enough=info.st_size // unpacking.MAX_RATIO)
    if unpacking.is_too_much(info.st_size, stored=stored):
        raise UserError(f"{shown} is empty but for {stored:,} bytes", hint=_HINT)


def _count_data(path: str, *, enough: int) -> int:
    """Count the bytes of a file that are not in holes, up to about ``enough``."""
    counted = 0
    end = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # raised where there are no more data
            while counted <= enough:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
                end = os.lseek(descriptor, start, os.SEEK_HOLE)
                counted += end - start
    finally:
        os.close(descriptor)
    return counted
