"""Input files of unknown form -> how they are written, and a sample of their rows as texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, first_rows, table_files
from sentiflow.data.inspection import dialects
from sentiflow.data.inspection.dialects import Dialect
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import display_uri

SAMPLE_BYTES = 24 << 20
"""Bytes to read from all CSV files together, after decompression."""
MIN_FILE_BYTES = 1 << 20
"""Minimum bytes to read from each CSV file."""
_SAMPLE_ROWS = 150_000
"""Rows to read from all Parquet files together."""
_MAX_FILES = 8
"""Maximum number of files to open: the first, the last, and others at equal distances."""
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
    """For each row: why its record cannot be split; null if it can."""
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
    """Stored bytes of all files, before decompression."""

    def column(self, name: str | int) -> pa.Array:
        """Return a column."""
        return self.rows.column(self.names.index(name)).combine_chunks()


def read(uris: Sequence[str]) -> Sample:
    """Read a sample of CSV or Parquet files that are written alike: same columns, same dialect.

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
    """Read the same number of bytes from each file; all must be written like the first.

    Raises:
        UserError: The files are empty, are not written alike, or our reader cannot read them.
    """
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
    pieces: list[first_rows.FirstRows] = []
    num_rows = 0.0
    for file in files:
        pieces_of_file = _read_pieces(file, settings)
        first = pieces[0] if pieces else pieces_of_file[0]
        order = _order_like(first, pieces_of_file[0])
        for piece in pieces_of_file:
            pieces.append(replace(piece, rows=piece.rows.select(order)))
        rows_read = sum(piece.rows.num_rows for piece in pieces_of_file)
        num_rows += rows_read / file.share
    if not num_rows:
        raise UserError(f"{source} holds no record", hint="it has at most a header")
    positions = [str(i) for i in range(pieces[0].rows.num_columns)]
    return Sample(
        names=_name_columns(pieces[0]),
        rows=pa.concat_tables([piece.rows.rename_columns(positions) for piece in pieces]),
        faults=pa.concat_arrays([piece.faults for piece in pieces]),
        num_rows=round(num_rows),
        is_whole=all(file.is_whole for file in files),
        dialect=dialect,
        is_damaged=any(piece.is_damaged for piece in pieces),
        is_utf16=any(file.is_utf16 for file in files),
    )


def _open_csv(uri: str, size: int) -> _CsvPieces:
    """Read about ``size`` bytes of a file.

    They are its beginning; of a large plain file, its beginning, middle and end.
    """
    with compression.open_content(uri) as content:
        piece = content.read_block(0, size)
        is_utf16 = content.decoder is not None
        if len(piece) < size:
            return _CsvPieces(uri, [piece], share=1.0, is_utf16=is_utf16)
        if content.forward_size:  # the file can only be read from the start
            # below 1, because the file may have more bytes
            share = min(0.99, size / (_PACKED_RATIO * content.forward_size))
            return _CsvPieces(uri, [piece], share=share, is_utf16=is_utf16)
        block = size // 3
        total = content.stream.size()
        last = total // block - 1  # number of the last whole block
        middle = last // 2
        pieces = [
            piece[:block],
            content.read_block(middle, block),
            content.read_block(last, block),
        ]
        return _CsvPieces(uri, pieces, share=3 * block / total, is_utf16=False)


def _sniff_files(files: Sequence[_CsvPieces], *, source: str) -> Dialect:
    """Find the dialect of the first file, and an encoding that fits all files."""
    dialect = dialects.sniff(files[0].pieces[0], source=source)
    pieces = [piece for file in files for piece in file.pieces]
    return replace(dialect, encoding=dialects.detect_encoding(b"\n".join(pieces), source=source))


def _read_pieces(file: _CsvPieces, settings: FormatSettings) -> list[first_rows.FirstRows]:
    """Read the rows of the pieces of a file; a piece may begin and end within a record."""
    first, *others = file.pieces
    pieces = [first_rows.read_piece(file.uri, first, settings, is_whole=file.is_whole)]
    without_header = settings.model_copy(update={"header": False})
    for content in others:
        lines = content[content.find(b"\n") + 1 :]
        piece = first_rows.read_piece(file.uri, lines, without_header, is_whole=False)
        # the piece may begin within a quoted text, so rows before the first good record are dropped
        is_good = piece.faults.is_null().to_numpy(zero_copy_only=False)
        if is_good.any():
            begin = int(is_good.argmax())
            rows = piece.rows.slice(begin)
            pieces.append(replace(piece, rows=rows, faults=piece.faults.slice(begin)))
    return pieces


def _order_like(first: first_rows.FirstRows, other: first_rows.FirstRows) -> list[int]:
    """Find the position of each column of the first file in another file.

    Raises:
        UserError: The other file has other columns.
    """
    num_columns = first.rows.num_columns
    if sorted(other.names) != sorted(first.names) or other.rows.num_columns != num_columns:
        raise UserError(
            f"{display_uri(other.uri)} is not written like {display_uri(first.uri)}",
            hint="it has other columns or another delimiter: write a config for each",
        )
    if other.names == first.names:
        return list(range(num_columns))
    return [other.names.index(name) for name in first.names]


def _name_columns(piece: first_rows.FirstRows) -> tuple[str | int, ...]:
    """Name each column as in the header; by its position if that name is empty or repeated."""
    if not piece.names:
        return tuple(range(piece.rows.num_columns))
    names: list[str | int] = []
    for position, name in enumerate(piece.names):
        is_unique = name and piece.names.count(name) == 1
        names.append(name if is_unique else position)
    return tuple(names)


def _read_tables(uris: Sequence[str]) -> Sample:
    """Read rows of Parquet files; lists and other nested columns are left out.

    Raises:
        UserError: The files have no row.
    """
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
