"""Row ids of Parquet files -> the reason why they do not identify the rows, if there is one.

No process holds all ids. Workers read them in two passes:

1. The new rows are divided into chunks. A worker reads the ids of a chunk, finds ids that occur
   twice in it, and describes the others by a few ranges.
2. Only chunks whose ranges overlap may share an id. They are read again, and so are the files of
   earlier rows whose range overlaps theirs. A hash of each id decides its bucket, and a worker
   compares the ids of one bucket.

Files whose ids ascend from row to row and from file to file need no second pass.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.data import table_files
from sentiflow.data.arrays import one_array
from sentiflow.data.table_files import TableFile, TableSlice
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import display_uri

Range = Sequence[int]
"""The smallest and the largest of some ids."""
MapTasks = Callable[[str, Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Takes a name, a function and its arguments; calls the function for each of them and yields the
results in order. The results are JSON."""

DIVISION_VERSION = 1
"""Version of the division into chunks and buckets; tasks of another version are done again."""
_CHUNK_ROWS = 1 << 21
"""Rows of a chunk: 16 MB of ids. Up to this number, rows are checked in this process, which takes
less time than the start of workers."""
_BUCKET_ROWS = 1 << 24
"""Ids that a worker compares at a time: 128 MB."""
_NUM_RANGES = 16
"""Ranges that describe the ids of a chunk."""
_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio. The first bits of an id times this number decide the bucket;
they depend on all bits of the id (Knuth, The Art of Computer Programming 3, 6.4)."""


class EarlierFile(NamedTuple):
    """A file of predictions or of rejected rows: rows that were scored before."""

    uri: str
    num_rows: int
    row_ids: Range
    """Range of their ids."""


class Bucket(NamedTuple):
    """Arguments of :func:`compare_bucket`: rows, and which of their ids to compare."""

    new: Sequence[Sequence[TableSlice]]
    """Chunks of new rows."""
    earlier: Sequence[Sequence[TableSlice]]
    """Chunks of rows that were scored before."""
    number: int
    num_buckets: int


class _Overlapping(NamedTuple):
    """Rows that may share an id with a chunk of new rows, as their ranges of ids overlap."""

    chunks: list[int]
    """Numbers of chunks of new rows."""
    earlier: list[int]
    """Numbers of files of rows that were scored before."""


class _InvalidIdError(Exception):
    """An id is missing or too large; the message is a fault."""


def find_fault(
    tables: Sequence[TableFile], earlier: Sequence[EarlierFile], *, map_tasks: MapTasks
) -> str | None:
    """Say why ``row_id`` does not identify the rows of new files, also among earlier rows.

    It identifies them if no id is null, has more than 63 bits, or occurs twice.

    Args:
        tables: The new files; all have a column ``row_id`` of integers.
        earlier: Files of the rows that were scored before.
        map_tasks: Runs the work on many rows. Few rows are checked in this process.

    Raises:
        UserError: A file is damaged.
    """
    chunks = table_files.cut(tables, rows_per_part=_CHUNK_ROWS, first_row=0, splits={})
    if not chunks:
        return None
    work = _choose_map(chunks, map_tasks)
    checked = list(work("check_ids", check_chunk, chunks))
    for result in checked:
        if "fault" in result:
            return str(result["fault"])
    return _find_shared(chunks, [result["ranges"] for result in checked], earlier, map_tasks)


def _count_rows(chunks: Iterable[Sequence[TableSlice]]) -> int:
    """Count the rows of some chunks."""
    return sum(piece.num_rows for chunk in chunks for piece in chunk)


def _choose_map(chunks: Iterable[Sequence[TableSlice]], map_tasks: MapTasks) -> MapTasks:
    """Choose how to work on some chunks: in this process if they have few rows together."""
    if _count_rows(chunks) <= _CHUNK_ROWS:
        return lambda _, work, items: map(work, items)
    return map_tasks


def check_chunk(chunk: Sequence[TableSlice]) -> dict[str, Any]:
    """Check the ids of a chunk of new rows in a task.

    Returns:
        ``{"fault": the fault}``, or ``{"ranges": ranges that contain the ids}``.
    """
    try:
        ids = _read_chunk(chunk)
    except _InvalidIdError as error:
        return {"fault": str(error)}
    ids.sort()
    repeated = _find_repeated(ids)
    if repeated is not None:
        return {"fault": _describe_repeated(repeated, chunk)}
    return {"ranges": _find_ranges(ids)}


def _read_chunk(chunk: Sequence[TableSlice]) -> np.ndarray:
    """Read the ids of some rows, many files at a time."""
    return np.concatenate(filesystem.map_files(_read_ids, chunk))


def _read_ids(piece: TableSlice) -> np.ndarray:
    """Read the ids of a slice as int64.

    Raises:
        UserError: The file is damaged.
        _InvalidIdError: An id is null or has more than 63 bits.
    """
    place = f"{piece.source}, rows {piece.start:,} to {piece.stop - 1:,}"
    with errors.as_fault_of(piece.source, place, hint="the file is damaged: create it again"):
        table = parquet.read_rows(piece.source, piece.start, piece.stop, columns=["row_id"])
    ids = one_array(table["row_id"])
    if ids.null_count:
        raise _InvalidIdError(f"{display_uri(piece.source)} has a row without a row_id")
    try:
        return ids.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        name = display_uri(piece.source)
        raise _InvalidIdError(f"{name} has a row_id of more than 63 bits") from error


def _find_repeated(ids: np.ndarray) -> int | None:
    """Find the smallest id that occurs twice among sorted ids."""
    places = np.flatnonzero(ids[1:] == ids[:-1])
    return int(ids[places[0]]) if len(places) else None


def _describe_repeated(row_id: int, new: Iterable[TableSlice]) -> str:
    """Name an id that occurs twice, and the new files that have it."""
    names = []
    for piece in new:
        num_rows = np.count_nonzero(_read_ids(piece) == row_id)
        names += [display_uri(piece.source)] * num_rows
    if len(names) == 1:
        return f"{names[0]} has the row_id {row_id} of a row that was scored before"
    if names[0] == names[1]:
        return f"{names[0]} has the row_id {row_id} twice"
    return f"{names[0]} and {names[1]} both have the row_id {row_id}"


def _find_ranges(ids: np.ndarray) -> list[list[int]]:
    """Find a few ranges that contain sorted, distinct ids: the ids are cut at their widest gaps."""
    if len(ids) == 1:
        return [[int(ids[0]), int(ids[0])]]
    gaps = np.diff(ids.view(np.uint64))  # unsigned: a gap may have 64 bits
    num_cuts = min(_NUM_RANGES - 1, len(gaps))
    first_widest = len(gaps) - num_cuts
    widest = np.sort(np.argpartition(gaps, first_widest)[first_widest:])
    smallest = ids[np.concatenate([[0], widest + 1])]
    largest = ids[np.concatenate([widest, [len(ids) - 1]])]
    return np.stack([smallest, largest], axis=1).tolist()


def _find_shared(
    chunks: Sequence[Sequence[TableSlice]],
    ranges: Sequence[Sequence[Range]],
    earlier: Sequence[EarlierFile],
    map_tasks: MapTasks,
) -> str | None:
    """Name an id that two chunks of new rows have, or a chunk and an earlier file.

    Args:
        chunks: Chunks of new rows, each without an id that occurs twice.
        ranges: For each chunk the ranges of its ids.
        earlier: Files of rows that were scored before; no id occurs twice among them.
        map_tasks: As for :func:`find_fault`.
    """
    overlapping = _find_overlapping(ranges, [file.row_ids for file in earlier])
    new = [chunks[number] for number in overlapping.chunks]
    if not new:
        return None
    scored = _chunk_files([earlier[number] for number in overlapping.earlier])
    compared = [*new, *scored]
    num_buckets = math.ceil(_count_rows(compared) / _BUCKET_ROWS)
    buckets = [Bucket(new, scored, number, num_buckets) for number in range(num_buckets)]
    work = _choose_map(compared, map_tasks)
    for fault in work("compare_ids", compare_bucket, buckets):
        if fault:
            return str(fault)
    return None


def _find_overlapping(ranges: Sequence[Sequence[Range]], earlier: Sequence[Range]) -> _Overlapping:
    """Find chunks of new rows and earlier files that may share an id with another chunk.

    Args:
        ranges: For each chunk the ranges of its ids.
        earlier: The range of each file of rows that were scored before.
    """
    new_ranges = _to_array([row_ids for found in ranges for row_ids in found])
    earlier_ranges = _to_array(earlier)
    chunk_numbers = np.repeat(np.arange(len(ranges)), [len(found) for found in ranges])
    # Each range overlaps itself; the ranges of one chunk do not overlap each other.
    num_overlaps = _count_overlaps(new_ranges, new_ranges) - 1
    num_overlaps += _count_overlaps(new_ranges, earlier_ranges)
    overlaps_new = _count_overlaps(earlier_ranges, new_ranges) > 0
    return _Overlapping(
        chunks=np.unique(chunk_numbers[num_overlaps > 0]).tolist(),
        earlier=np.flatnonzero(overlaps_new).tolist(),
    )


def _to_array(ranges: Sequence[Range]) -> np.ndarray:
    """Convert ranges to an array of shape ``(number of ranges, 2)``."""
    return np.array(ranges, np.int64).reshape(-1, 2)


def _count_overlaps(ranges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count for each range the others that share a value with it."""
    num_begun = np.searchsorted(np.sort(others[:, 0]), ranges[:, 1], side="right")
    num_ended = np.searchsorted(np.sort(others[:, 1]), ranges[:, 0], side="left")
    return num_begun - num_ended  # begun before the range ends, and not ended before it begins


