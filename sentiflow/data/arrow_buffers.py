"""Columns as arrays, without a copy, or put into a table; keys looked up in a sorted array."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def put_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Add columns to a table; one of a name that it has replaces that column."""
    for name, column in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def string_buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """View a string array, or a slice of one, as its bytes and its rows' offsets into them."""
    assert text.type == pa.string(), "the offsets are read as int32"
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


def find_sorted(known: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find keys among known ones, which are distinct and in rising order.

    Returns:
        Whether each is known, and its place among the known ones.
    """
    place = np.searchsorted(known, keys).clip(max=max(0, len(known) - 1))
    is_known = known[place] == keys if len(known) else np.zeros(len(keys), bool)
    return is_known, place
