"""CSV or Parquet files -> a corpus: its parts, the units of work; settings that fit its columns."""

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
"""Size of all files up to which they are cut in this process."""
_KEPT = {"user": pa.string(), "time": pa.timestamp("s", tz="UTC")}
"""Types of columns of the tweets that Parquet does not keep as they were."""


@dataclass(frozen=True)
class PlannedFile:
    """A CSV file before it is cut."""

    described: InputFile
    """The file as it was described before it is read."""
    csv_format: CsvFormat | None
    """None if it has neither a header nor a record."""
    first_record: int = 0
    """Position of the first record, or of a blank line before it."""
    range_bytes: int = 0
    """About the bytes of a part."""
    unpack_to: str = ""
    """Prefix of the URIs of the unpacked parts of a file that is compressed, or in UTF-16."""


MapFiles = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Does work on each file and yields the results in order, as ``map`` does; JSON can hold them."""


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
    names = {uri.lower().endswith(".parquet"): uri for uri in uris}
    if len(names) > 1:
        raise UserError(
            f"{setting} mixes CSV and Parquet: {names[False]}, {names[True]}",
            hint="read CSV files and .parquet files into different directories",
        )
    return True in names


@dataclass(frozen=True)
class CsvPlan:
    """CSV files with the format found at their beginning."""

    planned: tuple[PlannedFile, ...]

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files as they were described before they are read."""
        return tuple(file.described for file in self.planned)

    def has_column(self, name: str) -> bool:
        """Say whether every file has a column of this meaning, or with this name."""
        return all(f.csv_format.position(name) is not None for f in self.planned if f.csv_format)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """List the columns that ``score.keep_columns`` may name; None if all files are empty."""
        names = [set(file.csv_format.names) for file in self.planned if file.csv_format]
        return (*schema.TWEETS.names, *sorted(set.intersection(*names))) if names else None


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
        rows_per_part: Approximate number of rows in a part of Parquet files; a plan of CSV files
            has it.
        map_files: Does the work on each file, unless they are small.
        first_row: Number of the first row, if the files have no ``row_id``.
        splits: The split of all rows of a file, by URI.

    Returns:
        The corpus; a CSV without a record adds no row, and a note.

    Raises:
        UserError: A CSV is damaged, or there is no record in any.
    """
    is_packed = any(compression.is_compressed(item["uri"]) for item in plan.files)
    if not is_packed and sum(item["bytes"] for item in plan.files) <= _CUT_HERE_BYTES:
        map_files = filesystem.map_files  # needs no workers, which may not have started
    if isinstance(plan, CsvPlan):
        return _cut_csv(plan, map_files, first_row, splits or {})
    trees = map_files(hashes.tree_sha256, [item["uri"] for item in plan.files])
    described: dict[str, InputFile] = {
        item["uri"]: {**item, "tree_sha256": tree}
        for item, tree in zip(plan.files, trees, strict=True)
    }
    parts = [
        Part(slices, plan.table_format, input_files.join([described[one.source] for one in slices]))
        for slices in table_files.cut(
            plan.tables, rows_per_part=rows_per_part, first_row=first_row, splits=splits or {}
        )
    ]
    num_rows = sum(table.num_rows for table in plan.tables)
    inputs = input_files.join(list(described.values()))
    return Corpus(tuple(parts), num_rows, inputs, plan.columns, plan.table_format, plan.notes)


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

    def plan(file: tuple[int, InputFile]) -> PlannedFile:
        number, described = file
        with compression.open_content(described["uri"]) as content:
            head = content.read_block(0, csv_format.HEAD_BYTES)
            is_packed = content.packed_size > 0
        if csv_format.is_blank(head):
            return PlannedFile(described, None)
        resolved, start = csv_format.resolve(
            settings, head, source=described["uri"], needs_all=needs_all
        )
        size = csv_ranges.range_size(
            head[start:], rows_per_range=rows_per_part, delimiter=settings.delimiter
        )
        unpacked = join(unpack_to, f"file-{number:05d}") if is_packed else ""
        return PlannedFile(described, resolved, start, size, unpacked)

    return CsvPlan(tuple(filesystem.map_files(plan, enumerate(files))))


def _cut_csv(
    plan: CsvPlan, map_files: MapFiles, first_row: int, splits: Mapping[str, str]
) -> Corpus:
    parts: list[Part] = []
    described, notes = [], []
    next_row = first_row
    for file, result in zip(plan.planned, map_files(cut_file, plan.planned), strict=True):
        item: InputFile = {**file.described, "tree_sha256": result["tree_sha256"]}
        described.append(item)
        if not result["ranges"]:
            notes.append(f"{display_uri(item['uri'])} holds no record")
            continue
        assert file.csv_format, "a file with records has columns"
        inputs, split = input_files.join([item]), splits.get(item["uri"])
        for one in result["ranges"]:
            cut = replace(csv_ranges.CsvRange(**one), first_row=next_row, split=split)
            parts.append(Part((cut,), file.csv_format, inputs))
            next_row += cut.num_rows
    if not next_row:
        raise UserError(f"{described[0]['uri']} holds no record", hint="it has at most a header")
    num_rows, inputs = next_row - first_row, input_files.join(described)
    return Corpus(tuple(parts), num_rows, inputs, plan.columns or (), notes=tuple(notes))


def cut_file(file: PlannedFile) -> dict[str, Any]:
    """Cut a file; the work of a task, whose result is JSON."""
    if file.csv_format is None:  # it is blank
        return {"ranges": [], "tree_sha256": hashes.tree_sha256(file.described["uri"])}
    ranges, tree = csv_ranges.cut(
        file.described["uri"],
        first_record=file.first_record,
        range_bytes=file.range_bytes,
        delimiter=file.csv_format.settings.delimiter,
        unpack_to=file.unpack_to,
    )
    return {"ranges": list(map(asdict, ranges)), "tree_sha256": tree}


def open_prepared(
    uri: str, record: Manifest, *, rows_per_part: int, keep_columns: Sequence[str]
) -> Corpus:
    """Open the tweets of all splits of a prepared directory as a corpus."""
    splits = {
        path: split
        for split in schema.SPLITS
        for path in manifest.list_tables(record, uri, [f"tweets/split={split}"])
    }
    files = filesystem.map_files(table_files.read_footer, splits)
    present = record["settings"]["keep_columns"]
    inputs = manifest.reference(uri, record)
    table_format = table_files.TableFormat(
        labels=table_files.number_labels(len(manifest.find_classes(record))),
        kept=tuple(
            (name, _KEPT.get(name, files[0].arrow.field(name).type))
            for name in keep_columns
            if name in present
        ),
    )
    return Corpus(
        tuple(
            Part(slices, table_format, inputs)
            for slices in table_files.cut(
                files, rows_per_part=rows_per_part, first_row=0, splits=splits
            )
        ),
        sum(file.num_rows for file in files),
        inputs,
        (*schema.TWEETS.names, *present),
        table_format,
    )


def check_columns(
    columns: Sequence[str] | None,
    keep_columns: Sequence[str],
    *,
    classes: Sequence[str] = (),
    is_prepared: bool = False,
) -> None:
    """Check ``score.keep_columns``; names are compared without case, as DuckDB and Spark do.

    Args:
        columns: Those of the corpus; None if it has no row.
        keep_columns: Those to keep.
        classes: Those of the model, where they are known.
        is_prepared: Whether the corpus are prepared tweets.

    Raises:
        UserError: The corpus lacks one, or predictions have their own column of that name.
    """
    columns_of_all = schema.predictions(classes, has_unsure=True).names
    reserved = {name.lower() for name in columns_of_all} | {"probability"}
    for name in keep_columns:
        if name.lower() in reserved and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have their own column {name.lower()}",
                hint="leave it out, or rename it in the corpus",
            )
    missing = sorted(set(keep_columns).difference(columns or keep_columns))
    if columns and missing:
        also = "name it in prepare.keep_columns, too; " if is_prepared else ""
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}",
            hint=also + csv_format.suggest_column(missing[0], columns),
        )


def check_kept_names(names: Sequence[str]) -> None:
    """Check that ``prepare.keep_columns`` names no column that all tweets have.

    Raises:
        UserError: It does.
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
        source: The file, if it is only one of all.

    Raises:
        UserError: They do not.
    """
    kind = settings.split.kind
    for name in sorted({"label", *settings.read_columns, *({kind} & {"user", "time"})}):
        if plan.has_column(name):
            continue
        if name not in ("label", "user", "time"):
            others = [other for other in plan.columns or () if other not in schema.TWEETS.names]
            setting = "split.column" if name == settings.split.column else "keep_columns"
            raise UserError(
                f"prepare.{setting}: {source or 'one of the files'} has no column {name}",
                hint=csv_format.suggest_column(name, others),
            )
        raise UserError(
            f"format.columns does not name the column {name}, which preparation needs",
            hint=f"add format.columns.{name}"
            if name in ("label", kind)
            else f"add format.columns.{name}, or remove {name} from prepare.keep_columns",
        )
