"""Directions and association tests give what a reckoning by hand, and other code, give."""

import json
import math
from dataclasses import asdict
from itertools import combinations
from operator import mul
from statistics import mean, stdev
from string import ascii_lowercase

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.errors import UserError
from sentiflow.words import word_bias
from sentiflow.words.word_bias import (
    TESTS,
    AssociationTest,
    WordSet,
    measure_word_bias,
)
from sentiflow.words.word_vectors import WordVectors


def make_vectors(table):
    """Vectors by word."""
    return WordVectors(pa.array(list(table)), np.array(list(table.values()), np.float32))


def make_test(first, second, one="abcd", other="efgh"):
    """A test of words of one letter."""
    sets = [WordSet(name, tuple(name)) for name in (first, second, one, other)]
    return AssociationTest("test", tuple(sets[:2]), tuple(sets[2:]))


def random_vectors(seed=0):
    """A random vector for each letter."""
    rng = np.random.default_rng(seed)
    return make_vectors({letter: rng.normal(size=5) for letter in ascii_lowercase})


def associate(vectors, *tests, **options):
    """Make tests alone."""
    return measure_word_bias(vectors, pairs=(), tests=tests, **options).associations


def reckon(vectors, test):
    """Reckon d and the exact p in plain Python, straight from the paper."""
    table = dict(
        zip(vectors.words.to_pylist(), vectors.vectors.astype(float).tolist(), strict=True)
    )

    def cosine(v, w):
        return sum(map(mul, v, w)) / math.hypot(*v) / math.hypot(*w)

    x, y, a, b = ([table[w] for w in each.words if w in table] for each in test.sets)
    s = [mean(cosine(w, u) for u in a) - mean(cosine(w, u) for u in b) for w in x + y]
    d = (mean(s[: len(x)]) - mean(s[len(x) :])) / stdev(s)
    places = range(len(s))
    statistics = [
        sum(s[k] for k in chosen) - sum(s[k] for k in places if k not in chosen)
        for chosen in combinations(places, len(x))
    ]
    return d, mean(found >= statistics[0] - 1e-9 for found in statistics), len(statistics)


@pytest.fixture(scope="module")
def of_glove(glove):
    """What is measured of them."""
    return measure_word_bias(glove)


def by_name(bias):
    """Look tests up."""
    return {found.name: found for found in bias.associations}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("targets", [("ijkl", "mnop"), ("ijklmn", "opqr"), ("ijklm", "nopqrstu")])
def test_d_and_p_are_those_of_plain_python(seed, targets):
    vectors, test = random_vectors(seed), make_test(*targets)
    (found,) = associate(vectors, test)
    d, p, num_partitions = reckon(vectors, test)
    assert found.effect_size == pytest.approx(d, abs=1e-9)
    assert found.p_value == pytest.approx(p, abs=1e-12)
    assert (found.num_partitions, found.is_exact) == (num_partitions, True)


def test_d_of_targets_that_are_the_attributes_is_known():
    """s is 1 four times and -1 four times: its mean differs by 2, its deviation is sqrt(8/7)."""
    ends = dict.fromkeys("abcdijkl", (0, 2)) | dict.fromkeys("efghmnop", (3, 0))
    (found,) = associate(make_vectors(ends), make_test("ijkl", "mnop"))
    assert found.effect_size == pytest.approx(2 / math.sqrt(8 / 7))
    assert found.p_value == pytest.approx(1 / 70)


def test_random_partitions_agree_with_all(monkeypatch):
    test = make_test("ijklmnop", "qrstuvwx")
    (every,) = associate(random_vectors(1), test)
    monkeypatch.setattr(word_bias, "MAX_PARTITIONS", 12_869)
    (drawn,) = associate(random_vectors(1), test)
    assert (every.is_exact, drawn.is_exact) == (True, False)
    assert (every.num_partitions, drawn.num_partitions) == (12_870, 12_869)
    assert 0.01 < every.p_value < 0.99
    error = math.sqrt(every.p_value * (1 - every.p_value) / 12_869)
    assert drawn.p_value == pytest.approx(every.p_value, abs=4 * error)
    assert drawn.p_value * 12_870 == pytest.approx(round(drawn.p_value * 12_870))


def test_a_set_with_too_few_known_words_skips_its_test():
    test = make_test("ijkl12", "mno123", "abcd", "ef345")
    (found,) = associate(random_vectors(), test)
    assert found.not_made == "only 3 of 6 mno123, 2 of 5 ef345 are known"
    assert (found.effect_size, found.p_value, found.num_partitions) == (None, None, 0)
    assert [each.num_known for each in (*found.targets, *found.attributes)] == [4, 3, 4, 2]


