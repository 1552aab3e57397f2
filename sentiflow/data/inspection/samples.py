"""Input files of unknown form -> how they are written, and a sample of their rows as texts."""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
_MAX_NAME, _MAX_LETTERS = 60, 12
"""Characters in a name, and letters of a script without spaces."""
_MANY = 10
"""Rows of each value of a column that hardly has a value once only."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written."""

    encoding: str
    delimiter: str
    has_header: bool


def sniff(head: bytes, *, source: str) -> Dialect:
    """Find out how a CSV is written; it is judged by our own grammar of records.

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
    usual = max(map(len, rows), key=[len(row) for row in rows].count)
    if len(rows[0]) < usual:
        first = head.splitlines()[0].decode(encoding, "replace").strip()[:40]
        raise UserError(
            f"{source} begins with {first!r}, which is no record like the others",
            hint=f"delete this line: tail -n +2 {source}",
        )
    return Dialect(encoding, delimiter, has_header([row for row in rows if len(row) == usual]))


def detect_encoding(content: bytes, *, source: str) -> str:
    """Find the encoding of a text: ``utf-8``, ``cp1252`` or ``latin-1``; no UTF-16 has a mark here.

    Raises:
        UserError: It is written in another one.
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

    Of equal ones that with the most columns counts. Without such a delimiter there is one column,
    and a delimiter that the texts do not use.
    """
    is_whole = len(head) < csv_format.HEAD_BYTES - len(codecs.BOM_UTF8)
    tried = {d: csv_format.split_first(head, d, encoding, last=is_whole) for d in DELIMITERS}
    ranks = {delimiter: _rank(rows, len(records)) for delimiter, (rows, records) in tried.items()}
    best = max(DELIMITERS, key=lambda delimiter: ranks[delimiter])
    if ranks[best][0] < _MIN_SHARE:
        best = max(DELIMITERS, key=lambda d: sum(len(row) == 1 for row in tried[d][0]))
    return best, tried[best][0]


def _rank(rows: Sequence[Sequence[str]], num_records: int) -> tuple[float, int]:
    """Rate a delimiter: by the share of the records with the usual number of columns."""
    sizes = [len(row) for row in rows]
    usual = max(sizes, key=sizes.count, default=1)
    if usual == 1:
        return 0.0, usual
    return round(sizes.count(usual) / min(num_records, csv_format.SAMPLE_RECORDS), 2), usual


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first of some rows has the names of the columns."""
    names, data = [cell.strip() for cell in rows[0]], rows[1:]
    filled = [name for name in names if name]
    if not filled or len(set(filled)) < len(filled):
        return False
    if any(_VALUE.fullmatch(name) or len(name) > _MAX_NAME for name in filled):
        return False
    if any(rate(name, meaning) == 2 for name in filled for meaning in NAMES):  # a usual name
        return True
    for name, column in zip(names, zip(*data, strict=True), strict=False):
        values = [value.strip() for value in column if value.strip()]
        if name in values:
            return False
        if name and values and all(_VALUE.fullmatch(value) for value in values):
            return True
        if name and len(values) >= _MANY * len({*values}) and len(values) >= _MANY:
            return True
    marks = ("Mn", "Mc", "Cf")  # \w lacks them
    letters = ["".join(c for c in name if unicodedata.category(c) not in marks) for name in filled]
    unspaced = pc.count_substring_regex(pa.array(letters), f"[{UNSPACED}]")
    return all(map(_NAME.fullmatch, letters)) and pc.max(unspaced).as_py() <= _MAX_LETTERS


SAMPLE_BYTES = 24 << 20
"""Bytes of all files that are read, unpacked ones of compressed files."""
MIN_FILE_BYTES = 1 << 20
"""Bytes of each file that are read at least."""
_SAMPLE_ROWS = 150_000
"""Rows of Parquet files that are read."""
_MAX_FILES = 8
"""Files that are opened; of more, some from the first to the last."""
_PACKED_RATIO = 2.5
"""About how many times smaller texts are compressed."""
_OTHER_KINDS = {
    (".xlsx", ".xls", ".ods"): "a spreadsheet: save it as CSV",
    (
        ".json",
        ".jsonl",
        ".ndjson",
    ): "JSON: write it as CSV, as pandas.read_json(...).to_csv(...) does",
    (".yaml", ".yml"): "a config already: sentiflow run takes it",
}


@dataclass(frozen=True)
class Sample:
    """Rows of the input files, from their beginning, middle and end."""

    names: tuple[str | int, ...]
    """Each column by its name, or by its position if it has none of its own."""
    rows: pa.Table
    """The columns as strings, named by their position. A record that cannot be split is a row of
    nulls."""
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
    """All files, also those of which no row was read."""
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
            if uri.lower().endswith(suffixes):
                raise UserError(f"{display_uri(uri)} is {what}")
    num_bytes = sum(info.size for info in filesystem.map_files(filesystem.file_info, uris))
    chosen = [uris[i] for i in sorted({*np.linspace(0, len(uris) - 1, _MAX_FILES, dtype=int)})]
    sample = _read_tables(chosen) if uris[0].lower().endswith(".parquet") else _read_csvs(chosen)
    share = len(chosen) / len(uris)
    return replace(
        sample,
        uris=tuple(uris),
        num_bytes=num_bytes,
        num_rows=round(sample.num_rows / share),
        is_whole=sample.is_whole and share == 1,
    )


