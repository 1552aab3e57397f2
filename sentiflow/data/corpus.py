"""CSV or Parquet files -> a corpus: its parts, which are the units of work.

Settings that name columns are checked here, too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import PrepareSettings
from sentiflow.data import (
    csv_format,
    csv_ranges,
    input_files,
    manifest,
    schema,
    table_files,
    table_plans,
)
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.manifest_types import Input, InputFile, Manifest
from sentiflow.data.parts import Part
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, hashes
from sentiflow.storage.uris import display_uri, join

_CUT_HERE_BYTES = 1 << 28
"""Maximum total size of files that are cut in this process."""
_KEPT_TYPES = {"user": pa.string(), "time": pa.timestamp("s", tz="UTC")}
"""Types to which kept columns of prepared data are cast back; Parquet may store another type."""


@dataclass(frozen=True)
class PlannedFile:
    """A CSV file before it is cut."""

    described: InputFile
    """The file, as described before it is read."""
    csv_format: CsvFormat | None
    """None if the file is blank: it has neither a header nor a record."""
    data_start: int = 0
    """Byte position of the first record, or of a blank line before it."""
    range_bytes: int = 0
    """Approximate size of a part in bytes."""
    unpack_to: str = ""
    """For a file that is compressed or in UTF-16: prefix of the URIs of its unpacked parts."""


MapFiles = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Calls a function for each file and yields the results in order, like ``map``. The results are
JSON."""


@dataclass(frozen=True)
class Corpus:
    """Texts in files, cut into parts that do not depend on the number of workers."""

    parts: tuple[Part, ...]
    num_rows: int
    """Rows of all parts."""
    files: Input
    """The files or the directory that were read, with a fingerprint."""
    columns: tuple[str, ...] = tuple(schema.TWEETS.names)
    """Columns that ``score.keep_columns`` may name."""
    table_format: table_files.TableFormat = field(default_factory=table_files.TableFormat)
    """How to read the tables of a corpus in Parquet."""
    notes: tuple[str, ...] = ()
    """Remarks for the user."""


def are_tables(uris: Sequence[str], *, setting: str) -> bool:
    """Say whether input files are Parquet, by their names; all others are CSV.

    Raises:
        UserError: There are both.
    """
    tables = [uri for uri in uris if uri.lower().endswith(".parquet")]
    csvs = [uri for uri in uris if not uri.lower().endswith(".parquet")]
    if tables and csvs:
        raise UserError(
            f"{setting} mixes CSV and Parquet: {csvs[-1]}, {tables[-1]}",
            hint="read CSV files and .parquet files into different directories",
        )
    return bool(tables)


