"""CSV file -> record-aligned byte ranges with their first row number.

A file is cut at every multiple of ``range_bytes``; a record belongs to the range in which it
begins. So the ranges depend only on the file and ``range_bytes``.

Where a record begins depends on all quotes before it, so one worker reads the whole file in order:
blocks of bytes -> pieces (records found in one search) -> ranges.
"""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sentiflow.data import csv_records
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, hashes

MAX_RANGE_BYTES = 1 << 26
"""Maximum distance between two cuts."""

_READ_BYTES = 1 << 24
"""Bytes that are read, and hashed, at a time."""
_SEARCH_BYTES = 1 << 20
"""Bytes that are searched for records at a time: they fit into the cache of the processor."""
_MAX_UNFINISHED = 64 * csv_records.MAX_RECORD_BYTES
"""Bytes that are read without finding the end of a record before the file is refused."""


@dataclass(frozen=True)
class CsvRange:
    """Consecutive whole records of one file."""

    source: str
    start: int
    stop: int
    """``start`` and ``stop`` count bytes from the beginning of the file. For a compressed file they
    count unpacked bytes; for a file in UTF-16, bytes of the same text in UTF-8 without a mark."""
    first_row: int
    """Number of the first record over all files."""
    num_rows: int
    has_malformed: bool
    unpacked: str = ""
    """URI of a copy of the range in plain UTF-8, if its file is compressed or in UTF-16."""
    split: str | None = None
    """The split of all its rows, if the settings give the file a split."""

    def read(self) -> bytes:
        """Read the bytes of the range."""
        if self.unpacked:
            return compression.read_piece(self.unpacked)
        file_system, path = filesystem.locate(self.source)
        with file_system.open_input_file(path) as file:
            return bytes(file.read_at(self.stop - self.start, self.start))


class _Piece(NamedTuple):
    """Consecutive records of a file, from one search."""

    position: int
    """Position of its first byte in the file."""
    content: bytes
    records: csv_records.Records
    """Positions in ``content``."""


def range_size(head: bytes, *, rows_per_range: int, delimiter: str) -> int:
    """Choose the size of a range in bytes, so that it has about ``rows_per_range`` records.

    Args:
        head: The beginning of the file; its records have the typical size.
        rows_per_range: Records wanted.
        delimiter: The character between columns.

    Returns:
        A multiple of ``hashes.LEAF_BYTES``, at most ``MAX_RANGE_BYTES``.
    """
    records, used = csv_records.find_records(head, delimiter=delimiter, last=False)
    mean_size = used / len(records) if len(records) else len(head)
    num_leaves = max(1, round(rows_per_range * mean_size / hashes.LEAF_BYTES))
    return min(num_leaves * hashes.LEAF_BYTES, MAX_RANGE_BYTES)


def cut(
    source: str,
    *,
    first_record: int,
    range_bytes: int,
    delimiter: str,
    unpack_to: str = "",
) -> tuple[list[CsvRange], str]:
    """Cut a file into ranges, and hash its content; only a part of it is in memory at a time.

    Args:
        source: The file, plain or compressed.
        first_record: Position of the first record, or of a blank line before it.
        range_bytes: Distance between two cuts.
        delimiter: The character between columns.
        unpack_to: For a file that is compressed or in UTF-16: prefix of the URIs to which its
            ranges are written in plain UTF-8.

    Returns:
        The ranges, with rows numbered from 0; and the hash of the file as it is stored.

    Raises:
        UserError: A record does not end within 64 MiB, or a compressed file is damaged.
    """
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        closing(compression.read_blocks(source, _READ_BYTES)) as blocks,
    ):
        if unpack_to:  # the blocks are unpacked, so the stored file is hashed separately
            hashing = pool.submit(hashes.tree_sha256, source)
            pieces = _find_pieces(blocks, source, first_record, delimiter)
            ranges = list(_join_ranges(pieces, source, first_record, range_bytes, unpack_to))
            return ranges, hashing.result()
        leaves: list[concurrent.futures.Future[bytes]] = []

        def hash_blocks() -> Iterator[bytes]:
            for block in blocks:
                leaves.append(pool.submit(hashes.hash_leaves, block))
                yield block

        pieces = _find_pieces(hash_blocks(), source, first_record, delimiter)
        ranges = list(_join_ranges(pieces, source, first_record, range_bytes, unpack_to))
        tree = hashes.join_leaves(b"".join(leaf.result() for leaf in leaves))
        return ranges, tree


