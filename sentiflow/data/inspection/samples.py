"""Input files of unknown form -> how they are written, and a sample of their rows as texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, first_rows, table_files
from sentiflow.data.inspection import sniffing
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import display_uri

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
    is_utf16: bool = False
    """Whether the CSV files are UTF-16, which is read as UTF-8."""

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
    dialect = sniffing.sniff(files[0][1][0], source=source)
    content = b"\n".join(piece for _, pieces, *_ in files for piece in pieces)
    dialect = replace(dialect, encoding=sniffing.detect_encoding(content, source=source))
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
        num_rows += sum(one.num_rows for one in readings) / share
    if not num_rows:
        raise UserError(f"{source} holds no record", hint="it has at most a header")
    places = list(range(read[0].rows.num_columns))
    names = [n if n and header.count(n) == 1 else at for at, n in enumerate(header)]
    return Sample(
        tuple(uris),
        0,
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
    names = [f.name for f in footers[0].arrow if table_files.has_text(f.type)]
    shared = [name for name in names if all(name in footer.arrow.names for footer in footers)]
    tables = [
        table_files.read_texts(uri, start, stop, shared)
        for uri, footer in zip(uris, footers, strict=True)
        for start, stop in _choose_rows(footer.num_rows, _SAMPLE_ROWS // len(uris))
    ]
    rows, num_rows = pa.concat_tables(tables), sum(footer.num_rows for footer in footers)
    if not num_rows:
        raise UserError(f"{display_uri(uris[0])} holds no row", hint="name a file with texts")
    faults = pa.nulls(len(rows), pa.string())
    return Sample(tuple(uris), 0, tuple(shared), rows, faults, num_rows, len(rows) == num_rows)


def _choose_rows(num_rows: int, size: int) -> list[tuple[int, int]]:
    """Choose all rows of a file, or about ``size`` from its beginning, middle and end."""
    if num_rows <= size:
        return [(0, num_rows)]
    third = size // 3
    return [(start, start + third) for start in (0, (num_rows - third) // 2, num_rows - third)]
