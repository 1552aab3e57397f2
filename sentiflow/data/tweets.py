"""CSV rows -> accepted tweets and rejected rows with a reason."""

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.data import csv_records, schema
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange

WRONG_COLUMNS = "wrong number of columns"
UNKNOWN_LABEL = "unknown label"
EMPTY_TEXT = "empty text"
TEXT_TOO_LONG = "text too long"
NO_USER = "no user"
NO_TIME = "unreadable time"
REASONS = (
    *csv_records.FAULTS,
    WRONG_COLUMNS,
    UNKNOWN_LABEL,
    EMPTY_TEXT,
    TEXT_TOO_LONG,
    NO_USER,
    NO_TIME,
)
"""Reasons for rejecting a row; the first that applies is recorded."""

MAX_RAW_BYTES = 4096

_SECONDS = r"^-?[0-9]{1,11}(\.[0-9]+)?$"


@dataclass(frozen=True)
class Checked:
    """A piece of a corpus with its rows accepted or rejected."""

    tweets: pa.Table
    """Columns of ``schema.TWEETS``, and the additional ones that were requested."""
    rejected: pa.Table
    """Columns of ``schema.REJECTED``."""
    num_left_out: int = 0
    """Rows that ``every_nth`` left out; they are not checked."""
    num_unknown_labels: int = 0
    """Tweets with an unknown label, which is null in ``tweets``."""


def read_range(
    csv_range: CsvRange,
    *,
    csv_format: CsvFormat,
    every_nth: int = 1,
    required: Collection[str] = ("label",),
    keep: Collection[str] = (),
    keep_raw: bool = True,
) -> Checked:
    """Read a range of CSV and check each of its rows.

    Args:
        csv_range: The records to read.
        csv_format: The meaning of the columns. With ``errors: ignore``, replacement characters
            U+FFFD that the text contains already are dropped too, if the range has invalid bytes.
        every_nth: Keep rows whose number is a multiple of this.
        required: Some of ``label``, ``user`` and ``time``; a row without one is rejected. An
            unknown value of the others becomes null.
        keep: Columns to add to the tweets: ``user`` (string), ``time`` (timestamp), and columns
            named in the header (string, null where empty).
        keep_raw: Keep the bytes of rejected rows, cut to ``MAX_RAW_BYTES``.
    """
    content = csv_range.read()
    row_id = csv_range.first_row + np.arange(csv_range.num_rows)
    chosen = row_id % every_nth == 0
    wanted = {"text", "label", "id", *required, *keep}
    columns, fault = _parse(content, csv_range, csv_format, wanted)
    added, faults, unknown = _check(columns, csv_format, required)
    for reason, found in faults:
        fault = np.where((fault == "") & found, reason, fault)
    is_accepted = chosen & (fault == "")
    tweet_id = _null_if_empty(columns["id"])
    tweets = pa.Table.from_arrays(
        [pa.array(row_id), tweet_id, columns["text"], added["label"]], schema=schema.TWEETS
    )
    for name in keep:
        values = added[name] if name in added else _null_if_empty(columns[name])
        tweets = tweets.append_column(name, values)
    rejected_rows = np.flatnonzero(chosen & (fault != ""))
    rejected = _rejected_table(
        content, csv_range, csv_format, rejected_rows, fault[rejected_rows], keep_raw
    )
    return Checked(
        tweets.filter(pa.array(is_accepted)),
        rejected,
        num_left_out=int(len(row_id) - chosen.sum()),
        num_unknown_labels=int((unknown & is_accepted).sum()),
    )


def _check(
    columns: dict[str, pa.Array], csv_format: CsvFormat, required: Collection[str]
) -> tuple[dict[str, pa.Array], list[tuple[str, np.ndarray]], np.ndarray]:
    """Convert columns to their types, and find faults.

    Returns:
        The columns; for each reason the rows with that fault; the rows with an unknown label.
    """
    text = columns["text"]
    added, faults = {}, []
    added["label"], unknown = _read_labels(columns["label"], csv_format)
    if "label" in required:
        faults.append((UNKNOWN_LABEL, unknown))
    faults.append((EMPTY_TEXT, _to_numpy(pc.equal(pc.utf8_trim_whitespace(text), ""))))
    if (pc.max(pc.binary_length(text)).as_py() or 0) > csv_format.settings.max_text_length:
        too_long = pc.greater(pc.utf8_length(text), csv_format.settings.max_text_length)
        faults.append((TEXT_TOO_LONG, _to_numpy(too_long)))
    if "user" in columns:
        added["user"] = _null_if_empty(pc.utf8_trim_whitespace(columns["user"]))
    if "time" in columns:
        added["time"] = read_times(columns["time"], csv_format.time_format)
    for name, reason in (("user", NO_USER), ("time", NO_TIME)):
        if name in required:
            faults.append((reason, _to_numpy(added[name].is_null())))
    return added, faults, unknown


def read_times(written: pa.Array, time_format: str | None) -> pa.Array:
    """Convert times to timestamps in whole seconds of UTC; unreadable ones become null.

    Args:
        written: Strings; a time without a zone is taken as UTC.
        time_format: Format for strptime; None: ISO 8601 (``20240131`` is a date, ``2024`` a year),
            or else seconds since 1970.
    """
    coded = written.dictionary_encode()
    distinct = pd.Series(coded.dictionary.to_pylist(), dtype=object).str.strip()
    dates = distinct.where(distinct.str.contains(r"\d"))  # pandas reads "now" and "today", too
    times = pd.to_datetime(dates, format=time_format or "ISO8601", errors="coerce", utc=True)
    if time_format is None:
        numbers = pd.to_numeric(distinct.where(distinct.str.match(_SECONDS)), errors="coerce")
        since = pd.to_datetime(numbers, unit="s", errors="coerce", utc=True)
        times = times.where(times.notna() & ~distinct.str.startswith("-"), since)
    seconds = times.dt.tz_convert(None).to_numpy("datetime64[s]")
    return pa.array(seconds, pa.timestamp("s", tz="UTC")).take(coded.indices)


