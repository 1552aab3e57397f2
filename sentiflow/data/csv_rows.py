"""Byte ranges of CSV files -> their records as columns of strings, not yet checked."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.data import csv_records, partitions, row_checks
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.csv_ranges import CsvRange

MAX_RAW_BYTES = 4096
"""Bytes of a rejected record that are kept."""
_BLOCK_BYTES = 1 << 15
"""Bytes that are repaired at a time."""


def read(
    contents: Sequence[bytes],
    ranges: Sequence[CsvRange],
    csv_format: CsvFormat,
    meanings: Iterable[str],
    others: Iterable[str],
) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
    """Split the records of consecutive ranges into columns, one row for each record.

    Args:
        contents: The bytes of each range.
        ranges: The ranges, of one file or of several.
        csv_format: The meaning of the columns. With ``errors: ignore``, a range with invalid bytes
            also loses the characters U+FFFD that its texts already contain.
        meanings: Columns to read by meaning, such as ``text``; one that the CSV lacks is ignored.
        others: Columns to read by their name in the header, or in the folders of the file.

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
    by_position, reason = split(contents, ranges, csv_format, distinct)
    row_ids = [np.arange(each.first_row, each.first_row + each.num_rows) for each in ranges]
    columns = {"row_id": pa.array(np.concatenate(row_ids)), "reason": reason}
    for name in meanings:
        if name in positions:
            columns[name] = by_position[positions[name]]
    kept = {}
    for name in others:
        if name in positions:
            kept[name] = row_checks.null_if_empty(by_position[positions[name]])
        else:
            of_folders = [partitions.read(each.source, name, each.num_rows) for each in ranges]
            kept[name] = pa.concat_arrays(of_folders)
    return columns, kept


def split(
    contents: Sequence[bytes],
    ranges: Sequence[CsvRange],
    csv_format: CsvFormat,
    positions: Sequence[int],
) -> tuple[dict[int, pa.Array], pa.Array]:
    """Split the records of consecutive ranges as :func:`read` does.

    Malformed records are cut out before Arrow reads the others. Arrow skips records with a wrong
    number of columns. Rows of both kinds become null in the result. All ranges are read at once, as
    each call of Arrow takes as long as hundreds of records.

    Returns:
        The columns at the given positions, by position; and the reasons.
    """
    settings = csv_format.settings
    num_rows = sum(each.num_rows for each in ranges)
    reason = np.full(num_rows, None, dtype=object)
    is_split = np.ones(num_rows, bool)
    is_damaged = np.zeros(num_rows, bool)  # whether the range of a row has invalid bytes
    repaired = []
    first = 0
    for content, csv_range in zip(contents, ranges, strict=True):
        rows = slice(first, first + csv_range.num_rows)
        first = rows.stop
        if csv_range.has_malformed:
            records, _ = csv_records.find_records(content, delimiter=settings.delimiter)
            is_split[rows] = ~records.malformed
            faults = csv_records.name_faults(content, records, delimiter=settings.delimiter)
            reason[rows][records.malformed] = faults
            well_formed = ~records.malformed
            spans = zip(records.starts[well_formed], records.stops[well_formed], strict=True)
            content = b"".join(content[start:stop] for start, stop in spans)
        repaired.append(to_utf8(content, settings.encoding))
        is_damaged[rows] = repaired[-1] != content
    skipped: list[int] = []
    table = _read_csv(_join_lines(repaired), csv_format, positions, on_invalid=skipped.append)
    well_formed = np.flatnonzero(is_split)
    assert table.num_rows + len(skipped) == len(well_formed), (
        "CSV reader and record finder disagree"
    )
    has_wrong_columns = well_formed[np.array(skipped, np.int64)]
    is_split[has_wrong_columns] = False
    reason[has_wrong_columns] = row_checks.WRONG_COLUMNS
    drops_damage = settings.errors == "ignore" and is_damaged.any()
    row_in_table = pa.array(np.cumsum(is_split) - 1, mask=~is_split)
    columns = {}
    for position in positions:
        column = table[str(position)].combine_chunks()
        if drops_damage:
            cleaned = pc.replace_substring(column, "\ufffd", "")
            column = pc.if_else(pa.array(is_damaged[is_split]), cleaned, column)
        if not is_split.all():
            column = column.take(row_in_table)
        columns[position] = column
    return columns, pa.array(reason, pa.string())


def _join_lines(contents: Sequence[bytes]) -> bytes:
    """Join the records of several ranges; the last record of a file may lack its line end."""
    if len(contents) == 1:
        return contents[0]
    joined = []
    for content in contents:
        joined.append(content)
        if content and not content.endswith((b"\n", b"\r")):
            joined.append(b"\n")
    return b"".join(joined)


def locate(
    contents: Sequence[bytes],
    ranges: Sequence[CsvRange],
    csv_format: CsvFormat,
    is_rejected: pa.Array,
    rules: row_checks.RowRules,
) -> tuple[pa.Array, pa.Array]:
    """Find the offset in the file and the bytes of rejected records of consecutive ranges.

    Returns:
        The offsets (int64, null for accepted records unless ``rules.with_offsets``), and the bytes
        (binary, null for accepted records; cut to ``MAX_RAW_BYTES``, or empty without
        ``rules.keep_raw``).
    """
    rejected = is_rejected.to_numpy(zero_copy_only=False)
    num_rows = len(rejected)
    if not rejected.any() and not rules.with_offsets:
        return pa.nulls(num_rows, pa.int64()), pa.nulls(num_rows, pa.binary())
    offsets = np.zeros(num_rows, np.int64)
    raw = np.full(num_rows, None, dtype=object)
    first = 0
    for content, csv_range in zip(contents, ranges, strict=True):
        rows = slice(first, first + csv_range.num_rows)
        first = rows.stop
        if not rejected[rows].any() and not rules.with_offsets:
            continue
        records, _ = csv_records.find_records(content, delimiter=csv_format.settings.delimiter)
        offsets[rows] = csv_range.start + records.starts
        for row in np.flatnonzero(rejected[rows]):
            written = b""
            if rules.keep_raw:
                start = records.starts[row]
                stop = min(records.stops[row], start + MAX_RAW_BYTES)
                written = content[start:stop].rstrip(b"\r\n")
            raw[rows.start + row] = written
    is_null = None if rules.with_offsets else ~rejected
    return pa.array(offsets, mask=is_null), pa.array(raw, pa.binary())


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
