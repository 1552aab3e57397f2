"""GloVe vectors by name: torchtext downloads, unpacks and loads them.

torchtext works in a folder of its own, where it finds nothing to unpickle. Its cache gets the files
when the checksum of their archive is right.
"""

import http.client
import io
import os
import shutil
import socket
import ssl
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pyarrow as pa

from sentiflow.data.archives import GLOVE
from sentiflow.errors import UserError
from sentiflow.progress import console, say
from sentiflow.storage.uris import absolute_uri, as_typed, is_local

NAMES = [
    file.removeprefix("glove.").removesuffix(".txt")
    for archive in GLOVE.values()
    for file in archive.members
]
"""Each NAME.DIMd of ``torchtext:NAME.DIMd``."""

_TIMEOUT_SECONDS = 60
_FAILURES = (
    OSError,
    http.client.HTTPException,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torchtext raises without a network, and for an archive or a text that is another one."""


def locate(source: str, cache: str) -> Path:
    """Name the text file of ``torchtext:NAME.DIMd`` in torchtext's cache, a local directory.

    Raises:
        UserError: No such vectors are published, or the cache is not local.
    """
    vectors = source.removeprefix("torchtext:")
    if vectors not in NAMES:
        hint = f"after torchtext: write one of {', '.join(NAMES)}"
        raise UserError(f"there are no GloVe vectors {source!r}", hint=hint)
    if not is_local(cache):
        hint = "set prepare.vocabulary.vectors_cache to a local directory"
        raise UserError(f"torchtext cannot use {cache}", hint=hint)
    return Path(absolute_uri(cache), f"glove.{vectors}.txt")


def load(path: Path, max_words: int | None) -> tuple[pa.Array, np.ndarray]:
    """Load a text file in torchtext's cache, or its first ``max_words`` words.

    If it is not there, its archive is downloaded, and all files in it are unpacked to the cache. An
    archive that lies there is verified, used and kept. Two processes do it one after the other.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: The file or the archive is damaged, or there is no network or no space.
    """
    if not path.exists():
        return _fetch(path, max_words)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, path.name).symlink_to(path)
        hint = "delete it, and the same command downloads it"
        return _run_torchtext(path, folder, max_words, shown=str(path), hint=hint)


def _fetch(path: Path, max_words: int | None) -> tuple[pa.Array, np.ndarray]:
    from sentiflow.data import download  # with requests, which takes long

    (name, dim), cache, to = _split(path), path.parent, as_typed(str(path.parent))
    archive = GLOVE[name]
    shown, hint = (
        archive.url,
        (
            f"sentiflow download glove --name {name} --dim {dim} --to {to} retries and resumes, "
            "and package:glove.6B.50d needs no download"
        ),
    )
    with download.locked(cache, archive.name):
        if path.exists():  # another process
            return load(path, max_words)
        for left in cache.glob(f"{archive.name}-*"):  # by a process that was killed
            shutil.rmtree(left)
        download.check_space(archive, cache, list(archive.members), present=0)
        with tempfile.TemporaryDirectory(prefix=f"{archive.name}-", dir=cache) as folder:
            here, packed = cache / archive.name, Path(folder, archive.name)
            if here.exists():
                shown, hint = str(here), "delete it, and the same command downloads it"
                packed.symlink_to(here)
            else:
                unpacked = sum(archive.members.values()) / 1e6
                size = f"{archive.size / 1e6:,.0f} MB to {to}, unpacked {unpacked:,.0f} MB"
                say("download", f"{shown}: {size}")
            found = _run_torchtext(path, folder, max_words, shown=shown, hint=hint)
            if fault := download.find_fault(packed, archive):
                raise UserError(f"{shown} is not the archive: {fault}", hint=hint)
            for file in (Path(folder, member) for member in archive.members):
                if not (cache / file.name).exists():
                    with file.open("rb") as complete:
                        os.fsync(complete.fileno())
                    file.rename(cache / file.name)
    return found


def _split(path: Path) -> tuple[str, str]:
    """Split the name of a text file into those of GloVe's NAME and DIM."""
    name, _, dim = path.stem.removeprefix("glove.").removesuffix("d").rpartition(".")
    return name, dim


def _run_torchtext(
    path: Path, folder: str, max_words: int | None, *, shown: str, hint: str
) -> tuple[pa.Array, np.ndarray]:
    """Let torchtext load a file of ``folder``; if it is not there, torchtext downloads it.

    Certificates are verified, although torchtext turns that off for the whole process. Afterwards
    urllib has its default opener.
    """
    import torchtext.vocab

    name, dim = _split(path)

    class GloVe(torchtext.vocab.GloVe):
        url = {name: GLOVE[name].url}  # noqa: RUF012

        def cache(self, name: str, cache: str, **options: object) -> None:
            # an absolute path, or it would prefer a file in the working directory
            super().cache(os.path.join(cache, name), cache, **options)

    copy = f"{path.name}_{max_words}.pt" if max_words else f"{path.name}.pt"
    Path(folder, copy).symlink_to(os.devnull)  # its pickled copy, which nobody reads
    https, timeout = ssl._create_default_https_context, socket.getdefaulttimeout()
    verified = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    urllib.request.install_opener(urllib.request.build_opener(verified))
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        with redirect_stderr(sys.stderr if console.is_terminal else io.StringIO()):  # its bars
            found = GloVe(name=name, dim=dim, cache=folder, max_vectors=max_words)
    except _FAILURES as error:
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        reason = reason.encode("unicode_escape").decode()  # a server may have sent it
        raise UserError(f"torchtext cannot load {shown}: {reason}", hint=hint) from error
    finally:
        ssl._create_default_https_context = https
        urllib.request.install_opener(urllib.request.build_opener())
        socket.setdefaulttimeout(timeout)
    return pa.array(found.itos, pa.string()), found.vectors[: len(found.itos)].numpy()