@dataclass(frozen=True)
class CsvPlan:
    """CSV files with the format found at their beginning."""

    planned: tuple[PlannedFile, ...]

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files, as described before they are read."""
        return tuple(file.described for file in self.planned)

    @property
    def _formats(self) -> list[CsvFormat]:
        """The formats of all files that are not blank."""
        return [file.csv_format for file in self.planned if file.csv_format]

    def has_column(self, name: str) -> bool:
        """Say whether every file has a column of this meaning, or with this name."""
        return all(form.position(name) is not None for form in self._formats)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """List the columns that ``score.keep_columns`` may name; None if all files are blank."""
        if not self._formats:
            return None
        shared = set.intersection(*(set(form.names) for form in self._formats))
        return (*schema.TWEETS.names, *sorted(shared))


Plan = CsvPlan | table_plans.TablePlan


def cut(
    plan: Plan,
    *,
    rows_per_part: int,
    map_files: MapFiles = map,
    first_row: int = 0,
    splits: Mapping[str, str] | None = None,
) -> Corpus:
    """Cut planned files into parts, files in parallel, and hash their content.

    Args:
        plan: The files.
        rows_per_part: Approximate number of rows in a part, for Parquet files only: the plan of CSV
            files already has their range sizes.
        map_files: Runs the work on each file. Small files are cut in this process instead.
        first_row: Number of the first row, if the files have no ``row_id``.
        splits: The split of each file whose rows are all in one split, by URI.

    Returns:
        The corpus. For a CSV without a record, it has a note.

    Raises:
        UserError: A CSV is damaged, or there is no record in any.
    """
    is_packed = any(compression.is_compressed(item["uri"]) for item in plan.files)
    num_bytes = sum(item["bytes"] for item in plan.files)
    if num_bytes <= _CUT_HERE_BYTES and not is_packed:
        map_files = filesystem.map_files  # avoids waiting for the start of workers
    if isinstance(plan, CsvPlan):
        return _cut_csv(plan, map_files, first_row, splits or {})
    return _cut_tables(plan, map_files, rows_per_part, first_row, splits or {})


def open_csv(
    uris: Sequence[str], *, settings: FormatSettings, rows_per_part: int, unpack_to: str
) -> Corpus:
    """Plan and cut CSV files in this process, see :func:`plan_csv` and :func:`cut`."""
    plan = plan_csv(
        input_files.as_found(uris)["files"],
        settings=settings,
        rows_per_part=rows_per_part,
        unpack_to=unpack_to,
    )
    return cut(plan, rows_per_part=rows_per_part)


def plan_csv(
    files: Sequence[InputFile],
    *,
    settings: FormatSettings,
    rows_per_part: int,
    unpack_to: str,
    needs_all: bool = True,
) -> CsvPlan:
    """Find the format of CSV files from their beginning.

    Args:
        files: The files, plain or compressed, as they were described.
        settings: The section ``format``.
        rows_per_part: Approximate number of records in a part.
        unpack_to: A directory for the pieces of files that are compressed, or in UTF-16.
        needs_all: Whether a header must have all columns of the settings, not just the text.

    Raises:
        UserError: A file lacks a column, or is not text.
    """

    def plan_file(file: tuple[int, InputFile]) -> PlannedFile:
        number, described = file
        with compression.open_content(described["uri"]) as content:
            head = content.read_block(0, csv_format.HEAD_BYTES)
            is_packed = content.forward_size > 0
        if csv_format.is_blank(head):
            return PlannedFile(described, csv_format=None)
        resolved, start = csv_format.resolve(
            settings, head, source=described["uri"], needs_all=needs_all
        )
        size = csv_ranges.range_size(
            head[start:], rows_per_range=rows_per_part, delimiter=settings.delimiter
        )
        return PlannedFile(
            described=described,
            csv_format=resolved,
            data_start=start,
            range_bytes=size,
            unpack_to=join(unpack_to, f"file-{number:05d}") if is_packed else "",
        )

    return CsvPlan(tuple(filesystem.map_files(plan_file, enumerate(files))))


def _cut_tables(
    plan: table_plans.TablePlan,
    map_files: MapFiles,
    rows_per_part: int,
    first_row: int,
    splits: Mapping[str, str],
) -> Corpus:
    """Cut Parquet files as :func:`cut` does."""
    described: dict[str, InputFile] = {}
    trees = map_files(hashes.tree_sha256, [item["uri"] for item in plan.files])
    for item, tree in zip(plan.files, trees, strict=True):
        described[item["uri"]] = {**item, "tree_sha256": tree}
    parts = []
    for slices in table_files.cut(
        plan.tables, rows_per_part=rows_per_part, first_row=first_row, splits=splits
    ):
        inputs = input_files.join([described[piece.source] for piece in slices])
        parts.append(Part(slices, plan.table_format, inputs))
    return Corpus(
        parts=tuple(parts),
        num_rows=sum(table.num_rows for table in plan.tables),
        files=input_files.join(list(described.values())),
        columns=plan.columns,
        table_format=plan.table_format,
        notes=plan.notes,
    )


def _cut_csv(
    plan: CsvPlan, map_files: MapFiles, first_row: int, splits: Mapping[str, str]
) -> Corpus:
    """Cut CSV files as :func:`cut` does."""
    parts: list[Part] = []
    described: list[InputFile] = []
    notes = []
    next_row = first_row
    for file, result in zip(plan.planned, map_files(cut_file, plan.planned), strict=True):
        item: InputFile = {**file.described, "tree_sha256": result["tree_sha256"]}
        described.append(item)
        if not result["ranges"]:
            notes.append(f"{display_uri(item['uri'])} holds no record")
            continue
        assert file.csv_format, "a file with records has columns"
        inputs = input_files.join([item])
        split = splits.get(item["uri"])
        for fields in result["ranges"]:
            csv_range = csv_ranges.CsvRange(**fields)
            csv_range = replace(csv_range, first_row=next_row, split=split)
            parts.append(Part((csv_range,), file.csv_format, inputs))
            next_row += csv_range.num_rows
    if not next_row:
        raise UserError(f"{described[0]['uri']} holds no record", hint="it has at most a header")
    return Corpus(
        parts=tuple(parts),
        num_rows=next_row - first_row,
        files=input_files.join(described),
        columns=plan.columns or (),
        notes=tuple(notes),
    )


def cut_file(file: PlannedFile) -> dict[str, Any]:
    """Cut a file in a task; the result is JSON, with the fields of ``CsvRange``."""
    if file.csv_format is None:  # the file is blank
        return {"ranges": [], "tree_sha256": hashes.tree_sha256(file.described["uri"])}
    ranges, tree = csv_ranges.cut(
        file.described["uri"],
        data_start=file.data_start,
        range_bytes=file.range_bytes,
        delimiter=file.csv_format.settings.delimiter,
        unpack_to=file.unpack_to,
    )
    return {"ranges": [asdict(csv_range) for csv_range in ranges], "tree_sha256": tree}


def open_prepared(
    uri: str, record: Manifest, *, rows_per_part: int, keep_columns: Sequence[str]
) -> Corpus:
    """Open the tweets of all splits of a prepared directory as a corpus."""
    splits = {}
    for split in schema.SPLITS:
        for path in manifest.rows_by_file(record, uri, [f"tweets/split={split}"]):
            splits[path] = split
    files = filesystem.map_files(table_files.read_footer, splits)
    present = record["settings"]["keep_columns"]
    kept = []
    for name in keep_columns:
        if name in present:
            kind = _KEPT_TYPES.get(name, files[0].arrow.field(name).type)
            kept.append((name, kind))
    table_format = table_files.TableFormat(
        labels=table_files.number_labels(len(manifest.find_classes(record))), kept=tuple(kept)
    )
    inputs = manifest.reference(uri, record)
    pieces = table_files.cut(files, rows_per_part=rows_per_part, first_row=0, splits=splits)
    return Corpus(
        parts=tuple(Part(slices, table_format, inputs) for slices in pieces),
        num_rows=sum(file.num_rows for file in files),
        files=inputs,
        columns=(*schema.TWEETS.names, *present),
        table_format=table_format,
    )


def check_columns(
    columns: Sequence[str] | None,
    keep_columns: Sequence[str],
    *,
    classes: Sequence[str] = (),
    is_prepared: bool = False,
) -> None:
    """Check ``score.keep_columns``; upper and lower case are equal, as in DuckDB and Spark.

    Args:
        columns: The columns of the corpus; None if it has no row.
        keep_columns: The columns to keep.
        classes: The classes of the model, if they are known.
        is_prepared: Whether the corpus consists of prepared tweets.

    Raises:
        UserError: The corpus lacks a column, or predictions have their own column of that name.
    """
    reserved = {name.lower() for name in schema.predictions(classes, has_unsure=True).names}
    reserved.add("probability")
    for name in keep_columns:
        if name.lower() in reserved and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have their own column {name.lower()}",
                hint="leave it out, or rename it in the corpus",
            )
    if not columns:
        return
    missing = sorted(set(keep_columns).difference(columns))
    if missing:
        hint = csv_format.suggest_column(missing[0], columns)
        if is_prepared:
            hint = f"name it in prepare.keep_columns, too; {hint}"
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}", hint=hint
        )


def check_kept_names(names: Sequence[str]) -> None:
    """Check that ``prepare.keep_columns`` names no column that tweets always have.

    Raises:
        UserError: A name is one of these columns.
    """
    for name in names:
        if name.lower() in (*schema.TWEETS.names, "split"):
            raise UserError(
                f"prepare.keep_columns: tweets have their own column {name.lower()}",
                hint="leave it out, or rename it in the files",
            )


def check_preparation(plan: Plan, settings: PrepareSettings, *, source: str = "") -> None:
    """Check that files have the columns that their preparation needs.

    Args:
        plan: The files.
        settings: The section ``prepare``.
        source: The file, if the plan has only one file.

    Raises:
        UserError: A column is missing.
    """
    required = {"label"}
    if settings.split.kind in ("user", "time"):
        required.add(settings.split.kind)
    for name in sorted(required.union(settings.additional_columns)):
        if plan.has_column(name):
            continue
        if name in ("label", "user", "time"):
            hint = f"add format.columns.{name}"
            if name not in required:
                hint += f", or remove {name} from prepare.keep_columns"
            raise UserError(
                f"format.columns does not name the column {name}, which preparation needs",
                hint=hint,
            )
        setting = "split.column" if name == settings.split.column else "keep_columns"
        others = [other for other in plan.columns or () if other not in schema.TWEETS.names]
        raise UserError(
            f"prepare.{setting}: {source or 'one of the files'} has no column {name}",
            hint=csv_format.suggest_column(name, others),
        )
