"""CSV or Parquet files -> parts of a corpus, each read as checked tweets and rejected rows."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo

from sentiflow import (
    compression,
    csv_format,
    csv_ranges,
    input_files,
    manifest,
    row_ids,
    schema,
    storage,
    tweets,
)
from sentiflow.csv_format import CsvFormat
from sentiflow.csv_ranges import CsvRange, CutStretch, Stretch
from sentiflow.errors import UserError
from sentiflow.schema import SPLITS
from sentiflow.sections import FormatSettings
from sentiflow.tweets import Checked
from sentiflow.uris import join

_CUT_HERE_BYTES = 1 << 28


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


Part = CsvPart | TablePart
"""What is read, worked on and written as one: the unit of work and of resumption."""


@dataclass(frozen=True)
class _PlannedFile:
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
    return sum(storage.file_info(uri).size for uri in uris) <= _CUT_HERE_BYTES


@dataclass(frozen=True)
class Corpus:
    """Texts at rest, cut into parts that do not depend on who reads them."""

    parts: tuple[Part, ...]
    num_rows: int
    """Of all parts together."""
    files: dict[str, Any]
    """An input for a claim: what was read, with its fingerprint."""
    columns: tuple[str, ...] = tuple(schema.TWEETS.names)
    """What ``score.keep_columns`` may name."""
    has_row_ids: bool = False
    """The tables bring their own ``row_id``; if not, rows are numbered over all files."""
    text_column: str = "text"
    """Where the tables have the texts."""

    @property
    def csv_parts(self) -> tuple[CsvPart, ...]:
        """The parts of a corpus in CSV."""
        return tuple(part for part in self.parts if isinstance(part, CsvPart))


def open_csv(
    uris: Sequence[str],
    *,
    form: FormatSettings,
    rows_per_part: int,
    unpack_to: str,
    map_parts: MapParts = map_here,
    first_row: int = 0,
) -> Corpus:
    """Cut CSV files into parts, in parallel, and hash their content.

    Args:
        uris: Of the files, plain or compressed.
        form: What they look like.
        rows_per_part: About how many records a part holds.
        unpack_to: A directory for the pieces of compressed files; they are left there.
        map_parts: Does the work on each stretch of the files.
        first_row: Number of the first record.

    Raises:
        UserError: A file holds no record, lacks a column, or is damaged.
    """
    files = [
        _plan(uri, form, rows_per_part, join(unpack_to, f"file-{number:05d}"))
        for number, uri in enumerate(uris)
    ]
    stretches = [stretch for file in files for stretch in file.stretches]
    sizes = [(s.stop or file.info.size) - s.start for file in files for s in file.stretches]
    work = functools.partial(cut_stretch, stretches=stretches)
    found = map(CutStretch.from_json, map_parts(work, sizes))
    parts: list[Part] = []
    described = []
    next_row = first_row
    for file in files:
        results = [next(found) for _ in file.stretches]
        ranges = csv_ranges.connect(file.stretches, results, first_row=next_row)
        if not ranges:
            raise UserError(f"{file.uri} holds no record", hint="there is at most a header in it")
        parts.extend(CsvPart(csv_range, file.csv_format) for csv_range in ranges)
        next_row = ranges[-1].first_row + ranges[-1].num_rows
        leaves = b"".join(bytes.fromhex(result.leaves) for result in results)
        tree = storage.join_leaves(leaves) if leaves else storage.tree_sha256(file.uri)
        described.append(input_files.describe_file(file.uri, file.info, tree_sha256=tree))
    shared = set.intersection(*(set(file.csv_format.names) for file in files))
    columns = dict.fromkeys((*schema.TWEETS.names, *sorted(shared)))
    return Corpus(tuple(parts), next_row - first_row, input_files.join(described), tuple(columns))


def cut_stretch(number: int, *, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Cut one of the stretches: the work of a task."""
    return csv_ranges.cut(stretches[number]).to_json()


def _plan(uri: str, form: FormatSettings, rows_per_part: int, unpack_to: str) -> _PlannedFile:
    """Look at a file's beginning, and part it among tasks."""
    info = storage.file_info(uri)
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
    return _PlannedFile(uri, info, found, stretches)


def open_prepared(uri: str, *, rows_per_part: int, setting: str) -> Corpus:
    """Take the tweets of all splits of a prepared directory as a corpus."""
    record = manifest.require(uri, stage="prepare", setting=setting)
    names = [item["path"] for item in record["files"] if item["path"].startswith("tweets/")]
    rows = {item["path"]: item["rows"] for item in record["files"]}
    order = sorted(names, key=lambda name: (SPLITS.index(_split_of(name)), name))
    files = [(join(uri, name), rows[name], _split_of(name)) for name in order]
    parts = tuple(_slice_tables(files, rows_per_part, 0))
    total = sum(rows[name] for name in names)
    columns = dict.fromkeys((*schema.TWEETS.names, *record["settings"]["keep_columns"]))
    files_input = manifest.reference(uri, record)
    return Corpus(parts, total, files_input, tuple(columns), has_row_ids=True)


