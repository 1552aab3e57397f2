"""Word vectors -> distances, neighbors, midpoints, analogies, a plane to draw them in.

Vectors and points are float32, as they come; what is measured between them is computed in float64,
so that its digits do not depend on the order in which a machine adds.

Distances and analogies are those of Mikolov, Yih and Zweig, "Linguistic Regularities in Continuous
Space Word Representations", NAACL 2013, and of Pennington, Socher and Manning, "GloVe: Global
Vectors for Word Representation", EMNLP 2014.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.words.spelling import find_similar
from sentiflow.words.word_vectors import WordVectors

Measure = Literal["euclidean", "cosine"]

_BLOCK_ROWS = 4096
_SIGNS = {"+": 1, "-": -1}


class Neighbor(NamedTuple):
    """A word near a point."""

    word: str
    value: float
    """Its distance from the point, or its cosine similarity to it."""


@dataclass(frozen=True)
class Neighbors:
    """The words nearest to a point, the nearest first; equally near ones in the source's order."""

    found: tuple[Neighbor, ...]
    left_out: Neighbor | None
    """The very nearest, if that was left out whatever it is."""


@dataclass(frozen=True)
class Projection:
    """N points in the plane in which they differ most."""

    points: np.ndarray
    """(N, 2) float64, around 0."""
    explained: np.ndarray
    """Share of the points' variance along each of the two axes, float64."""


class Term(NamedTuple):
    """A word in a sum."""

    sign: int
    """1 or -1."""
    word: str


def look_up(vectors: WordVectors, words: Sequence[str]) -> np.ndarray:
    """Give each word its row in ``vectors.vectors``, int64.

    Raises:
        UserError: Words are unknown: a line for each, with known ones that are spelled like it.
    """
    rows = pc.index_in(_to_strings(words), value_set=vectors.words).to_pylist()
    unknown = dict.fromkeys(word for word, row in zip(words, rows, strict=True) if row is None)
    if unknown:
        raise UserError("\n".join(_explain_unknown(vectors, word) for word in unknown))
    return np.array(rows, np.int64)


def distance(vectors: WordVectors, word: str, others: Sequence[str]) -> np.ndarray:
    """Measure the Euclidean distance, sqrt(sum_i (x_i - y_i)^2), of ``word`` from each other.

    Returns:
        (len(others),) float64.

    Raises:
        UserError: A word is unknown.
    """
    first, *rest = look_up(vectors, [word, *others])
    return _measure(vectors.vectors[rest], vectors.vectors[first], "euclidean")


