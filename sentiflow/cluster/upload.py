"""Working directory -> the files that are uploaded for a job, and their sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sentiflow.cluster import ray_internals
from sentiflow.errors import UserError

MAX_BYTES = 20_000_000
"""Code and settings are a twentieth of it; anything more is data, which belongs elsewhere."""
_MOST = 0.8
"""A file with this share of a folder's bytes is named in place of the folder."""


@dataclass(frozen=True)
class Upload:
    """The files of a working directory that Ray uploads."""

    sizes: Mapping[str, int]
    """Bytes by file name, relative to the directory."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all files. Ray does not compress them."""
        return sum(self.sizes.values())

    def largest(self, count: int = 3) -> list[tuple[str, int]]:
        """Name the largest files and folders with their bytes, the largest first.

        Example:
            >>> upload = Upload({"a/b/big": 900, "a/b/small": 9, "a/c": 1, "d": 5})
            >>> upload.largest()
            [('a/b/big', 900), ('a/', 10), ('d', 5)]
        """
        found: dict[str, int] = {}
        for name, size in self.sizes.items():
            top = PurePosixPath(name).parts[0]
            key = name if size > _MOST * self._below(top) else top if top == name else f"{top}/"
            found[key] = found.get(key, 0) + size
        return sorted(found.items(), key=lambda item: -item[1])[:count]

    def check(self) -> None:
        """Make sure that the upload is small: code and settings only.

        Raises:
            UserError: It is too large; the largest files and folders are named.
        """
        if self.num_bytes > MAX_BYTES:
            named = ", ".join(f"{name} {to_text(size)}" for name, size in self.largest())
            raise UserError(
                f"the upload has {to_text(self.num_bytes)}, more than "
                f"{to_text(MAX_BYTES)}: {named}",
                hint="add data to .rayignore, and give its URI in the settings",
            )

    def _below(self, top: str) -> int:
        return sum(
            size for name, size in self.sizes.items() if name == top or name.startswith(f"{top}/")
        )


def measure(folder: Path) -> Upload:
    """List the files that ``ray job submit --working-dir`` uploads of a directory."""
    root = folder.absolute()
    files = [path for path in ray_internals.find_uploaded(root) if path.is_file()]
    sizes = {file.relative_to(root).as_posix(): file.stat().st_size for file in files}
    return Upload(dict(sorted(sizes.items())))


def to_text(size: int) -> str:
    """Write a size for reading.

    Example:
        >>> to_text(914_434), to_text(5_200_000)
        ('914 kB', '5.2 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size / 1e3:,.0f} kB"
