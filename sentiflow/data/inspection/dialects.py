"""Beginning of a CSV of unknown form -> its encoding and delimiter, and whether it has a header."""

import codecs
import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import csv_format, text_encodings
from sentiflow.data.arrays import UNSPACED
from sentiflow.data.inspection.column_names import NAMES, rate
from sentiflow.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
"""Delimiters that are tried, the most usual one first: it is chosen if others are equally good."""
_MIN_SHARE = 0.7
"""Share of the records that must have the same number of columns."""
_VALUE = re.compile(
    r"[-+]?[.,:/ ]*+\d[\d.,:/ %€$TZ+-]*+"
    r"|(?:[^:\n]|:(?!//))*+://.*"
    r"|[^@\n]*@[^.\n]*\..*"
)
"""A number or a date, a URL, an address: a value, not the name of a column. There is one way to
match a text, so the time is linear in its length."""
_NAME = re.compile(r"[^\W\d][\w.\-/()#:?%]*( [\w.\-/()#:?%]+){0,2}")
"""One to three words, of which the first begins with a letter."""
_MAX_NAME_LENGTH = 60
"""Maximum length of a column name in characters."""
_MAX_UNSPACED_LETTERS = 12
"""Maximum number of letters in a column name of scripts without spaces between words, such as
Chinese or Thai."""
_MIN_REPEATS = 10
"""Minimum average number of rows for each value in a column that repeats its values."""


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
        UserError: Our reader cannot read such a file; the message says how to change the file.
    """
    encoding = detect_encoding(head, source=source)
    is_whole = len(head) < csv_format.HEAD_BYTES
    head = head[: csv_format.HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    delimiter, rows = _find_delimiter(head, encoding, is_whole)
    if not rows:
        raise UserError(f"{source} holds no record", hint="name a file with texts")
    first, *others = rows
    usual = statistics.mode([len(row) for row in rows])
    is_header = has_header([first, *(row for row in others if len(row) == usual)])
    if len(first) < usual or (is_header and len(first) > usual):
        raise _make_width_error(head, encoding, source, is_long=len(first) > usual)
    return Dialect(encoding, delimiter, is_header)


def _make_width_error(head: bytes, encoding: str, source: str, *, is_long: bool) -> UserError:
    """Make the error message for a first line that has more or fewer columns than the others."""
    lines = head.splitlines()
    number = next(number for number, line in enumerate(lines) if line)
    begin = lines[number].decode(encoding, "replace").strip()[:40]
    if is_long:
        return UserError(
            f"{source} begins with {begin!r}, which has more columns than the other records",
            hint="if it is the header, give it one name for each column; otherwise delete this "
            f"line: tail -n +{number + 2} {source}",
        )
    return UserError(
        f"{source} begins with {begin!r}, which has fewer columns than the other records",
        hint=f"delete this line: tail -n +{number + 2} {source}",
    )


def detect_encoding(content: bytes, *, source: str) -> str:
    """Find the encoding of a text: ``utf-8``, ``cp1252`` or ``latin-1``.

    UTF-16 with a byte order mark was converted to UTF-8 when the file was read.

    Raises:
        UserError: The text has another encoding.
    """
    head = content[:1000]
    if head.count(b"\0") * 4 > len(head):
        raise UserError(
            f"{source} holds NUL bytes: it is not text, or it is UTF-16 or UTF-32 without a byte "
            "order mark",
            hint="copy or export it again, as UTF-8",
        )
    encoding = text_encodings.find(content, is_cut=True)
    if encoding:
        return encoding
    from charset_normalizer import from_bytes

    beyond_ascii = [line for line in content.splitlines() if not line.isascii()]
    best = from_bytes(b"\n".join(beyond_ascii[:200])).best()
    if best is None:
        raise UserError(f"{source} is not UTF-8", hint="save it as UTF-8; is it a text file?")
    other = best.encoding.replace("_", "-")
    raise UserError(
        f"{source} is encoded in {other}, which is not supported",
        hint=f"convert it: iconv -f {other} -t UTF-8 {source} > utf8.csv",
    )


def _find_delimiter(head: bytes, encoding: str, is_whole: bool) -> tuple[str, list[list[str]]]:
    """Choose the delimiter that splits most records into the same number of columns, two or more.

    If several delimiters are equally good, the one with the most columns is chosen. If none is
    good, the file has one column. Then the delimiter that the texts use least is chosen.

    Args:
        head: The beginning of the file, without a byte order mark.
        encoding: Its encoding.
        is_whole: Whether it is the whole file. If not, the last record may be cut.

    Returns:
        The delimiter, and the fields of the first well-formed records.
    """
    rows_by_delimiter = {}
    ranks = {}
    for delimiter in DELIMITERS:
        rows, records = csv_format.split_first(head, delimiter, encoding, last=is_whole)
        rows_by_delimiter[delimiter] = rows
        ranks[delimiter] = _rank(rows, len(records))
    best = max(DELIMITERS, key=lambda delimiter: ranks[delimiter])
    if ranks[best].share < _MIN_SHARE:
        num_undivided = {}
        for delimiter, rows in rows_by_delimiter.items():
            num_undivided[delimiter] = sum(len(row) == 1 for row in rows)
        best = max(DELIMITERS, key=lambda delimiter: num_undivided[delimiter])
    return best, rows_by_delimiter[best]


class _Rank(NamedTuple):
    """How well a delimiter splits records; a better one is greater."""

    share: float
    """Share of the records with the usual number of columns; 0 if there is usually one column."""
    num_columns: int
    """The usual number of columns."""


def _rank(rows: Sequence[Sequence[str]], num_records: int) -> _Rank:
    """Rate a delimiter by the share of the records with the usual number of columns."""
    if not rows:
        return _Rank(0.0, 1)
    sizes = [len(row) for row in rows]
    usual = statistics.mode(sizes)
    if usual == 1:
        return _Rank(0.0, usual)
    # Malformed records count against the delimiter. The share is rounded, so that shares within
    # about 1% are a tie, which the number of columns decides.
    num_split = min(num_records, csv_format.SAMPLE_RECORDS)
    return _Rank(round(sizes.count(usual) / num_split, 2), usual)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row of a CSV is its header, with the names of the columns.

    The first rule that applies decides:

    - If all cells are empty, or a cell occurs twice, looks like a value or is long: no header.
    - If two cells are usual names, or one is that does not occur again in its column: a header.
    - If a cell occurs again in its column: no header.
    - If the values of a column are numbers, or are repeated: a header.
    - If all cells look like names: a header. Otherwise: no header.

    Args:
        rows: The first row, and further rows of one length.
    """
    names = [cell.strip() for cell in rows[0]]
    filled = [name for name in names if name]
    if not filled or len(set(filled)) < len(filled):
        return False
    if any(len(name) > _MAX_NAME_LENGTH or _VALUE.fullmatch(name) for name in filled):
        return False
    columns = []
    for position in range(len(names)):
        cells = [row[position].strip() for row in rows[1:] if position < len(row)]
        columns.append([cell for cell in cells if cell])
    usual = [position for position, name in enumerate(names) if _is_usual(name)]
    if len(usual) > 1 or any(names[i] not in columns[i] for i in usual if columns[i]):
        return True
    if any(name in values for name, values in zip(names, columns, strict=True)):
        return False
    for name, values in zip(names, columns, strict=True):
        if not name or not values:
            continue
        are_numbers = all(_VALUE.fullmatch(value) for value in values)
        are_repeated = len(values) >= _MIN_REPEATS * len(set(values))
        if are_numbers or are_repeated:
            return True
    return _are_short_names(filled)


def _is_usual(name: str) -> bool:
    """Say whether a whole name is usual for a text, a label or another meaning."""
    return any(rate(name, meaning) == 2 for meaning in NAMES)  # 2: the whole name


def _are_short_names(names: Sequence[str]) -> bool:
    """Say whether all names have one to three words, and are short in scripts without spaces."""
    letters = [_without_marks(name) for name in names]
    if not all(_NAME.fullmatch(name) for name in letters):
        return False
    unspaced = pc.count_substring_regex(pa.array(letters), f"[{UNSPACED}]")
    return bool(pc.max(unspaced).as_py() <= _MAX_UNSPACED_LETTERS)


def _without_marks(text: str) -> str:
    r"""Remove marks of letters and invisible characters, which ``\w`` does not match."""
    marks = ("Mn", "Mc", "Cf")
    return "".join(c for c in text if unicodedata.category(c) not in marks)
