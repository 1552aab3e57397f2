"""Files of labelled or predicted rows -> their rows in batches, in bounded memory.

A language model may have answered ten million texts. :mod:`label_files` reads smaller files whole.
"""

import io
from collections.abc import Callable, Generator, Iterator, Sequence

import pandas as pd

from sentiflow.data import label_files
from sentiflow.storage import compression, parquet
from sentiflow.storage.uris import display_uri

_BATCH_ROWS = 1 << 17
"""Rows in a batch of a CSV."""
_HEADER_BYTES = 1 << 16
"""Bytes in which the header of a CSV must end."""


class _BlockStream(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        if not len(self._left):
            self._left = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def read_names(uri: str, *, setting: str) -> list[str]:
    """Read the names of the columns of a file.

    Raises:
        UserError: The file is missing or is no table.
    """
    with label_files.explaining(display_uri(uri), setting):
        if uri.endswith(".parquet"):
            return list(parquet.open_file(uri).schema_arrow.names)
        header = _read_header(uri)
        delimiter = label_files.find_delimiter(header)
        named = pd.read_csv(io.StringIO(header), sep=delimiter, nrows=0)
        return [str(name) for name in named.columns]


def read(
    uri: str,
    *,
    setting: str,
    needs: Sequence[str],
    hint: str,
    is_wanted: Callable[[str], bool],
    rename: dict[str, str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read some columns of a file in batches; each is as :func:`label_files.read` returns it.

    The index is the number of a row in the file, from 0.

    Args:
        uri: The file: Parquet, or CSV with a header.
        setting: As for :func:`label_files.read`, like ``needs`` and ``hint``.
        needs: The columns that it must have.
        hint: What to do if a column is missing.
        is_wanted: Says of each name whether the column is read.
        rename: New names of columns. They are needed and wanted under their new names.

    Raises:
        UserError: As for :func:`label_files.read`.
    """
    new_names = rename or {}
    names = read_names(uri, setting=setting)
    renamed = pd.DataFrame(columns=[new_names.get(name, name) for name in names])
    label_files.check_columns(renamed, display_uri(uri), needs=needs, hint=hint)
    wanted = [name for name in names if is_wanted(new_names.get(name, name))]
    start = 0
    with label_files.explaining(display_uri(uri), setting):
        for table in _read_tables(uri, wanted):
            stop = start + len(table)
            numbered = table.rename(columns=new_names).set_index(pd.RangeIndex(start, stop))
            yield label_files.convert(numbered, uri, start=start)
            start = stop


def _read_header(uri: str) -> str:
    """Read the first line of a CSV."""
    begun = compression.read_first(uri, _HEADER_BYTES)
    return begun.partition(b"\n")[0].decode("utf-8-sig")


def _read_tables(uri: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read columns of a file in batches, as the file has them."""
    if uri.endswith(".parquet"):
        for table in parquet.read_batches(uri, columns=list(columns)):
            yield table.to_pandas(integer_object_nulls=True)
        return
    delimiter = label_files.find_delimiter(_read_header(uri))
    blocks: Generator[bytes] = compression.read_blocks(uri, label_files.BLOCK_BYTES)
    try:
        stream = io.BufferedReader(_BlockStream(blocks), label_files.BLOCK_BYTES)
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n")
        yield from pd.read_csv(
            text,
            sep=delimiter,
            usecols=list(columns),
            chunksize=_BATCH_ROWS,
            **label_files.CSV_OPTIONS,
        )
    finally:
        blocks.close()
