"""CSV bytes -> the positions of its records.

The grammar is that of RFC 4180, slightly extended:

- A record consists of one or more fields, separated by the delimiter, up to a line end (LF, CRLF or
  CR) or the end of the file. Empty lines are not records.
- A field is quoted if it begins with a quote. Within a quoted field quotes are doubled, line ends
  are text, and its closing quote is followed by a delimiter or a line end. In other fields a quote
  is text.
- If a line does not begin such a record (a quote is not closed, text follows a closing quote, or
  the record is longer than ``MAX_RECORD_BYTES``), this line alone is a malformed record, and the
  next line begins a new record. So an unclosed quote affects its own line alone.

Every byte belongs to exactly one record or blank line, and the records do not depend on the ranges.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

MAX_RECORD_BYTES = 1 << 20
"""A longer record is malformed; a quote that is open for longer is unclosed."""

UNCLOSED_QUOTE = "unclosed quote"
MISPLACED_QUOTE = "text after a closing quote"
TOO_LONG = "record too long"
FAULTS = (UNCLOSED_QUOTE, MISPLACED_QUOTE, TOO_LONG)
"""Reasons why a record is malformed."""

_QUOTE, _NEWLINE, _RETURN = 0x22, 0x0A, 0x0D
LINE_END = re.compile(rb"\r\n|\r|\n")
_QUOTED = rb'"(?:[^"]|"")*+"'
_BLANK = (b"\n", b"\r\n", b"\r")


@dataclass(frozen=True)
class Records:
    """The records of a piece of CSV: bytes ``starts[i]:stops[i]``, line end included."""

    starts: np.ndarray
    stops: np.ndarray
    malformed: np.ndarray
    """True for each record with a fault."""

    def __len__(self) -> int:
        return len(self.starts)


def find_records(piece: bytes, *, delimiter: str = ",", last: bool = True) -> tuple[Records, int]:
    """Find the records of a piece that begins at a record.

    Args:
        piece: Bytes of CSV.
        delimiter: One ASCII character.
        last: Whether the piece ends with the file. If not, an unfinished record at its end is left
            out.

    Returns:
        The records, and the number of bytes of the records and the blank lines between them.
    """
    return _find_regular(piece, delimiter, last) or _find_one_by_one(piece, delimiter, last)


def name_faults(piece: bytes, records: Records, *, delimiter: str = ",") -> list[str]:
    """Name the fault of each malformed record of a piece: one of ``FAULTS``."""
    chosen = np.flatnonzero(records.malformed)
    return [_name_fault(piece[records.starts[i] : records.stops[i]], delimiter) for i in chosen]


def _name_fault(line: bytes, delimiter: str) -> str:
    if len(line) > MAX_RECORD_BYTES:
        return TOO_LONG
    fields, quoted = _parts(delimiter)
    valid = fields.match(line)
    assert valid is not None, "an empty sequence of fields matches, too"
    return MISPLACED_QUOTE if quoted.match(line, valid.end()) else UNCLOSED_QUOTE


def _find_regular(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int] | None:
    """Find records by the parity of quotes; None if a complete record has a misplaced quote.

    If every opening quote begins a field and every closing quote ends one, a line end is the end of
    a record exactly if an even number of quotes precedes it.
    """
    data = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    line_ends = _line_ends(data, last) if b"\r" in piece else np.flatnonzero(data == _NEWLINE)
    stops = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0] + 1
    used = int(stops[-1]) if len(stops) else 0
    if last and used < len(data):
        if len(quotes) % 2:
            return None
        stops, used = np.append(stops, len(data)), len(data)
    elif len(data) - used > MAX_RECORD_BYTES:
        return None
    if not _are_well_placed(data[:used], quotes[: np.searchsorted(quotes, used)], delimiter):
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
    """Find the last byte of each LF, CRLF and CR; a CR at the end may be half of a CRLF."""
    ends = data == _NEWLINE
    returns = np.flatnonzero(data == _RETURN)
    if len(returns):
        ends[returns[:-1]] = data[returns[:-1] + 1] != _NEWLINE
        final = returns[-1]
        ends[final] = last if final == len(data) - 1 else data[final + 1] != _NEWLINE
    return np.flatnonzero(ends)


def _are_well_placed(data: np.ndarray, quotes: np.ndarray, delimiter: str) -> bool:
    """Check that quotes alternately begin and end a field."""
    opening, closing = quotes[0::2], quotes[1::2]
    is_edge = np.zeros(256, bool)
    is_edge[[ord(delimiter), _NEWLINE, _RETURN, _QUOTE]] = True
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    return bool(is_edge[before].all() and is_edge[after].all())


def _field(delimiter: str) -> bytes:
    """Write the pattern of a well-formed field."""
    comma = re.escape(delimiter).encode()
    quoted = _QUOTED + rb"(?=" + comma + rb"|\r|\n|\Z)"
    plain = rb'[^"\r\n' + comma + rb"][^\r\n" + comma + rb"]*+"
    return rb"(?>" + quoted + rb"|" + plain + rb"|)"


@cache
def _parts(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile patterns of the well-formed fields at the start of a line, and of a quoted text."""
    comma = re.escape(delimiter).encode()
    return re.compile(rb"(?:" + _field(delimiter) + comma + rb")*+"), re.compile(_QUOTED)


@cache
def _patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile patterns of a well-formed record, and of one that may extend beyond the piece."""
    comma, field = re.escape(delimiter).encode(), _field(delimiter)
    whole = field + rb"(?:" + comma + field + rb")*+(?:\r\n|\r|\n|\Z)"
    open_ended = rb"(?:" + field + comma + rb')*+"(?:[^"]|"")*+\Z'
    return re.compile(whole), re.compile(open_ended)


def _find_one_by_one(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int]:
    """Find records one after the other by regular expressions."""
    record, open_ended = _patterns(delimiter)
    records: list[tuple[int, int, bool]] = []
    position = 0
    while position < len(piece):
        limit = min(len(piece), position + MAX_RECORD_BYTES)
        match = record.match(piece, position, limit)
        if match and match.end() == limit < len(piece) and not _ends_line(piece, limit):
            match = None
        stop = match.end() if match else _line_end(piece, position)
        ends_here = stop < len(piece) or piece[-1] == _NEWLINE
        may_continue = not match and limit == len(piece) and open_ended.match(piece, position)
        if not last and (not ends_here or may_continue):
            break
        if piece[position:stop] not in _BLANK:
            records.append((position, stop, match is None))
        position = stop
    rows = np.array(records, np.int64).reshape(-1, 3)
    return Records(rows[:, 0], rows[:, 1], rows[:, 2].astype(bool)), position


def _line_end(piece: bytes, position: int) -> int:
    match = LINE_END.search(piece, position)
    return match.end() if match else len(piece)


def _ends_line(piece: bytes, position: int) -> bool:
    """Say whether a line ends before ``position``."""
    return piece[position - 1] == _NEWLINE or (
        piece[position - 1] == _RETURN and piece[position] != _NEWLINE
    )
