"""Tables -> Parquet files, and back: whole, a range of rows, or in batches.

Readers ignore columns that a file lacks.
"""

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.errors import UserError
from sentiflow.storage import filesystem, unpacking
from sentiflow.storage.uris import is_local, join

OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""How files are written. Texts and lists of numbers rarely repeat, so dictionaries would cost time
and space."""

_BYTES_OF_TYPES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a value in memory, for each type in Parquet of one size."""
_OTHER_BYTES = 4
"""Bytes of the offset of a text."""
_BATCH_ROWS = 1 << 18
"""Rows in a batch of :func:`read_batches`."""
_NUM_AHEAD = 8
"""Files of an object store that are read at the same time: each may have 400,000 rows."""
_BUFFER_BYTES = 1 << 22
"""Bytes of a column of a local file to read at once."""
_WHOLE_BYTES = 1 << 21
"""Maximum size of a file in an object store that is read whole: a part would take as long."""


def to_bytes(table: pa.Table) -> bytes:
    """Write ``table`` as one Parquet file in memory."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **OPTIONS)
    return buffer.getvalue().to_pybytes()


def from_bytes(content: bytes, *, name: str = "a Parquet file") -> pa.Table:
    """Read a Parquet file from its content.

    Args:
        content: The content.
        name: The file, for messages.

    Raises:
        UserError: It has far too many rows.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    check_rows(file, name, stored=len(content))
    return file.read()


def check_rows(
    file: pq.ParquetFile, name: str, *, stored: int, max_rows: int | None = None
) -> None:
    """Check that a file has not so many rows that it was made to fill the memory.

    Equal values in a column are stored as one value and a count: 150 million rows take 1.5 MB.

    Args:
        file: The file.
        name: Its name, for messages.
        stored: Its size in bytes.
        max_rows: Maximum number of rows. Default: no other limit.

    Raises:
        UserError: It has more rows.
    """
    num_rows = file.metadata.num_rows
    unpacked = num_rows * _count_row_bytes(file.metadata.schema)
    is_longer = max_rows is not None and num_rows > max_rows
    if is_longer or unpacking.is_too_much(unpacked, stored=stored):
        raise UserError(
            f"{name} has {num_rows:,} rows in {stored:,} bytes", hint="it is damaged: make it again"
        )


def _count_row_bytes(schema: pq.ParquetSchema) -> int:
    """Count the bytes of a row in memory; a text or a list counts as its offset."""
    columns = [schema.column(number) for number in range(len(schema))]
    return sum(_BYTES_OF_TYPES.get(column.physical_type, _OTHER_BYTES) for column in columns)


def check_texts(column: pa.ChunkedArray, name: str, *, stored: int) -> None:
    """Check that the texts of a column, read as a dictionary, do not fill the memory.

    Args:
        column: Indices in dictionaries of texts.
        name: The file, for messages.
        stored: Its size in bytes.

    Raises:
        UserError: The texts are far longer than the file.
    """
    if not pa.types.is_dictionary(column.type):  # it has no texts
        return
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    if unpacking.is_too_much(total, stored=stored):
        raise UserError(
            f"{name} has texts of {total:,} bytes in {stored:,} bytes",
            hint="it is damaged: make it again",
        )


def write(uri: str, table: pa.Table, *, rows_per_group: int | None = None) -> int:
    """Publish ``table`` as one Parquet file; return its size in bytes.

    Args:
        uri: The file.
        table: The rows.
        rows_per_group: Rows in each row group. Default: that of Arrow.
    """
    with filesystem.publish(uri) as stream:
        pq.write_table(table, stream, row_group_size=rows_per_group, **OPTIONS)
        return int(stream.tell())


def write_part(root: str, path: str, table: pa.Table) -> list[filesystem.FileEntry]:
    """Publish a table as ``path`` below ``root``; an empty table is not written and not listed."""
    if table.num_rows == 0:
        return []
    return [{"path": path, "rows": table.num_rows, "bytes": write(join(root, path), table)}]


