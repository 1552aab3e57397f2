"""Directions give what a reckoning by hand gives."""

import json
import math
from dataclasses import asdict
from string import ascii_lowercase

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.errors import UserError
from sentiflow.words.word_bias import measure_direction
from sentiflow.words.word_vectors import WordVectors


def make_vectors(table):
    """Vectors by word."""
    return WordVectors(pa.array(list(table)), np.array(list(table.values()), np.float32))


def random_vectors(seed=0):
    """A random vector for each letter."""
    rng = np.random.default_rng(seed)
    return make_vectors({letter: rng.normal(size=5) for letter in ascii_lowercase})


def test_words_are_looked_up_as_written_then_in_lower_case():
    vectors = make_vectors(
        {"king": (1, 0), "queen": (0, 1), "Anna": (2, 1), "anna": (1, 2), "bob": (1, 0)}
    )
    direction = measure_direction(
        vectors, pairs=[("King", "queen")], words=["Anna", "anna", "Bob", "BOB", "Eve"]
    )  # fmt: skip
    placed = {each.word: each.cosine for each in direction.projections}
    expected = 1 / math.sqrt(10)
    assert placed == pytest.approx(
        {"Anna": expected, "anna": -expected, "Bob": math.sqrt(0.5), "BOB": math.sqrt(0.5)}
    )
    assert direction.unknown == ("Eve",)


@pytest.mark.parametrize("vector", [(0, 0), (math.nan, 1), (math.inf, 1)])
def test_a_zero_vector_counts_as_missing(vector):
    vectors = make_vectors({"he": (1, 0), "she": (0, 1), "cook": vector})
    direction = measure_direction(vectors, pairs=[("he", "she")], words=["cook"])
    assert (direction.projections, direction.unknown) == ((), ("cook",))


def test_parallel_pairs_give_their_difference_from_the_second_words_to_the_first():
    vectors = make_vectors({"he": (1, 1, 0), "she": (-1, 1, 0), "his": (1, 0, 1), "her": (-1, 0, 1),
                            "up": (5, 0, 0), "down": (-3, 0, 0), "aside": (0, 1, -1)})  # fmt: skip
    words = ["up", "aside", "down", "up"]
    pairs = [("he", "she"), ("his", "her")]
    found = measure_direction(vectors, pairs=pairs, words=words)
    assert (found.negative, found.positive) == ("she", "he")
    assert found.variance_fraction == pytest.approx(1)
    assert [each.word for each in found.projections] == ["down", "aside", "up"]
    assert [each.cosine for each in found.projections] == pytest.approx([-1, 0, 1])
    swapped = measure_direction(vectors, pairs=[(b, a) for a, b in pairs], words=words)
    assert (swapped.negative, swapped.positive) == ("he", "she")
    assert [each.word for each in swapped.projections] == ["up", "aside", "down"]


def test_fewer_than_half_of_the_pairs_are_too_few():
    vectors = random_vectors()
    pairs = [("a", "b"), ("c", "1"), ("2", "d"), ("e", "f")]
    found = measure_direction(vectors, pairs=pairs)
    assert found.pairs == (("a", "b"), ("e", "f"))
    assert found.unknown_pairs == (("c", "1"), ("2", "d"))
    with pytest.raises(UserError, match="only 1 of 3 pairs of words are known"):
        measure_direction(vectors, pairs=pairs[:3])


@pytest.mark.parametrize("pair", [("he", "he"), ("he", "He"), ("he", "it")])
def test_a_pair_with_the_same_direction_is_refused(pair):
    vectors = make_vectors({"he": (1, 2), "it": (3, 6), "she": (0, 1), "cook": (1, 1)})
    with pytest.raises(UserError, match=f"{pair[0]} and {pair[1]} have the same vector"):
        measure_direction(vectors, pairs=[("he", "she"), pair], words=["cook"])
    with pytest.raises(UserError, match="have the same vector"):
        measure_direction(vectors, pairs=[pair], words=["cook"])


def test_glove_has_a_gender_direction_as_json(glove):
    found = json.loads(json.dumps(asdict(measure_direction(glove)), allow_nan=False))
    assert found["variance_fraction"] == pytest.approx(0.49, abs=0.01)
    assert found["projections"][0]["word"] == "homemaker"
