"""Working directory -> the files that a submitted job would take along, and their sizes."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sentiflow.errors import UserError

MAX_BYTES = 20_000_000
"""Code and settings are a twentieth of it; what is more is data, which belongs elsewhere."""
_silent = logging.getLogger(f"{__name__}.ray")
_silent.setLevel(logging.CRITICAL)
"""Ray's walk would tell of each .gitignore."""
_MOST = 0.8
"""A folder of which one entry has this share is named by that entry."""


@dataclass(frozen=True)
class Upload:
    """What Ray would pack of a directory."""

    sizes: Mapping[str, int]
    """By file, relative to the directory: its bytes."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all files; Ray does not compress them."""
        return sum(self.sizes.values())

    def largest(self, count: int = 3) -> list[tuple[str, int]]:
        """Name what the directory holds and how many bytes of it there are, the most first.

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
        """Make sure that it is small enough for code.

        Raises:
            UserError: It is not; what is large is named.
        """
        if self.num_bytes > MAX_BYTES:
            named = ", ".join(f"{name} {to_text(size)}" for name, size in self.largest())
            raise UserError(
                f"the job would take {to_text(self.num_bytes)} along, more than "
                f"{to_text(MAX_BYTES)}: {named}",
                hint="leave data where a URI names it, and name it in .rayignore",
            )

    def _below(self, top: str) -> int:
        return sum(
            size for name, size in self.sizes.items() if name == top or name.startswith(f"{top}/")
        )


def look(folder: Path) -> Upload:
    """List what ``ray job submit --working-dir`` packs of a directory.

    Ray walks itself: it obeys .gitignore, .rayignore and a list of its own.
    """
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    root = folder.absolute()
    sizes: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(root).as_posix()] = path.stat().st_size

    own = packaging._get_excludes(root, ray_constants.get_runtime_env_default_excludes())
    all_of_git = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") == "1"
    packaging._dir_travel(root, [own], note, include_gitignore=not all_of_git, logger=_silent)
    return Upload(dict(sorted(sizes.items())))


def to_text(size: int) -> str:
    """Write a size for reading.

    Example:
        >>> to_text(914_434), to_text(5_200_000)
        ('914 kB', '5.2 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size / 1e3:,.0f} kB"