def open_parquet(
    uris: Sequence[str],
    *,
    text_column: str,
    rows_per_part: int,
    map_parts: MapParts = map_here,
    first_row: int = 0,
    earlier: Sequence[str] = (),
) -> Corpus:
    """Take Parquet files with a column of texts as a corpus, and hash their content.

    Args:
        uris: Of the files.
        text_column: Name of the column.
        rows_per_part: Rows of a part, but for the last.
        map_parts: Does the work on each file.
        first_row: Number of the first row, where the files bring no numbers of their own.
        earlier: Files that were read before; no ``row_id`` may stand in them too.

    Raises:
        UserError: A file is no Parquet, or has no such column of strings.
    """
    schemas = [_read_schema(uri, text_column) for uri in uris]
    files = [(uri, rows, None) for uri, (_, rows) in zip(uris, schemas, strict=True)]
    own_ids = row_ids.are_unique([*earlier, *uris])
    parts = tuple(_slice_tables(files, rows_per_part, first_row))
    total = sum(rows for _, rows, _ in files)
    shared = set.intersection(*(set(names) for names, _ in schemas))
    columns = tuple(sorted(shared | {"row_id", "text"}))
    infos = [storage.file_info(uri) for uri in uris]
    work = functools.partial(hash_file, uris=uris)
    described = [
        input_files.describe_file(uri, info, tree_sha256=result["tree_sha256"])
        for uri, info, result in zip(
            uris, infos, map_parts(work, [info.size for info in infos]), strict=True
        )
    ]
    inputs = input_files.join(described)
    return Corpus(parts, total, inputs, columns, has_row_ids=own_ids, text_column=text_column)


def hash_file(number: int, *, uris: Sequence[str]) -> dict[str, Any]:
    """Hash the content of one of the files: the work of a task."""
    return {"tree_sha256": storage.tree_sha256(uris[number])}


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
        keep_columns: Of the corpus, to add.
        keep_raw: Keep the bytes of refused records.

    Returns:
        The part's tweets with ``split`` (null outside prepared data) and ``keep_columns`` beside
        the columns of ``schema.TWEETS``; and the refused rows.

    Raises:
        UserError: A file is damaged.
    """
    part = corpus.parts[number]
    others = [name for name in keep_columns if name not in schema.TWEETS.names]
    if isinstance(part, CsvPart):
        checked = tweets.read_range(
            part.csv_range,
            csv_format=part.csv_format,
            required=(),
            keep=others,
            keep_raw=keep_raw,
        )
        nulls = pa.nulls(checked.tweets.num_rows, pa.string())
        return Checked(checked.tweets.append_column("split", nulls), checked.rejected)
    checks = [_read_slice(piece, corpus, others) for piece in part.slices]
    return Checked(
        pa.concat_tables([check.tweets for check in checks]),
        pa.concat_tables([check.rejected for check in checks]),
    )


def _slice_tables(
    files: Iterable[tuple[str, int, str | None]], rows_per_part: int, first_row: int
) -> Iterable[TablePart]:
    """Cut files, as one long table, every ``rows_per_part`` rows."""
    part: list[TableSlice] = []
    room, row = rows_per_part, first_row
    for uri, num_rows, split in files:
        start = 0
        while start < num_rows:
            stop = min(num_rows, start + room)
            part.append(TableSlice(uri, start, stop, row, split))
            room, row, start = room - (stop - start), row + stop - start, stop
            if room == 0:
                yield TablePart(tuple(part))
                part, room = [], rows_per_part
    if part:
        yield TablePart(tuple(part))


def _read_slice(piece: TableSlice, corpus: Corpus, others: Sequence[str]) -> Checked:
    wanted = dict.fromkeys((*schema.TWEETS.names, corpus.text_column, *others))
    try:
        table = storage.read_rows(piece.source, piece.start, piece.stop, columns=list(wanted))
    except (pa.ArrowInvalid, OSError) as error:
        rows = f"rows {piece.start:,} to {piece.stop - 1:,}"
        raise UserError(
            f"{piece.source}, {rows}: {str(error).splitlines()[0]}",
            hint="the file is damaged; make it again",
        ) from error
    numbers = pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    row_id = table["row_id"].combine_chunks().cast(pa.int64()) if corpus.has_row_ids else numbers
    text = table[corpus.text_column].combine_chunks().cast(pa.string())
    columns = {
        "row_id": row_id,
        "tweet_id": _optional(table, "tweet_id", pa.string()),
        "text": text,
        "label": _read_labels(table),
        "split": pa.array([piece.split] * len(table), pa.string()),
    }
    columns |= {name: table[name] for name in others if name not in columns}
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
    return Checked(pa.table(columns).filter(filled), rejected)


def _optional(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(len(table), kind)
    return table[name].combine_chunks().cast(kind)


def _read_labels(table: pa.Table) -> pa.Array:
    """Read the column ``label``; what is none of ours becomes null."""
    if "label" not in table.column_names or not pa.types.is_integer(table["label"].type):
        return pa.nulls(len(table), pa.int8())
    label = table["label"].combine_chunks()
    known = pc.is_in(label, value_set=pa.array(range(len(schema.LABEL_NAMES)), label.type))
    return pc.if_else(known, label, None).cast(pa.int8())


def _split_of(path: str) -> str:
    return path.split("split=")[1].split("/")[0]


def _read_schema(uri: str, text_column: str) -> tuple[list[str], int]:
    file_system, path = storage.locate(uri)
    try:
        file = pq.ParquetFile(path, filesystem=file_system)
    except pa.ArrowInvalid as error:
        raise UserError(f"{uri} is not Parquet", hint=str(error).splitlines()[0]) from error
    arrow = file.schema_arrow
    kind = arrow.field(text_column).type if text_column in arrow.names else None
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind not in (pa.string(), pa.large_string(), pa.string_view()):
        raise UserError(
            f"{uri} has no column {text_column} of strings",
            hint=f"it has {', '.join(arrow.names)}; set score.text_column",
        )
    return arrow.names, file.metadata.num_rows
