"""Measures bias in word vectors: professions along a gender direction. No model is needed.

The direction is defined as in Bolukbasi et al., "Man is to Computer Programmer as Woman is to
Homemaker? Debiasing Word Embeddings", NIPS 2016.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.words.word_vectors import WordVectors

GENDER_PAIRS = (
    ("he", "she"), ("his", "her"), ("man", "woman"), ("John", "Mary"), ("himself", "herself"),
    ("son", "daughter"), ("father", "mother"), ("guy", "gal"), ("boy", "girl"), ("male", "female"),
)  # fmt: skip
"""Ten pairs of words that define gender (Bolukbasi et al. 2016), the male word first."""

PROFESSIONS = (
    "accountant", "architect", "artist", "baker", "carpenter", "cashier", "chef", "clerk",
    "coach", "dancer", "dentist", "designer", "doctor", "driver", "economist", "electrician",
    "engineer", "farmer", "firefighter", "hairdresser", "homemaker", "janitor", "journalist",
    "judge", "lawyer", "librarian", "manager", "mechanic", "nanny", "nurse", "pharmacist",
    "photographer", "pilot", "plumber", "professor", "programmer", "receptionist", "scientist",
    "secretary", "singer", "soldier", "surgeon", "teacher", "therapist", "writer",
)  # fmt: skip
"""Professions in one word that names no gender."""

_MIN_DIFFERENCE = 1e-6
"""If two vectors of length 1 differ by less, they differ only by rounding."""


@dataclass(frozen=True)
class Projection:
    """The projection of a word's unit vector onto a direction: their cosine."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Direction:
    """The direction from the second to the first words of pairs, and other words along it.

    ``dataclasses.asdict`` makes the JSON of ``sentiflow words bias --json``.
    """

    positive: str
    """The first word of the first known pair; words with a cosine above 0 lean to it."""
    negative: str
    """The second word of that pair; words with a cosine below 0 lean to it."""
    pairs: tuple[tuple[str, str], ...]
    """The known pairs, which define the direction."""
    unknown_pairs: tuple[tuple[str, str], ...]
    """Pairs with a word that has no vector."""
    variance_fraction: float
    """Fraction of the squared differences of the P known pairs that lies along the direction. 1:
    all pairs differ in the same direction. 1 / P is the least possible."""
    projections: tuple[Projection, ...]
    """The other words, sorted by cosine, the lowest first."""
    unknown: tuple[str, ...]
    """Other words without a vector."""


def measure_direction(
    vectors: WordVectors,
    *,
    pairs: Sequence[tuple[str, str]] = GENDER_PAIRS,
    words: Sequence[str] = PROFESSIONS,
) -> Direction:
    """Measure words along the direction of pairs.

    A word is looked up as it is written, then in lower case. A vector of zeros counts as missing.
    All vectors are scaled to length 1 first, so that frequent words do not count more.

    The direction is the first principal component of the vectors of the pairs, each relative to
    the mean of its pair. It points from the second words to the first ones.

    Args:
        vectors: The word vectors.
        pairs: Pairs of words that differ in one property.
        words: Words whose cosine with the direction is measured.

    Raises:
        UserError: Fewer than half of the pairs are known, or the words of a pair have the same
            vector.
    """
    units = _find_unit_vectors(vectors, [*chain.from_iterable(pairs), *words])
    usable = tuple(pair for pair in pairs if set(pair) <= units.keys())
    if 2 * len(usable) < len(pairs):
        raise UserError(
            f"only {len(usable)} of {len(pairs)} pairs of words are known to the vectors",
            hint="a direction needs half of them",
        )
    # relative to the mean of its pair, each word is at plus or minus half of the pair's difference
    differences = np.array([units[first] - units[second] for first, second in usable])
    for (first, second), length in zip(usable, np.linalg.norm(differences, axis=1), strict=True):
        if length < _MIN_DIFFERENCE:
            raise UserError(
                f"{first} and {second} have the same vector",
                hint="a direction needs pairs of words that differ",
            )
    _, singular_values, axes = np.linalg.svd(differences, full_matrices=False)
    axis = axes[0]
    if (differences @ axis).sum() < 0:
        axis = -axis
    distinct = dict.fromkeys(words)
    projections = [
        Projection(word, float(units[word] @ axis)) for word in distinct if word in units
    ]
    positive, negative = usable[0]
    return Direction(
        positive=positive,
        negative=negative,
        pairs=usable,
        unknown_pairs=tuple(pair for pair in pairs if pair not in usable),
        variance_fraction=float(singular_values[0] ** 2 / (singular_values**2).sum()),
        projections=tuple(sorted(projections, key=lambda projection: projection.cosine)),
        unknown=tuple(word for word in distinct if word not in units),
    )


def _find_unit_vectors(vectors: WordVectors, words: Iterable[str]) -> dict[str, np.ndarray]:
    """Find the words that have a vector, and scale these vectors to length 1."""
    distinct = pa.array(list(dict.fromkeys(words)), pa.string())
    both = pa.concat_arrays([distinct, pc.utf8_lower(distinct)])  # one search is faster than two
    as_written, lowered = vectors.find(both).reshape(2, -1)
    rows = np.where(as_written >= 0, as_written, lowered)
    is_known = rows >= 0
    names = distinct.filter(pa.array(is_known)).to_pylist()
    known = vectors.vectors[rows[is_known]].astype(np.float64)
    lengths = np.linalg.norm(known, axis=1)
    units = {}
    for name, vector, length in zip(names, known, lengths, strict=True):
        if 0 < length < math.inf:
            units[name] = vector / length
    return units
