"""Column ``row_id`` of Parquet files -> whether it identifies their rows; ids looked up."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.storage import filesystem, parquet


@dataclass(frozen=True)
class RowIds:
    """What the ids of one file are."""

    uri: str
    low: int = 0
    high: int = -1
    """The smallest and the largest; ``high`` is less if the file has no row."""
    fault: str = ""
    """Why they identify nothing."""
    exist: bool = True
    """Whether the file has the column."""


def look_at(file: pq.ParquetFile, uri: str) -> RowIds:
    """Read the ids of a file, and keep no more than their range."""
    if "row_id" not in file.schema_arrow.names:
        return RowIds(uri, exist=False)
    try:
        ids = _convert(file.read(columns=["row_id"]))
    except ValueError as error:
        return RowIds(uri, fault=f"{uri} {error}")
    bounds = pc.min_max(ids).as_py()
    return RowIds(uri, bounds["min"], bounds["max"]) if len(ids) else RowIds(uri)


def find_fault(files: Sequence[RowIds]) -> str | None:
    """Say why the column ``row_id`` does not identify the rows of files; None if it does.

    It does if all files have integers without nulls and duplicates. Ids are read again, and are in
    memory together, only if the ranges of two files overlap.

    Returns:
        The fault with the file; an empty string if no file has the column.
    """
    without = [ids.uri for ids in files if not ids.exist]
    if without:
        return f"{without[0]} has no row_id" if len(without) < len(files) else ""
    for ids in files:
        if ids.fault:
            return ids.fault
    filled = sorted((f for f in files if f.low <= f.high), key=lambda f: (f.low, f.high, f.uri))
    for one, other in itertools.pairwise(filled):
        if other.low <= one.high:
            uris = [ids.uri for ids in filled]
            is_distinct = _differ(pa.chunked_array(filesystem.map_files(_read, uris)))
            return None if is_distinct else f"{one.uri} contains a row_id of another file"
    return None


def _read(uri: str) -> pa.Array:
    return _convert(parquet.read(uri, columns=["row_id"]))


def _convert(table: pa.Table) -> pa.Array:
    """Convert ids to int64.

    Raises:
        ValueError: They identify nothing.
    """
    ids = table["row_id"].combine_chunks()
    if not pa.types.is_integer(ids.type):
        raise ValueError(f"has a row_id of type {ids.type}")
    if ids.null_count:
        raise ValueError("has a row without row_id")
    if not _differ(ids):
        raise ValueError("contains a row_id twice")
    if pa.types.is_uint64(ids.type) and (pc.max(ids).as_py() or 0) >= 1 << 63:
        raise ValueError("has a row_id of more than 63 bits")
    return ids.cast(pa.int64())


def _differ(ids: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(ids).as_py() == len(ids))


def find_sorted(known: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find keys among known ones, which are distinct and in rising order.

    Returns:
        Whether each is known, and its place among the known ones.
    """
    place = np.searchsorted(known, keys)
    is_known = place < len(known)
    is_known[is_known] = known[place[is_known]] == keys[is_known]
    return is_known, place
