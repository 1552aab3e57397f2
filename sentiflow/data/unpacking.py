"""Zip archive -> its members as files, each whole or not at all."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What the directory of an archive says of a member."""

    size: int
    crc32: int


Directory = dict[str, Entry]
"""Name of a member -> its entry."""


def read_directory(archive: Path) -> Directory:
    """Read what is in an archive."""
    with zipfile.ZipFile(archive) as file:
        return {info.filename: Entry(info.file_size, info.CRC) for info in file.infolist()}


def save_directory(path: Path, directory: Directory, *, sha256: str) -> None:
    """Keep the directory of the archive with this checksum, for when the archive is gone."""
    members = {name: asdict(entry) for name, entry in directory.items()}
    with _publish(path) as file:
        file.write(json.dumps({"sha256": sha256, "members": members}, indent=1).encode())


def load_directory(path: Path, *, sha256: str) -> Directory:
    """Load what :func:`save_directory` kept; nothing if it is of another archive, or not there."""
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_bytes())
        members = {name: Entry(**entry) for name, entry in kept["members"].items()}
        return members if kept["sha256"] == sha256 else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read", hint="delete it") from error


def is_unpacked(path: Path, entry: Entry) -> bool:
    """Say whether the file has the size and the content of a member."""
    if not path.is_file() or path.stat().st_size != entry.size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
    return crc == entry.crc32


def unpack(archive: Path, names: Iterable[str], folder: Path) -> None:
    """Write members of an archive into ``folder``, in place of what has their names there.

    Nothing else of the archive is written, and a file appears when it is complete.

    Raises:
        JobError: The archive is damaged, or lacks a member.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            total = sum(packed.getinfo(name).file_size for name in names)
            with Progress("unpack", total=total, unit="bytes") as progress:
                for name in names:
                    _unpack_one(packed, name, folder / name, progress)
    except (KeyError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise JobError(f"{archive} is damaged: {error.args[0]}") from error


def _unpack_one(packed: zipfile.ZipFile, name: str, path: Path, progress: Progress) -> None:
    with packed.open(name) as member, _publish(path) as file:
        while block := member.read(_BLOCK_BYTES):  # the last one checks size and CRC
            file.write(block)
            progress.advance(len(block))
        if file.tell() != packed.getinfo(name).file_size:
            raise zipfile.BadZipFile(f"{name} is shorter than it should be")


@contextmanager
def _publish(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing so that it appears whole, and on the disk, or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
