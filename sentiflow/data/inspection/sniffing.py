"""The beginning of a CSV -> its encoding, its delimiter and whether it has a header."""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import csv_format, first_rows
from sentiflow.data.csv_format import HEAD_BYTES
from sentiflow.data.inspection.column_names import is_known
from sentiflow.data.scripts import UNSPACED
from sentiflow.errors import UserError

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
_WIDE = ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE")
_NO_TEXT = re.compile("[\0\ufffd]")


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written."""

    encoding: str
    delimiter: str
    has_header: bool
    rows: tuple[list[str], ...]
    """The first records that have the usual number of columns, with the header."""


def sniff(head: bytes, *, source: str) -> Dialect:
    """Find out how a CSV is written; it is judged by our own grammar of records.

    Args:
        head: The beginning of the file, or all of it.
        source: Its name, for messages.

    Raises:
        UserError: The reader cannot read such a file as it is; the message says how to change it.
    """
    encoding = detect_encoding(head, source=source)
    head = head[:HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
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
    chosen = tuple(row for row in rows if len(row) == usual)
    return Dialect(encoding, delimiter, has_header(chosen), chosen)


def detect_encoding(content: bytes, *, source: str) -> str:
    """Find the encoding of a text: ``utf-8``, ``cp1252`` or ``latin-1``; no UTF-16 has a mark here.

    Raises:
        UserError: It is written in another one.
    """
    head = content[:1000]
    if head.count(b"\0") * 4 > len(head):
        # the last character may be cut
        wide = [e for e in _WIDE if not _NO_TEXT.search(head.decode(e, "replace")[:-1])]
        if not wide:
            raise UserError(f"{source} holds NUL bytes, not text", hint="copy or export it again")
        raise _unreadable(source, wide[0])
    if encoding := first_rows.find(content, is_cut=True):
        return encoding
    from charset_normalizer import from_bytes

    beyond_ascii = [line for line in content.splitlines() if not line.isascii()]
    best = from_bytes(b"\n".join(beyond_ascii[:200])).best()
    raise _unreadable(source, best.encoding.replace("_", "-") if best else "")


def _unreadable(source: str, encoding: str) -> UserError:
    if not encoding:
        return UserError(f"{source} is not UTF-8", hint="save it as UTF-8; is it a text file?")
    return UserError(
        f"{source} is {encoding}, which is not read",
        hint=f"convert it: iconv -f {encoding} -t UTF-8 {source} > utf8.csv",
    )


def _find_delimiter(head: bytes, encoding: str) -> tuple[str, list[list[str]]]:
    """Choose the delimiter with which most records have the same number of columns, two or more.

    Of equal ones that with the most columns counts. Without such a delimiter there is one column,
    and a delimiter that the texts do not use.
    """
    is_whole = len(head) < HEAD_BYTES - len(codecs.BOM_UTF8)
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
    if any(is_known(name) for name in filled):
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