def _find_pieces(
    blocks: Iterable[bytes], source: str, first_record: int, delimiter: str
) -> Iterator[_Piece]:
    """Find the records of a file in pieces that follow each other without a gap.

    Raises:
        UserError: A record does not end.
    """
    position = first_record
    pending = b""
    min_pending = 0  # doubled while a record does not end, so that no byte is searched many times
    skip = first_record  # bytes before the first record, perhaps more than a block has
    for block in blocks:
        for begin in range(skip, len(block), _SEARCH_BYTES):
            pending += block[begin : begin + _SEARCH_BYTES]
            if len(pending) < min_pending:
                continue
            records, used = csv_records.find_records(pending, delimiter=delimiter, last=False)
            if not used and len(pending) > _MAX_UNFINISHED:
                raise UserError(
                    f"{source}: the record at byte {position:,} does not end within "
                    f"{len(pending):,} bytes",
                    hint="is it a CSV file?",
                )
            min_pending = 0 if used else 2 * len(pending)
            yield _Piece(position, pending[:used], records)
            position += used
            pending = pending[used:]
        skip = max(0, skip - len(block))
    records, used = csv_records.find_records(pending, delimiter=delimiter)
    yield _Piece(position, pending[:used], records)


def _join_ranges(
    pieces: Iterable[_Piece],
    source: str,
    first_record: int,
    range_bytes: int,
    unpack_to: str,
) -> Iterator[CsvRange]:
    """Split pieces at the cuts, and join the parts between two cuts to one range.

    With ``unpack_to``, the bytes of each range are written there.
    """
    held = bytearray()  # unpacked bytes that are not written yet
    held_from = first_record  # their position in the file

    def split_all() -> Iterator[CsvRange]:
        for piece in pieces:
            if unpack_to:
                held.extend(piece.content)
            yield from _split_piece(piece, source, range_bytes)

    groups = itertools.groupby(split_all(), key=lambda part: part.start // range_bytes)
    first_row = 0
    for number, (_, group) in enumerate(groups):
        parts = list(group)
        joined = replace(
            parts[0],
            stop=parts[-1].stop,
            first_row=first_row,
            num_rows=sum(part.num_rows for part in parts),
            has_malformed=any(part.has_malformed for part in parts),
        )
        if unpack_to:
            joined = replace(joined, unpacked=f"{unpack_to}-{number:05d}")
            start = joined.start - held_from
            stop = joined.stop - held_from
            compression.write_piece(joined.unpacked, bytes(held[start:stop]))
            del held[:stop]
            held_from += stop
        yield joined
        first_row += joined.num_rows


def _split_piece(piece: _Piece, source: str, range_bytes: int) -> Iterator[CsvRange]:
    """Split the records of a piece at the cuts; ``first_row`` is not known yet and is 0."""
    starts = piece.position + piece.records.starts
    stops = piece.position + piece.records.stops
    edges = np.flatnonzero(np.diff(starts // range_bytes)) + 1
    for first, end in itertools.pairwise([0, *edges.tolist(), len(starts)]):
        if first < end:
            yield CsvRange(
                source=source,
                start=int(starts[first]),
                stop=int(stops[end - 1]),
                first_row=0,
                num_rows=end - first,
                has_malformed=bool(piece.records.malformed[first:end].any()),
            )
