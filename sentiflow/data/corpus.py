"""CSV or Parquet files -> a corpus: its parts, which are the units of work."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import (
    csv_plans,
    csv_ranges,
    input_files,
    manifest,
    partitions,
    schema,
    table_files,
    table_plans,
)
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.manifest_types import Input, InputFile, Manifest
from sentiflow.data.parts import Part
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, hashes, retries
from sentiflow.storage.uris import display_uri

_CUT_HERE_BYTES = 1 << 28
"""Maximum total size of files that are cut in this process."""
GROUPS = "groups of files"
"""Unit of progress of :func:`cut`, for the user."""
_GROUP_BYTES = 1 << 24
"""Minimum size of the files that a task cuts, about the size of a part."""
_AT_ONCE_BYTES = 1 << 25
"""Minimum size of the CSV files that are cut at the same time in this process: twice their size is
in memory."""
_KEPT_TYPES = {"user": pa.string(), "time": pa.timestamp("s", tz="UTC")}
"""Types to which kept columns of prepared data are cast back; Parquet may store another type."""


MapFiles = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Calls a function for each group of files and yields the results in order, like ``map``. The
results are JSON."""


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
    """How to read the tables of a corpus in Parquet; a corpus in CSV has no row ids."""
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


Plan = csv_plans.CsvPlan | table_plans.TablePlan


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
        rows_per_part: Approximate number of rows in a part. A large CSV file is cut by the size of
            ranges in its plan.
        map_files: Runs the work on groups of files. Small files are cut in this process instead.
        first_row: Number of the first row, if the files have no ``row_id``.
        splits: The split of each file whose rows are all in one split, by URI.

    Returns:
        The corpus. For a CSV without a record, it has a note.

    Raises:
        UserError: A CSV is damaged, or there is no record in any.
    """
    is_packed = any(compression.is_compressed(item["uri"]) for item in plan.files)
    num_bytes = sum(item["bytes"] for item in plan.files)
    is_little = num_bytes <= _CUT_HERE_BYTES and not is_packed
    if is_little:
        map_files = _map_here  # avoids waiting for the start of workers
    if isinstance(plan, csv_plans.CsvPlan):
        groups = _group(plan.files, _AT_ONCE_BYTES if is_little else _GROUP_BYTES)
        files = [[plan.planned[number] for number in group] for group in groups]
        results = list(itertools.chain.from_iterable(map_files(cut_files, files)))
        return _cut_csv(plan, results, rows_per_part, first_row, splits or {})
    groups = _group(plan.files, num_bytes if is_little else _GROUP_BYTES)
    uris = [[plan.files[number]["uri"] for number in group] for group in groups]
    digests = list(itertools.chain.from_iterable(map_files(hash_files, uris)))
    return _cut_tables(plan, digests, rows_per_part, first_row, splits or {})


def _map_here(work: Callable[[Any], Any], groups: Sequence[Any]) -> Iterator[Any]:
    """Do the work on each group of files in this process, again after an I/O error."""
    for group in groups:
        yield retries.repeat_after_io_errors(
            functools.partial(work, group), place="the files of the corpus"
        )


def identify_work(files: Sequence[InputFile]) -> str:
    """Identify the work of :func:`cut` for completion markers.

    The work is divided into groups of files. Markers of an earlier version, which had one for each
    file, do not count.
    """
    return manifest.fingerprint(["groups", *files])


def _group(files: Sequence[InputFile], min_bytes: int) -> list[range]:
    """Group consecutive files until a group has ``min_bytes``; return the numbers of the files."""
    groups = []
    first = 0
    num_bytes = 0
    for number, item in enumerate(files):
        num_bytes += item["bytes"]
        if num_bytes >= min_bytes or number == len(files) - 1:
            groups.append(range(first, number + 1))
            first = number + 1
            num_bytes = 0
    return groups


def open_csv(
    uris: Sequence[str],
    *,
    settings: FormatSettings,
    rows_per_part: int,
    unpack_to: str,
    keep_columns: Sequence[str] = (),
) -> Corpus:
    """Plan and cut CSV files in this process, see :func:`plan_csv` and :func:`cut`.

    Raises:
        UserError: A file cannot be read, or has one of ``keep_columns`` twice.
    """
    plan = csv_plans.plan_csv(
        input_files.describe_unread(uris),
        settings=settings,
        rows_per_part=rows_per_part,
        unpack_to=unpack_to,
    )
    partitions.check_unique(plan.columns_by_file, keep_columns, setting="keep_columns")
    return cut(plan, rows_per_part=rows_per_part)


def _cut_tables(
    plan: table_plans.TablePlan,
    digests: Sequence[str],
    rows_per_part: int,
    first_row: int,
    splits: Mapping[str, str],
) -> Corpus:
    """Cut Parquet files as :func:`cut` does, given the hashes of their content."""
    described: dict[str, InputFile] = {}
    for item, table, digest in zip(plan.files, plan.tables, digests, strict=True):
        described[item["uri"]] = {**item, "tree_sha256": digest, "rows": table.num_rows}
    parts = []
    for slices in table_files.cut(
        plan.tables, rows_per_part=rows_per_part, first_row=first_row, splits=splits
    ):
        inputs = input_files.combine([described[piece.source] for piece in slices])
        parts.append(Part(slices, plan.table_format, inputs))
    return Corpus(
        parts=tuple(parts),
        num_rows=sum(table.num_rows for table in plan.tables),
        files=input_files.combine(list(described.values())),
        columns=plan.columns,
        table_format=plan.table_format,
        notes=(*plan.notes, *partitions.note_repeated(described)),
    )


def _cut_csv(
    plan: csv_plans.CsvPlan,
    results: Sequence[Mapping[str, Any]],
    rows_per_part: int,
    first_row: int,
    splits: Mapping[str, str],
) -> Corpus:
    """Make the corpus of CSV files, given the results of :func:`cut_files`."""
    with_records: list[_CutFile] = []
    described: list[InputFile] = []
    notes = partitions.note_repeated(file.described["uri"] for file in plan.planned)
    next_row = first_row
    for file, result in zip(plan.planned, results, strict=True):
        first_of_file = next_row
        ranges = []
        split = splits.get(file.described["uri"])
        for fields in result["ranges"]:
            csv_range = csv_ranges.CsvRange(**fields)
            ranges.append(replace(csv_range, first_row=next_row, split=split))
            next_row += csv_range.num_rows
        item: InputFile = {
            **file.described,
            "tree_sha256": result["tree_sha256"],
            "rows": next_row - first_of_file,
        }
        described.append(item)
        if ranges:
            assert file.csv_format, "a file with records has columns"
            with_records.append(_CutFile(item, file.csv_format, ranges))
        else:
            notes.append(f"{display_uri(item['uri'])} holds no record")
    if not next_row:  # new files may have no record if earlier files have some
        raise UserError(f"{described[0]['uri']} holds no record", hint="it has at most a header")
    return Corpus(
        parts=tuple(_make_csv_parts(with_records, rows_per_part)),
        num_rows=next_row - first_row,
        files=input_files.combine(described),
        columns=plan.columns or (),
        table_format=table_files.TableFormat(has_row_ids=False),
        notes=tuple(notes),
    )


class _CutFile(NamedTuple):
    """A CSV file that has records, and was cut."""

    described: InputFile
    csv_format: CsvFormat
    ranges: list[csv_ranges.CsvRange]


def _make_csv_parts(files: Iterable[_CutFile], rows_per_part: int) -> Iterator[Part]:
    """Make the parts of CSV files: each is one range of a large file, or several small files.

    A small file has only one range. Consecutive small files with the same columns share a part.
    """
    held: list[_CutFile] = []  # small files for the next part
    num_rows = 0
    num_bytes = 0
    for file in files:
        first = file.ranges[0]
        size = first.stop - first.start
        is_small = len(file.ranges) == 1
        has_many_rows = table_files.is_full(num_rows, first.num_rows, rows_per_part)
        has_many_bytes = num_bytes + size > csv_ranges.MAX_RANGE_BYTES
        fits = is_small and not has_many_rows and not has_many_bytes
        if held and (not fits or file.csv_format != held[0].csv_format):
            yield _join(held)
            held = []
            num_rows = 0
            num_bytes = 0
        if is_small:
            held.append(file)
            num_rows += first.num_rows
            num_bytes += size
            continue
        inputs = input_files.combine([file.described])
        for csv_range in file.ranges:
            yield Part((csv_range,), file.csv_format, inputs)
    if held:
        yield _join(held)


def _join(files: Sequence[_CutFile]) -> Part:
    """Join small files to one part."""
    pieces = tuple(file.ranges[0] for file in files)
    return Part(
        pieces, files[0].csv_format, input_files.combine([file.described for file in files])
    )


def hash_files(uris: Sequence[str]) -> list[str]:
    """Hash a group of files in a task."""
    return filesystem.map_files(hashes.tree_sha256, uris)


def cut_files(files: Sequence[csv_plans.PlannedFile]) -> list[dict[str, Any]]:
    """Cut a group of files in a task; a result is JSON, with the fields of ``CsvRange``."""
    return filesystem.map_files(_cut_file, files)


def _cut_file(file: csv_plans.PlannedFile) -> dict[str, Any]:
    """Cut one of the files of :func:`cut_files`."""
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
    available = record["settings"]["keep_columns"]
    kept = []
    for name in keep_columns:
        if name in available:
            kind = _KEPT_TYPES.get(name, files[0].arrow.field(name).type)
            kept.append((name, kind))
    table_format = table_files.TableFormat(
        labels=table_files.number_labels(len(manifest.find_classes(record))), kept=tuple(kept)
    )
    inputs = manifest.reference(uri, record)
    watched = input_files.watch(inputs)
    pieces = table_files.cut(files, rows_per_part=rows_per_part, first_row=0, splits=splits)
    return Corpus(
        parts=tuple(Part(slices, table_format, watched) for slices in pieces),
        num_rows=sum(file.num_rows for file in files),
        files=inputs,
        columns=(*schema.TWEETS.names, *available),
        table_format=table_format,
    )
