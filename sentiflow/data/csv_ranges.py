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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sentiflow.data import csv_records
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, hashes

MIN_RANGE_BYTES = 1 << 16
"""Minimum distance between two cuts; every distance is a multiple of it."""
MAX_RANGE_BYTES = 1 << 26
"""Maximum distance between two cuts."""

_READ_BYTES = 256 * hashes.LEAF_BYTES
"""Bytes that are read, and hashed, at a time: a multiple of ``LEAF_BYTES``, so that no leaf is
cut."""
_MAX_UNHASHED = 8
"""Maximum number of blocks that were searched and are not hashed yet; they are in memory."""
_SEARCH_BYTES = 1 << 20
"""Bytes that are searched for records at a time: they fit into the cache of the processor."""
_MAX_UNFINISHED = 64 * csv_records.MAX_RECORD_BYTES
"""Maximum number of bytes in which no record ends. A search that finds more refuses the file; as
the bytes double from search to search, it finds at most twice as many."""


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
    """URI of a copy of the range in plain UTF-8, if its file is compressed or in UTF-16 and has
    other ranges, too."""
    is_packed: bool = False
    """Whether its file is compressed or in UTF-16 and has no other range: it is unpacked again."""
    split: str | None = None
    """The split of all its rows, if the settings give the file a split."""

    def read(self) -> bytes:
        """Read the bytes of the range."""
        if self.unpacked:
            return compression.read_piece(self.unpacked)
        if self.is_packed:
            return compression.read_first(self.source, self.stop)[self.start :]
        file_system, path = filesystem.locate(self.source)
        with filesystem.naming(path), file_system.open_input_file(path) as file:
            return bytes(file.read_at(self.stop - self.start, self.start))


class _Piece(NamedTuple):
    """Consecutive records of a file, from one search."""

    position: int
    """Position of its first byte in the file."""
    content: bytes
    records: csv_records.Records
    """Positions in ``content``."""


class _Fragment(NamedTuple):
    """Consecutive records of a piece without a cut between them."""

    start: int
    stop: int
    """``start`` and ``stop`` are positions in the file."""
    num_rows: int
    has_malformed: bool


def range_size(head: bytes, *, rows_per_range: int, delimiter: str) -> int:
    """Choose the size of a range in bytes, so that it has about ``rows_per_range`` records.

    Args:
        head: The beginning of the file; its records have the typical size.
        rows_per_range: Records wanted.
        delimiter: The character between columns.

    Returns:
        A multiple of ``MIN_RANGE_BYTES``, at most ``MAX_RANGE_BYTES``.
    """
    records, used = csv_records.find_records(head, delimiter=delimiter, last=False)
    mean_size = used / len(records) if len(records) else len(head)
    multiple = max(1, round(rows_per_range * mean_size / MIN_RANGE_BYTES))
    return min(multiple * MIN_RANGE_BYTES, MAX_RANGE_BYTES)


def cut(
    source: str,
    *,
    data_start: int,
    range_bytes: int,
    delimiter: str,
    unpack_to: str = "",
) -> tuple[list[CsvRange], str]:
    """Cut a file into ranges, and hash its content; only a part of it is in memory at a time.

    Args:
        source: The file, plain or compressed.
        data_start: Byte position of the first record, or of a blank line before it.
        range_bytes: Distance between two cuts.
        delimiter: The character between columns.
        unpack_to: For a file that is compressed or in UTF-16: prefix of the URIs to which its
            ranges are written in plain UTF-8, if it has several.

    Returns:
        The ranges, with rows numbered from 0; and the hash of the file as it is stored.

    Raises:
        UserError: A record does not end within about 64 to 128 MiB, or a compressed file is
            damaged.
    """
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        closing(compression.read_blocks(source, _READ_BYTES)) as blocks,
    ):
        leaves: list[concurrent.futures.Future[bytes]] = []
        if unpack_to:  # the blocks are unpacked, so the stored file is hashed separately
            hashing = pool.submit(hashes.tree_sha256, source)
            content: Iterator[bytes] = blocks
        else:
            content = _hash_while_reading(blocks, pool, leaves)
        pieces = _find_pieces(content, source, data_start, delimiter)
        ranges = list(_make_ranges(pieces, source, data_start, range_bytes, unpack_to))
        if unpack_to:
            return ranges, hashing.result()
        return ranges, hashes.join_leaves(b"".join(leaf.result() for leaf in leaves))


