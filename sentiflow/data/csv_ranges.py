"""CSV file -> record-aligned byte ranges with their first row number.

A file is cut at every multiple of ``range_bytes``; a record belongs to the piece in which it
begins. So the ranges depend on the file and ``range_bytes`` alone. They are found in parallel: each
task gets a chunk of several pieces. A task cannot know whether its chunk begins within a quoted
text, so it guesses; :func:`connect` accepts its result only if the previous chunk ends exactly at
the guessed record, and cuts the chunk again otherwise. A compressed file is one chunk.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sentiflow.data import csv_records
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, hashes

CHUNK_BYTES = 1 << 26
"""Approximate size of the chunk of a file that one task cuts."""
MAX_RANGE_BYTES = 1 << 26

_LOOK_AHEAD = 1 << 12
_SAMPLE_BYTES = 1 << 16
_SAMPLE_RECORDS = 8


@dataclass(frozen=True)
class CsvRange:
    """Consecutive whole records of one file."""

    source: str
    start: int
    stop: int
    """``start`` and ``stop`` in bytes from the beginning of the (unpacked) file."""
    first_row: int
    """Number of the first record over all files."""
    num_rows: int
    has_malformed: bool
    unpacked: str = ""
    """URI of a copy of the range, if its file is compressed."""

    def read(self) -> bytes:
        """Read the bytes of the range."""
        if self.unpacked:
            return compression.read_unpacked(self.unpacked)
        file_system, path = filesystem.locate(self.source)
        with file_system.open_input_file(path) as file:
            return bytes(file.read_at(self.stop - self.start, self.start))


@dataclass(frozen=True)
class Chunk:
    """Piece of a file that one task cuts into ranges of the records that begin in it."""

    source: str
    start: int
    stop: int | None
    """``start`` and ``stop`` are multiples of ``range_bytes``; None: the end of the file."""
    first_record: int | None
    """Position of its first record; None: unknown, it is guessed."""
    range_bytes: int
    num_columns: int
    delimiter: str
    unpack_to: str = ""
    """Prefix of the URIs of the unpacked pieces of a compressed file."""


@dataclass(frozen=True)
class CutChunk:
    """Ranges that a task found in its chunk."""

    first_record: int
    """Position that the task used as the first record."""
    next_record: int
    """Position of the first record after the chunk."""
    ranges: tuple[CsvRange, ...]
    """Ranges with rows numbered from 0."""
    leaves: str = ""
    """Result of ``hashes.hash_leaves`` in hexadecimal; empty for a compressed file."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CutChunk:
        """Convert from the JSON of ``asdict``."""
        ranges = tuple(CsvRange(**item) for item in value["ranges"])
        return cls(**value | {"ranges": ranges})


def range_size(head: bytes, *, rows_per_range: int, delimiter: str) -> int:
    """Choose the bytes of a range so that it holds about ``rows_per_range`` records.

    Args:
        head: The beginning of the file; its records are taken as typical.
        rows_per_range: Records wanted.
        delimiter: The character between columns.

    Returns:
        A multiple of ``hashes.LEAF_BYTES``, at most ``MAX_RANGE_BYTES``.
    """
    records, used = csv_records.find_records(head, delimiter=delimiter, last=False)
    mean_size = used / len(records) if len(records) else len(head)
    num_leaves = round(rows_per_range * mean_size / hashes.LEAF_BYTES)
    return min(max(1, num_leaves) * hashes.LEAF_BYTES, MAX_RANGE_BYTES)


