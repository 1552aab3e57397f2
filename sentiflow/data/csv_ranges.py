"""CSV file -> record-aligned byte ranges with their first row number.

A file is thought of as cut at every multiple of ``range_bytes``; a record belongs to the piece in
which it begins. So the ranges follow from the file and ``range_bytes`` alone. They are found in
parallel, a stretch of pieces a task: a task cannot know whether its stretch begins within a quoted
text, so it guesses, and what it found counts only if the stretch before ends just there
(:func:`connect`). A compressed file is one stretch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sentiflow.data import csv_records
from sentiflow.data.csv_records import MAX_RECORD_BYTES, find_records
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.compression import Content

STRETCH_BYTES = 1 << 26
"""About how much of a file one task cuts."""
MAX_RANGE_BYTES = 1 << 26

_LOOK_AHEAD = 1 << 12
_SAMPLE_BYTES = 1 << 16
_SAMPLE_RECORDS = 8


@dataclass(frozen=True)
class CsvRange:
    """A run of whole records in one file."""

    source: str
    start: int
    stop: int
    """In bytes from the beginning of the (unpacked) file."""
    first_row: int
    """Number of the first record, counted over all files."""
    num_rows: int
    has_malformed: bool
    unpacked: str = ""
    """Where the bytes of the range lie, if its file is compressed."""

    def read(self) -> bytes:
        """Read the bytes of the range."""
        if self.unpacked:
            return compression.read_unpacked(self.unpacked)
        file_system, path = filesystem.locate(self.source)
        with file_system.open_input_file(path) as file:
            return bytes(file.read_at(self.stop - self.start, self.start))


@dataclass(frozen=True)
class Stretch:
    """Part of a file that one task cuts into ranges: the records that begin in it."""

    source: str
    start: int
    stop: int | None
    """Multiples of ``range_bytes``; None: to the end, wherever that is."""
    first_record: int | None
    """Where its first record begins; None: to be guessed."""
    range_bytes: int
    num_columns: int
    delimiter: str
    unpack_to: str = ""
    """Where the pieces of a compressed file go: the beginning of a URI."""


@dataclass(frozen=True)
class CutStretch:
    """What a task found in its stretch."""

    first_record: int
    """Where it took the first record to begin."""
    next_record: int
    """Where the first record behind the stretch begins."""
    ranges: tuple[CsvRange, ...]
    """Rows are numbered from 0."""
    leaves: str = ""
    """Of :func:`storage.hash_leaves`, in hexadecimal; nothing for a compressed file."""

    def to_json(self) -> dict[str, Any]:
        """Turn it into what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CutStretch:
        """Turn it back."""
        ranges = tuple(CsvRange(**item) for item in value["ranges"])
        return cls(**value | {"ranges": ranges})


def range_size(head: bytes, *, rows_per_range: int, delimiter: str) -> int:
    """Choose the bytes of a range so that it holds about ``rows_per_range`` records.

    Args:
        head: The beginning of the file, whose records count as usual ones.
        rows_per_range: Records wanted.
        delimiter: Of the columns.

    Returns:
        A multiple of ``storage.LEAF_BYTES``, at most ``MAX_RANGE_BYTES``.
    """
    records, used = find_records(head, delimiter=delimiter, last=False)
    mean_size = used / len(records) if len(records) else len(head)
    num_leaves = round(rows_per_range * mean_size / filesystem.LEAF_BYTES)
    return min(max(1, num_leaves) * filesystem.LEAF_BYTES, MAX_RANGE_BYTES)