def _hash_while_reading(
    blocks: Iterable[bytes],
    pool: concurrent.futures.Executor,
    leaves: list[concurrent.futures.Future[bytes]],
) -> Iterator[bytes]:
    """Pass blocks on, and hash them in another thread.

    Args:
        blocks: Consecutive blocks of a file.
        pool: Hashes the blocks.
        leaves: Gets the future digests of the leaves of each block.
    """
    for number, block in enumerate(blocks):
        if number == 0 and len(block) < _READ_BYTES:  # a small file is not worth a thread
            leaves.append(_hash_here(block))
            yield block
            return
        if number >= _MAX_UNHASHED:
            leaves[number - _MAX_UNHASHED].result()
        leaves.append(pool.submit(hashes.hash_leaves, block))
        yield block


def _hash_here(block: bytes) -> concurrent.futures.Future[bytes]:
    """Hash a block in this thread."""
    done: concurrent.futures.Future[bytes] = concurrent.futures.Future()
    done.set_result(hashes.hash_leaves(block))
    return done


def _find_pieces(
    blocks: Iterable[bytes], source: str, data_start: int, delimiter: str
) -> Iterator[_Piece]:
    """Find the records of a file in pieces that follow each other without a gap.

    Raises:
        UserError: A record does not end.
    """
    position = data_start
    pending = b""  # bytes from ``position`` that are searched next
    # If no record ends in the pending bytes, they are searched again only when they have doubled.
    # So the time stays linear.
    min_pending = 0
    skip = data_start  # bytes before the data, perhaps more than a block has
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


def _make_ranges(
    pieces: Iterable[_Piece],
    source: str,
    data_start: int,
    range_bytes: int,
    unpack_to: str,
) -> Iterator[CsvRange]:
    """Cut pieces into fragments, and join the fragments between two cuts to one range.

    With ``unpack_to``, the bytes of each range are written there, unless there is only one.
    """
    held = bytearray()  # unpacked bytes that are not written yet
    held_from = data_start  # their position in the file
    if unpack_to:
        pieces = _hold(pieces, held)
    cut_pieces = (_cut_piece(piece, range_bytes) for piece in pieces)
    groups = itertools.groupby(
        itertools.chain.from_iterable(cut_pieces),
        key=lambda fragment: fragment.start // range_bytes,
    )
    fragments_by_range = (list(group) for _, group in groups)
    first_two = list(itertools.islice(fragments_by_range, 2))
    is_packed = bool(unpack_to) and len(first_two) == 1
    first_row = 0
    for number, fragments in enumerate(itertools.chain(first_two, fragments_by_range)):
        start = fragments[0].start
        stop = fragments[-1].stop
        unpacked = ""
        if unpack_to and not is_packed:
            unpacked = f"{unpack_to}-{number:05d}"
            end_in_held = stop - held_from
            compression.write_piece(unpacked, bytes(held[start - held_from : end_in_held]))
            del held[:end_in_held]
            held_from = stop
        num_rows = sum(fragment.num_rows for fragment in fragments)
        yield CsvRange(
            source=source,
            start=start,
            stop=stop,
            first_row=first_row,
            num_rows=num_rows,
            has_malformed=any(fragment.has_malformed for fragment in fragments),
            unpacked=unpacked,
            is_packed=is_packed,
        )
        first_row += num_rows


def _hold(pieces: Iterable[_Piece], held: bytearray) -> Iterator[_Piece]:
    """Pass pieces on, and append their content to ``held``."""
    for piece in pieces:
        held.extend(piece.content)
        yield piece


def _cut_piece(piece: _Piece, range_bytes: int) -> Iterator[_Fragment]:
    """Cut the records of a piece at multiples of ``range_bytes``."""
    starts = piece.position + piece.records.starts
    stops = piece.position + piece.records.stops
    edges = np.flatnonzero(np.diff(starts // range_bytes)) + 1
    for first, end in itertools.pairwise([0, *edges.tolist(), len(starts)]):
        if first < end:
            yield _Fragment(
                start=int(starts[first]),
                stop=int(stops[end - 1]),
                num_rows=end - first,
                has_malformed=bool(piece.records.malformed[first:end].any()),
            )
