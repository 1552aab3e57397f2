"""Word vectors -> which professions lean to one gender in them, and what they like and dislike.

Two measures, which need no model. The direction is that of Bolukbasi et al., "Man is to Computer
Programmer as Woman is to Homemaker? Debiasing Word Embeddings", NIPS 2016; the association test is
the WEAT of Caliskan, Bryson and Narayanan, "Semantics derived automatically from language corpora
contain human-like biases", Science 356, 2017.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.words.word_sets import GENDER_PAIRS, PROFESSIONS, TESTS, AssociationTest, WordSet
from sentiflow.words.word_vectors import WordVectors

MIN_KNOWN = 4
"""Words of a set that a test needs: three targets a side cannot get p below 0.05."""

MAX_PARTITIONS = 20_000
"""Up to so many, p counts all; of more, so many are drawn."""

CAVEAT = (
    "These are figures of the vectors: they repeat what stood together in the texts that the "
    "vectors were made of, stereotypes included. They do not say what a model makes of that, nor "
    "anything of people. Other words may show more or less."
)
"""What the figures can say and what they cannot."""

TESTS_CAVEAT = (
    "Of twenty tests of vectors without an association one has p below 0.05. Without capital "
    "letters some names are words too, such as bill or ebony."
)
"""The same, of the tests alone."""

_ROUNDING = 1e-12
"""Sums of cosines that differ by less are equal."""

_FEW_WORDS = 10
_LINE = 98
"""Characters of a line of prose."""

_Units = Mapping[str, np.ndarray]
"""By known word: its vector, of length 1."""


@dataclass(frozen=True)
class Projection:
    """Where a word stands on a direction."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Direction:
    """What sets the first words of pairs apart from the second, and where other words stand."""

    positive: str
    """The first word of the first known pair."""
    negative: str
    """The second."""
    pairs: tuple[tuple[str, str], ...]
    """Those known, which made the direction."""
    unknown_pairs: tuple[tuple[str, str], ...]
    variance_fraction: float
    """Of the squared differences within pairs, the share along it; at least 1 / their number."""
    projections: tuple[Projection, ...]
    """The most negative first."""
    unknown: tuple[str, ...]
    """Words without a vector, which stand nowhere."""


@dataclass(frozen=True)
class KnownSet:
    """How much of a word set the vectors know."""

    name: str
    num_known: int
    num_words: int


@dataclass(frozen=True)
class Association:
    """What came out of an association test."""

    name: str
    targets: tuple[KnownSet, KnownSet]
    attributes: tuple[KnownSet, KnownSet]
    effect_size: float | None = None
    """d; above 0 where the first targets go with the first attributes. From -2 to 2 where as many
    of both targets are known, else a little more. None: the test is not made."""
    p_value: float | None = None
    """One-sided: the share of partitions of the targets that go at least as well."""
    num_partitions: int = 0
    """That were counted."""
    is_exact: bool = False
    """All there are; otherwise they were drawn."""
    not_made: str = ""
    """Why the test is not made; empty if it is."""

    @property
    def num_known(self) -> int:
        """Words of all sets with a vector."""
        return sum(each.num_known for each in (*self.targets, *self.attributes))

    @property
    def num_words(self) -> int:
        """Words of all sets."""
        return sum(each.num_words for each in (*self.targets, *self.attributes))


@dataclass(frozen=True)
class WordBias:
    """Both measures; ``dataclasses.asdict`` of it is JSON."""

    direction: Direction | None
    """None without pairs."""
    associations: tuple[Association, ...]