def _open_csv(uri: str, size: int) -> tuple[list[bytes], float, bool]:
    """Read about ``size`` bytes of a file: the first, of a large plain file also of middle and end.

    Returns:
        The pieces; the share of the file that they are, estimated if it is compressed; and whether
        it is UTF-16.
    """
    with compression.open_content(uri) as content:
        piece = content.read_block(0, size)
        if len(piece) < size:
            return [piece], 1.0, content.decoder is not None
        if content.packed_size:
            share = min(0.99, size / (_PACKED_RATIO * content.packed_size))
            return [piece], share, content.decoder is not None
        block, total = size // 3, content.stream.size()
        last = total // block - 1
        pieces = [piece[:block], *(content.read_block(n, block) for n in (last // 2, last))]
        return pieces, 3 * block / total, False


def _read_csvs(uris: Sequence[str]) -> Sample:
    """Read the same number of bytes of each file; the first one tells how all are written."""
    size = max(SAMPLE_BYTES // len(uris), MIN_FILE_BYTES)
    opened = zip(uris, filesystem.map_files(lambda uri: _open_csv(uri, size), uris), strict=True)
    files = [(uri, *of_uri) for uri, of_uri in opened if not csv_format.is_blank(of_uri[0][0])]
    if not files:
        raise UserError(f"{display_uri(uris[0])} holds no record", hint="name a file with texts")
    source = display_uri(files[0][0])
    dialect = sniff(files[0][1][0], source=source)
    content = b"\n".join(piece for _, pieces, *_ in files for piece in pieces)
    dialect = replace(dialect, encoding=detect_encoding(content, source=source))
    settings = FormatSettings(
        kind="csv",
        columns=ColumnsSettings(text=0),
        header=dialect.has_header,
        delimiter=dialect.delimiter,
        encoding=dialect.encoding,
    )
    read, num_rows, header = list[first_rows.FirstRows](), 0.0, tuple[str, ...]()
    for uri, pieces, share, _ in files:
        readings = _read_pieces(uri, pieces, settings, is_whole=share == 1)
        first = readings[0]
        header = first.names if not read else header
        if sorted(first.names) != sorted(header) or (
            read and first.rows.num_columns != read[0].rows.num_columns
        ):
            raise UserError(
                f"{display_uri(uri)} is written otherwise than {source}",
                hint="it has other columns or another delimiter: write a config for each",
            )
        order = (
            list(range(first.rows.num_columns))
            if first.names == header
            else [first.names.index(name) for name in header]
        )
        read += [replace(one, rows=one.rows.select(order)) for one in readings]
        num_rows += sum(one.rows.num_rows for one in readings) / share
    if not num_rows:
        raise UserError(f"{source} holds no record", hint="it has at most a header")
    places = list(range(read[0].rows.num_columns))
    names = [n if n and header.count(n) == 1 else at for at, n in enumerate(header)]
    return Sample(
        tuple(names or places),
        pa.concat_tables([one.rows.rename_columns(list(map(str, places))) for one in read]),
        pa.concat_arrays([one.faults for one in read]),
        round(num_rows),
        all(share == 1 for *_, share, _ in files),
        dialect,
        any(one.is_damaged for one in read),
        any(is_utf16 for *_, is_utf16 in files),
    )


def _read_pieces(
    uri: str, pieces: Sequence[bytes], settings: FormatSettings, *, is_whole: bool
) -> list[first_rows.FirstRows]:
    """Read the rows of the pieces of a file, which may begin and end within a record."""
    readings = [first_rows.read_piece(uri, pieces[0], settings, is_whole=is_whole)]
    without = settings.model_copy(update={"header": False})
    for piece in pieces[1:]:
        read = first_rows.read_piece(uri, piece[piece.find(b"\n") + 1 :], without, is_whole=False)
        # the piece may begin within a quoted text: its first records are none
        begin = next((i for i, fault in enumerate(read.faults.to_pylist()) if fault is None), None)
        if begin is not None:
            rows, faults = read.rows.slice(begin), read.faults.slice(begin)
            readings.append(replace(read, rows=rows, faults=faults))
    return readings


def _read_tables(uris: Sequence[str]) -> Sample:
    """Read rows of Parquet files; columns of lists and other nested types are left out."""
    footers = filesystem.map_files(table_files.read_footer, uris)
    shared = [
        field.name
        for field in footers[0].arrow
        if table_files.has_text(field.type) and all(field.name in f.arrow.names for f in footers)
    ]
    rows = pa.concat_tables(
        table_files.read_texts(uri, start, stop, shared)
        for uri, footer in zip(uris, footers, strict=True)
        for start, stop in _choose_rows(footer.num_rows, _SAMPLE_ROWS // len(uris))
    )
    if not (num_rows := sum(footer.num_rows for footer in footers)):
        raise UserError(f"{display_uri(uris[0])} holds no row", hint="name a file with texts")
    faults = pa.nulls(len(rows), pa.string())
    return Sample(tuple(shared), rows, faults, num_rows, len(rows) == num_rows)


def _choose_rows(num_rows: int, size: int) -> list[tuple[int, int]]:
    """Choose all rows of a file, or about ``size`` from its beginning, middle and end."""
    if num_rows <= size:
        return [(0, num_rows)]
    third = size // 3
    return [(start, start + third) for start in (0, (num_rows - third) // 2, num_rows - third)]
