"""Parquet files -> what their columns mean; slices of one long table, read as strings."""

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, schema
from sentiflow.data.manifest_types import InputFile
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.filesystem import map_files

Labels = tuple[tuple[str, int | None], ...]
"""Pairs of written value and label; None: unlabelled."""


def number_labels(num_classes: int) -> Labels:
    """Pair labels written as numbers with themselves; false and true mean 0 and 1."""
    numbers = [(str(label), label) for label in range(num_classes)]
    return (*numbers, ("false", schema.NEGATIVE), ("true", schema.POSITIVE), ("", None))


NUMBERED = number_labels(len(schema.LABEL_NAMES))
_BUFFER_BYTES = 1 << 22
"""Bytes of a column that are read at a time where a row group is not read as a whole."""


@dataclass(frozen=True)
class TableSlice:
    """Consecutive rows of one Parquet file."""

    source: str
    start: int
    stop: int
    """``start`` and ``stop`` are row numbers in the file."""
    first_row: int
    """Number of row ``start`` over all files."""
    num_bytes: int
    """About the bytes of these rows in the file."""
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
    groups: tuple[tuple[int, int], ...]
    """Rows and bytes of each row group."""
    ids: tuple[int, int] | str | None
    """The smallest and the largest ``row_id``, or why the ids identify no rows; None: none."""

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(num_rows for num_rows, _ in self.groups)


@dataclass(frozen=True)
class TableFormat:
    """How to read the rows of Parquet files; all files are read alike."""

    columns: tuple[tuple[str, str], ...] = tuple((n, n) for n in ("text", "label", "tweet_id"))
    """Pairs of meaning and column: ``text``, and some of ``label``, ``tweet_id``, ``user`` and
    ``time``. A file may lack the column of any but the text."""
    labels: Labels = NUMBERED
    time_format: str | None = None
    """As for ``tweets.read_times``, if times are written as text."""
    max_text_length: int | None = None
    """In characters; None: any length."""
    has_row_ids: bool = True
    """Whether the files have their own ``row_id``. If not, rows are numbered over all files."""
    kept: tuple[tuple[str, pa.DataType], ...] = ()
    """Additional columns and their types."""


@dataclass(frozen=True)
class TablePlan:
    """Schema and size of Parquet files, from their footers."""

    files: tuple[InputFile, ...]
    """The files as they were described before they are read."""
    tables: tuple[TableFile, ...]
    """The row groups of each file."""
    table_format: TableFormat
    columns: tuple[str, ...]
    """Columns that ``score.keep_columns`` may name."""
    notes: tuple[str, ...]
    """Remarks for the user about ids and labels that are not used."""

    @property
    def uris(self) -> tuple[str, ...]:
        """URIs of the files."""
        return tuple(item["uri"] for item in self.files)

    def has_column(self, name: str) -> bool:
        """Say whether there is a column of this meaning, or with this name to keep."""
        return name in {*dict(self.table_format.columns), *dict(self.table_format.kept)}


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
        for start, stop, num_bytes in _divide(file, rows_per_part):
            if slices and held + stop - start - rows_per_part > rows_per_part - held:
                parts.append(tuple(slices))
                slices, held = [], 0
            last = slices[-1] if slices else None
            if last and last.source == file.uri:
                slices[-1] = replace(last, stop=stop, num_bytes=last.num_bytes + num_bytes)
            else:
                slices.append(
                    TableSlice(file.uri, start, stop, row, num_bytes, splits.get(file.uri))
                )
            row, held = row + stop - start, held + stop - start
    return [*parts, tuple(slices)] if slices else parts


