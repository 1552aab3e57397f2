"""How a CSV is written is found out, whatever program has written it."""

import pytest
from odd_files import OddFile, make_all, make_random, make_rows, write

from sentiflow.data.inspection import dialects
from sentiflow.errors import UserError

ODD_FILES = make_all()
REFUSED = ("UTF-16 without a mark", "UTF-32", "Cyrillic cp1251", "comment first")
READ = [file for file in ODD_FILES if file.name not in REFUSED]


def named(file: OddFile) -> str:
    return file.name


@pytest.mark.parametrize("file", [*READ, *make_random(60, seed=1)], ids=named)
def test_delimiter_header_and_encoding_are_found(file):
    content = file.content.decode("utf-16").encode() if file.name == "UTF-16" else file.content
    found = dialects.sniff(content, source="odd.csv")
    assert found.delimiter == file.delimiter or file.num_columns == 1
    assert found.has_header == file.header
    assert content.decode(found.encoding, "replace").removeprefix("\ufeff") == (
        file.content.decode(file.encoding, "replace")
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "UTF-16 without a mark",
            "odd.csv holds NUL bytes: it is not text, or it is UTF-16 or UTF-32 without a byte "
            "order mark: copy",
        ),
        (
            "UTF-32",
            "odd.csv holds NUL bytes: it is not text, or it is UTF-16 or UTF-32 without a byte "
            "order mark: copy",
        ),
        (
            "Cyrillic cp1251",
            "odd.csv is encoded in cp1251, which is not supported: convert it: iconv -f cp1251 ",
        ),
        (
            "comment first",
            "odd.csv begins with '# exported on Monday', which has fewer columns than the other "
            "records: ",
        ),
    ],
)
def test_what_the_reader_cannot_read_is_refused_with_a_way_out(name, expected):
    (file,) = [file for file in ODD_FILES if file.name == name]
    with pytest.raises(UserError) as caught:
        dialects.sniff(file.content, source="odd.csv")
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("content", [bytes(100_000), b"text,label\na,b\n" + bytes(1000)])
def test_nul_bytes_are_no_text(content):
    with pytest.raises(UserError, match=r"^a\.csv holds NUL bytes"):
        dialects.detect_encoding(content, source="a.csv")


@pytest.mark.parametrize("text", ["naïve é", "café", "ok “"])
def test_a_character_that_is_cut_at_the_end_is_no_damage(text):
    assert dialects.detect_encoding(f"text\n{text}".encode()[:-1], source="a.csv") == "utf-8"


def test_a_record_that_is_cut_at_the_end_does_not_count(monkeypatch):
    content = write(make_rows(300), header=("text", "label"), quote_all=True)
    monkeypatch.setattr(dialects.csv_format, "HEAD_BYTES", 9_001)
    assert dialects.sniff(content, source="a.csv").delimiter == ","


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("message", "mood"), ("so good", "fine"), ("hm", "bad")], True),
        ([("fine", "so good"), ("bad", "hm"), ("fine", "oh")], False),
        ([("17", "so good"), ("18", "hm")], False),
        ([("a day like any other, and then it rained", "bad"), ("no", "good")], False),
        ([("who", "how much"), ("ann", "12"), ("bob", "17.5")], True),
        ([("text",)], True),
        ([("text", "text"), ("a", "b")], False),
        ([("", "")], False),
    ],
)
def test_a_header_is_told_from_data(rows, expected):
    assert dialects.has_header(rows) is expected
