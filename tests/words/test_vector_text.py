"""Text of word vectors is read as it stands, or refused with the line that is wrong."""

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.errors import UserError
from sentiflow.words import vector_text

LINES = b"cat 0.1 -2\ndog 3e-1 4\n. 5 .6\n"
WORDS, VECTORS = ["cat", "dog", "."], np.array([[0.1, -2], [0.3, 4], [5, 0.6]], np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vectors.txt"


def read(path, content=None, **options):
    if content is not None:
        path.write_bytes(content)
    words, vectors = vector_text.read(str(path), **options)
    assert words.type == pa.string()
    assert vectors.dtype == np.float32
    return words.to_pylist(), vectors.tolist()


def refusal(path, content):
    """Give the one line that refuses a file, without its folder."""
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        vector_text.read(str(path))
    (line,) = str(error.value).splitlines()
    return line.removeprefix(f"{path.parent}/")


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        b"3 2\n" + LINES,  # word2vec
        LINES.replace(b"\n", b" \n"),  # as word2vec's own program ends its lines
        LINES.replace(b"\n", b"\r\n"),
        LINES + b"\n\n",
        LINES.rstrip(),
        b"\xef\xbb\xbf" + LINES,
        b"\xef\xbb\xbf3 2\n" + LINES,
    ],
)
@pytest.mark.parametrize("block_bytes", [14, 1 << 20])
def test_all_formats_give_the_same(path, content, block_bytes, monkeypatch):
    monkeypatch.setattr(vector_text, "BLOCK_BYTES", block_bytes)
    assert read(path, content) == (WORDS, VECTORS.tolist())


def test_packed_files_give_the_same(tmp_path):
    (tmp_path / "vectors.txt.gz").write_bytes(gzip.compress(LINES))
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("vectors.txt", LINES)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("other.txt", b"other 1 2\n")
        archive.writestr("deep/vectors.txt", LINES)
    for name in ("vectors.txt.gz", "one.zip", "one.zip::vectors.txt", "two.zip::deep/vectors.txt"):
        assert read(tmp_path / name) == (WORDS, VECTORS.tolist())
    with pytest.raises(UserError, match=r"holds 2 files: name one: .*two\.zip::deep/vectors\.txt"):
        vector_text.read(str(tmp_path / "two.zip"))


def test_a_word_may_contain_spaces_quotes_and_null_markers(path):
    words = [
        ". . .",
        "at name@domain.com",
        '"',
        '"a',
        "'",
        "NULL",
        "NA",
        "nan",
        "1",
        "\u00a0",
        ",",
        "a\x1fb c",
    ]
    content = "".join(f"{word} 0.5 {i}\n" for i, word in enumerate(words)).encode()
    assert read(path, content) == (words, [[0.5, i] for i in range(len(words))])


@given(st.lists(st.lists(st.floats(-1e9, 1e9, width=32), min_size=3, max_size=3), min_size=1))
def test_every_number_is_read_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("numbers") / "vectors.txt"
    lines = (f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows))
    assert read(path, "".join(lines).encode())[1] == rows


@pytest.mark.parametrize("block_bytes", [14, 1 << 20])
@pytest.mark.parametrize("header", [b"", b"3 2\n"])
def test_only_the_requested_words_are_read(path, header, block_bytes, monkeypatch):
    monkeypatch.setattr(vector_text, "BLOCK_BYTES", block_bytes)
    content = header + LINES
    if block_bytes < 20:  # the damaged line is in a later block
        content += b"damage\n"
    words, _ = read(path, content, max_words=2)
    assert words[:2] == WORDS[:2]


def test_the_first_line_of_a_repeated_word_counts(path):
    content = LINES + b"dog 7 7\ncat 8 8\ndog 9 9\nbird 1 1\n"
    words, vectors = read(path, content)
    assert words == [*WORDS, "bird"]
    assert vectors == [*VECTORS.tolist(), [1, 1]]


@pytest.mark.parametrize(
    "line",
    [
        b"bird 1", b"bird 1 2 3", b"", b"bird 1 two", b"bird  2", b"bird NA 2", b"bird 1_0 2",
        b"bird nan 2", b"bird -inf 2", b"bird 1e39 2", b"\xff 1 2", b"bi\rrd 1 2",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("header", "number", "block_bytes"), [(b"", 4, 1 << 20), (b"5 2\n", 5, 40)]
)
def test_a_wrong_line_is_named(path, line, header, number, block_bytes, monkeypatch):
    monkeypatch.setattr(vector_text, "BLOCK_BYTES", block_bytes)
    found = refusal(path, header + LINES + line + b"\nlast 1 2\n")
    assert found == (
        f"vectors.txt, line {number} is not a word with 2 finite numbers, in UTF-8: correct or "
        "delete it; is it a complete text file of vectors?"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "vectors.txt holds no word vectors: write a word and its numbers"),
        (b"\n\n", "vectors.txt holds no word vectors: "),
        (b"cat\ndog\n", "vectors.txt holds no word vectors: "),
        (b"cat\t1\t2\n", "vectors.txt holds no word vectors: "),
        (b"cat" + b" 1" * 200_000, "vectors.txt holds no word vectors: "),
        (b"4 2\n" + LINES, "vectors.txt holds 3 words, not 4 as its first line says: is it compl"),
        (b"4 2\n", "vectors.txt holds 0 words, not 4 as its first line says: is it complete?"),
        (b"4 300\n" + LINES, "vectors.txt, line 2 is not a word with 300 finite numbers"),
        (bytes(range(256)) * 99, "vectors.txt, line 1 is not a word with 1 finite numbers"),
    ],
)
def test_a_file_without_vectors_is_refused(path, content, problem):
    assert refusal(path, content).startswith(problem)