def _divide(file: TableFile, rows_per_part: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and bytes of each row group; of a large one, of equal pieces."""
    start = 0
    for num_rows, num_bytes in file.groups:
        pieces = max(1, round(num_rows / rows_per_part))
        bounds = [start + num_rows * i // pieces for i in range(pieces + 1)]
        for low, high in itertools.pairwise(bounds):
            if high > low:
                yield low, high, num_bytes // pieces
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
    try:
        table = _read_rows(piece.source, piece.start, piece.stop, names)
    except (pa.ArrowInvalid, OSError) as error:
        rows = f"rows {piece.start:,} to {piece.stop - 1:,}"
        problem = UserError(
            f"{piece.source}, {rows}: {str(error).splitlines()[0]}",
            hint="the file is damaged: create it again",
        )
        raise errors.explain(error, uri=piece.source) or problem from error
    columns = {
        name: _as_written(table[column].combine_chunks())
        for name, column in meant.items()
        if column in table.column_names
    }
    if table_format.has_row_ids:
        columns["row_id"] = table["row_id"].combine_chunks().cast(pa.int64())
    else:
        columns["row_id"] = pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    types = dict(table_format.kept)
    return columns, {name: table[name].combine_chunks().cast(types[name]) for name in others}


def has_text(kind: pa.DataType) -> bool:
    """Say whether :func:`read_texts` reads columns of this type."""
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not (is_bytes or pa.types.is_fixed_size_binary(kind) or pa.types.is_nested(kind))


def read_texts(uri: str, start: int, stop: int, names: Sequence[str]) -> pa.Table:
    """Read rows of any columns as texts, the columns named by their position in ``names``."""
    places = tuple((str(place), name) for place, name in enumerate(names))
    table_format = TableFormat(columns=places, has_row_ids=False)
    piece = TableSlice(uri, start, stop, first_row=0, num_bytes=0)
    columns, _ = read(piece, table_format, dict(places), ())
    return pa.table({place: columns[place].cast(pa.string()) for place, _ in places})


def _read_rows(uri: str, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
    """Read rows of a file, and only the row groups with these rows.

    Of a group that is divided no more is kept than these rows, and nothing behind them is read.
    """
    file_system, path = filesystem.locate(uri)
    with file_system.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        present = [name for name in columns if name in file.schema_arrow.names]
        if start == stop:
            return file.schema_arrow.empty_table().select(present)
        groups, bounds = parquet.find_groups(file.metadata, start, stop)
        position = bounds[groups.start]
        if position == start and bounds[groups.stop] == stop:
            return file.read_row_groups(list(groups), columns=present)
        file = pq.ParquetFile(source, metadata=file.metadata, buffer_size=_BUFFER_BYTES)
        kept = []
        for batch in file.iter_batches(stop - start, row_groups=groups, columns=present):
            some = batch.slice(max(0, start - position), stop - max(start, position))
            kept += [some] if position + len(batch) > start else []
            position += len(batch)
            if position >= stop:
                break
        return pa.Table.from_batches(kept)


def read_footer(uri: str, *, with_ids: bool = False) -> TableFile:
    """Read the footer of a file, and close it: there may be more files than can be open.

    Args:
        uri: The file.
        with_ids: Also read its column ``row_id``.

    Raises:
        UserError: It is not Parquet, or two of its columns have the same name.
    """
    file_system, path = filesystem.locate(uri)
    try:
        file = pq.ParquetFile(path, filesystem=file_system)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        problem = UserError(f"{uri} is not Parquet", hint=str(error).splitlines()[0])
        raise errors.explain(error, uri=uri) or problem from error
    with file:
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{uri} has several columns {twice[0]}", hint="rename or drop them")
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        columns = range(file.metadata.num_columns)
        sizes = [
            (group.num_rows, sum(group.column(i).total_compressed_size for i in columns))
            for group in groups
        ]
        has_ids = with_ids and "row_id" in names
        ids = _find_range(file.read(columns=["row_id"])["row_id"]) if has_ids else None
        return TableFile(uri, file.schema_arrow, tuple(sizes), ids)


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
        values = text.cast(pa.binary()).to_pylist()
        repaired = [None if value is None else value.decode(errors="replace") for value in values]
        return pa.array(repaired, pa.string())
    return text


_NAMED = (*NUMBERED, *((name, label) for label, name in enumerate(schema.LABEL_NAMES)))
"""Labels as numbers or by name."""
_DEFAULT_COLUMNS = {
    "text": ("text",),
    "label": ("label",),
    "tweet_id": ("tweet_id", "id"),
    "user": ("user",),
    "time": ("time",),
}
"""Names of the column of each meaning, if ``format`` names none."""
_STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def plan_scoring(
    files: Sequence[InputFile],
    *,
    text_column: str,
    keep_columns: Sequence[str],
    classes: Sequence[str] = schema.LABEL_NAMES,
    settings: FormatSettings | None = None,
    earlier: Sequence[str] = (),
) -> TablePlan:
    """Inspect Parquet files before any of their rows is scored.

    Args:
        files: The files, as they were described.
        text_column: Name of the column with the texts.
        keep_columns: Columns to add; missing ones are ignored.
        classes: What the column ``label`` holds: their names, or positions among them.
        settings: The section ``format``: the longest text, and the column of labels, by name, if
            all files have it.
        earlier: Files that were scored before; their ``row_id`` must not occur again.

    Raises:
        UserError: A file is not Parquet, has no such column of strings, or the types of a kept
            column cannot be combined.
    """
    uris = [item["uri"] for item in files]
    footers = map_files(functools.partial(read_footer, with_ids=True), [*earlier, *uris])
    tables = footers[len(earlier) :]
    schemas = [table.arrow for table in tables]
    for uri, arrow in zip(uris, schemas, strict=True):
        check_text(uri, arrow, text_column, setting="score.text_column")
    shared = set.intersection(*(set(arrow.names) for arrow in schemas))
    others = [n for n in keep_columns if n in shared and n not in schema.TWEETS.names]
    why_not = find_id_fault(footers)
    has_ids = all(_has_readable(arrow, "tweet_id", meaning="tweet_id") for arrow in schemas)
    settings = settings or FormatSettings()
    label_column, labels = _find_labels(settings, classes, shared)
    has_labels = all(_has_readable(arrow, label_column, meaning="label") for arrow in schemas)
    columns = [("text", text_column)]
    columns += [("label", label_column)] if has_labels else []
    columns += [("tweet_id", "tweet_id")] if has_ids else []
    table_format = TableFormat(
        columns=tuple(columns),
        labels=labels,
        max_text_length=settings.max_text_length,
        has_row_ids=why_not is None,
        kept=_join_types(others, uris, schemas, setting="score.keep_columns"),
    )
    notes = [f"{why_not}: rows are numbered over all files"] if why_not else []
    if not has_ids:
        notes.append("tweet_id is neither a string nor an integer: it is left out")
    if not has_labels:
        notes.append(f"{label_column} is neither a string nor a number: all rows are unlabelled")
    names = tuple(sorted(shared | {"row_id", "text"}))
    return TablePlan(tuple(files), tuple(tables), table_format, names, tuple(notes))


def _find_labels(
    settings: FormatSettings, classes: Sequence[str], shared: Collection[str]
) -> tuple[str, Labels]:
    """Find the column of labels of scored files, and what its values mean.

    That is ``format.columns.label`` with the values of ``format.labels``, if the files have it,
    otherwise ``label``. The names of classes are values, too, and their positions, unless a
    position is one of the values of ``format.labels``.
    """
    named = [(name, label) for label, name in enumerate(classes)]
    numbers = number_labels(len(classes))
    column = settings.columns.label if settings.columns else None
    if not isinstance(column, str) or column not in shared:
        return "label", (*numbers, *named)
    names = settings.classes or ()
    written: dict[str, int | None] = {
        value: None if label is None else classes.index(names[label])
        for value, label in csv_format.meanings(settings)
    }
    has_numbers = any(value in written for value, label in numbers if label is not None)
    others = named if has_numbers else [*numbers, *named]
    return column, tuple((dict(others) | written).items())


def plan_preparation(
    files: Sequence[InputFile],
    *,
    settings: FormatSettings,
    keep_columns: Sequence[str] = (),
) -> TablePlan:
    """Inspect Parquet files before any of their rows is prepared.

    Args:
        files: The files, as they were described.
        settings: The section ``format``. Without ``columns`` the files must have its
            ``default_columns``; ``tweet_id`` (or ``id``), ``user`` and ``time`` may be there.
        keep_columns: Columns to add, other than ``user`` and ``time``; missing ones are ignored.

    Raises:
        UserError: A file is not Parquet, lacks a column, or has one of a type that cannot be read.
    """
    uris = [item["uri"] for item in files]
    tables = map_files(read_footer, uris)
    schemas = [table.arrow for table in tables]
    shared = set.intersection(*(set(arrow.names) for arrow in schemas))
    columns = _find_columns(settings, uris, schemas)
    for uri, arrow in zip(uris, schemas, strict=True):
        check_text(uri, arrow, columns["text"], setting=f"{settings.section}.columns.text")
        for meaning, name in columns.items():
            if not _has_readable(arrow, name, meaning=meaning):
                key = "id" if meaning == "tweet_id" else meaning
                problem = f"{name} is of type {arrow.field(name).type} in {uri}"
                raise UserError(
                    f"{settings.section}.columns.{key}: {problem}", hint="convert it to strings"
                )
    others = [name for name in keep_columns if name in shared and name not in ("user", "time")]
    table_format = TableFormat(
        columns=tuple(columns.items()),
        labels=csv_format.meanings(settings) if settings.labels else _NAMED,
        time_format=settings.time_format,
        max_text_length=settings.max_text_length,
        has_row_ids=False,
        kept=_join_types(others, uris, schemas, setting="prepare.keep_columns"),
    )
    return TablePlan(tuple(files), tuple(tables), table_format, tuple(sorted(shared)), ())


def _find_columns(
    settings: FormatSettings, uris: Sequence[str], schemas: Sequence[pa.Schema]
) -> dict[str, str]:
    """Find the column of each meaning; all files must agree."""
    if settings.columns is None:
        return _find_default_columns(uris, schemas, settings.default_columns)
    meant: dict[str, str] = {}
    for uri, arrow in zip(uris, schemas, strict=True):
        places = csv_format.find_positions(settings, arrow.names, len(arrow.names), uri)
        names = {key: arrow.names[at] for key, at in dict(places).items() if at is not None}
        if meant and names != meant:
            raise UserError(
                f"{uri} has other names at the positions of {settings.section}.columns than "
                f"{uris[0]}",
                hint="give the columns by their names",
            )
        meant = names
    return {"tweet_id" if key == "id" else key: name for key, name in meant.items()}


def _find_default_columns(
    uris: Sequence[str], schemas: Sequence[pa.Schema], needed: Sequence[str]
) -> dict[str, str]:
    shared = set.intersection(*(set(arrow.names) for arrow in schemas))
    for uri, arrow in zip(uris, schemas, strict=True):
        if missing := [name for name in needed if name not in arrow.names]:
            names = csv_format.list_names(arrow.names)
            raise UserError(
                f"{uri} has no column {missing[0]}; its columns are {names}",
                hint="name the columns: format: {kind: csv, columns: {text: ..., label: ...}, "
                "labels: auto}",
            )
    return {
        meaning: next(name for name in names if name in shared)
        for meaning, names in _DEFAULT_COLUMNS.items()
        if shared & {*names}
    }


def _has_readable(arrow: pa.Schema, name: str, *, meaning: str) -> bool:
    """Say whether the values of a column can be read as what they mean; or there is none."""
    if name not in arrow.names:
        return True
    kind = _decoded(arrow.field(name).type)
    if kind in _STRINGS or pa.types.is_integer(kind):
        return True
    if meaning == "label":
        return pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_floating(kind)
    return meaning == "time" and is_time


def _decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary, or of a column that is none."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def check_text(uri: str, arrow: pa.Schema, text_column: str, *, setting: str) -> None:
    """Check that the texts of a file are strings."""
    if text_column not in arrow.names or _decoded(arrow.field(text_column).type) not in _STRINGS:
        raise UserError(
            f"{uri} has no column {text_column} of strings",
            hint=f"its columns are {', '.join(arrow.names)}: set {setting}",
        )


def _join_types(
    names: Sequence[str], uris: Sequence[str], schemas: Sequence[pa.Schema], *, setting: str
) -> tuple[tuple[str, pa.DataType], ...]:
    """Find a common type for each of some columns of all files.

    Raises:
        UserError: There is none.
    """
    joined = []
    for name in names:
        kinds = [arrow.field(name).type for arrow in schemas]
        try:
            columns = [pa.schema([(name, kind)]) for kind in kinds]
            kind = pa.unify_schemas(columns, promote_options="permissive").field(name).type
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            examples = dict(zip(kinds, uris, strict=True))  # a file of each type
            listed = ", ".join(f"{kind} in {uri}" for kind, uri in examples.items())
            raise UserError(
                f"{setting}: {name} is {listed}",
                hint="convert the column to one type, or leave it out",
            ) from error
        joined.append((name, pa.string() if pa.types.is_null(kind) else kind))
    return tuple(joined)


def _find_range(ids: pa.ChunkedArray) -> tuple[int, int] | str:
    """Find the smallest and the largest ``row_id`` of a file, or why its ids identify nothing."""
    if not pa.types.is_integer(ids.type):
        return f"has a row_id of type {ids.type}"
    bounds = pc.min_max(ids).as_py()
    if ids.null_count or not _are_distinct(ids) or (bounds["max"] or 0) >= 1 << 63:
        return "has a row_id that is missing, occurs twice or has more than 63 bits"
    return bounds["min"], bounds["max"]


def find_id_fault(files: Sequence[TableFile]) -> str | None:
    """Say why the column ``row_id`` does not identify the rows of files; None if it does.

    It does if all files have integers without nulls and duplicates. Ids are read again, and are in
    memory together, only if the ranges of two files overlap.

    Returns:
        The fault with the file; an empty string if no file has the column.
    """
    without = [file.uri for file in files if file.ids is None]
    if without:
        return f"{without[0]} has no row_id" if len(without) < len(files) else ""
    ranges = []
    for file in files:
        if isinstance(file.ids, str):
            return f"{file.uri} {file.ids}"
        if file.ids and file.num_rows:
            ranges.append((file.ids, file.uri))
    for (one, uri), (other, _) in itertools.pairwise(sorted(ranges)):
        if other[0] <= one[1]:
            tables = map_files(
                lambda uri: parquet.read(uri, columns=["row_id"]), [u for _, u in ranges]
            )
            ids = [chunk.cast(pa.int64()) for table in tables for chunk in table["row_id"].chunks]
            is_distinct = _are_distinct(pa.chunked_array(ids))
            return None if is_distinct else f"{uri} contains a row_id of another file"
    return None


def _are_distinct(ids: pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(ids).as_py() == len(ids))
