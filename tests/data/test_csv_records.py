"""Records are those of RFC 4180 wherever a piece ends, and a broken line costs itself alone."""

import csv
import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiflow.data import csv_records
from sentiflow.data.csv_records import find_records

SETTINGS = settings(max_examples=100, deadline=None)

CUT_SHORT = 12
"""``MAX_RECORD_BYTES`` where a test wants long records."""


def text_of(alphabet, max_size=40):
    """Make bytes out of the pieces of ``alphabet``."""
    return st.lists(st.sampled_from(alphabet), max_size=max_size).map(b"".join)


BROKEN = text_of([b"a", b",", b'"', b"\n", b"\r\n", b"\r"])


@st.composite
def rfc_4180(draw):
    """Write records of plain and quoted fields, blank lines between them, in LF and CRLF.

    A plain field may hold quotes behind its first byte.
    """
    quoted = st.binary(max_size=8).map(lambda value: b'"' + value.replace(b'"', b'""') + b'"')
    in_quotes = text_of([b"a", b",", b'""', b"\n", b"\r"]).map(lambda value: b'"' + value + b'"')
    plain = st.binary(max_size=5).map(lambda value: value.translate(None, b",\r\n").lstrip(b'"'))
    record = st.lists(st.one_of(quoted, in_quotes, plain), max_size=4).map(b",".join)
    lines = draw(st.lists(st.tuples(record, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=8))
    content = b"".join(record + end for record, end in lines)
    return content.rstrip(b"\r\n") if draw(st.booleans()) else content


def rows_of(content):
    """Read rows as Python's csv module does, bytes for bytes; blank lines are none."""
    return [row for row in csv.reader(io.StringIO(content.decode("latin-1"), newline="")) if row]


def reference(content, max_bytes=csv_records.MAX_RECORD_BYTES):
    """Walk the grammar of the module's docstring byte by byte: start, stop, malformed."""
    found, start = [], 0
    while start < len(content):
        stop = _end_of_record(content, start)
        malformed = stop is None or stop - start > max_bytes
        if malformed:
            line_end = re.compile(rb"\r\n|\r|\n|\Z").search(content, start)
            stop = line_end.end()
        if content[start:stop] not in (b"\n", b"\r\n", b"\r"):
            found.append((start, stop, malformed))
        start = stop
    return found


def _end_of_record(content, place):
    while True:
        if content[place : place + 1] == b'"':
            place = _end_of_quoted(content, place + 1)
            if place is None:
                return None
        else:
            while place < len(content) and content[place : place + 1] not in (b",", b"\n", b"\r"):
                place += 1
        if content[place : place + 1] == b",":
            place += 1
            continue
        for end in (b"\n", b"\r\n", b"\r"):
            if content.startswith(end, place):
                return place + len(end)
        return len(content) if not content[place:] else None


def _end_of_quoted(content, place):
    while True:
        quote = content.find(b'"', place)
        if quote < 0:
            return None
        if content[quote + 1 : quote + 2] != b'"':
            return quote + 1
        place = quote + 2


def triples(records, offset=0):
    """List start, stop and malformed of each record."""
    starts = records.starts + offset
    stops = records.stops + offset
    return list(zip(starts.tolist(), stops.tolist(), records.malformed.tolist(), strict=True))


def find_in_pieces(content, sizes):
    """Find records in pieces of these sizes; bytes left over by one begin the next."""
    found = []
    position = 0
    end = 0
    for size in sizes:
        end = min(len(content), end + size)
        records, used = find_records(content[position:end], last=False)
        found += triples(records, position)
        position += used
    records, used = find_records(content[position:])
    assert position + used == len(content)
    return found + triples(records, position)


@SETTINGS
@example(b'5" tall,"a"\r\n')
@given(rfc_4180())
def test_records_of_rfc_4180_are_those_of_python(content):
    records, used = find_records(content)
    rows = [rows_of(content[start:stop]) for start, stop, _ in triples(records)]
    assert rows == [[row] for row in rows_of(content)]
    assert not records.malformed.any()
    assert used == len(content)


@SETTINGS
@example(b'"a"\r\n"b\n')
@example(b"\r\r\n")
@example(b'"a"\rb\n')
@given(BROKEN)
def test_records_of_any_bytes_follow_the_grammar(content):
    assert triples(find_records(content)[0]) == reference(content)


@SETTINGS
@example(b'"a","b"\r\n"c","d"\r\n')
@example(b'"a"\r')
@example(b"\r\r\n")
@example(b'"a"\rb\n')
@given(BROKEN)
def test_both_finders_agree_where_the_fast_one_answers(content):
    fast = csv_records._find_regular(content, ",", True)
    if fast is not None:
        records, used = fast
        expected_records, expected_used = csv_records._find_one_by_one(content, ",", True)
        assert triples(records) == triples(expected_records)
        assert used == expected_used


@SETTINGS
@given(BROKEN)
def test_of_an_unfinished_piece_the_fast_finder_finds_the_first_records(content):
    fast = csv_records._find_regular(content, ",", False)
    slow, used = csv_records._find_one_by_one(content, ",", False)
    if fast is not None:
        assert triples(fast[0]) == triples(slow)[: len(fast[0])]
        assert fast[1] <= used


def test_the_fast_finder_answers_for_regular_csv():
    content = b'"a","b ""c"", d\ne"\r\nf,g\n\n"","h"'
    records, used = csv_records._find_regular(content, ",", True)
    assert [content[start:stop] for start, stop, _ in triples(records)] == [
        b'"a","b ""c"", d\ne"\r\n',
        b"f,g\n",
        b'"","h"',
    ]
    assert used == len(content)


@SETTINGS
@given(st.one_of(rfc_4180(), BROKEN), st.lists(st.integers(1, 30), max_size=12))
def test_cutting_anywhere_changes_no_record(content, sizes):
    assert find_in_pieces(content, sizes) == triples(find_records(content)[0])


LONG = text_of([b"\r", b"\r\n", b"a", b"aaaa", b",", b'"', b"\n"])


@SETTINGS
@given(LONG, st.lists(st.integers(1, 9), max_size=12))
def test_a_record_beyond_the_limit_is_malformed_line_by_line(content, sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "MAX_RECORD_BYTES", CUT_SHORT)
        expected = reference(content, CUT_SHORT)
        assert triples(find_records(content)[0]) == expected
        assert find_in_pieces(content, sizes) == expected


@SETTINGS
@given(st.lists(text_of([b"a", b",", b'"'], max_size=4), max_size=30).map(b"\n".join))
def test_what_is_left_of_a_piece_is_at_most_one_record_long(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "MAX_RECORD_BYTES", CUT_SHORT)
        _, used = find_records(content, last=False)
    assert len(content) - used <= CUT_SHORT


def test_another_delimiter_parts_fields():
    content = b'"a";"b,""c"\n"a","b"\n'
    assert triples(find_records(content, delimiter=";")[0]) == [(0, 12, False), (12, 20, True)]
    assert triples(find_records(b'a,"b\n"\n', delimiter=";")[0]) == [(0, 5, False), (5, 7, True)]
    assert triples(find_records(b'"a"\t"b\n"\n', delimiter="\t")[0]) == [(0, 9, False)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param(b'"a\n', csv_records.UNCLOSED_QUOTE, id="in the first field"),
        pytest.param(b'a,"b","c,d\n', csv_records.UNCLOSED_QUOTE, id="in the last field"),
        pytest.param(b'"a ""b"", c\n', csv_records.UNCLOSED_QUOTE, id="doubled quotes close none"),
        pytest.param(b'"a"b,c\n', csv_records.MISPLACED_QUOTE, id="text behind a quote"),
        pytest.param(b'a,"b" ,c\n', csv_records.MISPLACED_QUOTE, id="a blank behind a quote"),
        pytest.param(b'a,"b"c"\n', csv_records.MISPLACED_QUOTE, id="the first fault is named"),
        pytest.param(b"x" * CUT_SHORT + b"\n", csv_records.TOO_LONG, id="beyond the limit"),
    ],
)
def test_the_fault_of_a_malformed_record_is_named(monkeypatch, line, fault):
    if fault == csv_records.TOO_LONG:
        monkeypatch.setattr(csv_records, "MAX_RECORD_BYTES", CUT_SHORT)
    content = b'"0","1"\n' + line + b'"4","2"\n'
    records, _ = find_records(content)
    assert triples(records)[1] == (8, 8 + len(line), True)
    assert csv_records.name_faults(content, records) == [fault]
