"""Range of a CSV -> its records as a table of strings, none of them checked yet."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.data import csv_records, row_checks
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange

MAX_RAW_BYTES = 4096
_BLOCK_BYTES = 1 << 15
"""Bytes that are repaired at a time."""


def read(
    content: bytes,
    csv_range: CsvRange,
    csv_format: CsvFormat,
    meanings: Iterable[str],
    others: Iterable[str],
) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
    """Split the records of a range into columns, one row for each record.

    Args:
        content: The bytes of the range.
        csv_range: The range.
        csv_format: The meaning of the columns. With ``errors: ignore``, replacement characters
            U+FFFD that a text contains already are dropped too, if the range has invalid bytes.
        meanings: Meanings of columns; what the CSV lacks is ignored.
        others: Names in the header.

    Returns:
        ``row_id``, ``reason`` (why a record cannot be split, else null), and the columns of the
        meanings: strings, null if the record cannot be split; and the others, null where empty.
    """
    places = {name: csv_format.position(name) for name in (*meanings, *others)}
    numbers = sorted({number for number in places.values() if number is not None})
    columns, reason = split(content, csv_range, csv_format, numbers)
    first = csv_range.first_row
    row_id = pa.array(np.arange(first, first + csv_range.num_rows))
    meant = {name: columns[at] for name in meanings if (at := places[name]) is not None}
    kept = {name: row_checks.null_if_empty(columns[places[name] or 0]) for name in others}
    return {"row_id": row_id, "reason": reason, **meant}, kept


def split(
    content: bytes, csv_range: CsvRange, csv_format: CsvFormat, numbers: Sequence[int]
) -> tuple[dict[int, pa.Array], pa.Array]:
    """Split the records of a range as :func:`read` does.

    Returns:
        The columns with the given numbers, by number; and the reasons.
    """
    delimiter = csv_format.settings.delimiter
    reason = np.full(csv_range.num_rows, None, dtype=object)
    is_regular = np.ones(csv_range.num_rows, bool)
    if csv_range.has_malformed:
        records, _ = csv_records.find_records(content, delimiter=delimiter)
        is_regular = ~records.malformed
        reason[records.malformed] = csv_records.name_faults(content, records, delimiter=delimiter)
        spans = zip(records.starts[is_regular], records.stops[is_regular], strict=True)
        content = b"".join(content[start:stop] for start, stop in spans)
    skipped: list[int] = []
    repaired = to_utf8(content, csv_format.settings.encoding)
    table = _read_csv(repaired, csv_format, numbers, on_invalid=skipped.append)
    regular = np.flatnonzero(is_regular)
    assert table.num_rows + len(skipped) == len(regular), "CSV reader and record finder disagree"
    wrong = regular[np.array(skipped, np.int64)]
    is_regular[wrong], reason[wrong] = False, row_checks.WRONG_COLUMNS
    drops = csv_format.settings.errors == "ignore" and repaired != content
    columns = {}
    place = pa.array(np.cumsum(is_regular) - 1, mask=~is_regular)
    for number in numbers:
        column = table[str(number)].combine_chunks()
        if drops:
            column = pc.replace_substring(column, "\ufffd", "")
        columns[number] = column if is_regular.all() else column.take(place)
    return columns, pa.array(reason, pa.string())


def locate(
    content: bytes,
    csv_range: CsvRange,
    csv_format: CsvFormat,
    is_rejected: pa.Array,
    rules: row_checks.RowRules,
) -> tuple[pa.Array, pa.Array]:
    """Find the position in the file, and the bytes, of rejected records.

    Returns:
        The offsets (int64, null for accepted records unless ``rules.with_offsets``), and the bytes
        (binary, null for accepted records; cut to ``MAX_RAW_BYTES``, or empty without
        ``rules.keep_raw``).
    """
    num_rows, chosen = csv_range.num_rows, pc.indices_nonzero(is_rejected).to_numpy()
    if not len(chosen) and not rules.with_offsets:
        return pa.nulls(num_rows, pa.int64()), pa.nulls(num_rows, pa.binary())
    records, _ = csv_records.find_records(content, delimiter=csv_format.settings.delimiter)
    accepted = None if rules.with_offsets else ~is_rejected.to_numpy(zero_copy_only=False)
    raw = np.full(num_rows, None, dtype=object)
    for row in chosen:
        start, stop = records.starts[row], records.stops[row]
        cut = content[start : min(stop, start + MAX_RAW_BYTES)] if rules.keep_raw else b""
        raw[row] = cut.rstrip(b"\r\n")
    return pa.array(csv_range.start + records.starts, mask=accepted), pa.array(raw, pa.binary())


def to_utf8(content: bytes, encoding: str) -> bytes:
    """Convert bytes to UTF-8, invalid ones to U+FFFD; quotes, delimiters and line ends stay.

    An invalid sequence never includes an ASCII byte. Dropping the bytes here would be wrong: the
    next character could become the beginning of a field, or the line empty.
    """
    if encoding != "utf-8":
        return content.decode(encoding, errors="replace").encode()
    if _is_utf8(content):
        return content
    view, start = memoryview(content), 0
    blocks: list[bytes | memoryview] = []
    while start < len(content):  # few blocks have invalid bytes
        stop = content.find(b"\n", start + _BLOCK_BYTES) + 1 or len(content)
        block = view[start:stop]
        blocks.append(block if _is_utf8(block) else str(block, "utf-8", "replace").encode())
        start = stop
    return b"".join(blocks)


def _is_utf8(content: bytes | memoryview) -> bool:
    offsets = pa.array([0, len(content)], pa.int64()).buffers()[1]
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(content)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _read_csv(
    content: bytes,
    csv_format: CsvFormat,
    numbers: Sequence[int],
    *,
    on_invalid: Callable[[int], None],
) -> pa.Table:
    """Read the wanted columns of well-formed records, as strings, each named by its number.

    A record with a wrong number of columns is left out; ``on_invalid`` gets its 0-based number.
    """
    names = [str(number) for number in range(csv_format.num_columns)]
    if not content:
        return pa.table({str(number): pa.array([], pa.string()) for number in numbers})

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        on_invalid(row.number - 1)
        return "skip"

    return pyarrow.csv.read_csv(
        pa.BufferReader(b"\n" + content),  # after a blank line a byte order mark is text
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, use_threads=False, block_size=len(content) + 2
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=csv_format.settings.delimiter,
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[str(number) for number in numbers],
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
        ),
    )
