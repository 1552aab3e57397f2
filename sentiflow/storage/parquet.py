"""Tables -> Parquet files, and back: whole, by rows, or some rows at a time."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join

OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""Texts and lists of numbers rarely repeat, so dictionaries would cost time and space."""

_BATCH_ROWS = 1 << 18
_BUFFER_BYTES = 1 << 22
"""Bytes of a column of a local file that are read at a time."""
_WHOLE_BYTES = 1 << 21
"""A Parquet file of an object store up to this size is read whole: about as fast as a request."""


def to_bytes(table: pa.Table) -> bytes:
    """Render ``table`` as one Parquet file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **OPTIONS)
    return buffer.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    """Read a Parquet file from its content."""
    return pq.ParquetFile(pa.BufferReader(content)).read()


def write(uri: str, table: pa.Table) -> int:
    """Publish ``table`` as one Parquet file; return its size in bytes."""
    with filesystem.publish(uri) as stream:
        pq.write_table(table, stream, **OPTIONS)
        return int(stream.tell())


def write_part(root: str, path: str, table: pa.Table) -> list[filesystem.FileEntry]:
    """Publish a table as ``path`` below ``root``; an empty table is not written and not listed."""
    if table.num_rows == 0:
        return []
    return [{"path": path, "rows": table.num_rows, "bytes": write(join(root, path), table)}]


def open_file(uri: str) -> pq.ParquetFile:
    """Open a Parquet file, so that few requests to an object store read some columns of it."""
    file_system, path = filesystem.locate(uri)
    file = file_system.open_input_file(path)
    is_remote = not is_local(uri)
    if is_remote and file.size() <= _WHOLE_BYTES:
        file = pa.BufferReader(file.read_buffer())
    return pq.ParquetFile(file, pre_buffer=is_remote, buffer_size=0 if is_remote else _BUFFER_BYTES)


def read_rows(uri: str, start: int, stop: int, *, columns: Sequence[str]) -> pa.Table:
    """Read rows ``start`` to ``stop`` of a Parquet file, and only the row groups with these rows.

    Of a group that is divided no more is kept than these rows, and nothing behind them is read.
    Columns that the file lacks are ignored.
    """
    file = open_file(uri)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    bounds = list(itertools.accumulate(sizes, initial=0))
    groups = range(bisect.bisect_right(bounds, start) - 1, bisect.bisect_left(bounds, stop))
    position = bounds[groups.start]
    if position == start and bounds[groups.stop] == stop:
        return file.read_row_groups(list(groups), columns=list(columns)).combine_chunks()
    kept = []
    for batch in file.iter_batches(stop - start, row_groups=groups, columns=list(columns)):
        some = batch.slice(max(0, start - position), stop - max(start, position))
        kept += [some] if position + len(batch) > start else []
        position += len(batch)
        if position >= stop:
            break
    return pa.Table.from_batches(kept).combine_chunks()


def read_batches(uri: str, *, columns: list[str]) -> Iterator[pa.Table]:
    """Read columns of a Parquet file, some hundred thousand rows at a time.

    Columns that the file lacks are ignored.
    """
    for batch in open_file(uri).iter_batches(_BATCH_ROWS, columns=columns):
        yield pa.Table.from_batches([batch])


def read(uri: str, *, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file; without ``columns`` by one read."""
    whole = columns is None
    return from_bytes(filesystem.read_bytes(uri)) if whole else open_file(uri).read(columns=columns)
