"""How a CSV is written is found out, whatever program has written it."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
        ([("I hate this", "no"), ("love it", "yes"), ("fine", "no")], False),
        ([("text", "label"), ("so good", "fine"), ("text", "label"), ("hm", "bad")], True),
        ([("text", "mood"), ("so good", "fine"), ("hm", "bad")], True),
        ([("", "")], False),
    ],
)
def test_a_header_is_told_from_data(rows, expected):
    assert dialects.has_header(rows) is expected


@pytest.mark.parametrize("value", ["1" * 100_000 + "x", "@" * 100_000, "://" * 50_000 + "\nx"])
def test_a_long_value_is_judged_in_linear_time(value):
    began = time.perf_counter()
    assert dialects.has_header([("message", "mood"), (value, "fine")])
    assert dialects.has_header([(value, "mood"), ("so good", "fine")]) is False
    assert dialects.has_header([("what", "mood"), (value, "fine")])
    assert time.perf_counter() - began < 5


@given(st.text(alphabet="1.,:/@+-T€x\n", max_size=12))
def test_numbers_dates_and_addresses_are_values(text):
    plainly = re.compile(r"[-+]?[\d.,:/ ]*\d[\d.,:/ %€$TZ+-]*|.*://.*|.*@.*\..*")
    assert bool(dialects._VALUE.fullmatch(text)) == bool(plainly.fullmatch(text))


def test_blank_lines_before_a_title_are_not_the_title():
    content = b"\n\r\nMoods of May\na,b,c\nx,y,z\nk,l,m\n"
    with pytest.raises(UserError) as caught:
        dialects.sniff(content, source="a.csv")
    assert str(caught.value) == (
        "a.csv begins with 'Moods of May', which has fewer columns than the other records: delete "
        "this line: tail -n +4 a.csv"
    )


@pytest.mark.parametrize("rows", [b"good,x1\nmeh,x2\nbad,x3\n", b"so good,fine\n, bad\n" * 20])
def test_a_header_with_more_columns_than_the_records_is_refused(rows):
    with pytest.raises(
        UserError, match=r"^a\.csv begins with 'text,label,', which has more columns"
    ):
        dialects.sniff(b"text,label,\n" + rows, source="a.csv")
    found = dialects.sniff(b"17,so good,\n" + rows, source="a.csv")
    assert not found.has_header, "a first record that is no header may be damaged"
