"""Part of a corpus -> one table of its rows, each checked: accepted, or rejected with a reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import csv_rows, input_files, row_checks, schema, table_files
from sentiflow.data.arrays import one_array
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.manifest_types import Input
from sentiflow.data.table_files import TableFormat, TableSlice

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
    """Consecutive records of a CSV file, or rows of one or more Parquet files.

    It is the unit of work and of resumption: it is read, processed and written as a whole.
    """

    pieces: tuple[CsvRange, ...] | tuple[TableSlice, ...]
    """One range of a CSV file, or slices of Parquet files."""
    format: CsvFormat | TableFormat
    inputs: Input = field(repr=False)
    """The files, or the finished directory that has them, as described before they are read."""

    @property
    def num_rows(self) -> int:
        """Number of records or rows."""
        return sum(piece.num_rows for piece in self.pieces)


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
    tables = [_read_piece(part.format, piece, rules) for piece in part.pieces]
    rows = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
    input_files.check_part(part.inputs, {piece.source for piece in part.pieces})
    return rows


def _read_piece(
    form: CsvFormat | TableFormat, piece: CsvRange | TableSlice, rules: row_checks.RowRules
) -> pa.Table:
    """Read and check the rows of a range of a CSV, or of a slice of a Parquet file."""
    meanings, others = _choose_columns(form, rules)
    content = b""
    if isinstance(form, CsvFormat) and isinstance(piece, CsvRange):
        content = piece.read()
        columns, kept = csv_rows.read(content, piece, form, meanings, others)
    else:
        assert isinstance(form, TableFormat), "a part has one format"
        assert isinstance(piece, TableSlice), "a part has one format"
        columns, kept = table_files.read(piece, form, meanings, others)
    if rules.split_column:
        columns["split"] = kept[rules.split_column].cast(pa.string())
    checked = row_checks.check(pa.table(columns), form, rules)
    is_rejected = checked["reason"].is_valid().combine_chunks()
    if isinstance(form, CsvFormat) and isinstance(piece, CsvRange):
        offset, raw = csv_rows.locate(content, piece, form, is_rejected, rules)
    else:  # rows of Parquet have a number, but no bytes
        offset = pa.array(np.arange(piece.start, piece.stop))
        raw = pc.if_else(is_rejected, pa.scalar(b"", pa.binary()), None)
    num_rows = piece.num_rows
    source_index = pa.repeat(pa.scalar(0, pa.int32()), num_rows)
    tweet_id = columns.get("tweet_id", pa.nulls(num_rows, pa.string()))
    table = {name: checked[name] for name in checked.column_names}
    table["source"] = pa.DictionaryArray.from_arrays(source_index, pa.array([piece.source]))
    table["offset"] = offset
    table["tweet_id"] = row_checks.null_if_empty(tweet_id)
    table["raw"] = raw
    if not rules.split_column:
        table["split"] = pa.repeat(pa.scalar(piece.split, pa.string()), num_rows)
    for name in rules.keep:  # user and time are not in kept, because they were checked
        table[kept_name(name)] = kept[name] if name in kept else table[name]
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