def _chunk_files(files: Sequence[EarlierFile]) -> list[tuple[TableSlice, ...]]:
    """Divide the files of earlier rows into chunks."""
    tables = [TableFile(file.uri, pa.schema([]), (file.num_rows,)) for file in files]
    return table_files.cut(tables, rows_per_part=_CHUNK_ROWS, first_row=0, splits={})


def compare_bucket(bucket: Bucket) -> str:
    """Compare the ids of a bucket in a task; return the fault, which is empty if there is none."""
    kept = [_select(_read_chunk(chunk), bucket) for chunk in (*bucket.new, *bucket.earlier)]
    ids = np.concatenate(kept)
    ids.sort()
    repeated = _find_repeated(ids)
    if repeated is None:
        return ""
    return _describe_repeated(repeated, [piece for chunk in bucket.new for piece in chunk])


def _select(ids: np.ndarray, bucket: Bucket) -> np.ndarray:
    """Select the ids of a bucket."""
    if bucket.num_buckets == 1:
        return ids
    upper_half = (ids.view(np.uint64) * _MIXER) >> np.uint64(32)
    numbers = (upper_half * np.uint64(bucket.num_buckets)) >> np.uint64(32)
    return ids[numbers == bucket.number]


def find_range(column: pa.ChunkedArray) -> list[int]:
    """Find the smallest and the largest id of some rows."""
    ids = column.to_numpy()
    return [int(ids.min()), int(ids.max())]


def read_ranges(uris: Sequence[str]) -> list[list[int]]:
    """Read the ranges of ids of some files of predictions or rejected rows from their footers."""
    return filesystem.map_files(_read_range, uris)


def _read_range(uri: str) -> list[int]:
    """Read the smallest and the largest id from the statistics of a file."""
    metadata = parquet.open_file(uri).metadata
    column = metadata.schema.names.index("row_id")
    groups = range(metadata.num_row_groups)
    statistics = [metadata.row_group(group).column(column).statistics for group in groups]
    return [min(found.min for found in statistics), max(found.max for found in statistics)]
