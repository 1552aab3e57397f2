"""CSV rows -> accepted tweets and rejected rows with a reason."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow import schema
from sentiflow.csv_ranges import CsvRange, Records, find_records

MALFORMED = "unclosed or misplaced quote"
WRONG_COLUMNS = "wrong number of columns"
UNKNOWN_LABEL = "unknown label"
EMPTY_TEXT = "empty text"
REASONS = (MALFORMED, WRONG_COLUMNS, UNKNOWN_LABEL, EMPTY_TEXT)

MAX_RAW_BYTES = 4096


@dataclass(frozen=True)
class CsvFormat:
    """Which columns of a CSV without a header mean what, and how its labels are written."""

    num_columns: int
    label: int
    tweet_id: int
    text: int
    labels: tuple[tuple[str, int], ...]
    """Written value and meaning."""


SENTIMENT140 = CsvFormat(
    num_columns=6,
    label=0,
    tweet_id=1,
    text=5,
    labels=(("0", schema.NEGATIVE), ("4", schema.POSITIVE), ("2", schema.NEUTRAL)),
)
"""Go, Bhayani and Huang 2009: target, id, date, flag, user, text."""


@dataclass(frozen=True)
class Checked:
    """A piece of a corpus, each row judged."""

    tweets: pa.Table
    """``schema.TWEETS``, and the columns that were asked for beside it."""
    rejected: pa.Table
    """``schema.REJECTED``."""
    num_left_out: int = 0
    """Rows that ``every_nth`` left out, which nobody judged."""


def read_range(
    csv_range: CsvRange,
    *,
    csv_format: CsvFormat = SENTIMENT140,
    errors: str = "replace",
    every_nth: int = 1,
    labels_required: bool = True,
    keep_raw: bool = True,
) -> Checked:
    """Read a range of CSV and judge each of its rows.

    Args:
        csv_range: Which records.
        csv_format: What the columns mean.
        errors: What becomes of bytes that are no UTF-8: ``replace``, or ``ignore`` (dropped, as are
            the replacement characters U+FFFD that stand in the same range already).
        every_nth: Keep the rows whose number this divides.
        labels_required: Refuse a row with an unknown label; if not, its label is null.
        keep_raw: Keep the bytes of refused rows, cut to ``MAX_RAW_BYTES``.
    """
    content = csv_range.read()
    row_id = csv_range.first_row + np.arange(csv_range.num_rows)
    chosen = row_id % every_nth == 0
    columns, fault = _parse(content, csv_range, csv_format, errors)
    label, known_label = _read_labels(columns["label"], csv_format)
    text, tweet_id = columns["text"], columns["tweet_id"]
    empty = pc.equal(pc.utf8_trim_whitespace(text), "").to_numpy(zero_copy_only=False)
    well_formed = fault == ""
    if labels_required:
        fault = np.where(well_formed & ~known_label, UNKNOWN_LABEL, fault)
    fault = np.where((fault == "") & empty, EMPTY_TEXT, fault)
    accepted = pa.array(chosen & (fault == ""))
    tweets = pa.Table.from_arrays(
        [
            pa.array(row_id),
            pc.if_else(pc.equal(tweet_id, ""), pa.scalar(None, pa.string()), tweet_id),
            text,
            label,
        ],
        schema=schema.TWEETS,
    ).filter(accepted)
    refused = np.flatnonzero(chosen & (fault != ""))
    rejected = _rejected_table(content, csv_range, refused, fault[refused], keep_raw)
    return Checked(tweets, rejected, int(len(row_id) - chosen.sum()))


def _parse(
    content: bytes, csv_range: CsvRange, csv_format: CsvFormat, errors: str
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Split records into columns.

    Returns:
        The columns ``label``, ``tweet_id`` and ``text`` as strings, a row for each record (empty
        where it has a fault); and each record's fault, an empty string if it has none.
    """
    fault = np.full(csv_range.num_rows, "", dtype=object)
    if csv_range.has_malformed:
        records, _ = find_records(content)
        fault[records.malformed] = MALFORMED
        content = _without(content, records, records.malformed)
    skipped: list[int] = []
    repaired = _to_utf8(content)
    table = _read_csv(repaired, csv_format, on_invalid=skipped.append)
    regular = np.flatnonzero(fault == "")
    assert table.num_rows + len(skipped) == len(regular), "CSV reader and record finder disagree"
    fault[regular[np.array(skipped, np.int64)]] = WRONG_COLUMNS
    numbers = {"label": csv_format.label, "tweet_id": csv_format.tweet_id, "text": csv_format.text}
    columns = {name: table[str(number)].combine_chunks() for name, number in numbers.items()}
    if errors == "ignore" and repaired is not content:
        columns = {
            name: pc.replace_substring(column, "\ufffd", "") for name, column in columns.items()
        }
    return {name: _spread(column, fault == "") for name, column in columns.items()}, fault


def _to_utf8(content: bytes) -> bytes:
    """Replace bytes that are no UTF-8 by U+FFFD; quotes, delimiters and line ends stay.

    A broken sequence never takes an ASCII byte with it. To drop the bytes instead would be wrong
    here: what stands behind them could become the beginning of a field or an empty line.
    """
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode(errors="replace").encode()
    return content


def _spread(column: pa.Array, filled: np.ndarray) -> pa.Array:
    """Lay the values of a column into the rows that are ``filled``, empty strings into others."""
    if filled.all():
        return column
    place = np.full(len(filled), len(column))
    place[filled] = np.arange(len(column))
    return pa.concat_arrays([column, pa.array([""])]).take(pa.array(place))


def _read_csv(
    content: bytes, csv_format: CsvFormat, *, on_invalid: Callable[[int], None]
) -> pa.Table:
    """Read well-formed records as columns of strings named by their number.

    ``on_invalid`` is told the 0-based number of each record with another number of columns, which
    is left out.
    """
    wanted = sorted({csv_format.label, csv_format.tweet_id, csv_format.text})
    names = [str(number) for number in range(csv_format.num_columns)]
    if not content:
        return pa.table({str(number): pa.array([], pa.string()) for number in wanted})

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        on_invalid(row.number - 1)
        return "skip"

    return pyarrow.csv.read_csv(
        io.BytesIO(b"\n" + content),  # behind a blank line a byte order mark is text
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, use_threads=False, block_size=len(content) + 2
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[str(number) for number in wanted],
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
        ),
    )


def _read_labels(column: pa.Array, csv_format: CsvFormat) -> tuple[pa.Array, np.ndarray]:
    """Translate written labels; returns int8 with null where unknown, and which are known."""
    written = pa.array([value for value, _ in csv_format.labels])
    meaning = pa.array([label for _, label in csv_format.labels], pa.int8())
    label = meaning.take(pc.index_in(column, value_set=written))
    return label, label.is_valid().to_numpy(zero_copy_only=False)


def _without(content: bytes, records: Records, left_out: np.ndarray) -> bytes:
    """Cut records out of a piece of CSV."""
    spans = zip(records.starts[~left_out], records.stops[~left_out], strict=True)
    return b"".join(content[start:stop] for start, stop in spans)


def _rejected_table(
    content: bytes, csv_range: CsvRange, rows: np.ndarray, reasons: np.ndarray, keep_raw: bool
) -> pa.Table:
    """Keep refused records with their place, their bytes and the reason."""
    if len(rows) == 0:
        return schema.REJECTED.empty_table()
    records, _ = find_records(content)
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
