"""Byte range of a CSV -> its records as columns of strings, not yet checked."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.data import csv_records, row_checks
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange

MAX_RAW_BYTES = 4096
"""Bytes of a rejected record that are kept."""
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
        csv_format: The meaning of the columns. With ``errors: ignore``, a range with invalid bytes
            also loses the characters U+FFFD that its texts already contain.
        meanings: Columns to read by meaning, such as ``text``; one that the CSV lacks is ignored.
        others: Columns to read by their name in the header.

    Returns:
        Two dictionaries of columns. The first has ``row_id``, ``reason`` (why a record cannot be
        split, else null) and the columns of the meanings: strings, null if the record cannot be
        split. The second has the other columns by name, null where empty.
    """
    positions: dict[str, int] = {}
    for name in (*meanings, *others):
        position = csv_format.position(name)
        if position is not None:
            positions[name] = position
    distinct = sorted(set(positions.values()))
    by_position, reason = split(content, csv_range, csv_format, distinct)
    first = csv_range.first_row
    columns = {"row_id": pa.array(np.arange(first, first + csv_range.num_rows)), "reason": reason}
    for name in meanings:
        if name in positions:
            columns[name] = by_position[positions[name]]
    kept = {name: row_checks.null_if_empty(by_position[positions[name]]) for name in others}
    return columns, kept


def split(
    content: bytes, csv_range: CsvRange, csv_format: CsvFormat, positions: Sequence[int]
) -> tuple[dict[int, pa.Array], pa.Array]:
    """Split the records of a range as :func:`read` does.

    Malformed records are cut out before Arrow reads the others. Arrow skips records with a wrong
    number of columns. Rows of both kinds become null in the result.

    Returns:
        The columns at the given positions, by position; and the reasons.
    """
    settings = csv_format.settings
    reason = np.full(csv_range.num_rows, None, dtype=object)
    is_split = np.ones(csv_range.num_rows, bool)
    if csv_range.has_malformed:
        records, _ = csv_records.find_records(content, delimiter=settings.delimiter)
        is_split = ~records.malformed
        faults = csv_records.name_faults(content, records, delimiter=settings.delimiter)
        reason[records.malformed] = faults
        spans = zip(records.starts[is_split], records.stops[is_split], strict=True)
        content = b"".join(content[start:stop] for start, stop in spans)
    repaired = to_utf8(content, settings.encoding)
    skipped: list[int] = []
    table = _read_csv(repaired, csv_format, positions, on_invalid=skipped.append)
    well_formed = np.flatnonzero(is_split)
    assert table.num_rows + len(skipped) == len(well_formed), (
        "CSV reader and record finder disagree"
    )
    has_wrong_columns = well_formed[np.array(skipped, np.int64)]
    is_split[has_wrong_columns] = False
    reason[has_wrong_columns] = row_checks.WRONG_COLUMNS
    drops_damage = settings.errors == "ignore" and repaired != content
    row_in_table = pa.array(np.cumsum(is_split) - 1, mask=~is_split)
    columns = {}
    for position in positions:
        column = table[str(position)].combine_chunks()
        if drops_damage:
            column = pc.replace_substring(column, "\ufffd", "")
        if not is_split.all():
            column = column.take(row_in_table)
        columns[position] = column
    return columns, pa.array(reason, pa.string())


def locate(
    content: bytes,
    csv_range: CsvRange,
    csv_format: CsvFormat,
    is_rejected: pa.Array,
    rules: row_checks.RowRules,
) -> tuple[pa.Array, pa.Array]:
    """Find the offset in the file and the bytes of rejected records.

    Returns:
        The offsets (int64, null for accepted records unless ``rules.with_offsets``), and the bytes
        (binary, null for accepted records; cut to ``MAX_RAW_BYTES``, or empty without
        ``rules.keep_raw``).
    """
    num_rows = csv_range.num_rows
    rejected = pc.indices_nonzero(is_rejected).to_numpy()
    if not len(rejected) and not rules.with_offsets:
        return pa.nulls(num_rows, pa.int64()), pa.nulls(num_rows, pa.binary())
    records, _ = csv_records.find_records(content, delimiter=csv_format.settings.delimiter)
    raw = np.full(num_rows, None, dtype=object)
    for row in rejected:
        raw[row] = b""
        if rules.keep_raw:
            start = records.starts[row]
            stop = min(records.stops[row], start + MAX_RAW_BYTES)
            raw[row] = content[start:stop].rstrip(b"\r\n")
    is_accepted = ~is_rejected.to_numpy(zero_copy_only=False)
    is_null = None if rules.with_offsets else is_accepted
    offsets = pa.array(csv_range.start + records.starts, mask=is_null)
    return offsets, pa.array(raw, pa.binary())


def to_utf8(content: bytes, encoding: str) -> bytes:
    """Convert bytes to UTF-8, and invalid bytes to U+FFFD; quotes, delimiters and line ends stay.

    An invalid sequence never includes an ASCII byte. Invalid bytes are not dropped here: without
    them, another character could begin the field, or the line could be empty.
    """
    if encoding != "utf-8":
        return content.decode(encoding, errors="replace").encode()
    if _is_utf8(content):
        return content
    view = memoryview(content)
    blocks: list[bytes | memoryview] = []
    start = 0
    while start < len(content):
        line_end = content.find(b"\n", start + _BLOCK_BYTES)
        stop = len(content) if line_end < 0 else line_end + 1
        block = view[start:stop]
        if _is_utf8(block):  # true for most blocks
            blocks.append(block)
        else:
            blocks.append(str(block, "utf-8", "replace").encode())
        start = stop
    return b"".join(blocks)


def _is_utf8(content: bytes | memoryview) -> bool:
    """Say whether all bytes are valid UTF-8; Arrow checks this faster than Python decodes."""
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
    positions: Sequence[int],
    *,
    on_invalid: Callable[[int], None],
) -> pa.Table:
    """Read the columns at some positions of well-formed records, as strings named by position.

    A record with a wrong number of columns is left out; ``on_invalid`` gets its 0-based number.
    """
    names = [str(position) for position in range(csv_format.num_columns)]
    wanted = [str(position) for position in positions]
    if not content:
        return pa.table({name: pa.array([], pa.string()) for name in wanted})

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        on_invalid(row.number - 1)
        return "skip"

    return pyarrow.csv.read_csv(
        pa.BufferReader(b"\n" + content),  # Arrow would drop a byte order mark at the start
        read_options=pyarrow.csv.ReadOptions(
            column_names=names,
            use_threads=False,
            block_size=len(content) + 2,  # larger than the content, which is then one block
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=csv_format.settings.delimiter,
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
        ),
    )
