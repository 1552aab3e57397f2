"""Parquet files -> slices of one long table, read as strings."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.data import partitions, schema
from sentiflow.data.arrays import one_array
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet

Labels = tuple[tuple[str, int | None], ...]
"""Pairs of written value and label; None: unlabelled."""


def number_labels(num_classes: int) -> Labels:
    """Pair labels written as numbers with themselves; false and true mean 0 and 1."""
    numbers = [(str(label), label) for label in range(num_classes)]
    return (*numbers, ("false", schema.NEGATIVE), ("true", schema.POSITIVE), ("", None))


NUMBERED = number_labels(len(schema.LABEL_NAMES))
"""Labels 0, 1 and 2."""


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
    """The split of all its rows, if the settings give the file a split."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


@dataclass(frozen=True)
class TableFile:
    """A Parquet file, as its footer describes it."""

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
    """How to read the rows of Parquet files, the same for all files of a corpus."""

    columns: tuple[tuple[str, str], ...] = (
        ("text", "text"),
        ("label", "label"),
        ("tweet_id", "tweet_id"),
    )
    """Pairs of meaning and column. The meanings are ``text`` and some of ``label``, ``tweet_id``,
    ``user`` and ``time``. A file may lack any of the columns except the text."""
    labels: Labels = NUMBERED
    time_format: str | None = None
    """Format for ``times.parse``, if times are written as text."""
    has_row_ids: bool = True
    """Whether the files have their own ``row_id``. If not, rows are numbered over all files."""
    kept: tuple[tuple[str, pa.DataType], ...] = ()
    """Additional columns and their types."""


def cut(
    files: Iterable[TableFile], *, rows_per_part: int, first_row: int, splits: Mapping[str, str]
) -> list[tuple[TableSlice, ...]]:
    """Cut files, joined to one long table, into parts of about ``rows_per_part`` rows.

    A part has whole row groups, so that no group is read twice. Only a group of at least one and a
    half parts is divided: a part must fit into memory, and one core alone would have to do the work
    of a file with one large group.

    Args:
        files: The files.
        rows_per_part: Rows wanted in a part.
        first_row: Number of the first row.
        splits: The split of each file whose rows are all in one split, by URI.
    """
    parts: list[tuple[TableSlice, ...]] = []
    slices: list[TableSlice] = []
    num_held = 0
    next_row = first_row
    for file in files:
        for start, stop in _divide(file, rows_per_part):
            num_new = stop - start
            if slices and is_full(num_held, num_new, rows_per_part):
                parts.append(tuple(slices))
                slices = []
                num_held = 0
            if slices and slices[-1].source == file.uri:
                slices[-1] = replace(slices[-1], stop=stop)
            else:
                split = splits.get(file.uri)
                slices.append(TableSlice(file.uri, start, stop, first_row=next_row, split=split))
            num_held += num_new
            next_row += num_new
    if slices:
        parts.append(tuple(slices))
    return parts


def is_full(num_held: int, num_new: int, rows_per_part: int) -> bool:
    """Say whether a part is nearer to its number of rows without further rows.

    Args:
        num_held: Rows that the part has.
        num_new: Further rows.
        rows_per_part: Rows wanted.
    """
    num_missing = rows_per_part - num_held
    num_surplus = num_held + num_new - rows_per_part
    return num_surplus > num_missing


def _divide(file: TableFile, rows_per_part: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each row group, or of equal pieces of a large one."""
    start = 0
    for num_rows in file.groups:
        num_pieces = max(1, round(num_rows / rows_per_part))
        bounds = [start + num_rows * i // num_pieces for i in range(num_pieces + 1)]
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
        meanings: Meanings of columns; a column that the file lacks is ignored.
        others: Some of the columns in ``table_format.kept``; the folders of a file name those that
            it lacks.

    Returns:
        Two dictionaries of columns: ``row_id`` (int64) with the columns of the meanings (strings,
        but a time may keep its type); and the other columns.

    Raises:
        UserError: The file is damaged.
    """
    meant = {name: column for name, column in table_format.columns if name in meanings}
    wanted = [*meant.values(), *others]
    if table_format.has_row_ids:
        wanted.insert(0, "row_id")
    names = list(dict.fromkeys(wanted))
    place = f"{piece.source}, rows {piece.start:,} to {piece.stop - 1:,}"
    with errors.as_fault_of(piece.source, place, hint="the file is damaged: create it again"):
        table = parquet.read_rows(piece.source, piece.start, piece.stop, columns=names)
    columns = {}
    for meaning, name in meant.items():
        if name in table.column_names:
            columns[meaning] = _as_written(one_array(table[name]))
    if table_format.has_row_ids:
        columns["row_id"] = one_array(table["row_id"]).cast(pa.int64())
    else:
        columns["row_id"] = pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    types = dict(table_format.kept)
    kept = {}
    for name in others:
        if name in table.column_names:
            column = one_array(table[name])
        else:
            column = partitions.read(piece.source, name, len(table))
        kept[name] = column.cast(types[name])
    return columns, kept


def has_text(kind: pa.DataType) -> bool:
    """Say whether :func:`read_texts` reads columns of this type."""
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not (is_bytes or pa.types.is_fixed_size_binary(kind) or pa.types.is_nested(kind))


def read_texts(uri: str, start: int, stop: int, names: Sequence[str]) -> pa.Table:
    """Read rows of some columns as texts; the result names them by their position in ``names``."""
    meanings = [str(position) for position in range(len(names))]
    table_format = TableFormat(columns=tuple(zip(meanings, names, strict=True)), has_row_ids=False)
    piece = TableSlice(uri, start, stop, first_row=0)
    columns, _ = read(piece, table_format, meanings, ())
    return pa.table({meaning: columns[meaning].cast(pa.string()) for meaning in meanings})


def read_footer(uri: str) -> TableFile:
    """Read the footer of a file, and close the file: there may be too many to keep open.

    Raises:
        UserError: It is not Parquet, or two of its columns have the same name.
    """
    file_system, path = filesystem.locate(uri)
    with errors.as_fault_of(uri, f"{uri} is not Parquet"):
        file = pq.ParquetFile(path, filesystem=file_system)
    with file:
        names = file.schema_arrow.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UserError(f"{uri} has several columns {repeated[0]}", hint="rename or drop them")
        numbers = range(file.metadata.num_row_groups)
        groups = tuple(file.metadata.row_group(number).num_rows for number in numbers)
        return TableFile(uri, file.schema_arrow, groups)


def _as_written(column: pa.Array) -> pa.Array:
    """Convert a column to strings, as a CSV would have them; dates and times keep their type."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column
    if pa.types.is_float16(kind):  # Arrow cannot convert it to strings
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
