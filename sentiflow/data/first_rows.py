"""Input file -> its first rows as a table of texts; bytes -> the encoding of a text."""

import codecs
import re
from dataclasses import dataclass, field

import pyarrow as pa

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, csv_records, csv_rows, table_files
from sentiflow.data.arrays import one_array
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.storage import compression

FIRST_BYTES = 1 << 20
"""Bytes of a CSV that are read, unpacked ones if it is compressed."""
_FIRST_ROWS = 5_000
"""Rows of a Parquet file that are read."""


@dataclass(frozen=True)
class FirstRows:
    """The beginning of a file."""

    uri: str
    rows: pa.Table
    """All columns as texts, named as in the file, or by their position if it names none; two may
    have the same name. A record that cannot be split is a row of nulls. Of Parquet, columns that
    hold lists or bytes are left out."""
    names: tuple[str, ...]
    """Names in the header of a CSV, or in Parquet; none if a CSV has no header."""
    faults: pa.Array
    """For each row why its record cannot be split, one of ``tweets.REASONS``; null if it can."""
    is_whole: bool
    """Whether the file has no more rows."""
    is_damaged: bool = False
    """Whether there are bytes that are invalid in the encoding: texts hold U+FFFD for them."""
    fitting_encoding: str = ""
    """An encoding that fits the bytes better than that of the settings; empty if none does."""
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    """The columns of Parquet with their types."""
    head: bytes = field(default=b"", repr=False)
    """The beginning of a CSV, for :func:`csv_format.resolve`."""

    def column(self, place: int | str) -> pa.Array:
        """Return a column by its position, or by its name, of which there must be one."""
        return one_array(self.rows.column(place))


def read(uri: str, settings: FormatSettings) -> FirstRows:
    """Read the first rows of a file: a megabyte of CSV, or some thousand rows of Parquet.

    Args:
        uri: The file; Parquet by its name, otherwise CSV, plain or compressed.
        settings: The section ``format``: delimiter, header, encoding. Which columns it names does
            not matter.

    Returns:
        The rows, of which there are none if the file is blank.

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
        return FirstRows(uri, pa.table({}), (), pa.nulls(0, pa.string()), is_whole, head=head)
    names, num_columns, start = csv_format.find_columns(settings, head, source=uri)
    records, used = csv_records.find_records(
        piece[start:], delimiter=settings.delimiter, last=is_whole
    )
    content = piece[start : start + used]
    form = csv_format.CsvFormat(settings, num_columns, csv_format.NO_COLUMNS, header=tuple(names))
    csv_range = CsvRange(
        uri, start, start + used, 0, len(records), has_malformed=bool(records.malformed.any())
    )
    columns, faults = csv_rows.split(content, csv_range, form, range(num_columns))
    column_names = names or [str(number) for number in range(num_columns)]
    is_damaged, fitting = judge_encoding(content, settings.encoding)
    return FirstRows(
        uri,
        pa.Table.from_arrays(list(columns.values()), names=column_names),
        tuple(names),
        faults,
        is_whole,
        is_damaged,
        fitting,
        head=head,
    )


def judge_encoding(content: bytes, encoding: str) -> tuple[bool, str]:
    """Judge whether bytes are text of an encoding.

    Returns:
        Whether some are invalid in it; and an encoding that fits them better, or an empty text: no
        other one is named for UTF-8 with some damage.

    Example:
        >>> judge_encoding("caf\u00e9".encode("latin-1"), "utf-8")
        (True, 'latin-1')
        >>> judge_encoding("caf\u00e9".encode(), "latin-1")
        (False, 'utf-8')
    """
    if content.isascii():
        return False, ""
    is_damaged, fitting = not decodes(content, encoding), find(content)
    is_better = is_damaged if encoding == "utf-8" else fitting == "utf-8"
    return is_damaged, fitting if is_better and fitting != encoding else ""


def _read_parquet(uri: str) -> FirstRows:
    footer = table_files.read_footer(uri)
    names = [field.name for field in footer.arrow if table_files.has_text(field.type)]
    num_rows = min(_FIRST_ROWS, footer.num_rows)
    return FirstRows(
        uri,
        table_files.read_texts(uri, 0, num_rows, names).rename_columns(names),
        tuple(footer.arrow.names),
        pa.nulls(num_rows, pa.string()),
        num_rows == footer.num_rows,
        schema=footer.arrow,
    )


_HIGH = re.compile(rb"[\x80-\xff]+")
_NO_LETTERS = re.compile(rb"[\x80-\x9f]")
"""Bytes that latin-1 has no character for, and cp1252 quotes, dashes and the euro."""


def find(content: bytes, *, is_cut: bool = False) -> str:
    """Find the encoding: ``utf-8``, ``cp1252``, ``latin-1``, or an empty text for any other one.

    A text with some invalid bytes is UTF-8 if it has as many valid characters of several bytes.
    Accents stand alone in Latin texts; in other alphabets nearly all letters are beyond ASCII.

    Args:
        content: The text.
        is_cut: Whether it may end within a character.

    Example:
        >>> find("caf\u00e9".encode("latin-1")), find("\u20ac 5".encode("cp1252"))
        ('latin-1', 'cp1252')
    """
    decoded = codecs.getincrementaldecoder("utf-8")("replace").decode(content, not is_cut)
    invalid = decoded.count("\ufffd")
    if not invalid or 2 * invalid <= sum(character > "\x7f" for character in decoded):
        return "utf-8"
    runs = _HIGH.findall(content)
    if sum(map(len, runs)) > 1.7 * len(runs):
        return ""
    is_cp1252 = bool(_NO_LETTERS.search(content)) and decodes(content, "cp1252")
    return "cp1252" if is_cp1252 else "latin-1"


def decodes(content: bytes, encoding: str) -> bool:
    """Say whether all bytes are valid in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
