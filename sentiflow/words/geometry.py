"""Geometry of word vectors: distances, neighbors, midpoints, analogies, a plane to draw them in.

Vectors and points are float32. Distances and similarities are computed in float64, so that their
digits do not depend on the order in which a machine adds.

Distances and analogies follow Mikolov, Yih and Zweig, "Linguistic Regularities in Continuous
Space Word Representations", NAACL 2013, and Pennington, Socher and Manning, "GloVe: Global
Vectors for Word Representation", EMNLP 2014.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import process
from rapidfuzz.distance import OSA

from sentiflow.errors import UserError
from sentiflow.words.word_vectors import WordVectors

Measure = Literal["euclidean", "cosine"]

_BLOCK_ROWS = 4096
"""Vectors to measure at once."""
_SIGNS = {"+": 1, "-": -1}
"""Factor of a word in a sum by the sign before it."""


class Neighbor(NamedTuple):
    """A word near a point."""

    word: str
    value: float
    """Distance of the word from the point, or its cosine similarity with it."""


@dataclass(frozen=True)
class Neighbors:
    """The words nearest to a point, the nearest first; equally near words in the source's order."""

    words: tuple[Neighbor, ...]
    left_out: tuple[Neighbor, ...]
    """The nearest word, if it was left out; otherwise empty."""


Term = tuple[int, str]
"""A word in a sum, with its sign: 1 or -1."""


def look_up(vectors: WordVectors, words: Sequence[str]) -> np.ndarray:
    """Find the row of each word in ``vectors.vectors``, int64.

    Raises:
        UserError: Words are unknown; there is a line for each, with similarly spelled words.
    """
    rows = pc.index_in(_to_array(words), value_set=vectors.words).to_pylist()
    unknown = [word for word, row in zip(words, rows, strict=True) if row is None]
    if unknown:
        distinct = dict.fromkeys(unknown)
        raise UserError("\n".join(_explain_unknown(vectors, word) for word in distinct))
    return np.array(rows, np.int64)


def _to_array(words: Sequence[str]) -> pa.Array:
    """Convert words to an Arrow array; :func:`pyarrow.array` would import pandas, which is slow."""
    # a word typed in a terminal may have bytes that are not UTF-8
    encoded = [word.encode(errors="backslashreplace") for word in words]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    content = b"".join(encoded)
    return pa.StringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(content))


def distance(vectors: WordVectors, word: str, others: Sequence[str]) -> np.ndarray:
    """Measure the Euclidean distance, sqrt(sum_i (x_i - y_i)^2), from ``word`` to each other word.

    Returns:
        (len(others),) float64.

    Raises:
        UserError: A word is unknown.
    """
    first, *rows = look_up(vectors, [word, *others])
    return _measure(vectors.vectors[rows], vectors.vectors[first], "euclidean")


def similarity(vectors: WordVectors, word: str, others: Sequence[str]) -> np.ndarray:
    """Measure the cosine similarity, (x . y) / (|x| |y|), of ``word`` with each other word.

    Returns:
        (len(others),) float64, from -1 to 1; NaN if a vector is zero.

    Raises:
        UserError: A word is unknown.
    """
    first, *rows = look_up(vectors, [word, *others])
    return _measure(vectors.vectors[rows], vectors.vectors[first], "cosine")


def nearest(
    vectors: WordVectors,
    point: np.ndarray,
    *,
    n: int = 10,
    by: Measure = "euclidean",
    exclude: Sequence[str] | None = None,
) -> Neighbors:
    """Find the words nearest to a point.

    Args:
        vectors: V words.
        point: (D,) float32, for example the vector of a word or the result of :func:`combine`.
        n: Number of words; fewer are returned only if there are no more.
        by: Euclidean distance (the smallest first) or cosine similarity (the greatest first). A
            vector of zeros has no cosine similarity: such a word is not returned, and such a point
            has no neighbors.
        exclude: Words to leave out. Default: the nearest word is left out, because it usually is
            one of the words that define the point.

    Raises:
        UserError: A word to exclude is unknown.
    """
    values = _measure(vectors.vectors, point, by)
    ranks = values if by == "euclidean" else -values
    if exclude:
        ranks[look_up(vectors, exclude)] = np.inf
    num_left_out = 1 if exclude is None else 0
    rows = np.argsort(ranks, kind="stable")[: n + num_left_out]
    rows = rows[np.isfinite(ranks[rows])]
    neighbors = []
    for row, value in zip(rows.tolist(), values[rows].tolist(), strict=True):
        neighbors.append(Neighbor(vectors.words[row].as_py(), value))
    return Neighbors(
        words=tuple(neighbors[num_left_out:]), left_out=tuple(neighbors[:num_left_out])
    )