def measure_word_bias(
    vectors: WordVectors,
    *,
    pairs: Sequence[tuple[str, str]] = GENDER_PAIRS,
    words: Sequence[str] = PROFESSIONS,
    tests: Sequence[AssociationTest] = TESTS,
    seed: int = 0,
) -> WordBias:
    """Measure what associations word vectors hold.

    A word is looked up as it is written, else in lower case; a vector of zeros counts as none.
    All vectors are scaled to length 1 first, so that no word counts for more by its frequency.

    The direction is the first principal component of the pairs' vectors, each taken from the
    middle of its pair. It points from the second words to the first ones.

    With s(w) the mean cosine of a target with the first attributes minus that with the second, d is
    the mean of s over the first targets minus that over the second, over the standard deviation of
    s over all targets: with N - 1, as that alone gives the paper's d (so does conjugateprior/cbn).
    p is the share of the partitions of the known targets, in sets of the sizes that they have, in
    which the sum of s over the first set is at least as high. The paper counts the higher ones
    alone; counting the actual one too, p is never 0. Of drawn ones, p is (1 + count) / (1 + N).

    Args:
        vectors: Of words in any order; those compared are looked up all at once.
        pairs: Words that differ in one thing.
        words: To be placed on the direction.
        tests: Those where some set has fewer than ``MIN_KNOWN`` known words are not made.
        seed: Of the partitions drawn.

    Raises:
        UserError: Of fewer than half of the pairs both words are known, or they do not differ.
    """
    asked = [word for pair in pairs for word in pair] + list(words)
    asked += [word for test in tests for each in test.sets for word in each.words]
    units = _look_up(vectors, asked)
    return WordBias(
        direction=_direct(units, pairs, words) if pairs else None,
        associations=tuple(_associate(units, test, seed=seed) for test in tests),
    )


def to_text(bias: WordBias) -> str:
    """Write the figures as tables for a terminal, with what they mean."""
    parts = [_describe_direction(bias.direction)] if bias.direction else []
    parts += [_describe_associations(bias.associations)] if bias.associations else []
    caveat = f"{CAVEAT} {TESTS_CAVEAT}" if bias.associations else CAVEAT
    return "\n\n\n".join([*parts, _wrap(caveat)])


def _look_up(vectors: WordVectors, words: Iterable[str]) -> _Units:
    distinct = pa.array(dict.fromkeys(words), pa.string())
    both = pa.concat_arrays([distinct, pc.utf8_lower(distinct)])
    as_written, lowered = vectors.find(both).reshape(2, -1)
    rows = np.where(as_written >= 0, as_written, lowered)
    names = distinct.filter(pa.array(rows >= 0)).to_pylist()
    found = vectors.vectors[rows[rows >= 0]].astype(np.float64)
    lengths = np.linalg.norm(found, axis=1)
    return {
        name: vector / length
        for name, vector, length in zip(names, found, lengths, strict=True)
        if 0 < length < math.inf
    }


def _direct(units: _Units, pairs: Sequence[tuple[str, str]], words: Sequence[str]) -> Direction:
    known = tuple((first, second) for first, second in pairs if {first, second} <= units.keys())
    if 2 * len(known) < len(pairs):
        problem = f"only {len(known)} of {len(pairs)} pairs of words are known to the vectors"
        raise UserError(problem, hint="a direction needs half of them")
    differences = np.array([units[first] - units[second] for first, second in known])
    _, sizes, axes = np.linalg.svd(differences, full_matrices=False)
    if not sizes[0]:
        raise UserError("the words of each pair have the same vector", hint="give other pairs")
    axis = axes[0] if (differences @ axes[0]).sum() >= 0 else -axes[0]
    distinct = dict.fromkeys(words)
    placed = [Projection(word, float(units[word] @ axis)) for word in distinct if word in units]
    return Direction(
        positive=known[0][0],
        negative=known[0][1],
        pairs=known,
        unknown_pairs=tuple(pair for pair in pairs if pair not in known),
        variance_fraction=float(sizes[0] ** 2 / (sizes**2).sum()),
        projections=tuple(sorted(placed, key=lambda each: each.cosine)),
        unknown=tuple(word for word in distinct if word not in units),
    )


def _associate(units: _Units, test: AssociationTest, *, seed: int) -> Association:
    known = [np.array([units[w] for w in each.words if w in units]) for each in test.sets]
    first, second, one, other = map(_count, test.sets, known)
    result = Association(test.name, targets=(first, second), attributes=(one, other))
    few = [each for each in (first, second, one, other) if each.num_known < MIN_KNOWN]
    if few:
        listed = ", ".join(f"{each.num_known} of {each.num_words} {each.name}" for each in few)
        return replace(result, not_made=f"only {listed} are known")
    apart = known[2].mean(axis=0) - known[3].mean(axis=0)
    association = np.concatenate(known[:2]) @ apart
    if np.ptp(association) < _ROUNDING:
        return replace(result, not_made="all targets are alike")
    means = [part.mean() for part in np.split(association, [first.num_known])]
    p_value, num_partitions, is_exact = _permute(association, first.num_known, seed=seed)
    return replace(
        result,
        effect_size=float((means[0] - means[1]) / association.std(ddof=1)),
        p_value=p_value,
        num_partitions=num_partitions,
        is_exact=is_exact,
    )


