"""Input files of unknown form -> how they are written, and a sample of their rows as texts."""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, first_rows, table_files
from sentiflow.data.arrays import UNSPACED
from sentiflow.data.inspection.column_names import NAMES, rate
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import display_uri

DELIMITERS = (",", ";", "\t", "|")
_MIN_SHARE = 0.7
"""Share of the records that must have the same number of columns."""
_VALUE = re.compile(r"[-+]?[\d.,:/ ]*\d[\d.,:/ %€$TZ+-]*|.*://.*|.*@.*\..*")
"""A number, a date, an address: a value, not the name of a column."""
_NAME = re.compile(r"[^\W\d][\w.\-/()#:?%]*( [\w.\-/()#:?%]+){0,2}")
_MAX_NAME = 60
"""Maximum length of a column name in characters."""
_MAX_LETTERS = 12
"""Maximum number of letters of scripts without spaces in a column name."""
_MANY = 10
"""Average rows for each value from which on a column repeats its values: it has no texts."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written."""

    encoding: str
    delimiter: str
    has_header: bool


def sniff(head: bytes, *, source: str) -> Dialect:
    """Detect encoding, delimiter and header of a CSV, by the grammar of our own reader.

    Args:
        head: The beginning of the file, or all of it.
        source: Its name, for messages.

    Raises:
        UserError: The reader cannot read such a file as it is; the message says how to change it.
    """
    encoding = detect_encoding(head, source=source)
    head = head[: csv_format.HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    delimiter, rows = _find_delimiter(head, encoding)
    if not rows:
        raise UserError(f"{source} holds no record", hint="name a file with texts")
    sizes = [len(row) for row in rows]
    usual = max(sizes, key=sizes.count)
    if len(rows[0]) < usual:
        first = head.splitlines()[0].decode(encoding, "replace").strip()[:40]
        raise UserError(
            f"{source} begins with {first!r}, which is no record like the others",
            hint=f"delete this line: tail -n +2 {source}",
        )
    return Dialect(encoding, delimiter, has_header([row for row in rows if len(row) == usual]))


def detect_encoding(content: bytes, *, source: str) -> str:
    """Find the encoding of a text: ``utf-8``, ``cp1252`` or ``latin-1``.

    UTF-16 with a byte order mark is UTF-8 here: it has been decoded before.

    Raises:
        UserError: The text has another encoding.
    """
    head = content[:1000]
    if head.count(b"\0") * 4 > len(head):
        raise UserError(
            f"{source} holds NUL bytes: it is no text, or UTF-16 or UTF-32 without a mark",
            hint="copy or export it again, as UTF-8",
        )
    if encoding := first_rows.find(content, is_cut=True):
        return encoding
    from charset_normalizer import from_bytes

    beyond_ascii = [line for line in content.splitlines() if not line.isascii()]
    best = from_bytes(b"\n".join(beyond_ascii[:200])).best()
    if best is None:
        raise UserError(f"{source} is not UTF-8", hint="save it as UTF-8; is it a text file?")
    other = best.encoding.replace("_", "-")
    raise UserError(
        f"{source} is {other}, which is not read",
        hint=f"convert it: iconv -f {other} -t UTF-8 {source} > utf8.csv",
    )


def _find_delimiter(head: bytes, encoding: str) -> tuple[str, list[list[str]]]:
    """Choose the delimiter with which most records have the same number of columns, two or more.

    If several are equally good, the one with the most columns is chosen. If none is good, the file
    has one column, and the delimiter is one that the texts do not use.

    Returns:
        The delimiter, and the fields of the first well-formed records.
    """
    is_whole = len(head) < csv_format.HEAD_BYTES - len(codecs.BOM_UTF8)
    rows_by_delimiter = {}
    ranks = {}
    for delimiter in DELIMITERS:
        rows, records = csv_format.split_first(head, delimiter, encoding, last=is_whole)
        rows_by_delimiter[delimiter] = rows
        ranks[delimiter] = _rank(rows, len(records))
    best = max(DELIMITERS, key=lambda delimiter: ranks[delimiter])
    if ranks[best].share < _MIN_SHARE:

        def count_undivided(delimiter: str) -> int:
            return sum(len(row) == 1 for row in rows_by_delimiter[delimiter])

        best = max(DELIMITERS, key=count_undivided)
    return best, rows_by_delimiter[best]


class _Rank(NamedTuple):
    """How well a delimiter divides records; a better one is greater."""

    share: float
    """Share of the records with the usual number of columns; 0 if that is one."""
    num_columns: int
    """The usual number of columns."""


def _rank(rows: Sequence[Sequence[str]], num_records: int) -> _Rank:
    """Rate a delimiter by the share of the records with the usual number of columns."""
    sizes = [len(row) for row in rows]
    usual = max(sizes, key=sizes.count, default=1)
    if usual == 1:
        return _Rank(0.0, usual)
    num_split = min(num_records, csv_format.SAMPLE_RECORDS)
    return _Rank(round(sizes.count(usual) / num_split, 2), usual)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first of some rows has the names of the columns."""
    names = [cell.strip() for cell in rows[0]]
    data = rows[1:]
    filled = [name for name in names if name]
    if not filled or len(set(filled)) < len(filled):
        return False
    if any(_VALUE.fullmatch(name) or len(name) > _MAX_NAME for name in filled):
        return False
    if any(_is_usual(name) for name in filled):
        return True
    for name, column in zip(names, zip(*data, strict=True), strict=False):
        values = [value.strip() for value in column if value.strip()]
        if name in values:
            return False
        if name and values and all(_VALUE.fullmatch(value) for value in values):
            return True
        if name and len(values) >= _MANY * len({*values}) and len(values) >= _MANY:
            return True
    return _are_short_names(filled)


def _is_usual(name: str) -> bool:
    """Say whether a whole name is usual for a text, a label or another meaning."""
    return any(rate(name, meaning) == 2 for meaning in NAMES)


def _are_short_names(names: Sequence[str]) -> bool:
    """Say whether texts are of one to three words, or short in a script without spaces."""
    marks = ("Mn", "Mc", "Cf")  # \w lacks them
    letters = ["".join(c for c in name if unicodedata.category(c) not in marks) for name in names]
    if not all(_NAME.fullmatch(name) for name in letters):
        return False
    unspaced = pc.count_substring_regex(pa.array(letters), f"[{UNSPACED}]")
    return bool(pc.max(unspaced).as_py() <= _MAX_LETTERS)


SAMPLE_BYTES = 24 << 20
"""Bytes to read of all CSV files together, after decompression."""
MIN_FILE_BYTES = 1 << 20
"""Minimum bytes to read of each CSV file."""
_SAMPLE_ROWS = 150_000
"""Rows to read of all Parquet files together."""
_MAX_FILES = 8
"""Maximum number of files to open. Of more files, some are chosen evenly, with first and last."""
_PACKED_RATIO = 2.5
"""Typical ratio of a text's size to its compressed size."""
_OTHER_KINDS = {
    ".xlsx .xls .ods": "a spreadsheet: save it as CSV",
    ".json .jsonl .ndjson": "JSON: write it as CSV, as pandas.read_json(...).to_csv(...) does",
    ".yaml .yml": "a config already: sentiflow run takes it",
}
"""Files that are not read, by their suffixes: what they are, and what to do."""


@dataclass(frozen=True)
class Sample:
    """Rows of the input files, from their beginning, middle and end."""

    names: tuple[str | int, ...]
    """The name of each column; its position if it has no name, or one that occurs twice."""
    rows: pa.Table
    """The columns as strings. A record that cannot be split is a row of nulls."""
    faults: pa.Array
    """For each row why its record cannot be split, else null."""
    num_rows: int
    """Rows of all files, an estimate unless ``is_whole``."""
    is_whole: bool
    """Whether all rows of all files were read."""
    dialect: Dialect | None = None
    """How CSV files are written; None for Parquet."""
    is_damaged: bool = False
    """Whether a CSV has bytes that are invalid in its encoding."""
    is_utf16: bool = False
    """Whether the CSV files are UTF-16, which is read as UTF-8."""
    uris: tuple[str, ...] = ()
    """All files, also files from which no row was read."""
    num_bytes: int = 0
    """Bytes of all files as they are stored."""

    def column(self, name: str | int) -> pa.Array:
        """Return a column."""
        return self.rows.column(self.names.index(name)).combine_chunks()


def read(uris: Sequence[str]) -> Sample:
    """Read a sample of CSV or Parquet files that are written alike.

    Args:
        uris: The files. Their names tell which are Parquet, and which are compressed.

    Raises:
        UserError: A file cannot be read, or they are not written alike.
    """
    for uri in uris:
        for suffixes, what in _OTHER_KINDS.items():
            if uri.lower().endswith(tuple(suffixes.split())):
                raise UserError(f"{display_uri(uri)} is {what}")
    num_bytes = sum(info.size for info in filesystem.map_files(filesystem.file_info, uris))
    places = np.linspace(0, len(uris) - 1, _MAX_FILES, dtype=int)
    chosen = [uris[place] for place in np.unique(places)]
    are_tables = uris[0].lower().endswith(".parquet")
    sample = _read_tables(chosen) if are_tables else _read_csvs(chosen)
    share = len(chosen) / len(uris)
    return replace(
        sample,
        uris=tuple(uris),
        num_bytes=num_bytes,
        num_rows=round(sample.num_rows / share),
        is_whole=sample.is_whole and share == 1,
    )


class _CsvPieces(NamedTuple):
    """Some of the bytes of a CSV file."""

    uri: str
    pieces: list[bytes]
    """The first bytes; of a large plain file also bytes from its middle and end."""
    share: float
    """Share of the file that was read; an estimate if it is compressed."""
    is_utf16: bool

    @property
    def is_whole(self) -> bool:
        """Whether the whole file was read."""
        return self.share == 1


def _read_csvs(uris: Sequence[str]) -> Sample:
    """Read the same number of bytes of each file; all must be written like the first."""
    size = max(SAMPLE_BYTES // len(uris), MIN_FILE_BYTES)
    opened = filesystem.map_files(lambda uri: _open_csv(uri, size), uris)
    files = [file for file in opened if not csv_format.is_blank(file.pieces[0])]
    if not files:
        raise UserError(f"{display_uri(uris[0])} holds no record", hint="name a file with texts")
    source = display_uri(files[0].uri)
    dialect = _sniff_files(files, source=source)
    settings = FormatSettings(
        kind="csv",
        columns=ColumnsSettings(text=0),
        header=dialect.has_header,
        delimiter=dialect.delimiter,
        encoding=dialect.encoding,
    )
    readings: list[first_rows.FirstRows] = []
    num_rows = 0.0
    for file in files:
        of_file = _read_pieces(file, settings)
        usual = readings[0] if readings else of_file[0]
        order = _order_like(usual, of_file[0])
        readings += [replace(one, rows=one.rows.select(order)) for one in of_file]
        num_rows += sum(one.rows.num_rows for one in of_file) / file.share
    if not num_rows:
        raise UserError(f"{source} holds no record", hint="it has at most a header")
    positions = [str(i) for i in range(readings[0].rows.num_columns)]
    return Sample(
        names=_name_columns(readings[0]),
        rows=pa.concat_tables([one.rows.rename_columns(positions) for one in readings]),
        faults=pa.concat_arrays([one.faults for one in readings]),
        num_rows=round(num_rows),
        is_whole=all(file.is_whole for file in files),
        dialect=dialect,
        is_damaged=any(one.is_damaged for one in readings),
        is_utf16=any(file.is_utf16 for file in files),
    )


def _open_csv(uri: str, size: int) -> _CsvPieces:
    """Read about ``size`` bytes of a file."""
    with compression.open_content(uri) as content:
        piece = content.read_block(0, size)
        is_utf16 = content.decoder is not None
        if len(piece) < size:
            return _CsvPieces(uri, [piece], share=1.0, is_utf16=is_utf16)
        if content.packed_size:  # it can only be read from the start
            share = min(0.99, size / (_PACKED_RATIO * content.packed_size))
            return _CsvPieces(uri, [piece], share=share, is_utf16=is_utf16)
        block = size // 3
        total = content.stream.size()
        last = total // block - 1
        middle = last // 2
        pieces = [
            piece[:block],
            content.read_block(middle, block),
            content.read_block(last, block),
        ]
        return _CsvPieces(uri, pieces, share=3 * block / total, is_utf16=False)


def _sniff_files(files: Sequence[_CsvPieces], *, source: str) -> Dialect:
    """Find out how files are written: by the first one, and the encoding by all of them."""
    dialect = sniff(files[0].pieces[0], source=source)
    pieces = [piece for file in files for piece in file.pieces]
    return replace(dialect, encoding=detect_encoding(b"\n".join(pieces), source=source))


def _read_pieces(file: _CsvPieces, settings: FormatSettings) -> list[first_rows.FirstRows]:
    """Read the rows of the pieces of a file; a piece may begin and end within a record."""
    first, *others = file.pieces
    readings = [first_rows.read_piece(file.uri, first, settings, is_whole=file.is_whole)]
    without_header = settings.model_copy(update={"header": False})
    for piece in others:
        lines = piece[piece.find(b"\n") + 1 :]
        read = first_rows.read_piece(file.uri, lines, without_header, is_whole=False)
        # the piece may begin within a quoted text: what comes before a good record is left out
        is_good = read.faults.is_null().to_numpy(zero_copy_only=False)
        if is_good.any():
            begin = int(is_good.argmax())
            rows = read.rows.slice(begin)
            readings.append(replace(read, rows=rows, faults=read.faults.slice(begin)))
    return readings


def _order_like(usual: first_rows.FirstRows, file: first_rows.FirstRows) -> list[int]:
    """Find the position of each column of the first file in another one.

    Raises:
        UserError: The file has other columns.
    """
    num_columns = usual.rows.num_columns
    if sorted(file.names) != sorted(usual.names) or file.rows.num_columns != num_columns:
        raise UserError(
            f"{display_uri(file.uri)} is written otherwise than {display_uri(usual.uri)}",
            hint="it has other columns or another delimiter: write a config for each",
        )
    if file.names == usual.names:
        return list(range(num_columns))
    return [file.names.index(name) for name in usual.names]


def _name_columns(reading: first_rows.FirstRows) -> tuple[str | int, ...]:
    """Name each column as in the header; by its position if it has no name that only it has."""
    if not reading.names:
        return tuple(range(reading.rows.num_columns))
    names: list[str | int] = []
    for position, name in enumerate(reading.names):
        is_own = name and reading.names.count(name) == 1
        names.append(name if is_own else position)
    return tuple(names)


def _read_tables(uris: Sequence[str]) -> Sample:
    """Read rows of Parquet files; columns of lists and other nested types are left out."""
    footers = filesystem.map_files(table_files.read_footer, uris)
    names = [field.name for field in footers[0].arrow if table_files.has_text(field.type)]
    for footer in footers:
        names = [name for name in names if name in footer.arrow.names]
    pieces = []
    for uri, footer in zip(uris, footers, strict=True):
        for rows in _choose_rows(footer.num_rows, _SAMPLE_ROWS // len(uris)):
            pieces.append(table_files.read_texts(uri, rows.start, rows.stop, names))
    table = pa.concat_tables(pieces)
    num_rows = sum(footer.num_rows for footer in footers)
    if not num_rows:
        raise UserError(f"{display_uri(uris[0])} holds no row", hint="name a file with texts")
    return Sample(
        names=tuple(names),
        rows=table,
        faults=pa.nulls(len(table), pa.string()),
        num_rows=num_rows,
        is_whole=len(table) == num_rows,
    )


def _choose_rows(num_rows: int, size: int) -> list[range]:
    """Choose all rows of a file, or about ``size`` from its beginning, middle and end."""
    if num_rows <= size:
        return [range(num_rows)]
    third = size // 3
    starts = (0, (num_rows - third) // 2, num_rows - third)
    return [range(start, start + third) for start in starts]
