"""Each source gives its words and vectors, and a missing one names the way out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, new_package

from sentiflow.errors import UserError
from sentiflow.models import package_files
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


def vector_of(vectors, word):
    """Look one word up."""
    return vectors.vectors[vectors.find(pa.array([word]))[0]]


def test_the_package_holds_400_000_words_of_50_dimensions(glove):
    assert glove.vectors.shape == (400_000, 50)
    assert (len(glove.words), glove.vectors.dtype) == (400_000, np.float32)
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


@pytest.mark.parametrize(
    "source",
    ["", "glove", "package:", "package:glove.6B.300d", "x.txt"],
)
def test_an_unknown_source_names_the_known_ones(source):
    with pytest.raises(UserError) as error:
        word_vectors.load(source)
    assert repr(source) in str(error.value)
    assert PACKAGE in str(error.value)
    assert "torchtext:6B.50d" in str(error.value)


def test_a_package_that_is_not_installed_names_the_command(monkeypatch):
    packages = {PACKAGE: ("no_such_vectors", "words", "vectors")}
    monkeypatch.setattr(word_vectors, "_PACKAGES", packages)
    with pytest.raises(UserError, match="is not installed: pip install no-such-vectors"):
        word_vectors.load(PACKAGE)


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


def test_a_damaged_copy_is_replaced(text, parsed, tmp_path):
    word_vectors.load(str(text))
    (copy,) = (tmp_path / "cache_home/sentiflow/vectors").iterdir()
    copy.write_bytes(copy.read_bytes()[:-20])
    for _ in range(2):
        assert word_vectors.load(str(text)).vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(parsed) == 2


def test_a_cache_that_cannot_be_written_is_no_error(text, parsed, tmp_path):
    (tmp_path / "cache_home").write_text("a file")
    for _ in range(2):
        assert len(word_vectors.load(str(text)).words) == 3
    assert len(parsed) == 2


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


def test_a_damaged_package_is_refused(make_package):
    uri = make_package()
    path = Path(uri, package_files.WEIGHTS)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="is not the file that was saved"):
        word_vectors.load(uri)


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


# Cached copies


WORDS, VECTORS = pa.array(["the", "of", "ü"]), np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "vectors.txt"
    path.write_text("the 0 1\n")
    return path


@pytest.fixture
def copy(source):
    path = word_vectors.locate_copy(str(source))
    word_vectors.write_copy(path, WORDS, VECTORS)
    return path


def test_a_copy_is_mapped_from_the_file(copy):
    words, vectors = word_vectors.read_copy(copy)
    assert words.equals(WORDS)
    np.testing.assert_array_equal(vectors, VECTORS)
    assert vectors.dtype == np.float32
    assert not vectors.flags.writeable
    assert not vectors.flags.owndata


@pytest.mark.parametrize("vectors", [VECTORS[:0], np.asfortranarray(VECTORS), VECTORS[::-1]])
def test_any_vectors_are_read_back(copy, vectors):
    word_vectors.write_copy(copy, WORDS[: len(vectors)], vectors)
    np.testing.assert_array_equal(word_vectors.read_copy(copy)[1], vectors)


def test_the_name_follows_path_size_time_and_number_of_words(source, copy, tmp_path):
    assert copy.parent == tmp_path / "cache/sentiflow/vectors"
    assert word_vectors.locate_copy(str(source)) == copy
    assert word_vectors.locate_copy(str(source), max_words=5) != copy
    os.utime(source, ns=(0, 1))
    later = word_vectors.locate_copy(str(source))
    assert later != copy
    source.write_text("the 0 1\nof 2 3\n")
    os.utime(source, ns=(0, 1))
    assert word_vectors.locate_copy(str(source)) != later


def test_a_new_copy_replaces_those_of_earlier_states(source, copy):
    few = word_vectors.locate_copy(str(source), max_words=1)
    word_vectors.write_copy(few, WORDS[:1], VECTORS[:1])
    other_file = copy.with_name(f"{'0' * 20}-{'0' * 20}-all.arrow")
    word_vectors.write_copy(other_file, WORDS, VECTORS)
    assert set(copy.parent.iterdir()) == {copy, few, other_file}
    os.utime(source, ns=(0, 1))
    later = word_vectors.locate_copy(str(source))
    word_vectors.write_copy(later, WORDS, VECTORS)
    assert set(copy.parent.iterdir()) == {later, other_file}


def test_a_relative_path_names_the_same_copy(source, copy, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert word_vectors.locate_copy(source.name) == copy


def test_the_default_cache_is_below_the_home_directory(source, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    folder = word_vectors.locate_copy(str(source)).parent
    assert str(folder) == "/home/ada/.cache/sentiflow/vectors"


def test_a_missing_copy_is_none(source):
    assert word_vectors.read_copy(word_vectors.locate_copy(str(source))) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "footer", "offsets"])
def test_a_damaged_copy_is_none(copy, damage):
    content = bytearray(copy.read_bytes())
    if damage == "offsets":
        place = content.index(np.array([0, 3, 5, 7], np.int32).tobytes())
        content[place + 4 : place + 8] = b"\xff\xff\xff\x7f"
    damaged = {
        "empty": b"", "cut": content[: len(content) // 2], "other": b"the 0 1\n" * 99,
        "footer": content[:-9] + b"\x00" * 9, "offsets": content,
    }  # fmt: skip
    copy.write_bytes(damaged[damage])
    assert word_vectors.read_copy(copy) is None


def test_another_table_is_none(copy):
    with pa.OSFile(str(copy), "wb") as file, pa.ipc.new_file(file, pa.schema({"word": "string"})):
        pass
    assert word_vectors.read_copy(copy) is None


def test_without_a_home_directory_nothing_is_cached(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    word_vectors.write_copy(tmp_path / "file/below.arrow", WORDS, VECTORS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a home
    place = word_vectors.locate_copy("file")
    word_vectors.write_copy(place, WORDS, VECTORS)
    assert word_vectors.read_copy(place) is None
    assert os.listdir(tmp_path) == ["file"]


def test_an_incomplete_copy_is_deleted(copy, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    before = copy.read_bytes()
    monkeypatch.setattr(pa.ipc, "new_file", fail)
    word_vectors.write_copy(copy, WORDS[:1], VECTORS[:1])
    assert copy.read_bytes() == before
    assert os.listdir(copy.parent) == [copy.name]
