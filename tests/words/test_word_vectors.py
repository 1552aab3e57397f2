"""Each source gives its words and vectors, and a missing one names the way out."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, new_package

from sentiflow.errors import UserError
from sentiflow.words import vector_text, word_vectors

PACKAGE = "package:glove.6B.50d"


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A file of vectors, of which no copy is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache_home"))
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 2\ndog 3 4\nbird 5 6\n")
    return path


@pytest.fixture
def parsed(monkeypatch):
    """Note each file that is parsed."""
    noted, read = [], vector_text.read
    monkeypatch.setattr(
        vector_text, "read", lambda uri, **options: noted.append(uri) or read(uri, **options)
    )
    return noted


def test_the_package_holds_400_000_words_of_50_dimensions(glove):
    assert glove.vectors.shape == (400_000, 50)
    assert (len(glove.words), glove.vectors.dtype) == (400_000, np.float32)
    assert glove.words[:3].to_pylist() == ["the", ",", "."]


def test_words_are_found_in_any_order_and_unknown_ones_are_minus_one(glove):
    found = glove.find(pa.array(["dog", "qqxqq", "the", ""]))
    assert found.tolist() == [glove.words.to_pylist().index("dog"), -1, 0, -1]
    assert found.dtype == np.int64


def test_max_words_takes_the_first_ones(glove):
    few = word_vectors.load(PACKAGE, max_words=7)
    assert few.words.equals(glove.words[:7])
    np.testing.assert_array_equal(few.vectors, glove.vectors[:7])


@pytest.mark.parametrize("source", ["", "glove", "package:", "package:glove.6B.300d", "x.txt"])
def test_an_unknown_source_names_the_known_ones(source):
    with pytest.raises(UserError) as error:
        word_vectors.load(source)
    assert repr(source) in str(error.value)
    assert PACKAGE in str(error.value)
    assert "torchtext:6B.50d" in str(error.value)


# Files


def test_a_file_is_parsed_once_and_then_mapped(text, parsed):
    for _ in range(3):
        found = word_vectors.load(str(text))
        assert found.words.to_pylist() == ["cat", "dog", "bird"]
        assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
        assert found.source == str(text)
    assert parsed == [str(text)]
    assert not found.vectors.flags.owndata


def test_a_file_that_has_changed_is_parsed_again(text, parsed):
    word_vectors.load(str(text))
    text.write_text("cat 7 2\ndog 3 4\nbird 5 6\n")  # of the same size
    os.utime(text, ns=(0, 1))
    assert word_vectors.load(str(text)).vectors[0].tolist() == [7, 2]
    assert len(parsed) == 2


def test_a_cache_that_cannot_be_written_is_a_warning(text, parsed, tmp_path, caplog):
    (tmp_path / "cache_home").write_text("a file")
    for _ in range(2):
        assert len(word_vectors.load(str(text)).words) == 3
    assert len(parsed) == 2
    assert caplog.text.count("the vectors are not cached, so each run parses them: ") == 2


def test_a_copy_of_all_words_serves_the_first_words_but_not_the_reverse(text, parsed):
    for max_words, num_parsed in [(2, 1), (2, 1), (1, 2), (None, 3), (1, 3), (3, 3), (9, 3)]:
        found = word_vectors.load(str(text), max_words=max_words)
        assert found.words.to_pylist() == ["cat", "dog", "bird"][:max_words]
        assert len(found.vectors) == len(found.words)
        assert len(parsed) == num_parsed


# Model packages


def test_a_model_package_gives_the_vectors_that_it_has_learned(tmp_path):
    package = new_package()
    package.save(str(tmp_path), lineage={})
    found = word_vectors.load(str(tmp_path), max_words=3)
    assert found.words.to_pylist() == ["good", "bad", "morning"]
    learned = package.network.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(found.vectors, learned[2:5])


@pytest.mark.parametrize("inside", ["model", "trained/model"])
def test_the_directory_of_a_run_names_its_model(tmp_path, inside):
    new_package().save(str(tmp_path / inside), lineage={})
    assert word_vectors.locate(str(tmp_path)) == str(tmp_path / inside)
    assert word_vectors.load(str(tmp_path)).words[0].as_py() == "good"


def test_a_directory_that_is_not_a_package_is_refused(tmp_path):
    with pytest.raises(UserError, match="name a finished model package"):
        word_vectors.load(str(tmp_path))


# What is loaded along


def test_vectors_are_loaded_without_torch(text, make_package):
    assert not loads_torch(PACKAGE, str(text), make_package())


def loads_torch(*sources, **options):
    """Say whether loading vectors makes a process of its own load torch."""
    calls = [f"word_vectors.load({source!r}, **{options!r})" for source in sources]
    shown = "print('torch' in sys.modules)"
    script = "; ".join(["import sys; from sentiflow.words import word_vectors", *calls, shown])
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROJECT)
    return ran.stdout.strip() == "True"


def test_without_a_home_directory_nothing_is_cached(text, parsed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a home
    for _ in range(2):
        assert len(word_vectors.load("vectors.txt").words) == 3
    assert (len(parsed), os.listdir(tmp_path)) == (2, ["vectors.txt"])
