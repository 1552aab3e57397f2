"""Downloads archives, verifies and unpacks them.

While an archive is downloaded it is called ``ARCHIVE.zip.part``, and the same command resumes it.
Once it is unpacked it is deleted. A file gets its name when it is complete.
"""

import fcntl
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from sentiflow.data.archives import Archive
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, hashes
from sentiflow.storage.uris import without_credentials

_BLOCK_BYTES = 1 << 16
_TIMEOUTS = (15, 60)
"""Seconds until a connection is made, and without a byte on it."""
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
"""Status codes that may pass."""
_RETRIES = Retry(
    connect=0,
    read=0,
    status=3,
    status_forcelist=_TEMPORARY,
    backoff_factor=2,
    raise_on_status=False,
    respect_retry_after_header=False,
)
"""Repeats a request up to three times, after 0, 4 and 8 seconds."""
_SAME_SIZE = 0.01
"""By what share the size of a file may differ from that in :class:`Archive`, which is rounded."""


def download(
    archive: Archive,
    folder: Path,
    *,
    names: Sequence[str] = (),
    url: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Download and unpack files of an archive, unless the folder has them already.

    An archive that lies in the folder is verified, used and kept. Two downloads of an archive to
    one folder run one after the other.

    Args:
        archive: The archive that the files are in.
        folder: Where the files go; created if missing.
        names: Names of the files; all by default.
        url: Another address of the same archive.
        overwrite: Replace files that have these names.

    Returns:
        The paths of the files.

    Raises:
        UserError: There is no network, no such archive, no space, or another file is in the way.
        JobError: The server broke off; the same command resumes the download.
    """
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if url is not None and not url.startswith(("http://", "https://")):
        raise UserError(
            f"--url {url}", hint=f"write http://… or https://…, or put the file at {whole}"
        )
    names = names or list(archive.members)
    paths = [folder / name for name in names]
    if not overwrite and not _find_missing(archive, folder, names) and not part.exists():
        say("download", f"nothing to do: {' and '.join(map(str, paths))} complete")
        return paths  # without a lock, as the folder may be read-only
    with _locked(folder, archive.name):
        # another process may have written some meanwhile
        missing = names if overwrite else _find_missing(archive, folder, names)
        if not missing:
            part.unlink(missing_ok=True)
            return paths
        is_there = whole.exists()
        packed = whole if is_there else part
        _check_space(archive, folder, missing, present=_size(packed))
        if not is_there:
            _fetch(archive, url or archive.url, part)
        elif fault := _find_fault(whole, archive):
            hint = "delete it, and the same command downloads it"
            raise UserError(f"{whole} is not the archive: {fault}", hint=hint)
        _unpack(packed, missing)
        part.unlink(missing_ok=True)
    return paths


def _find_missing(archive: Archive, folder: Path, names: Sequence[str]) -> list[str]:
    """List the files that are absent.

    Raises:
        UserError: One is there, but has another size than in the archive.
    """
    for name in names:
        path, size = folder / name, archive.members[name]
        if path.exists() and abs(_size(path) - size) > _SAME_SIZE * size:
            problem = f"{path} has {_size(path):,} bytes: it is not from {archive.name}"
            raise UserError(problem, hint="move it away, or add --overwrite")
    return [name for name in names if not (folder / name).exists()]


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
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


def _find_fault(path: Path, archive: Archive) -> str:
    """Say why a file is not the archive; empty if it is."""
    if (size := _size(path)) != archive.size:
        return f"it has {size:,} bytes, not {archive.size:,}"
    if (found := hashes.sha256(str(path))) != archive.sha256:
        return f"its SHA-256 is {found}, not {archive.sha256}"
    return ""


def _check_space(archive: Archive, folder: Path, names: Sequence[str], *, present: int) -> None:
    """Check that the disk has room for the rest of the archive and for the files in it."""
    needed = archive.size - present + sum(archive.members[name] for name in names)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are needed",
            hint="free some space, or name another folder",
        )


def _unpack(path: Path, names: Sequence[str]) -> None:
    """Write files of a verified archive beside it, and nothing else of the archive.

    What a killed process has left is deleted.
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


def _fetch(archive: Archive, url: str, part: Path) -> None:
    """Download the rest of an archive and verify it.

    Raises:
        UserError: The archive cannot be downloaded from there.
        JobError: The server broke off.
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
    if fault := _find_fault(part, archive):
        part.unlink()
        hint = "it was deleted; try once more"
        raise UserError(f"{shown} is not the archive: {fault}", hint=hint)


def _fetch_rest(url: str, part: Path, size: int) -> None:
    """Append to ``part`` until it has ``size`` bytes, while each request gets some of them.

    Raises:
        UserError: The server cannot be reached or does not have the archive.
        UnavailableError: The download stopped, and may succeed later.
    """
    with requests.Session() as session, Progress("download", total=size, unit="bytes") as progress:
        session.mount("http://", HTTPAdapter(max_retries=_RETRIES))
        session.mount("https://", HTTPAdapter(max_retries=_RETRIES))
        while (start := _size(part)) < size:
            with _request(session, url, start) as response:
                _append(response, part, size, progress)
            if _size(part) <= start:
                raise UnavailableError(f"broken off at {_size(part):,} of {size:,} bytes")


def _request(session: requests.Session, url: str, start: int) -> requests.Response:
    """Request a file from byte ``start`` on."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    try:
        response = session.get(url, headers=headers, timeout=_TIMEOUTS, stream=True)
    except (OSError, ValueError) as error:  # its message may hold a proxy's password
        problem = f"no connection ({type(error).__name__}): is there a network, a proxy to name in "
        problem += "HTTPS_PROXY, a certificate to name in REQUESTS_CA_BUNDLE?"
        raise (UnavailableError if start else UserError)(problem) from error
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise UserError(f"it redirects to {without_credentials(response.url)}, which is not safe")
    if response.status_code not in (200, 206):
        kind = UnavailableError if response.status_code in _TEMPORARY else UserError
        raise kind(f"the server answers {response.status_code}")
    return response


def _append(response: requests.Response, part: Path, size: int, progress: Progress) -> None:
    """Write the content of a response to the end of ``part``, or anew if it is the whole file."""
    is_rest = response.status_code == 206
    start = _size(part) if is_rest else 0
    if response.headers.get("Content-Length", str(size - start)) != str(size - start):
        raise UserError(f"the file there does not have {size:,} bytes: it is another one")
    progress.start_at(start)
    with part.open("ab" if is_rest else "wb") as file, suppress(requests.RequestException):
        for block in response.iter_content(_BLOCK_BYTES):
            file.write(block)
            progress.advance(len(block))
            if file.tell() > size:
                break
