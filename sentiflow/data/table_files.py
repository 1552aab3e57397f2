"""Parquet files -> slices of one long table, read as strings."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.data import schema
from sentiflow.data.arrays import one_array
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet

Labels = tuple[tuple[str, int | None], ...]
"""Pairs of written value and label; None: unlabelled."""


def number_labels(num_classes: int) -> Labels:
    """Pair labels written as numbers with themselves; false and true mean 0 and 1."""
    return (
        *((str(label), label) for label in range(num_classes)),
        *(("false", schema.NEGATIVE), ("true", schema.POSITIVE), ("", None)),
    )


NUMBERED = number_labels(len(schema.LABEL_NAMES))


@dataclass(frozen=True)
class TableSlice:
    """Consecutive rows of one Parquet file."""

    source: str
    start: int
    stop: int
    """``start`` and ``stop`` are row numbers in the file."""
    first_row: int
    """Number of row ``start`` over all files."""
    split: str | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


@dataclass(frozen=True)
class TableFile:
    """What is known of a Parquet file before its rows are read."""

    uri: str
    arrow: pa.Schema
    groups: tuple[int, ...]
    """Rows of each row group."""

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(self.groups)


@dataclass(frozen=True)
class TableFormat:
    """How to read the rows of Parquet files; all files are read alike."""

    columns: tuple[tuple[str, str], ...] = tuple((n, n) for n in ("text", "label", "tweet_id"))
    """Pairs of meaning and column: ``text``, and some of ``label``, ``tweet_id``, ``user`` and
    ``time``. A file may lack the column of any but the text."""
    labels: Labels = NUMBERED
    time_format: str | None = None
    """As for ``times.read``, if times are written as text."""
    has_row_ids: bool = True
    """Whether the files have their own ``row_id``. If not, rows are numbered over all files."""
    kept: tuple[tuple[str, pa.DataType], ...] = ()
    """Additional columns and their types."""


def cut(
    files: Iterable[TableFile], *, rows_per_part: int, first_row: int, splits: Mapping[str, str]
) -> list[tuple[TableSlice, ...]]:
    """Cut files into parts of about ``rows_per_part`` rows, as one long table.

    A part has whole row groups, so that none is read for a part of its rows. Only a group of more
    than one and a half parts is divided: a part must fit into memory, and a file of one large group
    would be the work of one core.

    Args:
        files: The files.
        rows_per_part: Rows wanted in a part.
        first_row: Number of the first row.
        splits: The split of all rows of a file, by URI.
    """
    parts: list[tuple[TableSlice, ...]] = []
    slices: list[TableSlice] = []
    row, held = first_row, 0
    for file in files:
        for start, stop in _divide(file, rows_per_part):
            if slices and held + stop - start - rows_per_part > rows_per_part - held:
                parts.append(tuple(slices))
                slices, held = [], 0
            last = slices[-1] if slices else None
            if last and last.source == file.uri:
                slices[-1] = replace(last, stop=stop)
            else:
                slices.append(TableSlice(file.uri, start, stop, row, splits.get(file.uri)))
            row, held = row + stop - start, held + stop - start
    return [*parts, tuple(slices)] if slices else parts


def _divide(file: TableFile, rows_per_part: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each row group; of a large one, of equal pieces."""
    start = 0
    for num_rows in file.groups:
        pieces = max(1, round(num_rows / rows_per_part))
        bounds = [start + num_rows * i // pieces for i in range(pieces + 1)]
        for low, high in itertools.pairwise(bounds):
            if high > low:
                yield low, high
        start += num_rows


def read(
    piece: TableSlice, table_format: TableFormat, meanings: Iterable[str], others: Iterable[str]
) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
    """Read the rows of a slice.

    Args:
        piece: The slice.
        table_format: The meaning of the columns.
        meanings: Meanings of columns; what the file lacks is ignored.
        others: Some of the columns in ``table_format.kept``.

    Returns:
        ``row_id`` (int64) and the columns of the meanings (strings; a time may keep its type); and
        the others.

    Raises:
        UserError: The file is damaged.
    """
    meant = {name: column for name, column in table_format.columns if name in meanings}
    numbers = ["row_id"] if table_format.has_row_ids else []
    names = list(dict.fromkeys((*numbers, *meant.values(), *others)))
    place = f"{piece.source}, rows {piece.start:,} to {piece.stop - 1:,}"
    with errors.as_fault_of(piece.source, place, hint="the file is damaged: create it again"):
        table = parquet.read_rows(piece.source, piece.start, piece.stop, columns=names)
    columns = {
        name: _as_written(one_array(table[column]))
        for name, column in meant.items()
        if column in table.column_names
    }
    columns["row_id"] = (
        one_array(table["row_id"]).cast(pa.int64())
        if table_format.has_row_ids
        else pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    )
    types = dict(table_format.kept)
    return columns, {name: one_array(table[name]).cast(types[name]) for name in others}


def has_text(kind: pa.DataType) -> bool:
    """Say whether :func:`read_texts` reads columns of this type."""
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not (is_bytes or pa.types.is_fixed_size_binary(kind) or pa.types.is_nested(kind))


def read_texts(uri: str, start: int, stop: int, names: Sequence[str]) -> pa.Table:
    """Read rows of any columns as texts, the columns named by their position in ``names``."""
    places = tuple((str(place), name) for place, name in enumerate(names))
    table_format = TableFormat(columns=places, has_row_ids=False)
    piece = TableSlice(uri, start, stop, first_row=0)
    columns, _ = read(piece, table_format, dict(places), ())
    return pa.table({place: columns[place].cast(pa.string()) for place, _ in places})


def read_footer(uri: str) -> TableFile:
    """Read the footer of a file, and close it: there may be more files than can be open.

    Raises:
        UserError: It is not Parquet, or two of its columns have the same name.
    """
    file_system, path = filesystem.locate(uri)
    with errors.as_fault_of(uri, f"{uri} is not Parquet"):
        file = pq.ParquetFile(path, filesystem=file_system)
    with file:
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{uri} has several columns {twice[0]}", hint="rename or drop them")
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        return TableFile(uri, file.schema_arrow, tuple(group.num_rows for group in groups))


def _as_written(column: pa.Array) -> pa.Array:
    """Convert a column to strings, as they would be written; a date or a time stays one."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column
    if pa.types.is_float16(kind):  # Arrow has no text for it
        column = column.cast(pa.float32())
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:  # invalid UTF-8 is replaced
        repaired = [
            None if value is None else value.decode(errors="replace")
            for value in text.cast(pa.binary()).to_pylist()
        ]
        return pa.array(repaired, pa.string())
    return text