def open_file(uri: str, *, is_whole: bool = False) -> pq.ParquetFile:
    """Open a Parquet file, so that its columns are read by few requests to an object store.

    Args:
        uri: The file.
        is_whole: Whether all rows will be in memory at once; then there may not be far too many.

    Raises:
        UserError: There are far too many rows.
    """
    file_system, path = filesystem.locate(uri)
    file = file_system.open_input_file(path)
    stored = file.size()
    if is_local(uri):
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    else:
        if stored <= _WHOLE_BYTES:
            file = pa.BufferReader(file.read_buffer())
        opened = pq.ParquetFile(file, pre_buffer=True, buffer_size=0)
    if is_whole:
        check_rows(opened, uri, stored=stored)
    return opened


def read_rows(uri: str, start: int, stop: int, *, columns: Sequence[str]) -> pa.Table:
    """Read the rows from ``start`` to before ``stop`` of a Parquet file.

    Only the row groups with these rows are read. If a group is needed only in part, it is read in
    batches up to ``stop``, and other rows are not kept in memory. The range is within the file and
    not empty.
    """
    file = open_file(uri)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    bounds = list(itertools.accumulate(sizes, initial=0))
    # bounds[i] is the first row of group i. Find the first group with a wanted row, and the group
    # after the last one.
    first_group = bisect.bisect_right(bounds, start) - 1
    stop_group = bisect.bisect_left(bounds, stop)
    groups = list(range(first_group, stop_group))
    if bounds[first_group] == start and bounds[stop_group] == stop:  # whole row groups
        return file.read_row_groups(groups, columns=list(columns)).combine_chunks()
    kept = []
    position = bounds[first_group]
    batches = file.iter_batches(batch_size=stop - start, row_groups=groups, columns=list(columns))
    for batch in batches:
        end = position + len(batch)
        if end > start:
            first = max(start, position)
            kept.append(batch.slice(first - position, stop - first))
        position = end
        if position >= stop:
            break
    return pa.Table.from_batches(kept).combine_chunks()


def read_batches(uri: str, *, columns: list[str]) -> Iterator[pa.Table]:
    """Read columns of a Parquet file in batches of some hundred thousand rows.

    Raises:
        UserError: There are far too many rows: most readers keep something of each.
    """
    for batch in open_file(uri, is_whole=True).iter_batches(
        batch_size=_BATCH_ROWS, columns=columns
    ):
        yield pa.Table.from_batches([batch])


def read_ahead(uris: Sequence[str], *, columns: list[str]) -> Iterator[Callable[[], pa.Table]]:
    """Read columns of Parquet files in an object store, ``_NUM_AHEAD`` files at a time.

    An object store answers a request after a tenth of a second, so files are opened while earlier
    ones are used.

    Yields:
        For each file, in order, a function that waits for its columns and returns them. It raises
        what reading the file has raised.
    """
    pool = ThreadPoolExecutor(_NUM_AHEAD)
    begun: deque[Future[pa.Table]] = deque()
    try:
        for uri in uris:
            begun.append(pool.submit(read, uri, columns=columns))
            if len(begun) == _NUM_AHEAD:
                yield begun.popleft().result
        while begun:
            yield begun.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)


def find_highest(uri: str, column: str) -> Any:
    """Find the highest value of a column from the footer; read the column if the footer lacks it.

    Returns:
        None if there is no value.
    """
    file = open_file(uri)
    place = file.schema_arrow.get_field_index(column)
    highest = []
    for number in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(number).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            return pc.max(file.read(columns=[column])[column]).as_py()
        highest.append(statistics.max)
    return max(highest, default=None)


def read(uri: str, *, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file, or only some of its columns.

    Raises:
        UserError: There are far too many rows.
    """
    if columns is None:
        return from_bytes(filesystem.read_bytes(uri), name=uri)
    return open_file(uri, is_whole=True).read(columns=columns)
