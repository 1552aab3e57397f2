"""Input file -> its first rows as a table of texts."""

from dataclasses import dataclass, field

import pyarrow as pa

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, csv_records, csv_rows, table_files, text_encodings
from sentiflow.data.arrays import one_array
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.storage import compression

FIRST_BYTES = 1 << 20
"""Bytes of a CSV that are read; unpacked bytes if it is compressed."""
_FIRST_ROWS = 5_000
"""Rows of a Parquet file that are read."""


@dataclass(frozen=True)
class FirstRows:
    """The beginning of a file."""

    uri: str
    rows: pa.Table
    """All columns as texts, under their names in the file; in a CSV without a header, under their
    positions. Two columns of a CSV may have the same name. A record that cannot be split is a row
    of nulls. Parquet columns of lists or bytes are left out."""
    names: tuple[str, ...]
    """All names in the file; none if a CSV has no header."""
    faults: pa.Array
    """For each row the reason why its record cannot be split; null if it can."""
    is_whole: bool
    """Whether the file has no more rows."""
    is_damaged: bool = False
    """Whether some bytes are invalid in the encoding: texts have U+FFFD in their place."""
    fitting_encoding: str = ""
    """An encoding that fits the bytes better than the one in the settings; empty if none does."""
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    """The columns of Parquet with their types."""
    head: bytes = field(default=b"", repr=False)
    """The beginning of a CSV, for :func:`csv_format.resolve`."""

    def column(self, place: int | str) -> pa.Array:
        """Return a column by its position, or by its name if only one column has it."""
        return one_array(self.rows.column(place))


def read(uri: str, settings: FormatSettings) -> FirstRows:
    """Read the first rows of a file: a megabyte of CSV, or some thousand rows of Parquet.

    Args:
        uri: The file: Parquet if its name ends in ``.parquet``, otherwise CSV, plain or compressed.
        settings: The section ``format``; only delimiter, header and encoding are used.

    Returns:
        The rows; none if the file is blank.

    Raises:
        UserError: The file is missing, damaged, or of another kind.
    """
    if uri.lower().endswith(".parquet"):
        return _read_parquet(uri)
    with compression.open_content(uri) as content:
        piece = content.read_block(0, FIRST_BYTES)
    return read_piece(uri, piece, settings, is_whole=len(piece) < FIRST_BYTES)


def read_piece(
    uri: str, piece: bytes, settings: FormatSettings, *, is_whole: bool = True
) -> FirstRows:
    """Read the rows of the beginning of a CSV; see :func:`read`.

    Args:
        uri: The file, for messages.
        piece: Its first bytes.
        settings: The section ``format``.
        is_whole: Whether these are all bytes of the file.
    """
    head = piece[: csv_format.HEAD_BYTES]
    if csv_format.is_blank(head):
        return FirstRows(
            uri=uri,
            rows=pa.table({}),
            names=(),
            faults=pa.nulls(0, pa.string()),
            is_whole=is_whole,
            head=head,
        )
    names, num_columns, start = csv_format.find_columns(settings, head, source=uri)
    records, used = csv_records.find_records(
        piece[start:], delimiter=settings.delimiter, last=is_whole
    )
    stop = start + used
    csv_range = CsvRange(
        source=uri,
        start=start,
        stop=stop,
        first_row=0,
        num_rows=len(records),
        has_malformed=bool(records.malformed.any()),
    )
    form = csv_format.CsvFormat(settings, num_columns, csv_format.NO_COLUMNS, header=tuple(names))
    content = piece[start:stop]
    columns, faults = csv_rows.split([content], [csv_range], form, range(num_columns))
    column_names = names or [str(number) for number in range(num_columns)]
    is_damaged, fitting = text_encodings.judge(content, settings.encoding)
    return FirstRows(
        uri=uri,
        rows=pa.Table.from_arrays(list(columns.values()), names=column_names),
        names=tuple(names),
        faults=faults,
        is_whole=is_whole,
        is_damaged=is_damaged,
        fitting_encoding=fitting,
        head=head,
    )


def _read_parquet(uri: str) -> FirstRows:
    """Read the first rows of a Parquet file; see :func:`read`."""
    footer = table_files.read_footer(uri)
    names = [field.name for field in footer.arrow if table_files.has_text(field.type)]
    num_rows = min(_FIRST_ROWS, footer.num_rows)
    return FirstRows(
        uri=uri,
        rows=table_files.read_texts(uri, 0, num_rows, names).rename_columns(names),
        names=tuple(footer.arrow.names),
        faults=pa.nulls(num_rows, pa.string()),
        is_whole=num_rows == footer.num_rows,
        schema=footer.arrow,
    )