def make_chunks(whole: Chunk, size: int) -> list[Chunk]:
    """Divide a file of ``size`` bytes among tasks; ``whole`` is the file as one chunk."""
    step = max(1, CHUNK_BYTES // whole.range_bytes) * whole.range_bytes
    return [
        replace(
            whole,
            start=start,
            stop=min(start + step, size),
            first_record=whole.first_record if start == 0 else None,
        )
        for start in range(0, size, step)
    ]


def cut(chunk: Chunk) -> CutChunk:
    """Cut a chunk into ranges, and hash its bytes; one range at a time is in memory.

    Raises:
        UserError: A record does not end within 64 MiB, or a compressed file is damaged.
    """
    with compression.open_content(chunk.source, start=max(0, chunk.start - 1)) as content:
        position = chunk.first_record
        if position is None:
            position = _guess_record(content, chunk)
        first_record = position
        ranges: list[CsvRange] = []
        leaves: list[bytes] = []
        for start, stop in _pieces(chunk, content):
            block = content.read_at(start, stop - start)
            leaves.append(b"" if chunk.unpack_to else hashes.hash_leaves(block))
            if position >= start + len(block):
                continue
            found = _cut_one(content, position, stop, chunk)
            position = found.stop
            if found.num_rows:
                ranges.append(_unpack(found, content, chunk, len(ranges)))
            content.forget(stop)
    return CutChunk(first_record, position, tuple(ranges), b"".join(leaves).hex())


def connect(
    chunks: Sequence[Chunk],
    found: Sequence[CutChunk],
    *,
    first_row: int = 0,
    cut_again: Callable[[Chunk], CutChunk] = cut,
) -> list[CsvRange]:
    """Number the rows of the chunks of a file, and cut chunks with a wrong guess again.

    Args:
        chunks: The chunks of one file in order.
        found: Result of :func:`cut` for each.
        first_row: Number of the first record of the file.
        cut_again: Cuts a chunk whose ``first_record`` is known by now.
    """
    ranges: list[CsvRange] = []
    position = found[0].first_record if found else 0
    row = first_row
    for chunk, result in zip(chunks, found, strict=True):
        if chunk.stop is not None and position >= chunk.stop:
            continue
        if result.first_record != position:
            result = cut_again(replace(chunk, first_record=position))
        position = result.next_record
        for item in result.ranges:
            ranges.append(replace(item, first_row=row))
            row += item.num_rows
    return ranges


def _pieces(chunk: Chunk, content: compression.Content) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the pieces of a chunk."""
    start = chunk.start
    while not content.ends_at(start) and (chunk.stop is None or start < chunk.stop):
        stop = start + chunk.range_bytes
        yield start, stop if chunk.stop is None else min(stop, chunk.stop)
        start = stop


def _cut_one(content: compression.Content, position: int, boundary: int, chunk: Chunk) -> CsvRange:
    """Find the records that begin between ``position`` and ``boundary``.

    The last of them may end behind the boundary, so more is read until its end is found.

    Args:
        content: The file.
        position: Beginning of a record or a blank line.
        boundary: Beginning of the next piece.
        chunk: The chunk being cut.
    """
    end, num_rows, has_malformed, ahead = position, 0, False, 0
    while end < boundary and not content.ends_at(end):
        piece = content.read_at(end, boundary - end + ahead)
        at_end = content.ends_at(end + len(piece))
        records, used = csv_records.find_records(piece, delimiter=chunk.delimiter, last=at_end)
        begun = int((records.starts < boundary - end).sum())
        if begun:
            num_rows += begun
            has_malformed |= bool(records.malformed[:begun].any())
            end += int(records.stops[begun - 1])
        else:
            end += min(used, boundary - end)
        if not used and ahead > 64 * csv_records.MAX_RECORD_BYTES:
            raise UserError(
                f"{chunk.source}: the record at byte {end:,} does not end within {ahead:,} bytes",
                hint="is it a CSV file?",
            )
        ahead = max(_LOOK_AHEAD, ahead if used else 8 * ahead)
    return CsvRange(chunk.source, position, end, 0, num_rows, has_malformed)


def _unpack(found: CsvRange, content: compression.Content, chunk: Chunk, number: int) -> CsvRange:
    """Write the bytes of a range to a file that tasks can read, if its source is compressed."""
    if not chunk.unpack_to:
        return found
    target = f"{chunk.unpack_to}-{number:05d}"
    compression.write_unpacked(target, content.read_at(found.start, found.stop - found.start))
    return replace(found, unpacked=target)


def _guess_record(content: compression.Content, chunk: Chunk) -> int:
    """Guess the position of the first record at or after the start of a chunk.

    It is the first line from which on several records have the right number of columns; if there is
    no such line, it is the first line.
    """
    before = chunk.start - 1
    sample = content.read_at(before, _SAMPLE_BYTES)
    lines = [match.end() for match in csv_records.LINE_END.finditer(sample)]
    for line in lines:
        if _looks_right(sample[line:], chunk):
            return before + line
    return before + lines[0] if lines else chunk.start


def _looks_right(sample: bytes, chunk: Chunk) -> bool:
    records, _ = csv_records.find_records(sample, delimiter=chunk.delimiter, last=False)
    if not len(records) or records.malformed[:_SAMPLE_RECORDS].any():
        return False
    lines = sample[: records.stops[:_SAMPLE_RECORDS][-1]].decode("latin-1")
    rows = csv.reader(io.StringIO(lines, newline=""), delimiter=chunk.delimiter)
    return all(len(row) == chunk.num_columns for row in rows if row)
