"""The records and their numbers do not depend on how a file is divided among tasks."""

import gzip
import hashlib
import random
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_csv_records import BROKEN, reference, rfc_4180, rows_of, triples

from sentiflow.data import csv_ranges, csv_records
from sentiflow.data.csv_ranges import Chunk, CutChunk, connect, cut, make_chunks, range_size
from sentiflow.data.csv_records import find_records
from sentiflow.errors import UserError
from sentiflow.storage import hashes

SETTINGS = settings(max_examples=120, deadline=None)

SIZES = st.integers(1, 40)
"""Bytes of a range, and of a chunk in ranges."""


def write(folder, content, name="tweets.csv"):
    """Write a CSV; returns its path."""
    path = folder / name
    path.write_bytes(content)
    return str(path)


def whole(path, range_bytes, **changes):
    """Take a file, without header, as one chunk."""
    chunk = Chunk(
        source=path,
        start=0,
        stop=None,
        first_record=0,
        range_bytes=range_bytes,
        num_columns=2,
        delimiter=",",
    )
    return replace(chunk, **changes)


def ranges_of(folder, content, *, range_bytes, ranges_per_chunk):
    """Cut a file as tasks do, each with its chunk; what they found travels as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "CHUNK_BYTES", range_bytes * ranges_per_chunk)
        parts = make_chunks(whole(write(folder, content), range_bytes), len(content))
    found = [CutChunk.from_json(asdict(cut(part))) for part in parts]
    return connect(parts, found, first_row=7)


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
    """Check that rows are numbered from 7 without gap, and ranges lie behind each other."""
    row = 7
    for csv_range in ranges:
        assert csv_range.first_row == row
        row += csv_range.num_rows
    assert all(earlier.stop <= later.start for earlier, later in pairwise(ranges))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory for files that one example after the other overwrites."""
    return tmp_path_factory.mktemp("csv")


