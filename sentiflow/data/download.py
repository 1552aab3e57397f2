"""Name -> a verified file fetched from its home.

Beside the place of an archive lie ``.part``, what has come of it (also the lock), and ``.json``,
what is in it, by which its files are known to be complete when it is gone.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sentiflow.data import transfer, unpacking
from sentiflow.data.archives import Archive
from sentiflow.data.transfer import BrokenOffError, Patience, RefusedError
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import without_credentials


def download(
    archive: Archive,
    folder: Path,
    *,
    names: Sequence[str] = (),
    url: str | None = None,
    overwrite: bool = False,
    keep_archive: bool = False,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> list[Path]:
    """Bring members of an archive into a folder, unless they are there.

    An archive that lies in the folder is used, and stays. Of several processes one works, and
    the others wait for it.

    Args:
        archive: What the members are in.
        folder: Made if it is not there.
        names: The members; all by default.
        url: Another place of the same archive.
        overwrite: Replace files that have these names and are not known to be the members.
        keep_archive: Leave the archive in the folder.
        patience: How to deal with a slow server.

    Returns:
        Where the members are.

    Raises:
        UserError: No network, no such archive there, no space, or other files are in the way.
        JobError: The server breaks off again and again; what has come stays.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        hint = f"write http://… or https://…, or put the file at {folder / archive.name}"
        raise UserError(f"--url {url}", hint=hint)
    place, names = _Place(archive, folder), names or list(archive.members)
    paths = [folder / name for name in names]
    if not place.missing(names) and not place.part.exists():
        say("download", f"nothing to do: {' and '.join(map(str, paths))} complete")
        return paths
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with transfer.open_partial(place.part) as part:
            if is_there := place.whole.exists():
                _check(place)
            if missing := place.missing(names):
                _check_clear(place, missing, overwrite=overwrite)
                to_come = 0 if is_there else archive.size - transfer.length(part)
                _check_space(place, missing, to_come=to_come)
                if not is_there:
                    _fetch(place, part, url or archive.url, patience)
                _forget_parsed(folder, missing)
                unpacking.unpack(place.whole if is_there else place.part, missing, folder)
            has_come = transfer.length(part) == archive.size  # now, or before a kill
            if has_come and keep_archive and not is_there:
                place.part.replace(place.whole)
            elif has_come or is_there:
                part.truncate(0)
    return paths


@dataclass(frozen=True)
class _Place:
    """The folder into which an archive comes, and what lies there for its sake."""

    archive: Archive
    folder: Path

    @property
    def whole(self) -> Path:
        """Where the archive is kept, or put by hand."""
        return self.folder / self.archive.name

    @property
    def part(self) -> Path:
        """What has come of the archive."""
        return self.folder / f"{self.archive.name}.part"

    @property
    def directory(self) -> Path:
        """What is in the archive."""
        return self.folder / f"{self.archive.name}.json"

    def find_fault(self, path: Path) -> str:
        """Say what tells a file from the archive; nothing if it is the archive."""
        if (size := path.stat().st_size) != self.archive.size:
            return f"it has {size:,} bytes, not {self.archive.size:,}"
        if (found := filesystem.sha256(str(path))) != self.archive.sha256:
            return f"its SHA-256 is {found}, not {self.archive.sha256}"
        return ""

    def keep_directory(self, path: Path) -> None:
        """Note what is in the archive, before any of it is unpacked."""
        found = unpacking.read_directory(path)
        unpacking.save_directory(self.directory, found, sha256=self.archive.sha256)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Name the members that are not known to be there as the archive has them."""
        known = unpacking.load_directory(self.directory, sha256=self.archive.sha256)
        return [
            name
            for name in names
            if name not in known or not unpacking.is_unpacked(self.folder / name, known[name])
        ]


def _check(place: _Place) -> None:
    """Make sure that what lies in the archive's place is the archive."""
    if fault := place.find_fault(place.whole):
        hint = "delete it, and the same command downloads it"
        raise UserError(f"{place.whole} is not the archive: {fault}", hint=hint)
    say("download", f"{place.whole} is there, and its checksum is right")
    place.keep_directory(place.whole)


def _check_clear(place: _Place, names: Sequence[str], *, overwrite: bool) -> None:
    """Make sure that no file is replaced that may be a user's own."""
    for path in (place.folder / name for name in names):
        if path.exists() and not overwrite:
            problem = f"{path} is there, and is not known to be from {place.archive.name}"
            raise UserError(problem, hint="move it away, or add --overwrite")


def _check_space(place: _Place, names: Sequence[str], *, to_come: int) -> None:
    """Make sure that ``to_come`` bytes of the archive, and its members, have room."""
    needed = to_come + sum(place.archive.members[name] for name in names)
    free = shutil.disk_usage(place.folder).free
    if needed > free:
        raise UserError(
            f"{place.folder} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed",
            hint="free some, or name another folder with --to",
        )


def _fetch(place: _Place, part: FileIO, url: str, patience: Patience) -> None:
    """Bring the partial file to the whole archive; once more if its pieces do not fit."""
    shown, size = without_credentials(url), place.archive.size
    while True:
        present = transfer.length(part)
        done = f"goes on at {present / 1e6:,.0f} of " if present else ""
        say("download", f"{shown}: {done}{size / 1e6:,.0f} MB")
        try:
            in_pieces = transfer.fetch(url, part, size=size, patience=patience)
        except RefusedError as error:
            by_hand = f"get it elsewhere with a browser, put it at {place.whole}, "
            by_hand += "and run the same command, which checks and unpacks it"
            raise UserError(f"cannot download {shown}: {error}", hint=by_hand) from error
        except BrokenOffError as error:
            raise JobError(f"cannot download {shown}: {error}: the same command goes on") from error
        if not (fault := place.find_fault(place.part)):
            say("download", "the checksum is right")
            place.keep_directory(place.part)
            return
        part.truncate(0)
        if not in_pieces:
            hint = "deleted it; name another place of the archive with --url"
            raise UserError(f"{shown} is not the archive: {fault}", hint=hint)
        say("download", "what has come is of different files: deleted, and begun anew")


def _forget_parsed(folder: Path, names: Sequence[str]) -> None:
    """Delete what torchtext has parsed of files that are others now."""
    for name in names:
        for parsed in folder.glob(f"{name}*.pt"):
            parsed.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, a read-only one, or a folder of others into one line."""
    try:
        yield
    except OSError as error:
        hint = "the same command goes on when that is mended"
        raise UserError(f"cannot write to {folder}: {error.strerror}", hint=hint) from error
