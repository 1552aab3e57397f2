"""The records and their numbers do not depend on where a file is cut."""

import gzip
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_csv_records import BROKEN, reference, triples

from sentiflow.data import csv_ranges, csv_records
from sentiflow.data.csv_ranges import range_size
from sentiflow.data.csv_records import find_records
from sentiflow.errors import UserError
from sentiflow.storage import compression, hashes

SETTINGS = settings(max_examples=50, deadline=None)

SIZES = st.integers(1, 40)
"""Bytes of a range, or that are read or searched at a time."""


def write(folder, content, name="tweets.csv"):
    """Write a CSV; returns its path."""
    path = folder / name
    path.write_bytes(content)
    return str(path)


def cut(path, range_bytes, **changes):
    """Cut a file without header."""
    options = {"data_start": 0, "delimiter": ","} | changes
    return csv_ranges.cut(path, range_bytes=range_bytes, **options)


def ranges_of(folder, content, *, range_bytes, read_bytes=1 << 24, search_bytes=1 << 20):
    """Cut a file that is read and searched in pieces of some bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "_READ_BYTES", read_bytes)
        patch.setattr(csv_ranges, "_SEARCH_BYTES", search_bytes)
        return cut(write(folder, content), range_bytes)[0]


def records_of(ranges):
    """List the records of ranges with their place in the file, each range read on its own."""
    found = []
    for csv_range in ranges:
        content = csv_range.read()
        records, used = find_records(content)
        assert used == len(content) == csv_range.stop - csv_range.start
        assert len(records) == csv_range.num_rows > 0
        assert records.malformed.any() == csv_range.has_malformed
        found += triples(records, csv_range.start)
    return found


def check_numbers(ranges):
    """Check that rows are numbered without gap, and ranges lie behind each other."""
    row = 0
    for csv_range in ranges:
        assert csv_range.first_row == row
        row += csv_range.num_rows
    assert all(earlier.stop <= later.start for earlier, later in pairwise(ranges))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory for files that one example after the other overwrites."""
    return tmp_path_factory.mktemp("csv")


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES, SIZES, SIZES)
def test_records_of_any_bytes_do_not_depend_on_how_they_are_read(
    folder, content, range_bytes, read_bytes, search_bytes
):
    ranges = ranges_of(
        folder, content, range_bytes=range_bytes, read_bytes=read_bytes, search_bytes=search_bytes
    )
    assert records_of(ranges) == reference(content)
    check_numbers(ranges)
    assert ranges == ranges_of(folder, content, range_bytes=range_bytes)


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES)
def test_a_record_belongs_to_the_piece_in_which_it_begins(folder, content, range_bytes):
    ranges = ranges_of(folder, content, range_bytes=range_bytes)
    places = []
    for one in ranges:
        numbers = {start // range_bytes for start, _, _ in records_of([one])}
        assert len(numbers) == 1
        places += numbers
    assert len(set(places)) == len(places)


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES, st.booleans())
def test_a_compressed_file_has_the_ranges_of_the_plain_one(
    folder, content, range_bytes, has_header
):
    start = 0
    if has_header:
        header = b"text\n"
        content = header + content
        start = len(header)
    plain, _ = cut(write(folder, content), range_bytes, data_start=start)
    packed = write(folder, gzip.compress(content), "tweets.csv.gz")
    unpack_to = str(folder / "unpacked")
    found, tree = cut(packed, range_bytes, data_start=start, unpack_to=unpack_to)
    assert [one.read() for one in found] == [one.read() for one in plain]
    assert [(one.start, one.stop, one.first_row) for one in found] == [
        (one.start, one.stop, one.first_row) for one in plain
    ]
    assert tree == hashes.tree_sha256(packed)


TEXTS = st.lists(st.sampled_from([*'a,"\n\r\té\u0e01\U0001f389', '"a\n"', "\r\n"]), max_size=60)


