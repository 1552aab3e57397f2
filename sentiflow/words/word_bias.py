"""Measures bias in word vectors: professions on a gender direction, and association tests.

Neither measure needs a model. The direction is that of Bolukbasi et al., "Man is to Computer
Programmer as Woman is to Homemaker? Debiasing Word Embeddings", NIPS 2016; the association test is
the WEAT of Caliskan, Bryson and Narayanan, "Semantics derived automatically from language corpora
contain human-like biases", Science 356, 2017.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from scipy.stats import permutation_test

from sentiflow.errors import UserError
from sentiflow.words.word_vectors import WordVectors

MIN_KNOWN = 4
"""Least number of known words in each set: with three targets a side, p is never below 0.05."""

MAX_PARTITIONS = 20_000
"""If there are more partitions, p is estimated from this many random ones."""

_ROUNDING = 1e-12
"""Sums of cosines that differ by less count as equal."""


class WordSet(NamedTuple):
    """Words that stand for one thing."""

    name: str
    words: tuple[str, ...]


class AssociationTest(NamedTuple):
    """A test whether the first targets are nearer to the first attributes than the second are."""

    name: str
    targets: tuple[WordSet, ...]
    """Two sets."""
    attributes: tuple[WordSet, ...]
    """Two sets."""

    @property
    def sets(self) -> tuple[WordSet, ...]:
        """Targets and attributes, in order."""
        return (*self.targets, *self.attributes)


def _read_sets(sets: Mapping[str, str]) -> tuple[WordSet, ...]:
    return tuple(WordSet(name, tuple(words.split())) for name, words in sets.items())


_DATA = yaml.safe_load((resources.files("sentiflow.words") / "word_sets.yaml").read_text("utf-8"))

GENDER_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (male, female) for male, female in map(str.split, _DATA["gender_pairs"])
)
"""Ten pairs of words that define gender (Bolukbasi et al. 2016), the male word first."""

PROFESSIONS: tuple[str, ...] = tuple(_DATA["professions"].split())
"""Professions in one word, none of which names a gender."""

TESTS: tuple[AssociationTest, ...] = tuple(
    AssociationTest(test["name"], _read_sets(test["targets"]), _read_sets(test["attributes"]))
    for test in _DATA["tests"]
)
"""WEAT 1 to 10 (Caliskan et al. 2017). The sizes of the sets are those of the paper."""


@dataclass(frozen=True)
class Projection:
    """The cosine of a word with a direction."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Direction:
    """The direction from the second to the first words of pairs, and other words along it."""

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


@dataclass(frozen=True)
class KnownSet:
    """How many words of a set have a vector."""

    name: str
    num_known: int
    num_words: int


@dataclass(frozen=True)
class Association:
    """The result of an association test."""

    name: str
    targets: tuple[KnownSet, ...]
    attributes: tuple[KnownSet, ...]
    effect_size: float | None = None
    """Effect size d; above 0 if the first targets are nearer to the first attributes. It is from
    -2 to 2 if both targets have equally many known words. None: the test was skipped."""
    p_value: float | None = None
    """One-sided: the share of partitions of the targets with at least this association."""
    num_partitions: int = 0
    """Number of partitions that p was computed from."""
    is_exact: bool = False
    """Whether these are all partitions; otherwise they are random ones."""
    not_made: str = ""
    """Why the test was skipped; empty if it was not."""


@dataclass(frozen=True)
class WordBias:
    """Both measures. ``dataclasses.asdict`` of it can be written as JSON."""

    direction: Direction | None
    """None if no pairs were given."""
    associations: tuple[Association, ...]


def measure_word_bias(
    vectors: WordVectors,
    *,
    pairs: Sequence[tuple[str, str]] = GENDER_PAIRS,
    words: Sequence[str] = PROFESSIONS,
    tests: Sequence[AssociationTest] = TESTS,
    seed: int = 0,
) -> WordBias:
    """Measure the associations that word vectors hold.

    A word is looked up as it is written, then in lower case. A vector of zeros counts as missing.
    All vectors are scaled to length 1 first, so that frequent words do not count more.

    The direction is the first principal component of the vectors of the pairs, each relative to
    the mean of its pair. It points from the second words to the first ones.

    For a target w, s(w) is its mean cosine with the first attributes minus that with the second.
    d is the mean of s over the first targets minus the mean over the second, divided by the
    standard deviation of s over all targets. That has N - 1 in the denominator, which alone gives
    the paper's d (as in conjugateprior/cbn). p is the share of the partitions of the known targets
    into sets of the same sizes, for which the sum of s over the first set is at least as high. The
    paper counts only higher sums; here p is never 0, because the actual partition counts too. With
    random partitions, p is (1 + count) / (1 + N).

    Args:
        vectors: The word vectors.
        pairs: Pairs of words that differ in one property.
        words: Words whose cosine with the direction is measured.
        tests: Association tests; one is skipped if a set has fewer than ``MIN_KNOWN`` known words.
        seed: Seed of random partitions.

    Raises:
        UserError: Fewer than half of the pairs are known, or the words of each pair have the same
            vector.
    """
    all_words = [word for pair in pairs for word in pair] + list(words)
    all_words += [word for test in tests for each in test.sets for word in each.words]
    units = _look_up(vectors, all_words)
    return WordBias(
        direction=_direct(units, pairs, words) if pairs else None,
        associations=tuple(_associate(units, test, seed=seed) for test in tests),
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


def _direct(
    units: dict[str, np.ndarray], pairs: Sequence[tuple[str, str]], words: Sequence[str]
) -> Direction:
    usable = tuple((first, second) for first, second in pairs if {first, second} <= units.keys())
    if 2 * len(usable) < len(pairs):
        problem = f"only {len(usable)} of {len(pairs)} pairs of words are known to the vectors"
        raise UserError(problem, hint="a direction needs half of them")
    differences = np.array([units[first] - units[second] for first, second in usable])
    _, sizes, axes = np.linalg.svd(differences, full_matrices=False)
    if not sizes[0]:
        raise UserError("the words of each pair have the same vector", hint="give other pairs")
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


def _associate(units: dict[str, np.ndarray], test: AssociationTest, *, seed: int) -> Association:
    vectors = [np.array([units[w] for w in each.words if w in units]) for each in test.sets]
    counts = [
        KnownSet(each.name, len(of_words), len(each.words))
        for each, of_words in zip(test.sets, vectors, strict=True)
    ]
    result = Association(test.name, targets=tuple(counts[:2]), attributes=tuple(counts[2:]))
    few = [each for each in counts if each.num_known < MIN_KNOWN]
    if few:
        listed = ", ".join(f"{each.num_known} of {each.num_words} {each.name}" for each in few)
        return replace(result, not_made=f"only {listed} are known")
    apart = vectors[2].mean(axis=0) - vectors[3].mean(axis=0)
    first, second = vectors[0] @ apart, vectors[1] @ apart
    both = np.concatenate([first, second])
    if np.ptp(both) < _ROUNDING:
        return replace(result, not_made="all targets have the same association")
    permuted = permutation_test(
        (first, second),
        lambda first, second, axis: first.sum(axis=axis),
        vectorized=True,
        n_resamples=MAX_PARTITIONS,
        alternative="greater",
        rng=seed,
    )
    return replace(
        result,
        effect_size=float((first.mean() - second.mean()) / both.std(ddof=1)),
        p_value=float(permuted.pvalue),
        num_partitions=len(permuted.null_distribution),
        is_exact=math.comb(len(both), len(first)) <= MAX_PARTITIONS,
    )
