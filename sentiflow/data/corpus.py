"""CSV or Parquet files -> parts of a corpus, each read as checked tweets and rejected rows."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo

from sentiflow.config.sections import FormatSettings
from sentiflow.data import (
    csv_format,
    csv_ranges,
    input_files,
    manifest,
    schema,
    table_files,
    tweets,
)
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange, CutStretch, Stretch
from sentiflow.data.schema import SPLITS
from sentiflow.data.table_files import TableForm, TablePart, TablePlan
from sentiflow.data.tweets import Checked
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import join

_CUT_HERE_BYTES = 1 << 28
_KEPT = {"user": pa.string(), "time": pa.timestamp("s", tz="UTC")}
"""What preparation may keep beside the columns of every tweet."""


@dataclass(frozen=True)
class CsvPart:
    """Consecutive records of one CSV file."""

    csv_range: CsvRange
    csv_format: CsvFormat

    @property
    def num_rows(self) -> int:
        """Number of its records."""
        return self.csv_range.num_rows

    @property
    def sources(self) -> tuple[str, ...]:
        """The file."""
        return (self.csv_range.source,)


Part = CsvPart | TablePart
"""What is read, worked on and written as one: the unit of work and of resumption."""


@dataclass(frozen=True)
class PlannedFile:
    """A CSV file before it is cut."""

    uri: str
    info: FileInfo
    csv_format: CsvFormat
    stretches: list[Stretch]


Work = Callable[[int], dict[str, Any]]
MapParts = Callable[[Work, Sequence[int]], Iterable[dict[str, Any]]]
"""Does the work on numbers from 0, of these sizes in bytes; yields what each came to, in order."""


def map_here(work: Work, sizes: Sequence[int]) -> Iterable[dict[str, Any]]:
    """Do work on one number after the other in this process."""
    return map(work, range(len(sizes)))


def is_brief(uris: Sequence[str]) -> bool:
    """Say whether files are cut here before the first workers are up."""
    if any(map(compression.is_compressed, uris)):
        return False
    return sum(info.size for info in input_files.look_up(uris)) <= _CUT_HERE_BYTES


@dataclass(frozen=True)
class Corpus:
    """Texts at rest, cut into parts that do not depend on who reads them."""

    parts: tuple[Part, ...]
    num_rows: int
    """Of all parts together."""
    files: dict[str, Any]
    """An input for a spec: what was read, with its fingerprint."""
    columns: tuple[str, ...] = tuple(schema.TWEETS.names)
    """What ``score.keep_columns`` may name."""
    form: TableForm = field(default_factory=TableForm)
    """How tables are read."""
    notes: tuple[str, ...] = ()
    """What a user might miss."""

    @property
    def csv_parts(self) -> tuple[CsvPart, ...]:
        """The parts of a corpus in CSV."""
        return tuple(part for part in self.parts if isinstance(part, CsvPart))


@dataclass(frozen=True)
class CsvPlan:
    """What the beginnings of CSV files tell."""

    files: tuple[PlannedFile, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """List what may be kept."""
        shared = set.intersection(*(set(file.csv_format.names) for file in self.files))
        return (*schema.TWEETS.names, *sorted(shared))


def open_csv(
    uris: Sequence[str],
    *,
    form: FormatSettings,
    rows_per_part: int,
    unpack_to: str,
    map_parts: MapParts = map_here,
) -> Corpus:
    """Plan and cut CSV files, see :func:`plan_csv` and :func:`cut_csv`."""
    plan = plan_csv(uris, form=form, rows_per_part=rows_per_part, unpack_to=unpack_to)
    return cut_csv(plan, map_parts=map_parts)


def plan_csv(
    uris: Sequence[str], *, form: FormatSettings, rows_per_part: int, unpack_to: str
) -> CsvPlan:
    """Look at the beginning of CSV files.

    Args:
        uris: Of the files, plain or compressed.
        form: What they look like.
        rows_per_part: About how many records a part holds.
        unpack_to: A directory for the pieces of compressed files; they are left there.

    Raises:
        UserError: A file lacks a column, or is no text.
    """
    return CsvPlan(
        tuple(
            _plan(uri, form, rows_per_part, join(unpack_to, f"file-{number:05d}"))
            for number, uri in enumerate(uris)
        )
    )


def cut_csv(plan: CsvPlan, *, map_parts: MapParts = map_here, first_row: int = 0) -> Corpus:
    """Cut CSV files into parts, in parallel, and hash their content.

    Args:
        plan: Of the files.
        map_parts: Does the work on each stretch of the files.
        first_row: Number of the first record.

    Raises:
        UserError: A file holds no record, or is damaged.
    """
    stretches = [stretch for file in plan.files for stretch in file.stretches]
    sizes = [(s.stop or file.info.size) - s.start for file in plan.files for s in file.stretches]
    work = functools.partial(cut_stretch, stretches=stretches)
    found = map(CutStretch.from_json, map_parts(work, sizes))
    parts: list[Part] = []
    described = []
    next_row = first_row
    for file in plan.files:
        results = [next(found) for _ in file.stretches]
        ranges = csv_ranges.connect(file.stretches, results, first_row=next_row)
        if not ranges:
            raise UserError(f"{file.uri} holds no record", hint="there is at most a header in it")
        parts.extend(CsvPart(csv_range, file.csv_format) for csv_range in ranges)
        next_row = ranges[-1].first_row + ranges[-1].num_rows
        leaves = b"".join(bytes.fromhex(result.leaves) for result in results)
        tree = filesystem.join_leaves(leaves) if leaves else filesystem.tree_sha256(file.uri)
        described.append(input_files.describe_file(file.uri, file.info, tree_sha256=tree))
    inputs = input_files.join(described)
    return Corpus(tuple(parts), next_row - first_row, inputs, plan.columns)


def cut_stretch(number: int, *, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Cut one of the stretches: the work of a task."""
    return csv_ranges.cut(stretches[number]).to_json()