@SETTINGS
@given(TEXTS.map("".join), SIZES, st.sampled_from(["utf-16-le", "utf-16-be"]), st.booleans())
def test_a_file_in_utf_16_has_the_records_of_the_same_in_utf_8(
    folder, text, range_bytes, encoding, is_packed
):
    plain, _ = cut(write(folder, text.encode()), range_bytes)
    name, content = "wide.csv", f"\ufeff{text}".encode(encoding)
    if is_packed:
        name, content = "wide.csv.gz", gzip.compress(content)
    wide = write(folder, content, name)
    assert compression.is_forward_only(wide)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "_READ_BYTES", 5)
        patch.setattr(compression, "_READ_BYTES", 3)
        found, tree = cut(wide, range_bytes, unpack_to=str(folder / "unpacked"))
    assert [one.read() for one in found] == [one.read() for one in plain]
    assert [replace(one, source="", unpacked="", is_packed=False) for one in found] == [
        replace(one, source="") for one in plain
    ]
    assert tree == hashes.tree_sha256(wide)


@SETTINGS
@given(st.binary(max_size=300_000), st.sampled_from([1, 2, 3]))
def test_cutting_hashes_the_file(folder, content, number):
    path = write(folder, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "_READ_BYTES", hashes.LEAF_BYTES * number)
        _, tree = cut(path, hashes.LEAF_BYTES)
    assert tree == hashes.tree_sha256(path)


def test_only_some_blocks_wait_until_they_are_hashed(monkeypatch, folder):
    monkeypatch.setattr(csv_ranges, "_READ_BYTES", hashes.LEAF_BYTES)
    content = b"a line of sixteen\n" * 400_000
    path = write(folder, content)
    num_hashed = 0
    waiting = []

    def hash_slowly(block):
        nonlocal num_hashed
        time.sleep(0.002)
        num_hashed += 1
        return hash_leaves(block)

    def read_and_count(source, size):
        for number, block in enumerate(read_blocks(source, size)):
            waiting.append(number - num_hashed)
            yield block

    hash_leaves = hashes.hash_leaves
    read_blocks = compression.read_blocks
    monkeypatch.setattr(hashes, "hash_leaves", hash_slowly)
    monkeypatch.setattr(compression, "read_blocks", read_and_count)
    _, tree = cut(path, hashes.LEAF_BYTES)
    assert len(waiting) > 100
    assert max(waiting) <= csv_ranges._MAX_UNHASHED
    monkeypatch.undo()
    assert tree == hashes.tree_sha256(path)


def test_a_range_holds_about_as_many_rows_as_wanted():
    head = b'"0","a tweet of fifty bytes, give or take a few"\n' * 4000
    size = range_size(head, rows_per_range=50_000, delimiter=",")
    assert size % csv_ranges.MIN_RANGE_BYTES == 0
    assert size / 49 == pytest.approx(50_000, rel=0.02)
    assert range_size(head, rows_per_range=1, delimiter=",") == csv_ranges.MIN_RANGE_BYTES
    assert range_size(head, rows_per_range=10**9, delimiter=",") == csv_ranges.MAX_RANGE_BYTES
    assert range_size(b"", rows_per_range=10, delimiter=",") == csv_ranges.MIN_RANGE_BYTES


@pytest.mark.parametrize("content", [b"", b"\n\r\n"])
def test_a_file_without_a_record_has_no_range(folder, content):
    assert ranges_of(folder, content, range_bytes=4) == []


def test_a_file_without_line_ends_is_refused_and_no_byte_is_searched_many_times(
    monkeypatch, folder
):
    searched = []

    def find_and_count(piece, **options):
        searched.append(len(piece))
        return find_records(piece, **options)

    monkeypatch.setattr(csv_ranges, "_MAX_UNFINISHED", 50_000)
    monkeypatch.setattr(csv_ranges, "_SEARCH_BYTES", 64)
    monkeypatch.setattr(csv_records, "find_records", find_and_count)
    path = write(folder, b"x" * 100_000)
    with pytest.raises(UserError, match=r"tweets\.csv: the record at byte 0 does not end within "):
        cut(path, 64)
    assert sum(searched) < 200_000