def similarity(vectors: WordVectors, word: str, others: Sequence[str]) -> np.ndarray:
    """Measure the cosine of the angle, (x . y) / (|x| |y|), between ``word`` and each other.

    Returns:
        (len(others),) float64, from -1 to 1.

    Raises:
        UserError: A word is unknown, or its vector is zero, which has no direction.
    """
    first, *rest = look_up(vectors, [word, *others])
    found = _measure(vectors.vectors[rest], vectors.vectors[first], "cosine")
    for name, row in zip([word, *others], [first, *rest], strict=True):
        if not vectors.vectors[row].any():
            raise UserError(f"the vector of {name!r} is zero", hint="it has no cosine similarity")
    return found


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
        point: (D,) float32, such as the vector of a word, or what :func:`combine` gives.
        n: How many words; fewer come back only where there are no more.
        by: The least Euclidean distance or the greatest cosine similarity. Words with a zero
            vector have no cosine similarity and are never found by it.
        exclude: Words that are left out. None: the nearest word is, whatever it is; mostly it is
            one of those that the point was made of.

    Raises:
        UserError: A word to exclude is unknown, or the point is zero and has no direction.
    """
    if by == "cosine" and not point.any():
        raise UserError("the point is zero", hint="it has no cosine similarity to a word")
    values = _measure(vectors.vectors, point, by)
    ranked_by = values if by == "euclidean" else -values
    if exclude:
        ranked_by[look_up(vectors, exclude)] = np.inf
    rows = _least(ranked_by, n + 1 if exclude is None else n)
    words = (vectors.words[row].as_py() for row in rows.tolist())
    found = tuple(map(Neighbor, words, values[rows].tolist()))
    if exclude is None:
        return Neighbors(found[1:], next(iter(found), None))
    return Neighbors(found, None)


def midpoint(vectors: WordVectors, words: Sequence[str]) -> np.ndarray:
    """Give the mean of the vectors of some words, (D,) float32.

    Of two words both are equally far from it but for the rounding to float32.

    Raises:
        UserError: A word is unknown.
    """
    return combine(vectors, [Term(1, word) for word in words]) / np.float32(len(words))


def analogy(vectors: WordVectors, a: str, b: str, c: str) -> np.ndarray:
    """Give the point ``a - b + c``, (D,) float32: king - man + woman is near queen.

    It is where the word should be that is to ``c`` as ``a`` is to ``b``.

    Raises:
        UserError: A word is unknown.
    """
    return combine(vectors, [Term(1, a), Term(-1, b), Term(1, c)])


def combine(vectors: WordVectors, terms: Sequence[Term]) -> np.ndarray:
    """Add the vectors of some words up, from left to right, each with its sign; (D,) float32.

    Raises:
        UserError: A word is unknown.
    """
    rows = look_up(vectors, [term.word for term in terms])
    point = np.zeros(vectors.dim, np.float32)
    for (sign, _), row in zip(terms, rows, strict=True):
        point += sign * vectors.vectors[row]
    return point


def parse(expression: str) -> list[Term]:
    """Read a sum of words; its signs stand between blanks, as words may have hyphens.

    Raises:
        UserError: Words and signs do not take turns.

    Example:
        >>> parse("king - man + woman")
        [Term(sign=1, word='king'), Term(sign=-1, word='man'), Term(sign=1, word='woman')]
    """
    items = expression.split()
    if items and items[0] not in _SIGNS:
        items = ["+", *items]
    signs, words = items[::2], items[1::2]
    if not items or len(signs) != len(words) or not _SIGNS.keys() >= {*signs}:
        raise UserError(f"{expression!r} is no sum of words", hint="write king - man + woman")
    return [Term(_SIGNS[sign], word) for sign, word in zip(signs, words, strict=True)]


def project(vectors: np.ndarray) -> Projection:
    """Lay points out in the plane of their first two principal components.

    The direction of an axis is free: the greatest of its weights is made positive, so that the
    same points always give the same picture.

    Shape: (N points, D dimensions)
        - vectors: ``(N, D)``, N of them at least 1.
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    variances = sizes**2 / max(float((sizes**2).sum()), np.finfo(np.float64).tiny)
    points, explained = np.zeros((len(vectors), 2)), np.zeros(2)
    points[:, : len(sizes)] = centered @ axes[:2].T
    explained[: len(sizes)] = variances[:2]
    return Projection(points, explained)


def _to_strings(words: Sequence[str]) -> pa.Array:
    """Make an Arrow array of words, which may hold broken bytes.

    ``pa.array`` would load pandas first, which takes 0.2 s.
    """
    encoded = [word.encode(errors="backslashreplace") for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(words), *buffers)


def _explain_unknown(vectors: WordVectors, word: str) -> str:
    alike = find_similar(word, vectors.words)
    hint = f"did you mean {', '.join(alike)}?" if alike else "none is spelled like it"
    return f"{word!r} is not among the {len(vectors.words):,} words of {vectors.source}: {hint}"


def _measure(vectors: np.ndarray, point: np.ndarray, by: Measure) -> np.ndarray:
    """Measure from each of (V, D) vectors to the point, V float64; NaN where there is no cosine."""
    blocks = range(0, len(vectors), _BLOCK_ROWS)
    between = _euclidean if by == "euclidean" else _cosine
    exact = point.astype(np.float64)
    measured = [
        between(np.asfortranarray(vectors[i : i + _BLOCK_ROWS], np.float64), exact) for i in blocks
    ]
    return np.concatenate(measured) if measured else np.zeros(0)


def _euclidean(vectors: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.sqrt(((vectors - point) ** 2).sum(axis=1))


def _cosine(vectors: np.ndarray, point: np.ndarray) -> np.ndarray:
    sizes = np.sqrt((vectors**2).sum(axis=1)) * np.sqrt((point**2).sum())
    with np.errstate(invalid="ignore"):
        return np.clip((vectors * point).sum(axis=1) / sizes, -1, 1)


def _least(values: np.ndarray, n: int) -> np.ndarray:
    """Give the places of the ``n`` least finite values, in order, equal ones by their place."""
    n = min(n, int((values < np.inf).sum()))
    if n == 0:
        return np.zeros(0, np.int64)
    last = np.partition(values, n - 1)[n - 1]
    candidates = np.flatnonzero(values <= last)
    return candidates[np.argsort(values[candidates], kind="stable")][:n]
