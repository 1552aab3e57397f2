"""Parquet files -> whether their column ``row_id`` identifies their rows."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.storage import filesystem

COLUMN = "row_id"


def find_fault(uris: Sequence[str]) -> str | None:
    """Say why the column does not identify the rows; None if it does.

    It does if all files have integers without nulls and duplicates. One file at a time is in
    memory, or several if their ranges of numbers overlap.

    Returns:
        The fault with the file; an empty string if no file has the column.
    """
    ranges, without = [], []
    for uri in uris:
        ids = _read(uri)
        if ids is None:
            without.append(uri)
            continue
        if isinstance(ids, str):
            return ids
        if not _differ(ids):
            return f"{uri} contains a {COLUMN} twice"
        if len(ids):
            bounds = pc.min_max(ids).as_py()
            ranges.append((bounds["min"], bounds["max"], uri))
    if without:
        return f"{without[0]} has no {COLUMN}" if len(without) < len(uris) else ""
    for group in _overlapping(sorted(ranges)):
        if len(group) > 1 and not _differ(pa.chunked_array(map(_read, group))):
            return f"{group[0]} contains a {COLUMN} of another file"
    return None


def _read(uri: str) -> pa.Array | str | None:
    """Read the numbers of one file; None without the column; a string describes a fault."""
    file_system, path = filesystem.locate(uri)
    arrow = pq.ParquetFile(path, filesystem=file_system).schema_arrow
    if COLUMN not in arrow.names:
        return None
    kind = arrow.field(COLUMN).type
    if not pa.types.is_integer(kind):
        return f"{uri} has a {COLUMN} of type {kind}"
    ids = filesystem.read_parquet(uri, columns=[COLUMN])[COLUMN].combine_chunks()
    if ids.null_count:
        return f"{uri} has a row without {COLUMN}"
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return f"{uri} has a {COLUMN} of more than 63 bits"


def _overlapping(ranges: Sequence[tuple[int, int, str]]) -> Iterator[list[str]]:
    """Group files with overlapping ranges; files are in the order of their smallest numbers."""
    group: list[str] = []
    highest = 0
    for low, high, uri in ranges:
        if group and low > highest:
            yield group
            group = []
        highest = max(high, highest) if group else high
        group.append(uri)
    if group:
        yield group


def _differ(ids: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(ids).as_py() == len(ids))
