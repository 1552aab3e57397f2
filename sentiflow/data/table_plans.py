"""Footers of Parquet files -> the meaning of their columns, for preparation or scoring."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, partitions, schema
from sentiflow.data.manifest_types import InputFile
from sentiflow.data.table_files import (
    NUMBERED,
    Labels,
    TableFile,
    TableFormat,
    number_labels,
    read_footer,
)
from sentiflow.errors import UserError
from sentiflow.storage.filesystem import map_files


@dataclass(frozen=True)
class TablePlan:
    """Schema and size of Parquet files, from their footers."""

    files: tuple[InputFile, ...]
    """The files, as described before they are read."""
    tables: tuple[TableFile, ...]
    """Columns and row groups of each file."""
    table_format: TableFormat
    """How to read the rows of all files."""
    columns: tuple[str, ...]
    """Columns that ``score.keep_columns`` may name."""
    notes: tuple[str, ...]
    """Remarks for the user, such as ids or labels that cannot be used."""
    id_fault: str = ""
    """Why the ids that files have cannot be used; empty if they can, or if no file has any, which
    ``table_format.has_row_ids`` tells apart."""

    @property
    def columns_by_file(self) -> list[tuple[str, Collection[str]]]:
        """List the URI of each file and its columns."""
        return _list_columns(self.tables)

    def has_column(self, name: str) -> bool:
        """Say whether there is a column of this meaning, or with this name to keep."""
        return name in {*dict(self.table_format.columns), *dict(self.table_format.kept)}

    def number_rows(self, id_fault: str) -> "TablePlan":
        """Return the plan with rows that are numbered over all files, as ids cannot be used.

        Args:
            id_fault: Why the ids that files have cannot be used.
        """
        return replace(
            self,
            table_format=replace(self.table_format, has_row_ids=False),
            notes=(f"{id_fault}: rows are numbered over all files", *self.notes),
            id_fault=id_fault,
        )


class _IdState(NamedTuple):
    """Whether the ids of some files can be used."""

    has_ids: bool
    """Whether all files have a column ``row_id`` of integers."""
    fault: str = ""
    """Why the ids that files have cannot be used; empty if they can, or if no file has any."""


_NAMED: Labels = tuple((name, label) for label, name in enumerate(schema.LABEL_NAMES))
"""Pairs of class and label, for the classes negative, positive and neutral."""
_DEFAULT_COLUMNS = {
    "text": ("text",),
    "label": ("label",),
    "tweet_id": ("tweet_id", "id"),
    "user": ("user",),
    "time": ("time",),
}
"""Names of the column of each meaning, if ``format`` names none."""
_STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
"""Types that are read as text; a column of nulls has no type yet."""


def plan_scoring(
    files: Sequence[InputFile],
    *,
    text_column: str,
    keep_columns: Sequence[str],
    classes: Sequence[str] = schema.LABEL_NAMES,
    settings: FormatSettings | None = None,
) -> TablePlan:
    """Find the meaning of the columns of Parquet files that will be scored.

    Only footers are read. Whether each ``row_id`` stands for one row is not checked.

    Args:
        files: The files, as they were described.
        text_column: Name of the column with the texts.
        keep_columns: Columns to add; missing ones are ignored.
        classes: The classes of the model; labels are their names or positions.
        settings: The section ``format``; its label column is used if all files have it.

    Raises:
        UserError: A file is not Parquet, it has no such column of strings, or a kept column has
            types that cannot be combined.
    """
    tables = map_files(read_footer, [item["uri"] for item in files])
    for table in tables:
        check_text(table.uri, table.arrow, text_column, setting="score.text_column")
    shared = _find_shared(tables)
    label_column, labels = _find_labels(settings or FormatSettings(), classes, shared)
    has_labels = all(_has_readable(table, label_column, meaning="label") for table in tables)
    has_ids = all(_has_readable(table, "tweet_id", meaning="tweet_id") for table in tables)
    columns = [("text", text_column)]
    if has_labels:
        columns.append(("label", label_column))
    if has_ids:
        columns.append(("tweet_id", "tweet_id"))
    notes = []
    if not has_ids:
        notes.append("tweet_id is neither a string nor an integer: it is left out")
    if not has_labels:
        notes.append(f"{label_column} is neither a string nor a number: all rows are unlabelled")
    columns_of_all = shared | partitions.find_shared(_list_columns(tables))
    keepable = columns_of_all.difference(schema.TWEETS.names)
    others = [name for name in keep_columns if name in keepable]
    ids = _find_id_state(tables)
    table_format = TableFormat(
        columns=tuple(columns),
        labels=labels,
        has_row_ids=ids.has_ids,
        kept=_join_types(others, tables, setting="score.keep_columns"),
    )
    plan = TablePlan(
        files=tuple(files),
        tables=tuple(tables),
        table_format=table_format,
        columns=tuple(sorted(columns_of_all | {"row_id", "text"})),
        notes=tuple(notes),
    )
    return plan.number_rows(ids.fault) if ids.fault else plan


def _list_columns(tables: Sequence[TableFile]) -> list[tuple[str, Collection[str]]]:
    """List the URI of each file and its columns."""
    return [(table.uri, table.arrow.names) for table in tables]


def _find_shared(tables: Sequence[TableFile]) -> set[str]:
    """Find the columns that all files have; folders name further ones."""
    return set.intersection(*(set(table.arrow.names) for table in tables))


def _find_labels(
    settings: FormatSettings, classes: Sequence[str], shared: Collection[str]
) -> tuple[str, Labels]:
    """Find the column of labels of scored files, and the meaning of its values.

    The column is ``format.columns.label`` if the files have it, otherwise ``label``. Its values are
    the names of the classes and, for ``format.columns.label``, the values of ``format.labels``. The
    positions of the classes are values, too, unless ``format.labels`` contains one of them.
    """
    named = [(name, label) for label, name in enumerate(classes)]
    numbers = number_labels(len(classes))
    column = settings.columns.label if settings.columns else None
    if not isinstance(column, str) or column not in shared:
        return "label", (*numbers, *named)
    names = settings.classes or ()
    written: dict[str, int | None] = {}
    for value, label in csv_format.written_labels(settings):
        written[value] = None if label is None else classes.index(names[label])
    values: dict[str, int | None] = {}
    if not any(value in written for value, label in numbers if label is not None):
        values |= numbers
    values |= named
    values |= written
    return column, tuple(values.items())


def plan_preparation(
    files: Sequence[InputFile],
    *,
    settings: FormatSettings,
    keep_columns: Sequence[str] = (),
) -> TablePlan:
    """Find the meaning of the columns of Parquet files that will be prepared.

    Args:
        files: The files, as they were described.
        settings: The section ``format``. Without ``columns``, the files must have its
            ``default_columns``, and may have ``tweet_id`` (or ``id``), ``user`` and ``time``.
        keep_columns: Columns to add, other than ``user`` and ``time``; missing ones are ignored.

    Raises:
        UserError: A file is not Parquet, lacks a column, or has one of a type that cannot be read.
    """
    tables = map_files(read_footer, [item["uri"] for item in files])
    shared = _find_shared(tables)
    columns = _find_columns(settings, tables, shared)
    setting = f"{settings.section}.columns"
    for table in tables:
        check_text(table.uri, table.arrow, columns["text"], setting=f"{setting}.text")
        for meaning, name in columns.items():
            if not _has_readable(table, name, meaning=meaning):
                key = "id" if meaning == "tweet_id" else meaning
                kind = table.arrow.field(name).type
                raise UserError(
                    f"{setting}.{key}: {name} is of type {kind} in {table.uri}",
                    hint="convert it to strings",
                )
    columns_of_all = shared | partitions.find_shared(_list_columns(tables))
    others = [name for name in keep_columns if name in columns_of_all]
    others = [name for name in others if name not in ("user", "time")]
    labels: Labels = (*NUMBERED, *_NAMED)
    if settings.labels:
        labels = csv_format.written_labels(settings)
    table_format = TableFormat(
        columns=tuple(columns.items()),
        labels=labels,
        time_format=settings.time_format,
        has_row_ids=False,
        kept=_join_types(others, tables, setting="prepare.keep_columns"),
    )
    return TablePlan(
        files=tuple(files),
        tables=tuple(tables),
        table_format=table_format,
        columns=tuple(sorted(columns_of_all)),
        notes=(),
    )


def _find_columns(
    settings: FormatSettings, tables: Sequence[TableFile], shared: Collection[str]
) -> dict[str, str]:
    """Find the column of each meaning.

    Raises:
        UserError: A file lacks a column, or files differ at the positions of the settings.
    """
    if settings.columns is None:
        return _find_default_columns(settings, tables, shared)
    columns: dict[str, str] = {}
    for table in tables:
        names = table.arrow.names
        positions = csv_format.find_positions(settings, names, len(names), table.uri)
        found = {key: names[at] for key, at in dict(positions).items() if at is not None}
        if columns and found != columns:
            raise UserError(
                f"{table.uri} has other names at the positions of {settings.section}.columns than "
                f"{tables[0].uri}",
                hint="give the columns by their names",
            )
        columns = found
    return {"tweet_id" if key == "id" else key: name for key, name in columns.items()}


def _find_default_columns(
    settings: FormatSettings, tables: Sequence[TableFile], shared: Collection[str]
) -> dict[str, str]:
    """Find the column of each meaning by its default names.

    Raises:
        UserError: A file lacks a required column.
    """
    for table in tables:
        names = table.arrow.names
        missing = [name for name in settings.default_columns if name not in names]
        if missing:
            listed = csv_format.list_names(names)
            raise UserError(
                f"{table.uri} has no column {missing[0]}; its columns are {listed}",
                hint="name the columns: format: {kind: csv, columns: {text: ..., label: ...}, "
                "labels: auto}",
            )
    columns = {}
    for meaning, defaults in _DEFAULT_COLUMNS.items():
        present = [name for name in defaults if name in shared]
        if present:
            columns[meaning] = present[0]
    return columns


def _has_readable(table: TableFile, name: str, *, meaning: str) -> bool:
    """Say whether the type of a column fits its meaning; true if the column is missing."""
    if name not in table.arrow.names:
        return True
    kind = _decode_type(table.arrow.field(name).type)
    if kind in _STRINGS or pa.types.is_integer(kind):
        return True
    if meaning == "label":
        return pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if meaning == "time":
        is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        return is_time or pa.types.is_floating(kind)
    return False


def _decode_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; for a dictionary column, the type of the dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def check_text(uri: str, arrow: pa.Schema, text_column: str, *, setting: str) -> None:
    """Check that a file has a text column, and that its type is a type of strings.

    Raises:
        UserError: There is no such column of strings.
    """
    is_present = text_column in arrow.names
    if not is_present or _decode_type(arrow.field(text_column).type) not in _STRINGS:
        raise UserError(
            f"{uri} has no column {text_column} of strings",
            hint=f"its columns are {', '.join(arrow.names)}: set {setting}",
        )


def _join_types(
    names: Sequence[str], tables: Sequence[TableFile], *, setting: str
) -> tuple[tuple[str, pa.DataType], ...]:
    """Find a type for each column that fits its types in all files.

    A column that a folder names has strings.

    Raises:
        UserError: There is none.
    """
    joined = []
    for name in names:
        type_by_file = {}
        for table in tables:
            is_in_file = name in table.arrow.names
            type_by_file[table.uri] = table.arrow.field(name).type if is_in_file else pa.string()
        schemas = [pa.schema([(name, each)]) for each in dict.fromkeys(type_by_file.values())]
        try:
            unified = pa.unify_schemas(schemas, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            file_by_type = {each: uri for uri, each in type_by_file.items()}
            listed = ", ".join(f"{each} in {uri}" for each, uri in file_by_type.items())
            raise UserError(
                f"{setting}: {name} is {listed}",
                hint="convert the column to one type, or leave it out",
            ) from error
        kind = unified.field(name).type
        if pa.types.is_null(kind):
            kind = pa.string()
        joined.append((name, kind))
    return tuple(joined)


def _find_id_state(files: Sequence[TableFile]) -> _IdState:
    """Find out whether all files have a column ``row_id`` of integers."""
    uris_without = [file.uri for file in files if "row_id" not in file.arrow.names]
    if len(uris_without) == len(files):
        return _IdState(has_ids=False)
    if uris_without:
        return _IdState(has_ids=False, fault=f"{uris_without[0]} has no row_id")
    for file in files:
        kind = file.arrow.field("row_id").type
        if not pa.types.is_integer(kind):
            return _IdState(has_ids=False, fault=f"{file.uri} has a row_id of type {kind}")
    return _IdState(has_ids=True)