def midpoint(vectors: WordVectors, words: Sequence[str]) -> np.ndarray:
    """Compute the mean of the vectors of some words, (D,) float32.

    Raises:
        UserError: A word is unknown.
    """
    return combine(vectors, [(1, word) for word in words]) / np.float32(len(words))


def analogy(vectors: WordVectors, a: str, b: str, c: str) -> np.ndarray:
    """Compute the point ``a - b + c``, (D,) float32: king - man + woman is near queen.

    The word near this point should have the relation to ``c`` that ``a`` has to ``b``.

    Raises:
        UserError: A word is unknown.
    """
    return combine(vectors, [(1, a), (-1, b), (1, c)])


def combine(vectors: WordVectors, terms: Sequence[Term]) -> np.ndarray:
    """Add the vectors of words, each times its sign, from left to right, (D,) float32.

    Raises:
        UserError: A word is unknown.
    """
    signs = np.array([sign for sign, _ in terms], np.float32)
    rows = look_up(vectors, [word for _, word in terms])
    signed = signs[:, None] * vectors.vectors[rows]
    return np.asarray(signed.sum(axis=0))


def parse(expression: str) -> list[Term]:
    """Parse a sum of words. Signs need spaces around them, because words may have hyphens.

    Raises:
        UserError: Words and signs do not alternate.

    Example:
        >>> parse("king - man + woman")
        [(1, 'king'), (-1, 'man'), (1, 'woman')]
    """
    items = expression.split()
    if items and items[0] not in _SIGNS:
        items = ["+", *items]
    signs = items[::2]
    words = items[1::2]
    are_signs = all(sign in _SIGNS for sign in signs)
    if not items or len(signs) != len(words) or not are_signs:
        raise UserError(f"{expression!r} is not a sum of words", hint="write king - man + woman")
    return [(_SIGNS[sign], word) for sign, word in zip(signs, words, strict=True)]


def project(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project points onto the plane of their first two principal components.

    The same points always give the same picture: scikit-learn makes the largest weight of each
    component positive.

    Shape: (N points, D dimensions)
        - vectors: ``(N, D)``, N and D at least 2.
        - returns: ``(N, 2)`` float64, with mean 0; and the share of the variance along each of the
          two axes, ``(2,)`` float64.
    """
    from sklearn.decomposition import PCA  # imported here, because only a map needs it

    components = PCA(n_components=2)
    points = components.fit_transform(vectors.astype(np.float64))
    return points, components.explained_variance_ratio_


def find_similar(word: str, words: pa.Array, *, n: int = 3) -> list[str]:
    """List up to ``n`` words that are spelled like ``word``, the most similar first.

    Similar words are at most two edits away, fewer if ``word`` is short; its case does not count.
    An edit inserts, deletes or replaces a letter, or swaps two neighbors (Damerau 1964). Equally
    similar words keep their order.

    Example:
        >>> find_similar("Catt", pa.array(["the", "cat", "matt", "catty", "dog"]))
        ['cat', 'matt', 'catty']
    """
    known = [known_word for known_word in words.to_pylist() if known_word]
    similar = process.extract(
        word.lower(),
        known,
        scorer=OSA.distance,
        score_cutoff=min(2, len(word) // 2),
        limit=n,
    )
    return [choice for choice, _, _ in similar]


def _explain_unknown(vectors: WordVectors, word: str) -> str:
    """Say that a word is unknown, and list similarly spelled words."""
    similar = find_similar(word, vectors.words)
    hint = f"did you mean {', '.join(similar)}?" if similar else "no word is spelled like it"
    return f"{word!r} is not among the {len(vectors.words):,} words of {vectors.source}: {hint}"


def _measure(vectors: np.ndarray, point: np.ndarray, by: Measure) -> np.ndarray:
    """Measure (V, D) vectors against a (D,) point, in blocks that use little memory.

    Returns:
        (V,) float64, the distance or the cosine similarity; NaN if a vector is zero.
    """
    exact = point.astype(np.float64)
    measured = np.zeros(len(vectors))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = np.asfortranarray(vectors[rows], np.float64)
        if by == "euclidean":
            measured[rows] = np.sqrt(((block - exact) ** 2).sum(axis=1))
        else:
            lengths = np.sqrt((block**2).sum(axis=1)) * np.sqrt((exact**2).sum())
            with np.errstate(invalid="ignore"):
                measured[rows] = np.clip((block * exact).sum(axis=1) / lengths, -1, 1)
    return measured
