"""CSV bytes -> the positions of its records.

The grammar is RFC 4180, slightly extended:

- A record consists of one or more fields, separated by the delimiter, up to a line end (LF, CRLF or
  CR) or the end of the file. Empty lines are not records.
- A field is quoted if it begins with a quote. Within a quoted field quotes are doubled, line ends
  are text, and its closing quote is followed by a delimiter or a line end. In other fields a quote
  is text.
- If a line does not begin such a record (a quote is not closed, text follows a closing quote, or
  the record is longer than ``MAX_RECORD_BYTES``), this line alone is a malformed record, and the
  next line begins a new record. So an unclosed quote affects only its own line.

Every byte belongs to exactly one record or blank line. The records do not depend on the ranges in
which a file is read.
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

LINE_END = re.compile(rb"\r\n|\r|\n")

_QUOTE = ord('"')
_NEWLINE = ord("\n")
_RETURN = ord("\r")
_BLANK = (b"\n", b"\r\n", b"\r")
"""Lines that are not records."""
_QUOTED = rb'"(?:[^"]|"")*+"'
"""Pattern of a quoted text, whatever follows it. ``*+`` does not backtrack, so the search stays
linear."""


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
    """Find the records of a piece of CSV that begins with a record.

    Args:
        piece: Bytes of CSV.
        delimiter: One ASCII character.
        last: Whether the piece ends with the file. If not, an unfinished record at its end is left
            out.

    Returns:
        The records, and the number of bytes of the records and the blank lines between them.
    """
    found = _find_regular(piece, delimiter, last)
    if found is None:
        found = _find_one_by_one(piece, delimiter, last)
    return found


def name_faults(piece: bytes, records: Records, *, delimiter: str = ",") -> list[str]:
    """Name the fault of each malformed record of a piece: one of ``FAULTS``."""
    faults = []
    for number in np.flatnonzero(records.malformed):
        line = piece[records.starts[number] : records.stops[number]]
        faults.append(_name_fault(line, delimiter))
    return faults


def _name_fault(line: bytes, delimiter: str) -> str:
    """Name the fault of a malformed record: what follows its well-formed fields decides."""
    if len(line) > MAX_RECORD_BYTES:
        return TOO_LONG
    fields, quoted = _compile_fields(delimiter)
    valid = fields.match(line)
    assert valid is not None, "an empty sequence of fields matches, too"
    if quoted.match(line, valid.end()):
        return MISPLACED_QUOTE
    return UNCLOSED_QUOTE


def _find_regular(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int] | None:
    """Find records by the parity of quotes.

    If every opening quote begins a field and every closing quote ends one, a line end is the end of
    a record exactly if an even number of quotes precedes it.

    Returns:
        As :func:`find_records`; None if a quote is misplaced or unclosed, or a record is too long.
    """
    data = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    line_ends = _find_line_ends(data, last) if b"\r" in piece else np.flatnonzero(data == _NEWLINE)
    num_quotes_before = np.searchsorted(quotes, line_ends)
    stops = line_ends[num_quotes_before % 2 == 0] + 1
    used = int(stops[-1]) if len(stops) else 0
    if last and used < len(data):  # the last record has no line end
        if len(quotes) % 2:
            return None
        used = len(data)
        stops = np.append(stops, used)
    elif len(data) - used > MAX_RECORD_BYTES:
        return None
    used_quotes = quotes[: np.searchsorted(quotes, used)]
    if not _are_well_placed(data[:used], used_quotes, delimiter):
        return None
    starts = np.concatenate([[0], stops[:-1]]) if len(stops) else stops
    is_filled = _find_ends(data, starts, stops) > starts
    starts = starts[is_filled]
    stops = stops[is_filled]
    if (stops - starts > MAX_RECORD_BYTES).any():
        return None
    return Records(starts, stops, np.zeros(len(starts), bool)), used


def _find_ends(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Find where lines end without their LF, CRLF or CR, given where they end with it."""
    last_bytes = data[stops - 1]
    has_line_end = (last_bytes == _NEWLINE) | (last_bytes == _RETURN)
    ends = stops - has_line_end
    has_return = (ends > starts) & (data[ends - 1] == _RETURN)
    return ends - has_return


