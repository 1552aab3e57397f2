"""Measures bias in word vectors: professions along a gender direction. No model is needed.

The direction is that of Bolukbasi et al., "Man is to Computer Programmer as Woman is to Homemaker?
Debiasing Word Embeddings", NIPS 2016.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
"""Professions in one word, none of which names a gender."""


@dataclass(frozen=True)
class Projection:
    """The cosine of a word with a direction."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Direction:
    """The direction from the second to the first words of pairs, and other words along it.

    ``dataclasses.asdict`` of it can be written as JSON.
    """

    positive: str
    """The first word of the first known pair."""
    negative: str
    """The second word of that pair."""
    pairs: tuple[tuple[str, str], ...]
    """The known pairs, which define the direction."""
    unknown_pairs: tuple[tuple[str, str], ...]
    """Pairs with a word that has no vector."""
    variance_fraction: float
    """Share of the squared differences within pairs along the direction; at least 1 / pairs."""
    projections: tuple[Projection, ...]
    """Sorted by cosine, the lowest first."""
    unknown: tuple[str, ...]
    """Words without a vector."""


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
        UserError: Fewer than half of the pairs are known.
    """
    units = _look_up(vectors, [*(word for pair in pairs for word in pair), *words])
    usable = tuple((first, second) for first, second in pairs if {first, second} <= units.keys())
    if 2 * len(usable) < len(pairs):
        raise UserError(
            f"only {len(usable)} of {len(pairs)} pairs of words are known to the vectors",
            hint="a direction needs half of them",
        )
    differences = np.array([units[first] - units[second] for first, second in usable])
    _, sizes, axes = np.linalg.svd(differences, full_matrices=False)
    axis = axes[0] if (differences @ axes[0]).sum() >= 0 else -axes[0]
    distinct = dict.fromkeys(words)
    placed = [Projection(word, float(units[word] @ axis)) for word in distinct if word in units]
    return Direction(
        positive=usable[0][0],
        negative=usable[0][1],
        pairs=usable,
        unknown_pairs=tuple(pair for pair in pairs if pair not in usable),
        variance_fraction=float(sizes[0] ** 2 / (sizes**2).sum()),
        projections=tuple(sorted(placed, key=lambda each: each.cosine)),
        unknown=tuple(word for word in distinct if word not in units),
    )


def _look_up(vectors: WordVectors, words: Iterable[str]) -> dict[str, np.ndarray]:
    """Find the words that have a vector, and scale these vectors to length 1."""
    distinct = pa.array(dict.fromkeys(words), pa.string())
    both = pa.concat_arrays([distinct, pc.utf8_lower(distinct)])
    as_written, lowered = vectors.find(both).reshape(2, -1)
    rows = np.where(as_written >= 0, as_written, lowered)
    names = distinct.filter(pa.array(rows >= 0)).to_pylist()
    of_names = vectors.vectors[rows[rows >= 0]].astype(np.float64)
    lengths = np.linalg.norm(of_names, axis=1)
    return {
        name: vector / length
        for name, vector, length in zip(names, of_names, lengths, strict=True)
        if 0 < length < math.inf
    }
