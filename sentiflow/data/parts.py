"""Part of a corpus -> one table of its rows, each checked: accepted, or rejected with a reason."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import csv_rows, input_files, row_checks, schema, table_files
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.manifest_types import Input
from sentiflow.data.table_files import TableFormat, TableSlice
from sentiflow.storage import filesystem

_FIRST_COLUMNS = (
    "row_id",
    "source",
    "offset",
    "tweet_id",
    "text",
    "label",
    "unknown_label",
    "split",
)
"""The columns of :func:`read` before the kept columns."""
_LAST_COLUMNS = ("raw", "reason")
"""The columns of :func:`read` after the kept columns."""
LABEL_NAME = "label_name"
"""The column that ``read_texts`` adds."""


@dataclass(frozen=True)
class Part:
    """Consecutive records of one or more CSV files, or rows of one or more Parquet files.

    It is the unit of work and of resumption: it is read, processed and written as a whole.
    """

    pieces: tuple[CsvRange, ...] | tuple[TableSlice, ...]
    """A range of a large CSV file, several small CSV files, or slices of Parquet files."""
    format: CsvFormat | TableFormat
    inputs: Input = field(repr=False)
    """The files, or the finished directory that has them, as described before they are read."""

    @property
    def num_rows(self) -> int:
        """Number of records or rows."""
        return sum(piece.num_rows for piece in self.pieces)

    @property
    def place(self) -> str:
        """The first file and the last one, for messages."""
        first = self.pieces[0].source
        last = self.pieces[-1].source
        return first if first == last else f"{first} to {last}"


def read(part: Part, rules: row_checks.RowRules) -> pa.Table:
    """Read and check every row of a part, accepted or rejected, in order.

    Args:
        part: The part, from a CSV or from Parquet files.
        rules: What is required of the rows, and which columns are read.

    Columns:
        ``row_id`` (int64).
        ``source`` (dictionary<int32, string>): the URI.
        ``offset`` (int64): the first byte of the record in the unpacked CSV, or the row in the
            Parquet file; null for accepted CSV records unless ``with_offsets``.
        ``tweet_id``, ``text`` (string).
        ``label`` (int8): null for no label or an unknown one.
        ``unknown_label`` (string): the written value of an unknown label, else null.
        ``split`` (string): the split of prepared data, of a file of one split, or in
            ``rules.split_column``; else null.
        The kept columns, under their :func:`kept_name`.
        ``raw`` (binary): the bytes of a rejected record, cut to ``MAX_RAW_BYTES``; empty without
            ``keep_raw`` and for Parquet; null for an accepted row.
        ``reason`` (string): one of ``row_checks.REASONS``; null for an accepted row.

    Raises:
        UserError: A file is damaged, or was changed since it was described.
        JobError: The directory with the files was replaced.
    """
    with input_files.naming_changes(part.inputs):
        # The format decides the type of the pieces, which mypy does not know.
        if isinstance(part.format, CsvFormat):
            rows = _read_ranges(part.format, cast(Sequence[CsvRange], part.pieces), rules)
        else:
            rows = _read_slices(part.format, cast(Sequence[TableSlice], part.pieces), rules)
    input_files.check_part(part.inputs, {piece.source for piece in part.pieces})
    return rows


def _read_ranges(
    form: CsvFormat, ranges: Sequence[CsvRange], rules: row_checks.RowRules
) -> pa.Table:
    """Read and check the rows of ranges of CSV files, all at once."""
    meanings, others = _choose_columns(form, rules)
    if len(ranges) == 1:
        contents = [ranges[0].read()]
    else:
        contents = filesystem.map_files(CsvRange.read, ranges)
    columns, kept = csv_rows.read(contents, ranges, form, meanings, others)
    checked = _check(columns, kept, form, rules)
    is_rejected = checked["reason"].is_valid().combine_chunks()
    offset, raw = csv_rows.locate(contents, ranges, form, is_rejected, rules)
    places = {"offset": offset, "raw": raw}
    return _assemble(ranges, columns | places, kept, checked, rules)


class _ReadSlice(NamedTuple):
    """A slice of a Parquet file, and its rows, not yet checked."""

    piece: TableSlice
    columns: pa.Table
    """Columns by meaning."""
    kept: pa.Table
    """The kept columns."""


def _read_slices(
    form: TableFormat, slices: Sequence[TableSlice], rules: row_checks.RowRules
) -> pa.Table:
    """Read and check the rows of slices of Parquet files; slices with the same types at once."""
    meanings, others = _choose_columns(form, rules)

    def read_slice(piece: TableSlice) -> _ReadSlice:
        columns, kept = table_files.read(piece, form, meanings, others)
        return _ReadSlice(piece, pa.table(columns), pa.table(kept))

    unchecked = filesystem.map_files(read_slice, slices)
    tables = []
    for _, group in itertools.groupby(unchecked, key=lambda each: each.columns.schema):
        tables.append(_check_slices(form, list(group), rules))
    if len(tables) == 1:
        return tables[0]
    return pa.concat_tables(tables).combine_chunks()


def _check_slices(
    form: TableFormat, unchecked: Sequence[_ReadSlice], rules: row_checks.RowRules
) -> pa.Table:
    """Check the rows of slices with the same types."""
    slices = [each.piece for each in unchecked]
    columns = _list_arrays(pa.concat_tables([each.columns for each in unchecked]))
    kept = _list_arrays(pa.concat_tables([each.kept for each in unchecked]))
    checked = _check(columns, kept, form, rules)
    is_rejected = checked["reason"].is_valid().combine_chunks()
    # A row of Parquet has a number in its file, and no bytes of its own.
    offset = np.concatenate([np.arange(piece.start, piece.stop) for piece in slices])
    raw = pc.if_else(is_rejected, pa.scalar(b"", pa.binary()), None)
    places = {"offset": pa.array(offset), "raw": raw}
    return _assemble(slices, columns | places, kept, checked, rules)


def _list_arrays(table: pa.Table) -> dict[str, pa.Array]:
    """List the columns of a table by name."""
    return {name: one_array(table[name]) for name in table.column_names}


def _check(
    columns: dict[str, pa.Array],
    kept: dict[str, pa.Array],
    form: CsvFormat | TableFormat,
    rules: row_checks.RowRules,
) -> pa.Table:
    """Check rows, whose splits may be in one of the kept columns."""
    table = pa.table(columns)
    if rules.split_column:
        split = kept[rules.split_column].cast(pa.string())
        table = put_columns(table, {"split": split})
    return row_checks.check(table, form, rules)


def _assemble(
    pieces: Sequence[CsvRange | TableSlice],
    columns: dict[str, pa.Array],
    kept: dict[str, pa.Array],
    checked: pa.Table,
    rules: row_checks.RowRules,
) -> pa.Table:
    """Put the table of :func:`read` together for the rows of some pieces.

    Args:
        pieces: The pieces.
        columns: ``offset``, ``raw`` and, if the files have it, ``tweet_id``.
        kept: The kept columns.
        checked: The checked columns.
        rules: What is required of the rows.
    """
    sizes = [piece.num_rows for piece in pieces]
    num_rows = sum(sizes)
    piece_of_row = np.repeat(np.arange(len(pieces), dtype=np.int32), sizes)
    tweet_id = columns.get("tweet_id", pa.nulls(num_rows, pa.string()))
    table = {name: checked[name] for name in checked.column_names}
    sources = pa.array([piece.source for piece in pieces])
    table["source"] = pa.DictionaryArray.from_arrays(pa.array(piece_of_row), sources)
    table["offset"] = columns["offset"]
    table["tweet_id"] = row_checks.null_if_empty(tweet_id)
    table["raw"] = columns["raw"]
    if not rules.split_column:
        splits = pa.array([piece.split for piece in pieces], pa.string())
        table["split"] = splits.take(pa.array(piece_of_row))
    for name in rules.keep:
        column = kept[name] if name in kept else table[name]  # user and time are checked columns
        table[kept_name(name)] = column
    return pa.table(table).select((*_FIRST_COLUMNS, *map(kept_name, rules.keep), *_LAST_COLUMNS))


def _choose_columns(
    form: CsvFormat | TableFormat, rules: row_checks.RowRules
) -> tuple[list[str], list[str]]:
    """Choose the columns to read by their meaning, and the columns to read by their name.

    Prepared tweets have ``user`` and ``time`` as kept columns; these are not converted again.
    """
    stored = dict(form.kept) if isinstance(form, TableFormat) else {}
    wanted = (*rules.required, *rules.keep)
    needed = [name for name in ("user", "time") if name in wanted and name not in stored]
    others = [name for name in rules.keep if name not in needed]
    if rules.split_column and rules.split_column not in needed:
        others.append(rules.split_column)
    return ["text", "label", "tweet_id", *needed], others


def kept_name(name: str) -> str:
    """Name a kept column in the table of :func:`read`, so that it differs from other columns."""
    return f"kept.{name}" if name in (*_FIRST_COLUMNS, *_LAST_COLUMNS, LABEL_NAME) else name


def accepted(rows: pa.Table) -> pa.Table:
    """Select the rows without a reason, with all columns."""
    reason = rows["reason"]
    return rows if reason.null_count == len(rows) else rows.filter(reason.is_null())


def accepted_texts(rows: pa.Table) -> pa.Array:
    """Return the text of each row, empty for rows with a reason."""
    text = one_array(rows["text"])
    reason = one_array(rows["reason"])
    if reason.null_count == len(rows):
        return text
    return pc.if_else(pc.is_null(reason), text, "")


def take_accepted(rows: pa.Table, *, keep: Sequence[str] = ()) -> pa.Table:
    """Select the accepted rows of a table of :func:`read`.

    Args:
        rows: The table.
        keep: Its kept columns.

    Returns:
        The columns of ``schema.TWEETS``, ``split``, and the kept columns under their own names.
    """
    rows = accepted(rows).select((*schema.TWEETS.names, "split", *map(kept_name, keep)))
    fields = list(schema.TWEETS)
    for name, kind in zip(("split", *keep), rows.schema.types[len(fields) :], strict=True):
        fields.append(pa.field(name, kind))
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))


def take_rejected(rows: pa.Table) -> pa.Table:
    """Select the rejected rows of a table of :func:`read`, with the columns of ``REJECTED``."""
    rows = rows.select(schema.REJECTED.names).filter(rows["reason"].is_valid())
    return rows.cast(schema.REJECTED)
