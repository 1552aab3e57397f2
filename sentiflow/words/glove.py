"""GloVe vectors by name: their archive is downloaded and verified once, torchtext loads them."""

import os
import ssl
import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa

from sentiflow.data.download import GLOVE, download
from sentiflow.errors import UserError
from sentiflow.progress import console
from sentiflow.storage.uris import absolute_uri, is_local

NAMES = [
    file.removeprefix("glove.").removesuffix(".txt")
    for archive in GLOVE.values()
    for file in archive.members
]
"""Each NAME.DIMd of ``torchtext:NAME.DIMd``."""


def locate(source: str, cache: str) -> Path:
    """Name the text file of ``torchtext:NAME.DIMd`` in the cache, a local directory.

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
    """Load a text file in the cache, or its first ``max_words`` words.

    If it is not there, its archive is downloaded, and the files in it are unpacked to the cache.
    torchtext works in a folder of its own, where it finds nothing to unpickle.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: The file or the archive is damaged, or there is no network or no space.
        JobError: The server broke off; the same command resumes the download.
    """
    if not path.exists():
        (archive,) = (archive for archive in GLOVE.values() if path.name in archive.members)
        missing = [name for name in archive.members if not path.with_name(name).exists()]
        download(archive, path.parent, names=missing)
    import torchtext.vocab

    https = ssl._create_default_https_context
    with tempfile.TemporaryDirectory() as folder:
        copy = f"{path.name}_{max_words}.pt" if max_words else f"{path.name}.pt"
        Path(folder, copy).symlink_to(os.devnull)  # its pickled copy, which nobody reads
        try:
            with redirect_stderr(sys.stderr if console.is_terminal else StringIO()):  # its bar
                found = torchtext.vocab.Vectors(str(path), cache=folder, max_vectors=max_words)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            hint = "delete it to download it again, or name its path instead of torchtext:…"
            raise UserError(f"torchtext cannot load {path}: {error}", hint=hint) from error
        finally:
            ssl._create_default_https_context = https  # torchtext ends the verification
    return pa.array(found.itos, pa.string()), found.vectors[: len(found.itos)].numpy()