@SETTINGS
@given(st.lists(rfc_4180(), max_size=6), SIZES, st.integers(1, 5))
def test_rfc_4180_in_any_number_of_ranges_gives_the_rows_of_python(
    folder, contents, range_bytes, ranges_per_chunk
):
    content = b"".join(part if part.endswith((b"\n", b"\r")) else part + b"\n" for part in contents)
    ranges = ranges_of(folder, content, range_bytes=range_bytes, ranges_per_chunk=ranges_per_chunk)
    found = [rows_of(content[start:stop]) for start, stop, _ in records_of(ranges)]
    assert found == [[row] for row in rows_of(content)]
    check_numbers(ranges)


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES, st.integers(1, 5))
def test_records_of_any_bytes_do_not_depend_on_ranges_and_chunks(
    folder, content, range_bytes, ranges_per_chunk
):
    ranges = ranges_of(folder, content, range_bytes=range_bytes, ranges_per_chunk=ranges_per_chunk)
    assert records_of(ranges) == reference(content)
    check_numbers(ranges)


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES, st.integers(1, 5), st.integers(1, 5))
def test_ranges_do_not_depend_on_chunks(folder, content, range_bytes, few, many):
    once, again = (
        ranges_of(folder, content, range_bytes=range_bytes, ranges_per_chunk=number)
        for number in (few, many)
    )
    assert once == again


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES)
def test_a_record_belongs_to_the_piece_in_which_it_begins(folder, content, range_bytes):
    ranges = ranges_of(folder, content, range_bytes=range_bytes, ranges_per_chunk=1)
    pieces = [{start // range_bytes for start, _, _ in records_of([one])} for one in ranges]
    assert all(len(piece) == 1 for piece in pieces)
    assert len(set.union(set(), *pieces)) == len(pieces)


@SETTINGS
@given(st.lists(BROKEN, max_size=4).map(b"".join), SIZES)
def test_a_compressed_file_has_the_ranges_of_the_plain_one(folder, content, range_bytes):
    plain = ranges_of(folder, content, range_bytes=range_bytes, ranges_per_chunk=100)
    packed = write(folder, gzip.compress(content), "tweets.csv.gz")
    chunk = whole(packed, range_bytes, unpack_to=str(folder / "unpacked"))
    found = connect([chunk], [cut(chunk)], first_row=7)
    assert [one.read() for one in found] == [one.read() for one in plain]
    assert [(one.start, one.first_row) for one in found] == [
        (one.start, one.first_row) for one in plain
    ]


@SETTINGS
@given(st.binary(max_size=300_000), st.sampled_from([1, 2, 3]))
def test_the_leaves_of_the_chunks_make_the_hash_of_the_file(folder, content, number):
    path = write(folder, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "CHUNK_BYTES", hashes.LEAF_BYTES * number)
        parts = make_chunks(whole(path, hashes.LEAF_BYTES), len(content))
    leaves = b"".join(bytes.fromhex(cut(part).leaves) for part in parts)
    assert hashes.join_leaves(leaves) == hashes.tree_sha256(path)


TRICKY = b'"0","text with\n""4"",""a row in quotes""\n""0"",""and one more""\nthe end"\n'
"""A row whose text looks like rows, so that a task that begins in it guesses wrong."""


def test_chunks_with_a_wrong_guess_are_cut_again(folder):
    rows = [b'"0","one"\n', TRICKY.replace(b'""', b'"'), TRICKY, b'"4","b"\n']
    content = b"".join(random.Random(3).choices(rows, k=150))
    again = []

    def cut_again(chunk):
        again.append(chunk.start)
        return cut(chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "CHUNK_BYTES", 64)
        parts = make_chunks(whole(write(folder, content), 32), len(content))
    ranges = connect(parts, [cut(part) for part in parts], cut_again=cut_again)
    assert records_of(ranges) == reference(content)
    assert 0 < len(again) < len(parts)


def test_no_chunk_of_a_clean_file_is_cut_again(folder):
    rows = [b'"0","one, ""two"""\n', b'"4","two\nlines"\n', b'"4",""\n']
    content = b"".join(random.Random(3).choices(rows, k=3000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_ranges, "CHUNK_BYTES", 4096)
        parts = make_chunks(whole(write(folder, content), 1024), len(content))

    def cut_again(chunk):
        pytest.fail(f"the chunk at {chunk.start} was begun at a wrong place")

    connect(parts, [cut(part) for part in parts], cut_again=cut_again)
    assert len(parts) > 8


def test_a_range_holds_about_as_many_rows_as_wanted():
    head = b'"0","a tweet of fifty bytes, give or take a few"\n' * 4000
    size = range_size(head, rows_per_range=50_000, delimiter=",")
    assert size % hashes.LEAF_BYTES == 0
    assert size / 49 == pytest.approx(50_000, rel=0.02)
    assert range_size(head, rows_per_range=1, delimiter=",") == hashes.LEAF_BYTES
    assert range_size(head, rows_per_range=10**9, delimiter=",") == csv_ranges.MAX_RANGE_BYTES
    assert range_size(b"", rows_per_range=10, delimiter=",") == hashes.LEAF_BYTES


def test_a_header_belongs_to_no_range(folder):
    content = b"label,text\n0,a\n4,b\n"
    chunk = whole(write(folder, content), 100, first_record=11)
    (csv_range,) = connect([chunk], [cut(chunk)])
    assert csv_range.read() == b"0,a\n4,b\n"
    assert (csv_range.start, csv_range.num_rows) == (11, 2)


@pytest.mark.parametrize("content", [b"", b"\n\r\n"])
def test_a_file_without_a_record_has_no_range(folder, content):
    assert ranges_of(folder, content, range_bytes=4, ranges_per_chunk=1) == []


def test_a_file_without_line_ends_is_refused(monkeypatch, folder):
    monkeypatch.setattr(csv_records, "MAX_RECORD_BYTES", 12)
    chunk = whole(write(folder, b"x" * 100_000), 64)
    with pytest.raises(UserError, match=r"tweets\.csv: the record at byte 0 does not end"):
        cut(chunk)


def test_the_hash_of_a_file_is_the_same_cut_or_read(folder):
    content = b'"0","a"\n' * 50_000
    path = write(folder, content)
    leaves = [content[i : i + hashes.LEAF_BYTES] for i in range(0, len(content), 65536)]
    digests = b"".join(hashlib.sha256(leaf).digest() for leaf in leaves)
    assert hashes.tree_sha256(path) == hashlib.sha256(digests).hexdigest()