def _plan(uri: str, form: FormatSettings, rows_per_part: int, unpack_to: str) -> PlannedFile:
    """Look at a file's beginning, and part it among tasks."""
    info = filesystem.file_info(uri)
    with compression.open_content(uri) as content:
        head = content.read_at(0, csv_format.HEAD_BYTES)
    found, start = csv_format.resolve(form, head, source=uri)
    packed = compression.is_compressed(uri)
    whole = Stretch(
        source=uri,
        start=0,
        stop=None,
        first_record=start,
        range_bytes=csv_ranges.range_size(
            head[start:], rows_per_range=rows_per_part, delimiter=form.delimiter
        ),
        num_columns=found.num_columns,
        delimiter=form.delimiter,
        unpack_to=unpack_to if packed else "",
    )
    stretches = [whole] if packed else csv_ranges.stretches(whole, info.size)
    return PlannedFile(uri, info, found, stretches)


def open_prepared(
    uri: str, *, rows_per_part: int, setting: str, keep_columns: Sequence[str] = ()
) -> Corpus:
    """Take the tweets of all splits of a prepared directory as a corpus."""
    record = manifest.require(uri, stage="prepare", setting=setting)
    names = [item["path"] for item in record["files"] if item["path"].startswith("tweets/")]
    rows = {item["path"]: item["rows"] for item in record["files"]}
    order = sorted(names, key=lambda name: (SPLITS.index(_split_of(name)), name))
    files = [(join(uri, name), rows[name], _split_of(name)) for name in order]
    parts = table_files.cut(files, rows_per_part=rows_per_part, first_row=0)
    present = record["settings"]["keep_columns"]
    return Corpus(
        parts,
        sum(rows[name] for name in names),
        manifest.reference(uri, record),
        (*schema.TWEETS.names, *present),
        TableForm(kept=tuple((n, _KEPT[n]) for n in keep_columns if n in present)),
    )


def open_tables(
    plan: TablePlan, *, rows_per_part: int, map_parts: MapParts = map_here, first_row: int = 0
) -> Corpus:
    """Cut Parquet files into parts, and hash their content.

    Args:
        plan: Of the files.
        rows_per_part: Rows of a part, but for the last.
        map_parts: Does the work on each file.
        first_row: Number of the first row, where the files bring no numbers of their own.
    """
    files = [(uri, rows, None) for uri, rows in zip(plan.uris, plan.num_rows, strict=True)]
    infos = input_files.look_up(plan.uris)
    hashes = map_parts(functools.partial(hash_file, uris=plan.uris), [info.size for info in infos])
    described = [
        input_files.describe_file(uri, info, tree_sha256=result["tree_sha256"])
        for uri, info, result in zip(plan.uris, infos, hashes, strict=True)
    ]
    return Corpus(
        table_files.cut(files, rows_per_part=rows_per_part, first_row=first_row),
        sum(plan.num_rows),
        input_files.join(described),
        plan.columns,
        plan.form,
        plan.notes,
    )


def hash_file(number: int, *, uris: Sequence[str]) -> dict[str, Any]:
    """Hash the content of one of the files: the work of a task."""
    return {"tree_sha256": filesystem.tree_sha256(uris[number])}


def read_part(
    corpus: Corpus,
    number: int,
    *,
    keep_columns: Sequence[str] = (),
    keep_raw: bool = True,
) -> Checked:
    """Read a part for scoring: an unknown label becomes null and refuses no row.

    Args:
        corpus: The corpus.
        number: Of the part.
        keep_columns: Of a CSV, to add; what is kept of tables was planned.
        keep_raw: Keep the bytes of refused records.

    Returns:
        The part's tweets with ``split`` (null outside prepared data) and ``keep_columns`` beside
        the columns of ``schema.TWEETS``; and the refused rows.

    Raises:
        UserError: A file is damaged.
    """
    part = corpus.parts[number]
    if isinstance(part, TablePart):
        return table_files.read(part, corpus.form)
    checked = tweets.read_range(
        part.csv_range,
        csv_format=part.csv_format,
        required=(),
        keep=[name for name in keep_columns if name not in schema.TWEETS.names],
        keep_raw=keep_raw,
    )
    nulls = pa.nulls(checked.tweets.num_rows, pa.string())
    return replace(checked, tweets=checked.tweets.append_column("split", nulls))


def _split_of(path: str) -> str:
    return path.split("split=")[1].split("/")[0]
