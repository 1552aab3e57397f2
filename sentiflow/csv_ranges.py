"""CSV bytes -> record-aligned byte ranges with their first row number.

What a record is (the grammar of RFC 4180, a little wider):

- A record is one or more fields, separated by the delimiter, up to a line end (LF, CRLF or CR) or
  the end of the file. Lines without a character are no records.
- A field is quoted if it begins with a quote. In it a quote is doubled, line ends are text, and
  after its closing quote comes a delimiter or the line end. In other fields a quote is text.
- Where a line does not begin such a record, because a quote is not closed or text follows a closing
  quote (or the record is longer than ``MAX_RECORD_BYTES``), that line alone is a malformed record,
  and the next line begins a new one. So an unclosed quote costs its own line and no other.

Every byte lies in exactly one record or blank line, and the records do not depend on the ranges.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from sentiflow import storage
from sentiflow.errors import UserError

RULES_VERSION = 1
"""Changes whenever a file would be cut into other records."""
COMPRESSED = (".gz", ".zip", ".zst", ".bz2", ".xz")
MAX_RECORD_BYTES = 1 << 20
"""A record that is longer than this is malformed; a quote open for so long is unclosed."""

_QUOTE, _NEWLINE, _RETURN = 0x22, 0x0A, 0x0D
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 16
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BLANK = (b"\n", b"\r\n", b"\r")


@dataclass(frozen=True)
class Records:
    """The records of a piece of CSV: ``starts[i]:stops[i]`` in bytes, with their line end."""

    starts: np.ndarray
    stops: np.ndarray
    malformed: np.ndarray
    """One bool a record: a quote in it is unclosed or out of place."""

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class CsvRange:
    """A run of whole records in one file."""

    source: str
    start: int
    stop: int
    """In bytes from the beginning of the file."""
    first_row: int
    """Number of the first record, counted over all files."""
    num_rows: int
    has_malformed: bool

    def read(self) -> bytes:
        """Read the bytes of the range."""
        file_system, path = storage.locate(self.source)
        with file_system.open_input_file(path) as file:
            return bytes(file.read_at(self.stop - self.start, self.start))


@dataclass(frozen=True)
class CutFile:
    """A CSV file cut into ranges."""

    ranges: tuple[CsvRange, ...]
    num_rows: int
    sha256: str


def cut(
    source: str,
    *,
    rows_per_range: int,
    first_row: int = 0,
    delimiter: str = ",",
    on_bytes: Callable[[int], None] = lambda size: None,
) -> CutFile:
    """Cut a file into ranges of nearly equal size, and hash it, in one sequential read.

    A range ends with the last record that ends within each further ``range_bytes``, which is
    ``rows_per_range`` times the mean size of the file's first records, and at most 64 MiB. So the
    ranges follow from the file and ``rows_per_range`` alone. Memory is that of one range.

    Args:
        source: URI of the file.
        rows_per_range: About how many records a range holds.
        first_row: Number of the file's first record.
        delimiter: One ASCII character.
        on_bytes: Told how many bytes were read, after each read.

    Raises:
        UserError: The file is compressed, or no line of it ends within 64 MiB.
    """
    if source.lower().endswith(COMPRESSED):
        raise UserError(f"{source} is compressed", hint="unpack it first")
    digest = hashlib.sha256()
    ranges: list[CsvRange] = []
    position, row, pending = 0, first_row, b""
    for block, last in _blocks(source, rows_per_range, delimiter):
        digest.update(block)
        on_bytes(len(block))
        piece = pending + block
        if position == 0 and not ranges and piece.startswith(_BYTE_ORDER_MARK):
            position, piece = len(_BYTE_ORDER_MARK), piece[len(_BYTE_ORDER_MARK) :]
        records, used = find_records(piece, delimiter=delimiter, last=last)
        if len(records):
            ranges.append(
                CsvRange(
                    source=source,
                    start=position,
                    stop=position + used,
                    first_row=row,
                    num_rows=len(records),
                    has_malformed=bool(records.malformed.any()),
                )
            )
        position, row, pending = position + used, row + len(records), piece[used:]
        if len(pending) > 64 * MAX_RECORD_BYTES:
            raise UserError(
                f"{source}: the record at byte {position} has no end within {len(pending):,} bytes",
                hint="is it a CSV?",
            )
    return CutFile(tuple(ranges), row - first_row, digest.hexdigest())


def find_records(piece: bytes, *, delimiter: str = ",", last: bool = True) -> tuple[Records, int]:
    """Find the records of a piece that begins at a record.

    Args:
        piece: Bytes of CSV.
        delimiter: One ASCII character.
        last: The piece goes to the end of the file; if not, a record that the piece does not
            end is left out.

    Returns:
        The records, and how many bytes they and the blank lines between them take.
    """
    records = _find_regular(piece, delimiter, last)
    if records is not None:
        return records
    return _find_one_by_one(piece, delimiter, last)


def _find_regular(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int] | None:
    """Find records by the parity of quotes; None where one that is complete is out of place.

    Where every opening quote begins a field and every closing one ends it, a line end is a record's
    end exactly if an even number of quotes precedes it.
    """
    data = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    line_ends = _line_ends(data, last)
    stops = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0] + 1
    used = int(stops[-1]) if len(stops) else 0
    if last and used < len(data):
        if len(quotes) % 2:
            return None
        stops, used = np.append(stops, len(data)), len(data)
    elif len(data) - used > MAX_RECORD_BYTES:
        return None
    if not _are_in_place(data[:used], quotes[: np.searchsorted(quotes, used)], delimiter):
        return None
    starts = np.concatenate([[0], stops[:-1]]) if len(stops) else stops
    ends = stops - ((data[stops - 1] == _NEWLINE) | (data[stops - 1] == _RETURN))
    ends -= (ends > starts) & (data[ends - 1] == _RETURN)
    filled = ends > starts
    starts, stops = starts[filled], stops[filled]
    if (stops - starts > MAX_RECORD_BYTES).any():
        return None
    return Records(starts, stops, np.zeros(len(starts), bool)), used


def _line_ends(data: np.ndarray, last: bool) -> np.ndarray:
    """Find the last byte of each LF, CRLF and CR; a CR at the end may yet become a CRLF."""
    ends = data == _NEWLINE
    returns = np.flatnonzero(data == _RETURN)
    if len(returns):
        ends[returns[:-1]] = data[returns[:-1] + 1] != _NEWLINE
        final = returns[-1]
        ends[final] = last if final == len(data) - 1 else data[final + 1] != _NEWLINE
    return np.flatnonzero(ends)


def _are_in_place(data: np.ndarray, quotes: np.ndarray, delimiter: str) -> bool:
    """Check that quotes in turn begin a field and end it."""
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    begins = (before == ord(delimiter)) | (before == _NEWLINE) | (before == _QUOTE)
    begins |= before == _RETURN
    after = data[closing[closing < len(data) - 1] + 1]
    ends = (after == ord(delimiter)) | (after == _NEWLINE) | (after == _QUOTE)
    ends |= after == _RETURN
    return bool(begins.all() and ends.all())


@cache
def _patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile one well-formed record, and one that may go on behind the end of the piece."""
    comma = re.escape(delimiter).encode()
    quoted = rb'"(?:[^"]|"")*+"(?=' + comma + rb"|\r|\n|\Z)"
    plain = rb'[^"\r\n' + comma + rb"][^\r\n" + comma + rb"]*+"
    field = rb"(?>" + quoted + rb"|" + plain + rb"|)"
    whole = field + rb"(?:" + comma + field + rb")*+(?:\r\n|\r|\n|\Z)"
    open_ended = rb"(?:" + field + comma + rb')*+"(?:[^"]|"")*+\Z'
    return re.compile(whole), re.compile(open_ended)


