"""A copy is found again while its file is the same, and no copy is ever an error."""

import os

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.words import word_vectors

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
