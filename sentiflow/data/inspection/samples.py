"""Input files of unknown form -> how they are written, and a sample of their rows as texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, first_rows, table_files
from sentiflow.data.first_rows import FirstRows
from sentiflow.data.inspection import sniffing
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import as_typed

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

    uris: tuple[str, ...]
    """All files."""
    num_bytes: int
    """Bytes of all files as they are stored."""
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
    dialect: sniffing.Dialect | None = None
    """How CSV files are written; None for Parquet."""
    is_damaged: bool = False
    """Whether a CSV has bytes that are invalid in its encoding."""

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
                raise UserError(f"{as_typed(uri)} is {what}")
    num_bytes = sum(info.size for info in filesystem.map_files(filesystem.file_info, uris))
    chosen = [uris[i] for i in sorted({*np.linspace(0, len(uris) - 1, _MAX_FILES, dtype=int)})]
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


@dataclass(frozen=True)
class _Opened:
    """Pieces of a CSV: the first, of a large plain file also one of its middle and its end."""

    uri: str
    pieces: tuple[bytes, ...]
    share: float
    """Share of the file in the pieces; estimated for a compressed file that is not read whole."""

    @property
    def is_whole(self) -> bool:
        """Whether the only piece is the whole file."""
        return self.share == 1


def _open_csv(uri: str, size: int) -> _Opened:
    """Read about ``size`` bytes of a file."""
    with compression.open_content(uri) as content:
        if content.packed_size:
            piece = content.read_block(0, size)
            ratio = len(piece) / (_PACKED_RATIO * content.packed_size)
            return _Opened(uri, (piece,), 1.0 if len(piece) < size else min(0.99, ratio))
        total = content.stream.size()
        if total <= size:
            return _Opened(uri, (content.read_block(0, total) if total else b"",), 1.0)
        block = size // 3
        last = total // block - 1
        pieces = tuple(content.read_block(number, block) for number in (0, last // 2, last))
        return _Opened(uri, pieces, 3 * block / total)


def _read_csvs(uris: Sequence[str]) -> Sample:
    """Read the same number of bytes of each file; the first one tells how all are written."""
    size = max(SAMPLE_BYTES // len(uris), MIN_FILE_BYTES)
    opened = filesystem.map_files(lambda uri: _open_csv(uri, size), uris)
    filled = [file for file in opened if not csv_format.is_blank(file.pieces[0])]
    if not filled:
        raise UserError(f"{as_typed(uris[0])} holds no record", hint="name a file with texts")
    dialects = [sniffing.sniff(file.pieces[0], source=as_typed(file.uri)) for file in filled]
    for file, dialect in zip(filled, dialects, strict=True):
        if _columns_of(dialect) != _columns_of(dialects[0]):
            raise UserError(
                f"{as_typed(file.uri)} is written otherwise than {as_typed(filled[0].uri)}",
                hint="it has other columns or another delimiter: write a config for each",
            )
    encoding = sniffing.detect_encoding(
        b"\n".join(piece for file in filled for piece in file.pieces), source=as_typed(uris[0])
    )
    dialect = replace(dialects[0], encoding=encoding)
    settings = FormatSettings(
        kind="csv",
        columns=ColumnsSettings(text=0),
        header=dialect.has_header,
        delimiter=dialect.delimiter,
        encoding=encoding,
    )
    found = [rows for file in filled for rows in _read_pieces(file, settings)]
    names = _own_names(found[0].names, len(found[0].rows.columns))
    shares = {file.uri: file.share for file in filled}
    return Sample(
        tuple(uris),
        0,
        names,
        pa.concat_tables([_by_position(rows, names) for rows in found]),
        pa.concat_arrays([rows.faults for rows in found]),
        round(sum(rows.num_rows / shares[rows.uri] for rows in found)),
        all(file.is_whole for file in filled),
        dialect,
        any(rows.is_damaged for rows in found),
    )


def _columns_of(dialect: sniffing.Dialect) -> tuple[object, ...]:
    """Describe the columns of a file: files with equal ones can be read with the same settings."""
    names = sorted(dialect.rows[0]) if dialect.has_header else len(dialect.rows[0])
    if names in (1, ["text"]):  # any delimiter
        return (names,)
    return names, dialect.delimiter, dialect.has_header


def _read_pieces(file: _Opened, settings: FormatSettings) -> Iterator[FirstRows]:
    """Read the rows of the pieces of a file, which may begin and end within a record."""
    for number, piece in enumerate(file.pieces):
        if number == 0:
            yield first_rows.read_piece(file.uri, piece, settings, is_whole=file.is_whole)
            continue
        rest = piece[piece.find(b"\n") + 1 :]
        without = settings.model_copy(update={"header": False})
        read = first_rows.read_piece(file.uri, rest, without, is_whole=False)
        # the piece may begin within a quoted text: its first records are none
        begin = next((i for i, fault in enumerate(read.faults.to_pylist()) if fault is None), None)
        if begin is not None:
            yield replace(read, rows=read.rows.slice(begin), faults=read.faults.slice(begin))


def _own_names(names: Sequence[str], num_columns: int) -> tuple[str | int, ...]:
    """Take the position of columns that have no name, or that of another column."""
    if not names:
        return tuple(range(num_columns))
    return tuple(
        name if name and names.count(name) == 1 else place for place, name in enumerate(names)
    )


def _by_position(read: FirstRows, names: Sequence[str | int]) -> pa.Table:
    """Put columns into the order of the first file, and name them by their position there."""
    columns = [
        read.column(name if isinstance(name, str) and read.names else place)
        for place, name in enumerate(names)
    ]
    return pa.table({str(place): column for place, column in enumerate(columns)})


def _read_tables(uris: Sequence[str]) -> Sample:
    """Read rows of Parquet files; columns of lists and other nested types are left out."""
    footers = filesystem.map_files(table_files.look_at, uris)
    names = [f.name for f in footers[0].arrow if table_files.has_text(f.type)]
    shared = [name for name in names if all(name in footer.arrow.names for footer in footers)]
    tables = [
        table_files.read_texts(uri, start, stop, shared)
        for uri, footer in zip(uris, footers, strict=True)
        for start, stop in _choose_rows(footer.table.num_rows, _SAMPLE_ROWS // len(uris))
    ]
    rows, num_rows = pa.concat_tables(tables), sum(footer.table.num_rows for footer in footers)
    if not num_rows:
        raise UserError(f"{as_typed(uris[0])} holds no row", hint="name a file with texts")
    faults = pa.nulls(len(rows), pa.string())
    return Sample(tuple(uris), 0, tuple(shared), rows, faults, num_rows, len(rows) == num_rows)


def _choose_rows(num_rows: int, size: int) -> list[tuple[int, int]]:
    """Choose all rows of a file, or about ``size`` from its beginning, middle and end."""
    if num_rows <= size:
        return [(0, num_rows)]
    third = size // 3
    starts = (0, (num_rows - third) // 2, num_rows - third)
    return [(start, start + third) for start in starts]
