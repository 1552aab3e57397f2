"""Parquet files -> whether their column ``row_id`` can number their rows."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.storage import filesystem

COLUMN = "row_id"


def find_fault(uris: Sequence[str]) -> str | None:
    """Say why the column does not number the rows; None if it does.

    It does if every file has whole numbers, none missing and none twice. One file is in memory at a
    time, or as many as have numbers between each other's.

    Returns:
        The fault, with the file; empty if no file has the column.
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
            return f"{uri} has a {COLUMN} twice"
        if len(ids):
            bounds = pc.min_max(ids).as_py()
            ranges.append((bounds["min"], bounds["max"], uri))
    if without:
        return f"{without[0]} has no {COLUMN}" if len(without) < len(uris) else ""
    for group in _overlapping(sorted(ranges)):
        if len(group) > 1 and not _differ(pa.chunked_array(map(_read, group))):
            return f"{group[0]} has a {COLUMN} that another file has"
    return None


def _read(uri: str) -> pa.Array | str | None:
    """Read the numbers of one file, None if it has no such column; or say why that cannot be."""
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
    """Group files, in the order of their smallest numbers, by ranges that reach into each other."""
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
