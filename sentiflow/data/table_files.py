"""Parquet files -> parts of one long table, each read as checked tweets and rejected rows."""

import concurrent.futures
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.data import row_ids, schema, tweets
from sentiflow.data.tweets import Checked
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem

_OPENED_AT_ONCE = 16


@dataclass(frozen=True)
class TableSlice:
    """Consecutive rows of one Parquet file."""

    source: str
    start: int
    stop: int
    """Rows in the file."""
    first_row: int
    """Number of row ``start``, counted over all files."""
    split: str | None = None


@dataclass(frozen=True)
class TablePart:
    """Consecutive rows of one or more Parquet files."""

    slices: tuple[TableSlice, ...]

    @property
    def num_rows(self) -> int:
        """Number of its rows."""
        return sum(piece.stop - piece.start for piece in self.slices)

    @property
    def sources(self) -> tuple[str, ...]:
        """The files."""
        return tuple(piece.source for piece in self.slices)


@dataclass(frozen=True)
class TableForm:
    """How the rows of Parquet files are read, the same for all of them."""

    text_column: str = "text"
    has_row_ids: bool = True
    """The files bring their own ``row_id``; if not, rows are numbered over all files."""
    has_tweet_ids: bool = True
    has_labels: bool = True
    kept: tuple[tuple[str, pa.DataType], ...] = ()
    """Columns to add to those of every tweet, and their types."""


@dataclass(frozen=True)
class TablePlan:
    """What the footers of Parquet files tell."""

    uris: tuple[str, ...]
    num_rows: tuple[int, ...]
    """Of each file."""
    form: TableForm
    columns: tuple[str, ...]
    """What may be kept."""
    notes: tuple[str, ...]
    """What a user might miss."""


def plan(
    uris: Sequence[str],
    *,
    text_column: str,
    keep_columns: Sequence[str],
    earlier: Sequence[str] = (),
) -> TablePlan:
    """Look at Parquet files before any of their rows is scored.

    Args:
        uris: Of the files.
        text_column: Name of the column with the texts.
        keep_columns: To add to the columns of every tweet; one that is not there is left out.
        earlier: Files that were read before; no ``row_id`` may stand in them too.

    Raises:
        UserError: A file is no Parquet, has no such column of strings, or a kept column is of
            types that are not to be made one.
    """
    with concurrent.futures.ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        opened = list(pool.map(_open, uris))
    schemas = [file.schema_arrow for file in opened]
    for uri, arrow in zip(uris, schemas, strict=True):
        _check(uri, arrow, text_column)
    shared = set.intersection(*(set(arrow.names) for arrow in schemas))
    others = [n for n in keep_columns if n in shared and n not in schema.TWEETS.names]
    why_not = row_ids.find_fault([*earlier, *uris])
    form = TableForm(
        text_column=text_column,
        has_row_ids=why_not is None,
        has_tweet_ids=all(_is_id(_type_of(arrow, "tweet_id")) for arrow in schemas),
        has_labels=all(_is_label(_type_of(arrow, "label")) for arrow in schemas),
        kept=tuple((name, _join_types(name, uris, schemas)) for name in others),
    )
    notes = [f"{why_not}: rows are numbered over all files"] if why_not else []
    if not form.has_tweet_ids:
        notes.append("tweet_id is neither string nor whole number: it is left out")
    if not form.has_labels:
        notes.append("label is no number: no row is labelled")
    rows = tuple(file.metadata.num_rows for file in opened)
    columns = tuple(sorted(shared | {"row_id", "text"}))
    return TablePlan(tuple(uris), rows, form, columns, tuple(notes))


def cut(
    files: Iterable[tuple[str, int, str | None]], *, rows_per_part: int, first_row: int
) -> tuple[TablePart, ...]:
    """Cut files, as one long table, every ``rows_per_part`` rows.

    Args:
        files: Location, number of rows and split of each.
        rows_per_part: Rows of a part, but for the last.
        first_row: Number of the first row.
    """
    parts: list[TablePart] = []
    slices: list[TableSlice] = []
    room, row = rows_per_part, first_row
    for uri, num_rows, split in files:
        start = 0
        while start < num_rows:
            stop = min(num_rows, start + room)
            slices.append(TableSlice(uri, start, stop, row, split))
            room, row, start = room - (stop - start), row + stop - start, stop
            if room == 0:
                parts.append(TablePart(tuple(slices)))
                slices, room = [], rows_per_part
    return (*parts, TablePart(tuple(slices))) if slices else tuple(parts)


def read(part: TablePart, form: TableForm) -> Checked:
    """Read a part; an unknown label becomes null and refuses no row.

    Returns:
        The tweets with ``split`` and the kept columns; and the rows without a text.

    Raises:
        UserError: A file is damaged.
    """
    checks = [_read_slice(piece, form) for piece in part.slices]
    return Checked(
        pa.concat_tables([check.tweets for check in checks]),
        pa.concat_tables([check.rejected for check in checks]),
        num_unknown_labels=sum(check.num_unknown_labels for check in checks),
    )


