"""Downloads archives, verifies and unpacks them.

While an archive is downloaded it is called ``ARCHIVE.zip.part``, and the same command resumes it.
Once it is unpacked it is deleted; ``ARCHIVE.zip.json`` keeps the sizes and checksums of its files,
so that later commands can verify them without the archive.
"""

import fcntl
import json
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from sentiflow.data.archives import Archive
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, hashes
from sentiflow.storage.uris import without_credentials

_BLOCK_BYTES = 1 << 16
_TIMEOUTS = (15, 60)
"""Seconds until a connection is made, and without a byte on it."""
_PAUSES = (1, 4, 15)
"""Seconds before each retry. After a try that downloaded something they start over."""
_RETRIED = (408, 425, 429)
"""Status codes that are retried, in addition to all from 500 on."""


def download(
    archive: Archive,
    folder: Path,
    *,
    names: Sequence[str] = (),
    url: str | None = None,
    overwrite: bool = False,
    keep_archive: bool = False,
) -> list[Path]:
    """Download and unpack files of an archive, unless the folder has them already.

    An archive that lies in the folder is verified, used and kept. Two downloads of an archive to
    one folder run one after the other.

    Args:
        archive: The archive that the files are in.
        folder: Where the files go; created if missing.
        names: Names of the files; all by default.
        url: Another address of the same archive.
        overwrite: Replace files that have these names but are not the archive's.
        keep_archive: Keep the downloaded archive.

    Returns:
        The paths of the files.

    Raises:
        UserError: There is no network, no such archive, no space, or another file is in the way.
        JobError: The server broke off too often; the same command resumes the download.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        hint = f"write http://… or https://…, or put the file at {folder / archive.name}"
        raise UserError(f"--url {url}", hint=hint)
    names = names or list(archive.members)
    paths = [folder / name for name in names]
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if not part.exists() and not _find_missing(archive, folder, names):
        say("download", f"nothing to do: {' and '.join(map(str, paths))} complete")
        return paths  # without a lock, as the folder may be read-only
    with locked(folder, archive.name):
        if not _find_missing(archive, folder, names):  # another process, or a kill after unpacking
            part.unlink(missing_ok=True)
            return paths
        is_there = whole.exists()
        if is_there:
            if fault := find_fault(whole, archive):
                hint = "delete it, and the same command downloads it"
                raise UserError(f"{whole} is not the archive: {fault}", hint=hint)
            say("download", f"{whole} is there, and its checksum is right")
            save_contents(whole, archive)
        missing = _find_missing(archive, folder, names)
        for path in (folder / name for name in missing):
            if path.exists() and not overwrite:
                problem = f"{path} exists, and is not known to be from {archive.name}"
                raise UserError(problem, hint="move it away, or add --overwrite")
        check_space(archive, folder, missing, present=_size(whole if is_there else part))
        if not is_there:
            _fetch(archive, url or archive.url, part)
            save_contents(part, archive)
        _unpack(whole if is_there else part, archive, missing)
        if keep_archive and not is_there:
            part.replace(whole)
        part.unlink(missing_ok=True)
    return paths


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Create a folder and hold a lock in it; explain errors of the disk in one line.

    The empty lock file stays, because another process may wait for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("download", f"another process writes to {folder}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            yield
    except OSError as error:
        hint = "solve that and run the same command again"
        raise UserError(f"cannot write to {folder}: {error.strerror}", hint=hint) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def find_fault(path: Path, archive: Archive) -> str:
    """Say why a file is not the archive; empty if it is."""
    if (size := _size(path)) != archive.size:
        return f"it has {size:,} bytes, not {archive.size:,}"
    if (found := hashes.sha256(str(path))) != archive.sha256:
        return f"its SHA-256 is {found}, not {archive.sha256}"
    return ""


def check_space(archive: Archive, folder: Path, names: Sequence[str], *, present: int) -> None:
    """Check that the disk has room for the rest of the archive and for the files in it."""
    needed = archive.size - present + sum(archive.members[name] for name in names)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed",
            hint="free some space, or name another folder",
        )


# The contents of an archive


def save_contents(path: Path, archive: Archive) -> Path:
    """Keep sizes and checksums of the files in an archive for the time when it is deleted.

    Returns:
        The file that has them, beside the archive.
    """
    with zipfile.ZipFile(path) as packed:
        members = {m.filename: {"size": m.file_size, "crc32": m.CRC} for m in packed.infolist()}
    record = json.dumps({"sha256": archive.sha256, "members": members}, indent=1)
    contents = path.parent / f"{archive.name}.json"
    filesystem.write_bytes(str(contents), record.encode())
    return contents


def _find_missing(archive: Archive, folder: Path, names: Sequence[str]) -> list[str]:
    """List the files that are absent, or have another content than in the archive."""
    path = folder / f"{archive.name}.json"
    if not path.exists():
        return list(names)
    try:
        kept = json.loads(path.read_bytes())
        known = kept["members"] if kept["sha256"] == archive.sha256 else {}
        return [n for n in names if n not in known or not _is_complete(folder / n, **known[n])]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read", hint="delete it") from error


def _is_complete(path: Path, *, size: int, crc32: int) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found == crc32


def _unpack(path: Path, archive: Archive, names: Sequence[str]) -> None:
    """Write files of a verified archive beside it, and nothing else of the archive.

    A file gets its name when it is complete. What a killed process has left is deleted.
    """
    folder = path.parent
    with zipfile.ZipFile(path) as packed:
        total = sum(packed.getinfo(name).file_size for name in names)
        with Progress("unpack", total=total, unit="bytes") as progress:
            for name in names:
                for stale in folder.glob(f"{name}.*.tmp"):
                    stale.unlink()
                with packed.open(name) as member, filesystem.publish(str(folder / name)) as file:
                    while block := member.read(_BLOCK_BYTES):
                        file.write(block)
                        progress.advance(len(block))


# The network


def _fetch(archive: Archive, url: str, part: Path) -> None:
    """Download the rest of an archive and verify it.

    Raises:
        UserError: The archive cannot be downloaded from there.
        JobError: The server broke off too often.
    """
    shown = without_credentials(url)
    resumed = f"resumed at {_size(part) / 1e6:,.0f} of " if part.exists() else ""
    say("download", f"{shown}: {resumed}{archive.size / 1e6:,.0f} MB")
    try:
        _fetch_rest(url, part, archive.size)
    except UserError as error:
        by_hand = f"get it with a browser, put it at {part.with_suffix('')}, "
        by_hand += "and run the same command, which verifies and unpacks it"
        raise UserError(f"cannot download {shown}: {error}", hint=by_hand) from error
    except UnavailableError as error:
        hint = "run the same command again to resume"
        raise JobError(f"cannot download {shown}: {error}: {hint}") from error
    if fault := find_fault(part, archive):
        part.unlink()
        hint = "it was deleted; try once more, or name another address with --url"
        raise UserError(f"{shown} is not the archive: {fault}", hint=hint)
    say("download", "the checksum is right")


def _fetch_rest(url: str, part: Path, size: int) -> None:
    """Append to ``part`` until it has ``size`` bytes; retry what may pass.

    Raises:
        UserError: The server cannot be reached or does not have the archive.
        UnavailableError: The download stopped, and may succeed later.
    """
    best, pauses = _size(part), iter(_PAUSES)
    with requests.Session() as session, Progress("download", total=size, unit="bytes") as progress:
        while (start := _size(part)) < size:
            try:
                with _request(session, url, start) as response:
                    _append(response, part, size, progress)
            except UnavailableError as error:
                if _size(part) > best:
                    best, pauses = _size(part), iter(_PAUSES)
                if (pause := next(pauses, None)) is None:
                    raise
                say("download", f"{error}; again in {pause:g} s")
                time.sleep(pause)


def _request(session: requests.Session, url: str, start: int) -> requests.Response:
    """Request a file from byte ``start`` on; the first answer must come at once."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    try:
        response = session.get(url, headers=headers, timeout=_TIMEOUTS, stream=True)
    except (OSError, ValueError) as error:  # its message may hold a proxy's password
        problem = f"no connection ({type(error).__name__}): is there a network, a proxy to name in "
        problem += "HTTPS_PROXY, a certificate to name in REQUESTS_CA_BUNDLE?"
        raise (UnavailableError if start else UserError)(problem) from error
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise UserError(f"it redirects to {without_credentials(response.url)}, which is not safe")
    return response


def _append(response: requests.Response, part: Path, size: int, progress: Progress) -> None:
    """Write the content of a response to the end of ``part``, or anew if it is the whole file."""
    status, is_rest = response.status_code, response.status_code == 206
    if status in _RETRIED or status >= 500:
        raise UnavailableError(f"the server answers {status}")
    if status not in (200, 206):
        raise UserError(f"the server answers {status}")
    start = _size(part) if is_rest else 0
    if response.headers.get("Content-Length", str(size - start)) != str(size - start):
        raise UserError(f"the file there does not have {size:,} bytes: it is another one")
    progress.start_at(start)
    with part.open("ab" if is_rest else "wb") as file:
        with suppress(requests.RequestException):  # the size tells whether all is there
            for block in response.iter_content(_BLOCK_BYTES):
                file.write(block)
                progress.advance(len(block))
                if file.tell() > size:
                    break
        if file.tell() < size:
            raise UnavailableError(f"broken off at {file.tell():,} of {size:,} bytes")
