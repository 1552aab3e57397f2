"""Download published archives, verify them by checksum, and unpack them.

During the download an archive is named ``ARCHIVE.zip.part``; the same command resumes the download.
The archive is deleted after it is unpacked. A file gets its name when it is complete.
"""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, hashes
from sentiflow.storage.uris import without_credentials

_BLOCK_BYTES = 1 << 16
_TIMEOUTS = (15, 60)
"""Maximum seconds to connect, and to wait for the next byte."""
_TEMPORARY_STATUSES = (408, 425, 429)
"""Answers of a server that refuses a request for the moment: a timeout, too early, too many."""
_SAME_SIZE = 0.01
"""Maximum relative difference between the size of a file and its rounded size in an archive."""


@dataclass(frozen=True)
class Archive:
    """A published zip archive."""

    url: str
    size: int
    sha256: str
    members: Mapping[str, int]
    """The files to unpack, with their approximate sizes in bytes."""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


SENTIMENT140 = Archive(
    url="https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip",
    size=81_363_704,
    sha256="004a3772c8a7ff9bbfeb875880f47f0679d93fc63e5cf9cff72d54a8a6162e57",
    members={
        "training.1600000.processed.noemoticon.csv": 239_000_000,
        "testdata.manual.2009.06.14.csv": 74_000,
    },
)
"""Size and checksum are from TensorFlow Datasets."""

GLOVE = {
    "6B": Archive(
        url="https://nlp.stanford.edu/data/glove.6B.zip",
        size=862_182_613,
        sha256="617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        members={
            "glove.6B.50d.txt": 171_000_000,
            "glove.6B.100d.txt": 347_000_000,
            "glove.6B.200d.txt": 693_000_000,
            "glove.6B.300d.txt": 1_038_000_000,
        },
    ),
    "twitter.27B": Archive(
        url="https://nlp.stanford.edu/data/glove.twitter.27B.zip",
        size=1_520_408_563,
        sha256="792af52f795d1a32c9842a3240f5f3fe5e941a8ff6df5eb0f9d668092ebc019c",
        members={
            "glove.twitter.27B.25d.txt": 258_000_000,
            "glove.twitter.27B.50d.txt": 511_000_000,
            "glove.twitter.27B.100d.txt": 1_022_000_000,
            "glove.twitter.27B.200d.txt": 2_058_000_000,
        },
    ),
    "42B": Archive(
        url="https://nlp.stanford.edu/data/glove.42B.300d.zip",
        size=1_877_800_501,
        sha256="03d5d7fa28e58762ace4b85fb71fe86a345ef0b5ff39f5390c14869da0fc1970",
        members={"glove.42B.300d.txt": 5_025_000_000},
    ),
    "840B": Archive(
        url="https://nlp.stanford.edu/data/glove.840B.300d.zip",
        size=2_176_768_927,
        sha256="c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f",
        members={"glove.840B.300d.txt": 5_646_000_000},
    ),
}
"""By NAME of ``torchtext:NAME.DIMd``. The checksums are from torchtext 0.8."""