def test_words_are_looked_up_as_written_then_in_lower_case():
    vectors = make_vectors(
        {"king": (1, 0), "queen": (0, 1), "Anna": (2, 1), "anna": (1, 2), "bob": (1, 0)}
    )
    direction = measure_word_bias(
        vectors, pairs=[("King", "queen")], words=["Anna", "anna", "Bob", "BOB", "Eve"], tests=()
    ).direction  # fmt: skip
    placed = {each.word: each.cosine for each in direction.projections}
    expected = 1 / math.sqrt(10)
    assert placed == pytest.approx(
        {"Anna": expected, "anna": -expected, "Bob": math.sqrt(0.5), "BOB": math.sqrt(0.5)}
    )
    assert direction.unknown == ("Eve",)


@pytest.mark.parametrize("vector", [(0, 0), (math.nan, 1), (math.inf, 1)])
def test_a_zero_vector_counts_as_missing(vector):
    vectors = make_vectors({"he": (1, 0), "she": (0, 1), "cook": vector})
    direction = measure_word_bias(
        vectors, pairs=[("he", "she")], words=["cook"], tests=()
    ).direction
    assert (direction.projections, direction.unknown) == ((), ("cook",))


def test_parallel_pairs_give_their_difference_from_the_second_words_to_the_first():
    vectors = make_vectors({"he": (1, 1, 0), "she": (-1, 1, 0), "his": (1, 0, 1), "her": (-1, 0, 1),
                            "up": (5, 0, 0), "down": (-3, 0, 0), "aside": (0, 1, -1)})  # fmt: skip
    words = ["up", "aside", "down", "up"]
    pairs = [("he", "she"), ("his", "her")]
    found = measure_word_bias(vectors, pairs=pairs, words=words, tests=()).direction
    assert (found.negative, found.positive) == ("she", "he")
    assert found.variance_fraction == pytest.approx(1)
    assert [each.word for each in found.projections] == ["down", "aside", "up"]
    assert [each.cosine for each in found.projections] == pytest.approx([-1, 0, 1])
    swapped = measure_word_bias(
        vectors, pairs=[(b, a) for a, b in pairs], words=words, tests=()
    ).direction
    assert (swapped.negative, swapped.positive) == ("he", "she")
    assert [each.word for each in swapped.projections] == ["up", "aside", "down"]


def test_fewer_than_half_of_the_pairs_are_too_few():
    vectors = random_vectors()
    pairs = [("a", "b"), ("c", "1"), ("2", "d"), ("e", "f")]
    found = measure_word_bias(vectors, pairs=pairs, tests=()).direction
    assert found.pairs == (("a", "b"), ("e", "f"))
    assert found.unknown_pairs == (("c", "1"), ("2", "d"))
    with pytest.raises(UserError, match="only 1 of 3 pairs of words are known"):
        measure_word_bias(vectors, pairs=pairs[:3])
    with pytest.raises(UserError, match="have the same vector"):
        measure_word_bias(vectors, pairs=[("a", "a")])


@pytest.mark.parametrize("name", ["WEAT 1", "WEAT 2"])
def test_glove_likes_flowers_and_instruments_more_than_insects_and_weapons(of_glove, name):
    found = by_name(of_glove)[name]
    assert found.effect_size > 1
    assert found.p_value < 0.01


@pytest.mark.parametrize("test", TESTS[5:], ids=lambda test: test.name)
def test_glove_has_the_d_and_p_of_plain_python(glove, of_glove, test):
    rows = glove.find(pa.array([word.lower() for each in test.sets for word in each.words]))
    names = [word for each in test.sets for word in each.words]
    known = {name: glove.vectors[row] for name, row in zip(names, rows, strict=True) if row >= 0}
    d, p, num_partitions = reckon(make_vectors(known), test)
    found = by_name(of_glove)[test.name]
    assert found.effect_size == pytest.approx(d, abs=1e-6)
    assert found.p_value == pytest.approx(p, abs=1e-12)
    assert (found.num_partitions, found.is_exact) == (num_partitions, True)


def test_results_are_json_and_depend_on_the_seed_alone(glove, of_glove):
    def write(bias):
        return json.dumps(asdict(bias), allow_nan=False)

    assert write(measure_word_bias(glove)) == write(of_glove)
    assert write(measure_word_bias(glove, seed=1)) != write(of_glove)


# The published sets


SIZES = {
    "WEAT 1": (25, 25, 25, 25), "WEAT 2": (25, 25, 25, 25), "WEAT 3": (32, 32, 25, 25),
    "WEAT 4": (16, 16, 25, 25), "WEAT 5": (16, 16, 8, 8), "WEAT 6": (8, 8, 8, 8),
    "WEAT 7": (8, 8, 8, 8), "WEAT 8": (8, 8, 8, 8), "WEAT 9": (6, 6, 7, 7),
    "WEAT 10": (8, 8, 8, 8),
}  # fmt: skip
"""Of targets and attributes, in table 1 of the paper and its supplement."""


def test_each_set_has_the_size_published():
    assert {test.name: tuple(len(each.words) for each in test.sets) for test in TESTS} == SIZES