def _find_one_by_one(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int]:
    """Find records one after the other, by the grammar itself."""
    found = list(_walk(piece, delimiter, last))
    used = found.pop()[1]
    starts, stops, malformed = zip(*found, strict=True) if found else ((), (), ())
    return (
        Records(np.array(starts, np.int64), np.array(stops, np.int64), np.array(malformed, bool)),
        used,
    )


def _walk(piece: bytes, delimiter: str, last: bool) -> Iterator[tuple[int, int, bool]]:
    """Yield start, stop and malformed of each record; at the end (0, bytes used, False)."""
    record, open_ended = _patterns(delimiter)
    position = 0
    while position < len(piece):
        limit = min(len(piece), position + MAX_RECORD_BYTES)
        match = record.match(piece, position, limit)
        if match and match.end() == limit < len(piece) and not _ends_line(piece, limit):
            match = None
        stop = match.end() if match else _line_end(piece, position)
        ends_here = stop < len(piece) or piece[-1] == _NEWLINE
        may_go_on = not match and limit == len(piece) and open_ended.match(piece, position)
        if not last and (not ends_here or may_go_on):
            break
        if piece[position:stop] not in _BLANK:
            yield position, stop, match is None
        position = stop
    yield 0, position, False


def _line_end(piece: bytes, position: int) -> int:
    match = _LINE_END.search(piece, position)
    return match.end() if match else len(piece)


def _ends_line(piece: bytes, place: int) -> bool:
    """Say whether a line ends before ``place``."""
    return piece[place - 1] == _NEWLINE or (
        piece[place - 1] == _RETURN and piece[place] != _NEWLINE
    )


def _blocks(source: str, rows_per_range: int, delimiter: str) -> Iterator[tuple[bytes, bool]]:
    """Read a file in blocks of the range size, each with whether it is the last."""
    file_system, path = storage.locate(source)
    with file_system.open_input_stream(path, compression=None) as stream:
        head = stream.read(_HEAD_BYTES)
        range_bytes = _range_bytes(head, rows_per_range, delimiter)
        block = head + stream.read(max(0, range_bytes - len(head)))
        while True:
            following = stream.read(range_bytes)
            yield block, not following
            if not following:
                return
            block = following


def _range_bytes(head: bytes, rows_per_range: int, delimiter: str) -> int:
    """Estimate the bytes of ``rows_per_range`` records from a file's first ones."""
    records, used = find_records(head, delimiter=delimiter, last=False)
    mean_size = used / len(records) if len(records) else len(head)
    return max(1 << 12, min(int(rows_per_range * mean_size), 1 << 26))
