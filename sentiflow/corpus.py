"""CSV or Parquet files -> parts of a corpus, each read as checked tweets and rejected rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow import csv_ranges, manifest, schema, storage, tweets
from sentiflow.csv_ranges import CsvRange
from sentiflow.errors import UserError
from sentiflow.schema import SPLITS
from sentiflow.tweets import Checked
from sentiflow.uris import join


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


Part = CsvRange | tuple[TableSlice, ...]
"""What is read, worked on and written as one: the unit of work and of resumption."""


@dataclass(frozen=True)
class Corpus:
    """Texts at rest, cut into parts that do not depend on who reads them."""

    parts: tuple[Part, ...]
    num_rows: int
    files: dict[str, Any]
    """An input for a claim: what was read, with its fingerprint."""
    columns: tuple[str, ...] = tuple(schema.TWEETS.names)
    """What ``score.keep_columns`` may name."""
    has_row_ids: bool = False
    """The tables bring their own ``row_id``; if not, rows are numbered over all files."""


def open_csv(
    uris: Sequence[str],
    *,
    rows_per_part: int,
    on_bytes: Callable[[int], None] = lambda size: None,
) -> Corpus:
    """Cut CSV files into parts, and hash their content, in one read.

    Raises:
        UserError: A file holds no record.
    """
    parts: list[Part] = []
    files = []
    num_rows = 0
    for uri in uris:
        info = storage.file_info(uri)
        found = csv_ranges.cut(
            uri, rows_per_range=rows_per_part, first_row=num_rows, on_bytes=on_bytes
        )
        if not found.num_rows:
            raise UserError(f"{uri} holds no record", hint="it is empty; name another CSV")
        parts.extend(found.ranges)
        num_rows += found.num_rows
        files.append(manifest.describe_file(uri, info, sha256=found.sha256))
    return Corpus(tuple(parts), num_rows, manifest.join_files(files))


def open_prepared(uri: str, *, rows_per_part: int, setting: str) -> Corpus:
    """Take the tweets of all splits of a prepared directory as a corpus."""
    record = manifest.require(uri, stage="prepare", setting=setting)
    names = [item["path"] for item in record["files"] if item["path"].startswith("tweets/")]
    rows = {item["path"]: item["rows"] for item in record["files"]}
    order = sorted(names, key=lambda name: (SPLITS.index(_split_of(name)), name))
    files = [(join(uri, name), rows[name], _split_of(name)) for name in order]
    parts = tuple(_slice_tables(files, rows_per_part))
    total = sum(rows[name] for name in names)
    return Corpus(parts, total, manifest.reference(uri, record), has_row_ids=True)


def open_parquet(uris: Sequence[str], *, rows_per_part: int, files_input: dict[str, Any]) -> Corpus:
    """Take Parquet files with a ``text`` column as a corpus.

    Args:
        uris: Of the files.
        rows_per_part: Rows of a part, but for the last.
        files_input: What :func:`manifest.files_input` says of them.

    Raises:
        UserError: A file is no Parquet, or has no column ``text`` of strings.
    """
    schemas = [_read_schema(uri) for uri in uris]
    files = [(uri, rows, None) for uri, (_, rows) in zip(uris, schemas, strict=True)]
    own_ids = all("row_id" in names for names, _ in schemas) and _are_unique(uris)
    parts = tuple(_slice_tables(files, rows_per_part))
    total = sum(rows for _, rows, _ in files)
    shared = set.intersection(*(set(names) for names, _ in schemas))
    columns = tuple(sorted(shared | {"row_id"}))
    return Corpus(parts, total, files_input, columns, has_row_ids=own_ids)


def read_part(
    corpus: Corpus,
    number: int,
    *,
    errors: str = "replace",
    keep_columns: Sequence[str] = (),
) -> Checked:
    """Read a part for scoring: an unknown label becomes null and refuses no row.

    Returns:
        The part's tweets with ``split`` (null outside prepared data) and ``keep_columns`` beside
        the columns of ``schema.TWEETS``; and the refused rows.
    """
    part = corpus.parts[number]
    if isinstance(part, CsvRange):
        checked = tweets.read_range(part, errors=errors, labels_required=False)
        nulls = pa.nulls(checked.tweets.num_rows, pa.string())
        return Checked(checked.tweets.append_column("split", nulls), checked.rejected)
    checks = [_read_slice(piece, corpus.has_row_ids, keep_columns) for piece in part]
    return Checked(
        pa.concat_tables([check.tweets for check in checks]),
        pa.concat_tables([check.rejected for check in checks]),
    )


def _slice_tables(
    files: Iterable[tuple[str, int, str | None]], rows_per_part: int
) -> Iterable[tuple[TableSlice, ...]]:
    """Cut files, as one long table, every ``rows_per_part`` rows."""
    part: list[TableSlice] = []
    room, row = rows_per_part, 0
    for uri, num_rows, split in files:
        start = 0
        while start < num_rows:
            stop = min(num_rows, start + room)
            part.append(TableSlice(uri, start, stop, row, split))
            room, row, start = room - (stop - start), row + stop - start, stop
            if room == 0:
                yield tuple(part)
                part, room = [], rows_per_part
    if part:
        yield tuple(part)


def _read_slice(piece: TableSlice, has_row_ids: bool, keep_columns: Sequence[str]) -> Checked:
    wanted = dict.fromkeys((*schema.TWEETS.names, *keep_columns))
    table = storage.read_rows(piece.source, piece.start, piece.stop, columns=list(wanted))
    numbers = pa.array(np.arange(piece.first_row, piece.first_row + len(table)))
    row_id = table["row_id"].combine_chunks().cast(pa.int64()) if has_row_ids else numbers
    text = table["text"].combine_chunks().cast(pa.string())
    columns = {
        "row_id": row_id,
        "tweet_id": _optional(table, "tweet_id", pa.string()),
        "text": text,
        "label": _read_labels(table),
        "split": pa.array([piece.split] * len(table), pa.string()),
    }
    columns |= {name: table[name] for name in keep_columns if name not in columns}
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


def _read_schema(uri: str) -> tuple[list[str], int]:
    file_system, path = storage.locate(uri)
    try:
        file = pq.ParquetFile(path, filesystem=file_system)
    except pa.ArrowInvalid as error:
        raise UserError(f"{uri} is not Parquet", hint=str(error).splitlines()[0]) from error
    arrow = file.schema_arrow
    kind = arrow.field("text").type if "text" in arrow.names else None
    if kind not in (pa.string(), pa.large_string()):
        raise UserError(f"{uri} has no column text of strings", hint=", ".join(arrow.names))
    return arrow.names, file.metadata.num_rows


def _are_unique(uris: Sequence[str]) -> bool:
    """Say whether the column ``row_id`` has no null and no value twice over all files."""
    ids = pa.concat_tables([storage.read_parquet(uri, columns=["row_id"]) for uri in uris])[
        "row_id"
    ]
    if not pa.types.is_integer(ids.type) or ids.null_count:
        return False
    return bool(pc.count_distinct(ids).as_py() == len(ids))
