"""The picture shows words and tests, also where there are few or many of them."""

import struct

import matplotlib as mpl
import numpy as np
import pytest
from test_report import PNG_SIGNATURE
from test_word_bias import make_test, make_vectors, random_vectors

from sentiflow.errors import UserError
from sentiflow.words import charts
from sentiflow.words.word_bias import measure_word_bias

TESTS = [make_test("ijkl", "mnop"), make_test("i123", "mnop")]


def measure(**options):
    defaults = {"pairs": [("a", "b")], "words": ["c", "d", "1"], "tests": TESTS}
    return measure_word_bias(random_vectors(), **defaults | options)


def size_of(image):
    assert image.startswith(PNG_SIGNATURE)
    return struct.unpack(">II", image[16:24])


def test_both_halves_are_drawn():
    width, _ = size_of(charts.draw_bias(measure()))
    left, _ = size_of(charts.draw_bias(measure(tests=())))
    right, _ = size_of(charts.draw_bias(measure(pairs=())))
    assert width == pytest.approx(left + right, abs=2)


def test_without_known_words_only_the_tests_are_drawn():
    assert charts.draw_bias(measure(words=["1"])) == charts.draw_bias(measure(pairs=()))


def test_words_with_dollar_signs_are_literal():
    words = {"a$x$": (1, 0, 0), "b$\\frac$": (0, 1, 0), "c": (0, 0, 1), "$\\frac$": (1, 1, 0)}
    vectors = make_vectors({name: np.array(vector) for name, vector in words.items()})
    pairs, placed = [("a$x$", "b$\\frac$")], ["c", "$\\frac$"]
    bias = measure_word_bias(vectors, pairs=pairs, words=placed, tests=())
    width, height = size_of(charts.draw_bias(bias))
    assert min(width, height) > 100


def test_only_both_ends_of_many_words_are_drawn():
    rng = np.random.default_rng(0)
    many = {f"word{k}": rng.normal(size=3) for k in range(200)} | {"a": (1, 0, 0), "b": (0, 1, 0)}
    bias = measure_word_bias(make_vectors(many), pairs=[("a", "b")], words=list(many), tests=())
    chosen = charts._choose(bias.direction.projections)
    assert len(chosen) == charts.MAX_WORDS
    assert chosen[0] == bias.direction.projections[0]
    assert chosen[-1] == bias.direction.projections[-1]
    _, height = size_of(charts.draw_bias(bias))
    assert height < 4000


def test_nothing_to_draw_is_refused():
    with pytest.raises(UserError, match="nothing to draw"):
        charts.draw_bias(measure(words=["1"], tests=()))


def test_drawing_twice_gives_the_same_bytes_and_leaves_matplotlib_as_it_was():
    with mpl.rc_context({"font.size": 7}):
        before = dict(mpl.rcParams)
        assert charts.draw_bias(measure()) == charts.draw_bias(measure())
        assert dict(mpl.rcParams) == before
