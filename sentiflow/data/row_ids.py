"""Column ``row_id`` of Parquet files -> whether it identifies their rows; ids looked up."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.storage import filesystem


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
    ids = _convert(file.read(columns=["row_id"]))
    if isinstance(ids, str):
        return RowIds(uri, fault=f"{uri} {ids}")
    if not _differ(ids):
        return RowIds(uri, fault=f"{uri} contains a row_id twice")
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
    ids = _convert(filesystem.read_parquet(uri, columns=["row_id"]))
    assert not isinstance(ids, str), "the file was looked at before"
    return ids


def _convert(table: pa.Table) -> pa.Array | str:
    """Convert ids to int64; a string describes a fault."""
    ids = table["row_id"].combine_chunks()
    if not pa.types.is_integer(ids.type):
        return f"has a row_id of type {ids.type}"
    if ids.null_count:
        return "has a row without row_id"
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return "has a row_id of more than 63 bits"


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