def _open(uri: str) -> pq.ParquetFile:
    file_system, path = filesystem.locate(uri)
    try:
        return pq.ParquetFile(path, filesystem=file_system)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        problem = UserError(f"{uri} is not Parquet", hint=str(error).splitlines()[0])
        raise errors.explain(error, uri=uri) or problem from error


def _check(uri: str, arrow: pa.Schema, text_column: str) -> None:
    twice = sorted({name for name in arrow.names if arrow.names.count(name) > 1})
    if twice:
        raise UserError(f"{uri} has several columns {twice[0]}", hint="rename or drop them")
    kind = _type_of(arrow, text_column)
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind not in (pa.string(), pa.large_string(), pa.string_view()):
        raise UserError(
            f"{uri} has no column {text_column} of strings",
            hint=f"it has {', '.join(arrow.names)}; set score.text_column",
        )


def _type_of(arrow: pa.Schema, name: str) -> pa.DataType | None:
    return arrow.field(name).type if name in arrow.names else None


def _is_id(kind: pa.DataType | None) -> bool:
    is_string = kind in (None, pa.string(), pa.large_string(), pa.string_view(), pa.null())
    return is_string or pa.types.is_integer(kind)


def _is_label(kind: pa.DataType | None) -> bool:
    is_number = kind is None or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _join_types(name: str, uris: Sequence[str], schemas: Sequence[pa.Schema]) -> pa.DataType:
    """Find a type that takes the values of a column in all files.

    Raises:
        UserError: There is none.
    """
    joined = pa.schema([schemas[0].field(name)])
    for uri, arrow in zip(uris, schemas, strict=True):
        try:
            other = pa.schema([arrow.field(name)])
            joined = pa.unify_schemas([joined, other], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(
                f"score.keep_columns: {name} is {arrow.field(name).type} in {uri}, and "
                f"{joined.field(name).type} before",
                hint="make it one type, or leave it out",
            ) from error
    kind = joined.field(name).type
    return pa.string() if pa.types.is_null(kind) else kind


def _read_slice(piece: TableSlice, form: TableForm) -> Checked:
    kept = [name for name, _ in form.kept]
    wanted = dict.fromkeys((*schema.TWEETS.names, form.text_column, *kept))
    try:
        table = filesystem.read_rows(piece.source, piece.start, piece.stop, columns=list(wanted))
    except (pa.ArrowInvalid, OSError) as error:
        rows = f"rows {piece.start:,} to {piece.stop - 1:,}"
        problem = UserError(
            f"{piece.source}, {rows}: {str(error).splitlines()[0]}",
            hint="the file is damaged; make it again",
        )
        raise errors.explain(error, uri=piece.source) or problem from error
    nulls = pa.nulls(len(table), pa.string())
    numbers = pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    row_id = table["row_id"].combine_chunks().cast(pa.int64()) if form.has_row_ids else numbers
    has_ids = form.has_tweet_ids and "tweet_id" in table.column_names
    text, label = _to_text(table[form.text_column]), _read_labels(table, form)
    columns = {
        "row_id": row_id,
        "tweet_id": _to_text(table["tweet_id"]) if has_ids else nulls,
        "text": text,
        "label": label,
        "split": pa.array([piece.split] * len(table), pa.string()),
    }
    columns |= {name: table[name].cast(kind) for name, kind in form.kept}
    filled = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(text, "")), "")
    refused = np.flatnonzero(~filled.to_numpy(zero_copy_only=False))
    rejected = pa.Table.from_arrays(
        [
            row_id.take(pa.array(refused)),
            pa.array([piece.source] * len(refused), pa.string()),
            pa.array(piece.start + refused),
            pa.array([b""] * len(refused), pa.binary()),
            pa.array([tweets.EMPTY_TEXT] * len(refused), pa.string()),
        ],
        schema=schema.REJECTED,
    )
    lost = (
        table["label"].is_valid().to_numpy() & label.is_null().to_numpy(False)
        if (form.has_labels and "label" in table.column_names)
        else np.zeros(len(table), bool)
    )
    return Checked(
        pa.table(columns).filter(filled),
        rejected,
        num_unknown_labels=int((lost & filled.to_numpy(zero_copy_only=False)).sum()),
    )


def _to_text(column: pa.ChunkedArray) -> pa.Array:
    """Make strings of a column, with bytes replaced that are no UTF-8."""
    text = column.combine_chunks().cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        values = text.cast(pa.binary()).to_pylist()
        mended = [None if value is None else value.decode(errors="replace") for value in values]
        return pa.array(mended, pa.string())
    return text


def _read_labels(table: pa.Table, form: TableForm) -> pa.Array:
    """Read the column ``label``; what is none of ours becomes null."""
    if not form.has_labels or "label" not in table.column_names:
        return pa.nulls(len(table), pa.int8())
    label = table["label"].combine_chunks()
    if pa.types.is_boolean(label.type):
        label = label.cast(pa.int8())
    known = pc.is_in(label, value_set=pa.array(range(len(schema.LABEL_NAMES))).cast(label.type))
    return pc.if_else(known, label, None).cast(pa.int8())