def _count(each: WordSet, known: np.ndarray) -> KnownSet:
    return KnownSet(each.name, len(known), len(each.words))


def _permute(association: np.ndarray, num_first: int, *, seed: int) -> tuple[float, int, bool]:
    """Give p, the partitions it is of, and whether these are all."""
    observed = association[:num_first].sum() - _ROUNDING
    num_partitions = math.comb(len(association), num_first)
    if num_partitions <= MAX_PARTITIONS:
        chosen = np.array(list(combinations(association, num_first)))
        return float((chosen.sum(axis=1) >= observed).mean()), num_partitions, True
    copies = np.broadcast_to(association, (MAX_PARTITIONS, len(association)))
    drawn = np.random.default_rng(seed).permuted(copies, axis=1)[:, :num_first]
    count = int((drawn.sum(axis=1) >= observed).sum())
    return (1 + count) / (1 + MAX_PARTITIONS), MAX_PARTITIONS, False


def _describe_direction(direction: Direction) -> str:
    """Write two columns, the words furthest out above; one where they are few."""
    negative, positive, placed = direction.negative, direction.positive, direction.projections
    half = len(placed) if len(placed) < _FEW_WORDS else (len(placed) + 1) // 2
    num_pairs = len(direction.pairs) + len(direction.unknown_pairs)
    cells = [(each.word, f"{each.cosine:+.3f}") for each in placed]
    sides = zip_longest(cells[:half], cells[half:][::-1], fillvalue=("", ""))
    explained = (
        f"Direction from {negative} to {positive}: the main axis of {len(direction.pairs)} of "
        f"{num_pairs} pairs of words, with {direction.variance_fraction:.0%} of what sets them "
        f"apart. Cosine with it: below 0 a word leans to {negative}, above 0 to {positive}."
    )
    head = ("lowest first", "", "highest first" if half < len(placed) else "", "")
    table = _align([head, *(left + right for left, right in sides)], "<><>")
    unknown = f"without a vector: {', '.join(direction.unknown)}" if direction.unknown else ""
    return "\n\n".join(filter(None, (_wrap(explained), table, _wrap(unknown))))


def _describe_associations(associations: Sequence[Association]) -> str:
    explained = (
        "Association tests. d, about -2 to 2: above 0 the first targets go with the first "
        "attributes, the second with the second. p: in which share of the partitions of the "
        f"targets, all or {MAX_PARTITIONS:,} drawn ones, they do so as much; * is below 0.05."
    )
    head = ("", "targets", "attributes", "known", "d", "p", "")
    table = _align([head, *map(_describe_association, associations)], "<<<>>><")
    not_made = [
        f"{each.name} is not made: {each.not_made}" for each in associations if each.not_made
    ]
    return "\n\n".join(filter(None, (_wrap(explained), table, "\n".join(not_made))))


def _describe_association(found: Association) -> tuple[str, ...]:
    names = [f"{first.name} / {second.name}" for first, second in (found.targets, found.attributes)]
    cells = (found.name, *names, f"{found.num_known}/{found.num_words}")
    if found.effect_size is None or found.p_value is None:
        return (*cells, "-", "-", "")
    p_value = "<0.0001" if found.p_value < 1e-4 else f"{found.p_value:.4f}"
    mark = "*" if found.p_value < 0.05 else " "
    partitions = "all" if found.is_exact else "drawn"
    return (*cells, f"{found.effect_size:+.2f}", p_value, f"{mark} {partitions}")


def _align(rows: Sequence[tuple[str, ...]], alignment: str) -> str:
    """Pad each column to one width, by its sign: ``<`` to the left, ``>`` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, alignment, widths, strict=True)).rstrip()
        for row in rows
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, _LINE)