def _parse(
    content: bytes, csv_range: CsvRange, csv_format: CsvFormat, wanted: Collection[str]
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Split records into columns.

    Returns:
        The wanted columns as strings, one row for each record (empty if the record has a fault or
        the CSV has no such column); and the fault of each record, empty if it has none.
    """
    fault = np.full(csv_range.num_rows, "", dtype=object)
    if csv_range.has_malformed:
        records, _ = csv_records.find_records(content, delimiter=csv_format.settings.delimiter)
        fault[records.malformed] = csv_records.name_faults(
            content, records, delimiter=csv_format.settings.delimiter
        )
        content = _without(content, records, records.malformed)
    skipped: list[int] = []
    repaired = _to_utf8(content, csv_format.settings.encoding)
    positions = map(csv_format.position, wanted)
    numbers = {number for number in positions if number is not None}
    table = _read_csv(repaired, csv_format, sorted(numbers), on_invalid=skipped.append)
    regular = np.flatnonzero(fault == "")
    assert table.num_rows + len(skipped) == len(regular), "CSV reader and record finder disagree"
    fault[regular[np.array(skipped, np.int64)]] = WRONG_COLUMNS
    columns = {}
    for name in wanted:
        number = csv_format.position(name)
        column = (
            pa.array([""]).take(pa.array(np.zeros(table.num_rows, np.int64)))
            if number is None
            else table[str(number)].combine_chunks()
        )
        if csv_format.settings.errors == "ignore" and repaired != content:
            column = pc.replace_substring(column, "\ufffd", "")
        columns[name] = _spread(column, fault == "")
    return columns, fault


def _to_utf8(content: bytes, encoding: str) -> bytes:
    """Convert bytes to UTF-8, invalid ones to U+FFFD; quotes, delimiters and line ends stay.

    An invalid sequence never includes an ASCII byte. Dropping the bytes here would be wrong: the
    next character could become the beginning of a field, or the line empty.
    """
    if content.isascii():
        return content
    return content.decode(encoding, errors="replace").encode()


def _spread(column: pa.Array, filled: np.ndarray) -> pa.Array:
    """Put the values of a column into the ``filled`` rows, and empty strings into the others."""
    if filled.all():
        return column
    indices = np.full(len(filled), len(column))
    indices[filled] = np.arange(len(column))
    return pa.concat_arrays([column, pa.array([""])]).take(pa.array(indices))


def _read_csv(
    content: bytes,
    csv_format: CsvFormat,
    wanted: list[int],
    *,
    on_invalid: Callable[[int], None],
) -> pa.Table:
    """Read the wanted columns of well-formed records, as strings, each named by its number.

    A record with a wrong number of columns is left out; ``on_invalid`` gets its 0-based number.
    """
    names = [str(number) for number in range(csv_format.num_columns)]
    if not content:
        return pa.table({str(number): pa.array([], pa.string()) for number in wanted})

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        on_invalid(row.number - 1)
        return "skip"

    return pyarrow.csv.read_csv(
        io.BytesIO(b"\n" + content),  # after a blank line a byte order mark is text
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, use_threads=False, block_size=len(content) + 2
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=csv_format.settings.delimiter,
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[str(number) for number in wanted],
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
        ),
    )


def _read_labels(column: pa.Array, csv_format: CsvFormat) -> tuple[pa.Array, np.ndarray]:
    """Convert written labels to int8, null for none; also returns which are unknown."""
    if csv_format.columns.label is None:
        return pa.nulls(len(column), pa.int8()), np.zeros(len(column), bool)
    coded = column.dictionary_encode()
    written = pa.array([value for value, _ in csv_format.labels])
    meaning = pa.array([label for _, label in csv_format.labels], pa.int8())
    found = pc.index_in(pc.utf8_trim_whitespace(coded.dictionary), value_set=written)
    found = found.take(coded.indices)
    return meaning.take(found), _to_numpy(found.is_null())


def _null_if_empty(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _to_numpy(flags: pa.Array) -> np.ndarray:
    return flags.to_numpy(zero_copy_only=False)


def _without(content: bytes, records: csv_records.Records, left_out: np.ndarray) -> bytes:
    """Remove records from a piece of CSV."""
    spans = zip(records.starts[~left_out], records.stops[~left_out], strict=True)
    return b"".join(content[start:stop] for start, stop in spans)


def _rejected_table(
    content: bytes,
    csv_range: CsvRange,
    csv_format: CsvFormat,
    rows: np.ndarray,
    reasons: np.ndarray,
    keep_raw: bool,
) -> pa.Table:
    """Tabulate rejected records with their position, their bytes and the reason."""
    if len(rows) == 0:
        return schema.REJECTED.empty_table()
    records, _ = csv_records.find_records(content, delimiter=csv_format.settings.delimiter)
    starts, stops = records.starts[rows], records.stops[rows]
    raw = [
        content[start : min(stop, start + MAX_RAW_BYTES)].rstrip(b"\r\n") if keep_raw else b""
        for start, stop in zip(starts, stops, strict=True)
    ]
    return pa.Table.from_arrays(
        [
            pa.array(csv_range.first_row + rows),
            pa.array([csv_range.source] * len(rows), pa.string()),
            pa.array(csv_range.start + starts),
            pa.array(raw, pa.binary()),
            pa.array(reasons.tolist(), pa.string()),
        ],
        schema=schema.REJECTED,
    )
