"""Both sources give the real GloVe vectors, and a missing one names the way out."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow import word_vectors
from sentiflow.errors import UserError

PACKAGE = "package:glove.6B.50d"


@pytest.fixture(scope="module")
def glove():
    """All vectors of the package."""
    return word_vectors.load(PACKAGE)


@pytest.fixture(scope="module")
def cache(glove, tmp_path_factory):
    """A cache of torchtext with the package's first 200 words in GloVe's text form."""
    folder = tmp_path_factory.mktemp("vector_cache")
    pairs = zip(glove.words[:200].to_pylist(), glove.vectors[:200], strict=True)
    lines = [f"{word} {' '.join(f'{x:.9g}' for x in vector)}\n" for word, vector in pairs]
    (folder / "glove.6B.50d.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def vector_of(vectors, word):
    """Look one word up."""
    return vectors.vectors[vectors.find(pa.array([word]))[0]]


def test_the_package_holds_400_000_words_of_50_dimensions(glove):
    assert glove.vectors.shape == (400_000, 50)
    assert (len(glove.words), glove.dim, glove.vectors.dtype) == (400_000, 50, np.float32)
    assert glove.words[:3].to_pylist() == ["the", ",", "."]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("cat", "dog", 1.8846), ("good", "bad", 3.3189), ("good", "bravo", 6.2940)],
)
def test_distances_are_those_that_the_tutorial_prints(glove, one, other, distance):
    found = np.linalg.norm(vector_of(glove, one) - vector_of(glove, other))
    assert found == pytest.approx(distance, abs=5e-5)


def test_words_are_found_in_any_order_and_unknown_ones_are_minus_one(glove):
    found = glove.find(pa.array(["dog", "qqxqq", "the", ""]))
    assert found.tolist() == [glove.words.to_pylist().index("dog"), -1, 0, -1]
    assert found.dtype == np.int64


def test_max_words_takes_the_first_ones(glove):
    few = word_vectors.load(PACKAGE, max_words=7)
    assert few.words.equals(glove.words[:7])
    np.testing.assert_array_equal(few.vectors, glove.vectors[:7])


@pytest.mark.parametrize("max_words", [None, 50, 1000])
def test_torchtext_gives_the_vectors_of_the_package(glove, cache, max_words):
    size = min(max_words or 200, 200)
    for _ in range(2):  # the second time from torchtext's own copy
        found = word_vectors.load("torchtext:6B.50d", max_words=max_words, cache=str(cache))
        assert found.words.equals(glove.words[:size])
        np.testing.assert_array_equal(found.vectors, glove.vectors[:size])


def test_a_cache_without_the_vectors_names_the_file_and_the_ways_out(tmp_path):
    with pytest.raises(UserError) as error:
        word_vectors.load("torchtext:6B.100d", cache=str(tmp_path))
    assert str(error.value).startswith(f"torchtext:6B.100d is not in {tmp_path}: ")
    for way_out in ("glove.6B.100d.txt", "vectors_cache", PACKAGE):
        assert way_out in str(error.value)


@pytest.mark.parametrize(
    "source",
    ["", "glove", "package:", "package:glove.6B.300d", "torchtext:6B", "torchtext:6B.d", "file:x"],
)
def test_an_unknown_source_names_the_known_ones(source):
    with pytest.raises(UserError) as error:
        word_vectors.load(source)
    assert repr(source) in str(error.value)
    assert PACKAGE in str(error.value)
    assert "torchtext:6B.50d" in str(error.value)


def test_a_package_that_is_not_installed_names_the_command(monkeypatch):
    packages = {"glove.6B.50d": ("no_such_vectors", "words", "vectors")}
    monkeypatch.setattr(word_vectors, "_PACKAGES", packages)
    with pytest.raises(UserError, match="is not installed: pip install no-such-vectors"):
        word_vectors.load(PACKAGE)
