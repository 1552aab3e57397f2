"""Footers of Parquet files -> what their columns mean in a preparation or a scoring."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, schema
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
from sentiflow.storage import parquet
from sentiflow.storage.filesystem import map_files


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

    def has_column(self, name: str) -> bool:
        """Say whether there is a column of this meaning, or with this name to keep."""
        return name in {*dict(self.table_format.columns), *dict(self.table_format.kept)}


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
        settings: The section ``format``: the column of labels, by name, if all files have it.
        earlier: Files that were scored before; their ``row_id`` must not occur again.

    Raises:
        UserError: A file is not Parquet, has no such column of strings, or the types of a kept
            column cannot be combined.
    """
    uris = [item["uri"] for item in files]
    footers = map_files(read_footer, [*earlier, *uris])
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
        has_row_ids=why_not is None,
        kept=_join_types(others, uris, schemas, setting="score.keep_columns"),
    )
    notes = {
        f"{why_not}: rows are numbered over all files": why_not,
        "tweet_id is neither a string nor an integer: it is left out": not has_ids,
        f"{label_column} is neither a string nor a number: all rows are unlabelled": not has_labels,
    }
    return TablePlan(
        tuple(files),
        tuple(tables),
        table_format,
        columns=tuple(sorted(shared | {"row_id", "text"})),
        notes=tuple(note for note, applies in notes.items() if applies),
    )


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
    columns = _find_columns(settings, uris, schemas, shared)
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
        has_row_ids=False,
        kept=_join_types(others, uris, schemas, setting="prepare.keep_columns"),
    )
    return TablePlan(tuple(files), tuple(tables), table_format, tuple(sorted(shared)), ())


def _find_columns(
    settings: FormatSettings,
    uris: Sequence[str],
    schemas: Sequence[pa.Schema],
    shared: Collection[str],
) -> dict[str, str]:
    """Find the column of each meaning; all files must agree."""
    if settings.columns is None:
        for uri, arrow in zip(uris, schemas, strict=True):
            if missing := [n for n in settings.default_columns if n not in arrow.names]:
                listed = csv_format.list_names(arrow.names)
                raise UserError(
                    f"{uri} has no column {missing[0]}; its columns are {listed}",
                    hint="name the columns: format: {kind: csv, columns: {text: ..., label: ...}, "
                    "labels: auto}",
                )
        return {
            meaning: next(name for name in names if name in shared)
            for meaning, names in _DEFAULT_COLUMNS.items()
            if not {*names}.isdisjoint(shared)
        }
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


def find_id_fault(files: Sequence[TableFile]) -> str | None:
    """Say why the column ``row_id`` does not identify the rows of files; None if it does.

    It does if all files have integers without nulls and duplicates. All ids are in memory together.

    Returns:
        The fault; an empty string if no file has the column.
    """
    without = [file.uri for file in files if "row_id" not in file.arrow.names]
    if without:
        return f"{without[0]} has no row_id" if len(without) < len(files) else ""
    for file in files:
        kind = file.arrow.field("row_id").type
        if not pa.types.is_integer(kind):
            return f"{file.uri} has a row_id of type {kind}"
    tables = map_files(lambda file: parquet.read(file.uri, columns=["row_id"]), files)
    try:
        as_int64 = pa.schema([("row_id", pa.int64())])
        ids = pa.concat_tables([table.cast(as_int64) for table in tables])["row_id"]
    except pa.ArrowInvalid:  # more than 63 bits
        ids = pa.nulls(1)
    if ids.null_count or pc.count_distinct(ids).as_py() < len(ids):
        return "a row_id is missing, occurs twice or has more than 63 bits"
    return None