def download(
    archive: Archive,
    folder: Path,
    *,
    names: Sequence[str] = (),
    url: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Download and unpack files of an archive, unless the folder has them already.

    If the folder already has the archive, it is verified, used and kept.

    Args:
        archive: The archive that the files are in.
        folder: Where the files are written; created if missing.
        names: Names of the files. Default: all.
        url: Another address of the same archive.
        overwrite: Replace existing files of these names.

    Returns:
        The paths of the files.

    Raises:
        UserError: There is no such archive, no space, or another file is in the way.
        JobError: There is no network, or the server broke off; the same command resumes.
    """
    paths = [folder / name for name in names or archive.members]
    missing = [path for path in paths if overwrite or not _is_member(path, archive)]
    if not missing:
        shown = " and ".join(str(path) for path in paths)
        say("download", f"nothing to do: {shown} complete")
        return paths
    whole = folder / archive.name
    part = folder / f"{archive.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if whole.exists():
            packed = whole
            hint = "move it away, and the same command downloads it"
        else:
            _fetch(url or archive.url, part, archive.size)
            packed = part
            hint = "it was deleted; try once more"
        with Progress("download", what=f"verifying {packed.name}"):
            checksum = hashes.sha256(str(packed))
        if checksum != archive.sha256:
            part.unlink(missing_ok=True)
            raise UserError(
                f"{packed} is not the archive: its SHA-256 is {checksum}, not {archive.sha256}",
                hint=hint,
            )
        _unpack(packed, missing)
        part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}",
            hint="solve that and run the same command again",
        ) from error
    return paths


def _is_member(path: Path, archive: Archive) -> bool:
    """Say whether a file of the archive exists already.

    Raises:
        UserError: There is a file of this name with another size.
    """
    if not path.exists():
        return False
    size = path.stat().st_size
    expected = archive.members[path.name]
    if abs(size - expected) > _SAME_SIZE * expected:
        raise UserError(
            f"{path} has {size:,} bytes: it is not from {archive.name}",
            hint="move it away, or add --overwrite",
        )
    return True


def _fetch(url: str, part: Path, size: int) -> None:
    """Download an archive of ``size`` bytes, or the rest of it.

    Raises:
        UserError: The archive cannot be downloaded from there.
        JobError: A later try may succeed: there is no connection, or the server broke off.
    """
    import requests  # slow to import

    shown = without_credentials(url)
    start = part.stat().st_size if part.exists() else 0
    say("download", f"{shown}: {size / 1e6:,.0f} MB")
    if start >= size:  # complete; the caller verifies it
        return
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    try:
        response = requests.get(url, headers=headers, timeout=_TIMEOUTS, stream=True)
        response.raise_for_status()
        is_resumed = response.status_code == requests.codes.partial_content
        with (
            Progress("download", total=size, unit="bytes") as progress,
            part.open("ab" if is_resumed else "wb") as file,
        ):
            progress.start_at(file.tell())
            for block in response.iter_content(_BLOCK_BYTES):
                file.write(block)
                progress.advance(len(block))
    except (requests.RequestException, ValueError) as error:
        # the message of the error may hold a proxy's password
        answer = getattr(error, "response", None)
        if answer is None:
            problem = f"no connection ({type(error).__name__})"
            is_final = isinstance(error, ValueError)  # the address has no valid form
        else:
            problem = f"the server answers {answer.status_code}"
            # 4xx: the server refuses the request, and mostly would refuse it again
            is_refusal = 400 <= answer.status_code < 500
            is_final = is_refusal and answer.status_code not in _TEMPORARY_STATUSES
        if part.exists() and not is_final:
            hint = "run the same command again to resume"
            raise JobError(f"cannot download {shown}: {problem}: {hint}") from error
        hint = (
            "check the network, the proxy (HTTPS_PROXY) and the certificate "
            "(REQUESTS_CA_BUNDLE). Or download the archive with a browser, save it as "
            f"{part.with_suffix('')}, and run the same command, which verifies and unpacks it"
        )
        kind = UserError if is_final else JobError
        raise kind(f"cannot download {shown}: {problem}: {hint}") from error


def _unpack(packed: Path, paths: Sequence[Path]) -> None:
    """Write files of a verified archive, and nothing else of the archive.

    Temporary files of a killed process are deleted.
    """
    with zipfile.ZipFile(packed) as archive:
        for path in paths:
            for stale in path.parent.glob(f"{path.name}.*.tmp"):
                stale.unlink()
            with (
                Progress("download", what=f"unpacking {path.name}"),
                archive.open(path.name) as member,
                filesystem.publish(str(path)) as file,
            ):
                shutil.copyfileobj(member, file, _BLOCK_BYTES)