def _find_line_ends(data: np.ndarray, last: bool) -> np.ndarray:
    """Find the last byte of each LF, CRLF and CR; a CR at the end may be half of a CRLF."""
    is_end = data == _NEWLINE
    returns = np.flatnonzero(data == _RETURN)
    if len(returns):
        is_end[returns[:-1]] = data[returns[:-1] + 1] != _NEWLINE
        final = returns[-1]
        if final == len(data) - 1:
            is_end[final] = last
        else:
            is_end[final] = data[final + 1] != _NEWLINE
    return np.flatnonzero(is_end)


def _are_well_placed(data: np.ndarray, quotes: np.ndarray, delimiter: str) -> bool:
    """Check that quotes alternately begin and end a field."""
    opening = quotes[0::2]
    closing = quotes[1::2]
    is_edge = np.zeros(256, bool)
    is_edge[[ord(delimiter), _NEWLINE, _RETURN, _QUOTE]] = True
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    return bool(is_edge[before].all() and is_edge[after].all())


def _write_field(delimiter: str) -> bytes:
    """Write the pattern of a well-formed field, quoted or not, without the delimiter after it."""
    separator = re.escape(delimiter).encode()
    quoted = _QUOTED + rb"(?=" + separator + rb"|\r|\n|\Z)"
    plain = rb'[^"\r\n' + separator + rb"][^\r\n" + separator + rb"]*+"
    return rb"(?>" + quoted + rb"|" + plain + rb"|)"


@cache
def _compile_fields(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile two patterns: the well-formed fields at the start of a line, and a quoted text."""
    separator = re.escape(delimiter).encode()
    fields = rb"(?:" + _write_field(delimiter) + separator + rb")*+"
    return re.compile(fields), re.compile(_QUOTED)


@cache
def _compile_record(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile two patterns: a well-formed record, and one that may continue after the piece."""
    separator = re.escape(delimiter).encode()
    field = _write_field(delimiter)
    whole = field + rb"(?:" + separator + field + rb")*+(?:\r\n|\r|\n|\Z)"
    open_ended = rb"(?:" + field + separator + rb')*+"(?:[^"]|"")*+\Z'
    return re.compile(whole), re.compile(open_ended)


def _find_one_by_one(piece: bytes, delimiter: str, last: bool) -> tuple[Records, int]:
    """Find records one after the other by regular expressions."""
    record, open_ended = _compile_record(delimiter)
    starts = []
    stops = []
    malformed = []
    position = 0
    while position < len(piece):
        limit = min(len(piece), position + MAX_RECORD_BYTES)
        match = record.match(piece, position, limit)
        ends_at_limit = match is not None and match.end() == limit and limit < len(piece)
        if ends_at_limit and not _is_after_line(piece, limit):
            match = None  # the pattern takes the limit for the end of the file
        stop = match.end() if match else _find_next_line(piece, position)
        if not last:
            # a CR at the end is cut, too: it may be half of a CRLF
            is_cut = stop == len(piece) and piece[-1] != _NEWLINE
            may_continue = not match and limit == len(piece) and open_ended.match(piece, position)
            if is_cut or may_continue:
                break
        if piece[position:stop] not in _BLANK:
            starts.append(position)
            stops.append(stop)
            malformed.append(match is None)
        position = stop
    records = Records(
        starts=np.array(starts, np.int64),
        stops=np.array(stops, np.int64),
        malformed=np.array(malformed, bool),
    )
    return records, position


def _find_next_line(piece: bytes, position: int) -> int:
    """Find where the next line begins, or the end of the piece."""
    match = LINE_END.search(piece, position)
    return match.end() if match else len(piece)


def _is_after_line(piece: bytes, position: int) -> bool:
    """Say whether a line ends directly before ``position``."""
    before = piece[position - 1]
    if before == _NEWLINE:
        return True
    return before == _RETURN and piece[position] != _NEWLINE