def stretches(whole: Stretch, size: int) -> list[Stretch]:
    """Part a file of ``size`` bytes among tasks; ``whole`` is all of it."""
    step = max(1, STRETCH_BYTES // whole.range_bytes) * whole.range_bytes
    return [
        replace(
            whole,
            start=start,
            stop=min(start + step, size),
            first_record=whole.first_record if start == 0 else None,
        )
        for start in range(0, size, step)
    ]


def cut(stretch: Stretch) -> CutStretch:
    """Cut a stretch into ranges, and hash its bytes. Memory is that of one range.

    Raises:
        UserError: A record does not end within 64 MiB; or the file is compressed and damaged.
    """
    with compression.open_content(stretch.source) as content:
        position = stretch.first_record
        if position is None:
            position = _guess_record(content, stretch)
        first_record = position
        ranges: list[CsvRange] = []
        leaves: list[bytes] = []
        for start, stop in _pieces(stretch, content):
            block = content.read_at(start, stop - start)
            leaves.append(b"" if stretch.unpack_to else filesystem.hash_leaves(block))
            if position >= start + len(block):
                continue
            found = _cut_one(content, block[position - start :], position, stop, stretch)
            position = found.stop
            if found.num_rows:
                ranges.append(_unpack(found, content, stretch, len(ranges)))
            content.forget(stop)
    return CutStretch(first_record, position, tuple(ranges), b"".join(leaves).hex())


def connect(
    parts: Sequence[Stretch],
    found: Sequence[CutStretch],
    *,
    first_row: int = 0,
    cut_again: Callable[[Stretch], CutStretch] = cut,
) -> list[CsvRange]:
    """Number the rows of a file's stretches, and cut those again that were begun at a wrong place.

    Args:
        parts: The stretches of one file in order.
        found: What :func:`cut` made of each.
        first_row: Number of the file's first record.
        cut_again: Cuts a stretch whose ``first_record`` is now known.
    """
    ranges: list[CsvRange] = []
    position = found[0].first_record if found else 0
    row = first_row
    for stretch, result in zip(parts, found, strict=True):
        if stretch.stop is not None and position >= stretch.stop:
            continue
        if result.first_record != position:
            result = cut_again(replace(stretch, first_record=position))
        position = result.next_record
        for item in result.ranges:
            ranges.append(replace(item, first_row=row))
            row += item.num_rows
    return ranges


def _pieces(stretch: Stretch, content: Content) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the pieces of a stretch."""
    start = stretch.start
    while not content.ends_at(start) and (stretch.stop is None or start < stretch.stop):
        stop = start + stretch.range_bytes
        yield start, stop if stretch.stop is None else min(stop, stretch.stop)
        start = stop


def _cut_one(
    content: Content, piece: bytes, position: int, boundary: int, stretch: Stretch
) -> CsvRange:
    """Find the records that begin between ``position`` and ``boundary``.

    Args:
        content: The file.
        piece: Its bytes from ``position`` to ``boundary`` (or the end, if that is nearer).
        position: Where a record, or a blank line, begins.
        boundary: Where the next piece begins.
        stretch: What is being cut.
    """
    at_end = content.ends_at(position + len(piece))
    records, used = find_records(piece, delimiter=stretch.delimiter, last=at_end)
    place, num_rows, has_malformed = position + used, len(records), bool(records.malformed.any())
    ahead = _LOOK_AHEAD
    while place < boundary and not content.ends_at(place):
        piece = content.read_at(place, boundary - place + ahead)
        at_end = content.ends_at(place + len(piece))
        records, used = find_records(piece, delimiter=stretch.delimiter, last=at_end)
        begun = int((records.starts < boundary - place).sum())
        if begun:
            num_rows += begun
            has_malformed |= bool(records.malformed[:begun].any())
            place += int(records.stops[begun - 1])
        else:
            place += min(used, boundary - place)
            ahead = _more(ahead, used, place, stretch.source)
    return CsvRange(stretch.source, position, place, 0, num_rows, has_malformed)


def _more(ahead: int, used: int, place: int, source: str) -> int:
    """Say how far to look for the end of a record that did not end within ``ahead``."""
    if used:
        return ahead
    if ahead > 64 * MAX_RECORD_BYTES:
        raise UserError(
            f"{source}: the record at byte {place:,} has no end within {ahead:,} bytes",
            hint="is it a CSV?",
        )
    return ahead * 8


def _unpack(found: CsvRange, content: Content, stretch: Stretch, number: int) -> CsvRange:
    """Lay the bytes of a range down where tasks can read them, if the file is compressed."""
    if not stretch.unpack_to:
        return found
    target = f"{stretch.unpack_to}-{number:05d}"
    compression.write_unpacked(target, content.read_at(found.start, found.stop - found.start))
    return replace(found, unpacked=target)


def _guess_record(content: Content, stretch: Stretch) -> int:
    """Guess where the first record at or behind the start of a stretch begins.

    It is a line from where on some records have the right number of columns; if there is none, the
    first line.
    """
    before = stretch.start - 1
    sample = content.read_at(before, _SAMPLE_BYTES)
    lines = [match.end() for match in csv_records.LINE_END.finditer(sample)]
    for line in lines:
        if _looks_right(sample[line:], stretch):
            return before + line
    return before + lines[0] if lines else stretch.start


def _looks_right(sample: bytes, stretch: Stretch) -> bool:
    records, _ = find_records(sample, delimiter=stretch.delimiter, last=False)
    if not len(records) or records.malformed[:_SAMPLE_RECORDS].any():
        return False
    lines = sample[: records.stops[:_SAMPLE_RECORDS][-1]].decode("latin-1")
    rows = csv.reader(io.StringIO(lines, newline=""), delimiter=stretch.delimiter)
    return all(len(row) == stretch.num_columns for row in rows if row)
