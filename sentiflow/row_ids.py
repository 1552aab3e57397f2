"""Parquet files -> whether their column ``row_id`` can number their rows."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow import storage

COLUMN = "row_id"


def are_unique(uris: Sequence[str]) -> bool:
    """Say whether every file has whole numbers as ``row_id``, none missing and none twice.

    One file is in memory at a time, or as many as have numbers between each other's.
    """
    ranges = []
    for uri in uris:
        ids = _read(uri)
        if ids is None or not _differ(ids):
            return False
        if len(ids):
            bounds = pc.min_max(ids).as_py()
            ranges.append((bounds["min"], bounds["max"], uri))
    groups = (group for group in _overlapping(sorted(ranges)) if len(group) > 1)
    return all(_differ(pa.chunked_array(map(_read, group))) for group in groups)


def _read(uri: str) -> pa.Array | None:
    """Read the numbers of one file; None if they are none, or some are missing."""
    file_system, path = storage.locate(uri)
    arrow = pq.ParquetFile(path, filesystem=file_system).schema_arrow
    if COLUMN not in arrow.names or not pa.types.is_integer(arrow.field(COLUMN).type):
        return None
    ids = storage.read_parquet(uri, columns=[COLUMN])[COLUMN].combine_chunks()
    return None if ids.null_count else ids.cast(pa.int64())


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
