"""Part of a corpus -> one table of its rows, each checked: accepted, or rejected with a reason."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import csv_rows, input_files, schema, table_files, tweets
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.label_files import CorrectedRows
from sentiflow.data.manifest_types import Input
from sentiflow.data.table_files import TableFormat, TableSlice

_OWN = (
    *("row_id", "source", "offset", "tweet_id", "text", "label", "unknown_label", "split"),
    *("raw", "reason"),
)
"""Columns of :func:`read`; the kept ones are before the last two."""


SplitColumn = tuple[str, Mapping[str, str | None]]
"""A column, and the split of each of its values in lower case; None: train."""
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
    """The files, or the directory with them, as described before they are read."""

    @property
    def num_rows(self) -> int:
        """Number of records or rows."""
        return sum(piece.num_rows for piece in self.pieces)

    @property
    def num_bytes(self) -> int:
        """Bytes of the records in the unpacked file; about those of the rows in Parquet files."""
        return sum(piece.num_bytes for piece in self.pieces)

    @property
    def sources(self) -> tuple[str, ...]:
        """URIs of the files."""
        return tuple(piece.source for piece in self.pieces)


def read(
    part: Part,
    *,
    required: Collection[str] = (),
    keep: Sequence[str] = (),
    keep_raw: bool = True,
    with_offsets: bool = False,
    corrections: CorrectedRows | None = None,
    splits: SplitColumn | None = None,
) -> pa.Table:
    """Read and check every row of a part, accepted or rejected, in order.

    Args:
        part: The part, from a CSV or from Parquet files.
        required: Some of ``label``, ``user`` and ``time``; a row without one is rejected. An
            unknown value of the others becomes null.
        keep: Columns to add: ``user`` (string) and ``time`` (timestamp) if the format names them,
            and other columns by their name (strings of a CSV are null where empty).
        keep_raw: Keep the bytes of rejected records.
        with_offsets: Find the offset of accepted records of a CSV, too, which takes time.
        corrections: Labels that replace those of some rows.
        splits: The column that names the split of each row; a row with another value is rejected.

    Columns:
        added: ``row_id`` (int64), ``source`` (dictionary<int32, string>: the URI), ``offset``
            (int64: the first byte of the record in the unpacked CSV, or the row in the Parquet
            file; null for accepted records unless ``with_offsets``), ``tweet_id`` (string),
            ``text`` (string), ``label`` (int8: null for none or an unknown one), ``unknown_label``
            (string: the value as written if it is unknown, else null), ``split`` (string: that of
            prepared data, of a file of one split, or by ``splits``; else null), the kept ones under
            their :func:`kept_name`, ``raw`` (binary: null for an accepted row; the bytes of a
            rejected record, cut to ``MAX_RAW_BYTES``; empty without ``keep_raw`` and for Parquet),
            ``reason`` (string: one of
            ``tweets.REASONS``, null for an accepted row).

    Raises:
        UserError: A file is damaged, or was changed since it was described.
        JobError: The directory with the files was replaced.
    """
    read_piece: Callable[..., pa.Table]
    if isinstance(part.format, TableFormat):
        read_piece = functools.partial(_read_slice, part.format)
    else:
        read_piece = functools.partial(
            _read_csv, part.format, keep_raw=keep_raw, with_offsets=with_offsets
        )
    tables = [read_piece(piece, required, keep, corrections, splits) for piece in part.pieces]
    rows = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
    input_files.check_part(part.inputs, part.sources)
    return rows


def with_labels(part: Part, labels: table_files.Labels) -> Part:
    """Replace what the written labels of a part mean."""
    return replace(part, format=replace(part.format, labels=labels))


def kept_name(name: str) -> str:
    """Name a kept column in the table of :func:`read`, which has columns of its own."""
    return f"kept.{name}" if name in (*_OWN, LABEL_NAME) else name


def accepted(rows: pa.Table) -> pa.Table:
    """Choose the rows without a reason."""
    reason = rows["reason"]
    return rows if reason.null_count == len(rows) else rows.filter(reason.is_null())


def accepted_texts(rows: pa.Table) -> pa.Array:
    """Return the text of each row, empty for rows with a reason."""
    text, reason = one_array(rows["text"]), one_array(rows["reason"])
    return text if reason.null_count == len(rows) else pc.if_else(pc.is_null(reason), text, "")


def take_accepted(rows: pa.Table, *, keep: Sequence[str] = ()) -> pa.Table:
    """Select the accepted rows of a table of :func:`read`.

    Args:
        rows: The table.
        keep: Its kept columns.

    Returns:
        The columns of ``schema.TWEETS``, ``split``, and the kept ones under their own names.
    """
    names = (*schema.TWEETS.names, "split", *map(kept_name, keep))
    rows = accepted(rows).select(names)
    types = zip(("split", *keep), rows.schema.types[len(schema.TWEETS) :], strict=True)
    return pa.Table.from_arrays(rows.columns, schema=pa.schema([*schema.TWEETS, *types]))


def take_rejected(rows: pa.Table) -> pa.Table:
    """Select the rejected rows of a table of :func:`read`, with the columns of REJECTED."""
    if rows["reason"].null_count == len(rows):
        return schema.REJECTED.empty_table()
    rows = rows.select(schema.REJECTED.names).filter(rows["reason"].is_valid())
    return rows.cast(schema.REJECTED)


def _read_csv(
    csv_format: CsvFormat,
    csv_range: CsvRange,
    required: Collection[str],
    keep: Sequence[str],
    corrections: CorrectedRows | None,
    splits: SplitColumn | None,
    *,
    keep_raw: bool,
    with_offsets: bool,
) -> pa.Table:
    content = csv_range.read()
    wanted = ["text", "id", *({"user", "time"} & {*required, *keep})]
    wanted += ["label"] if csv_format.columns.label is not None else []
    column, names = splits or ("", {})
    further = {column} if splits else set()
    found, reason = csv_rows.read(content, csv_range, csv_format, {*wanted, *keep, *further})
    first, num_rows = csv_range.first_row, csv_range.num_rows
    row_id = pa.array(np.arange(first, first + num_rows))
    strings = {name: found[name] for name in wanted} | {"reason": reason}
    checked = tweets.check(
        pa.table(strings | {"split": found[column]} if splits else strings),
        splits=names,
        labels=csv_format.labels,
        time_format=csv_format.time_format,
        max_text_length=csv_format.settings.max_text_length,
        required=required,
        corrected=corrections.labels_of(row_id) if corrections else None,
    )
    offset, raw = csv_rows.locate(
        content,
        csv_range,
        csv_format,
        pc.is_valid(checked["reason"]).combine_chunks(),
        keep_raw=keep_raw,
        with_offsets=with_offsets,
    )
    others = {name: tweets.null_if_empty(found[name]) for name in keep if name not in wanted}
    columns = {
        "row_id": row_id,
        "source": _name_source(csv_range.source, num_rows),
        "offset": offset,
        "tweet_id": tweets.null_if_empty(found["id"]),
        "split": _find_split(checked, csv_range.split),
        "raw": raw,
    }
    return _join(checked, columns, others, keep)


def _read_slice(
    table_format: TableFormat,
    piece: TableSlice,
    required: Collection[str],
    keep: Sequence[str],
    corrections: CorrectedRows | None,
    splits: SplitColumn | None,
) -> pa.Table:
    meant = [name for name, _ in table_format.columns]
    wanted = {"text", "label", "tweet_id", *({"user", "time"} & {*required, *keep})}
    column, names = splits or ("", {})
    others = [name for name in keep if name not in meant]
    further = [column] if splits and column not in others else []
    found, kept = table_files.read(piece, table_format, wanted=wanted, keep=others + further)
    num_rows = len(found["row_id"])
    meanings = ("text", "label", "user", "time")
    strings: dict[str, pa.Array] = {name: found[name] for name in meanings if name in found}
    strings |= {"split": kept[column].cast(pa.string())} if splits else {}
    checked = tweets.check(
        pa.table(strings),
        splits=names,
        labels=table_format.labels,
        time_format=table_format.time_format,
        max_text_length=table_format.max_text_length,
        required=required,
        corrected=corrections.labels_of(found["row_id"]) if corrections else None,
    )
    is_accepted = checked["reason"].is_null()
    columns = {
        "row_id": found["row_id"],
        "source": _name_source(piece.source, num_rows),
        "offset": pa.array(np.arange(piece.start, piece.stop)),
        "tweet_id": found.get("tweet_id", pa.nulls(num_rows, pa.string())),
        "split": _find_split(checked, piece.split),
        "raw": pc.if_else(is_accepted, None, pa.scalar(b"", pa.binary())),
    }
    return _join(checked, columns, kept, keep)


def _join(
    checked: pa.Table,
    columns: dict[str, pa.Array],
    others: dict[str, pa.Array],
    keep: Sequence[str],
) -> pa.Table:
    """Join checked rows, columns of :func:`read` and kept columns, in its order."""
    columns |= {name: checked[name] for name in ("text", "label", "unknown_label", "reason")}
    columns |= {kept_name(n): others[n] if n in others else checked[n] for n in keep}
    names = (*_OWN[:-2], *map(kept_name, keep), *_OWN[-2:])
    return pa.table({name: columns[name] for name in names})


def _find_split(checked: pa.Table, split: str | None) -> pa.Array:
    """Return the split of each row: as its column says, or that of the whole file."""
    if "split" in checked.column_names:
        return one_array(checked["split"])
    return pa.repeat(pa.scalar(split, pa.string()), len(checked))


def _name_source(uri: str, num_rows: int) -> pa.DictionaryArray:
    """Name the file of each row."""
    indices = pa.repeat(pa.scalar(0, pa.int32()), num_rows)
    return pa.DictionaryArray.from_arrays(indices, pa.array([uri]))
