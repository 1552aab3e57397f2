"""Format settings + the beginning of a CSV -> the meaning of its columns."""

import codecs
import contextlib
import csv
import difflib
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import schema
from sentiflow.data.csv_records import Records, find_records
from sentiflow.errors import UserError, few, shorten

HEAD_BYTES = 1 << 18
"""Size of the beginning of a file that is read to find its format."""
SAMPLE_RECORDS = 500
"""Records that are split to find the delimiter, and the number of columns without a header."""

_SENTIMENT140_COLUMNS = ColumnsSettings(label=0, id=1, time=2, user=4, text=5)
"""Go, Bhayani and Huang 2009: target, id, date, flag, user, text."""
_SENTIMENT140_LABELS = (("0", 0), ("4", 1), ("2", 2))
SENTIMENT140_TIME = "%a %b %d %H:%M:%S PDT %Y"
NO_COLUMNS = ColumnsSettings(text=0)
"""For a format whose columns have no meaning yet."""
_OTHER_KINDS = {
    codecs.BOM_UTF32_LE: ("UTF-32", "convert it to UTF-8 first"),
    codecs.BOM_UTF32_BE: ("UTF-32", "convert it to UTF-8 first"),
    b"PAR1": ("Parquet", "its name must end in .parquet"),
    b"PK\x03\x04": ("compressed", "its name must end in .zip"),
    b"\x1f\x8b": ("compressed", "its name must end in .gz"),
    b"\x28\xb5\x2f\xfd": ("compressed", "its name must end in .zst"),
}
"""Beginnings of files that are no CSV in UTF-8: what they are, and what to do."""


@dataclass(frozen=True)
class CsvFormat:
    """How to read the records of one file."""

    settings: FormatSettings
    """Delimiter, encoding and the treatment of texts."""
    num_columns: int
    columns: ColumnsSettings
    """The position of each column; None if there is no such column."""
    labels: tuple[tuple[str, int | None], ...] = ()
    """Pairs of written value and label; None: unlabelled."""
    time_format: str | None = None
    header: tuple[str, ...] = ()
    """Names of all columns in order; empty without a header."""

    def position(self, name: str) -> int | None:
        """Find a column by its meaning; other columns by their name in the header."""
        if name in (*_MEANINGS, "tweet_id"):
            return getattr(self.columns, name.removeprefix("tweet_"))
        return self.header.index(name) if name in self.names else None

    @property
    def names(self) -> tuple[str, ...]:
        """List the names that :meth:`position` finds, other than text, label and id."""
        meant = [name for name in ("user", "time") if self.position(name) is not None]
        reserved = {"", *_MEANINGS, *schema.TWEETS.names}
        written = [n for n in self.header if n not in reserved and self.header.count(n) == 1]
        return (*meant, *written)


_MEANINGS = tuple(ColumnsSettings.model_fields)


def is_blank(head: bytes) -> bool:
    """Say whether a file with this beginning is blank: it has neither a header nor a record."""
    return len(head) < HEAD_BYTES and not head.removeprefix(codecs.BOM_UTF8).strip(b"\r\n")


def resolve(
    settings: FormatSettings, head: bytes, *, source: str, needs_all: bool = True
) -> tuple[CsvFormat, int]:
    """Find the columns of one file.

    Args:
        settings: The section ``format``.
        head: The first ``HEAD_BYTES`` of the file.
        source: Its URI, for messages.
        needs_all: Whether the header must have all columns of the settings, not just the text.

    Returns:
        The format, and the position of the first data record (or of a blank line before it).

    Raises:
        UserError: A column is missing from the header, or the file is not text.
    """
    names, num_columns, start = find_columns(settings, head, source=source)
    if settings.kind == "csv":
        columns = find_positions(settings, names, num_columns, source, needs_all=needs_all)
        time_format = settings.time_format
    else:
        columns, time_format = _SENTIMENT140_COLUMNS, SENTIMENT140_TIME
    labels = meanings(settings)
    return CsvFormat(settings, num_columns, columns, labels, time_format, tuple(names)), start


def find_columns(
    settings: FormatSettings, head: bytes, *, source: str
) -> tuple[list[str], int, int]:
    """Find the names of the columns (none without a header), their number, and where data begin.

    Raises:
        UserError: The file is not text.
    """
    for mark, (kind, hint) in _OTHER_KINDS.items():
        if head.startswith(mark):
            raise UserError(f"{source} is {kind}", hint=hint)
    begin = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    if settings.kind == "sentiment140":
        return [], 6, begin
    limit = 1 if settings.has_header else SAMPLE_RECORDS
    rows, records = split_first(
        head[begin:], settings.delimiter, settings.encoding, max_records=limit
    )
    if not len(records):
        raise UserError(f"{source} holds no record", hint="the file is empty: name another CSV")
    stop = int(records.stops[0])
    is_cut = settings.has_header and stop >= HEAD_BYTES - len(codecs.BOM_UTF8)
    if not rows or is_cut:
        problem = (
            ": the header is too long, or a quote in it is unclosed or misplaced"
            if settings.has_header
            else " has no valid record at its beginning"
        )
        raise UserError(f"{source}{problem}", hint="is it a CSV file?")
    if settings.has_header:
        return [name.strip() for name in rows[0]], len(rows[0]), begin + stop
    # the most frequent number of columns; of several equally frequent ones the largest
    return [], max(statistics.multimode(map(len, rows))), begin


def split_first(
    head: bytes,
    delimiter: str,
    encoding: str,
    *,
    last: bool = True,
    max_records: int = SAMPLE_RECORDS,
) -> tuple[list[list[str]], Records]:
    """Split the first records of a CSV into fields.

    Args:
        head: The beginning of the file.
        delimiter: The character between columns.
        encoding: Of the text.
        last: Whether this is the whole file, or the last record may be cut.
        max_records: Records to split.

    Returns:
        The fields of those that are well-formed; and all records of the head.
    """
    records, _ = find_records(head, delimiter=delimiter, last=last)
    rows = []
    for i in np.flatnonzero(~records.malformed[:max_records]):
        text = head[records.starts[i] : records.stops[i]].decode(encoding, "replace")
        with contextlib.suppress(csv.Error):  # a field of 128 KiB
            rows.append(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))
    return rows, records


def find_positions(
    settings: FormatSettings,
    names: Sequence[str],
    num_columns: int,
    source: str,
    *,
    needs_all: bool = True,
) -> ColumnsSettings:
    """Replace the names of columns by their positions.

    Args:
        settings: Has names and positions.
        names: Those in the file; empty if it names none.
        num_columns: Their number.
        source: The file, for messages.
        needs_all: If not, any but the text may be missing, unless there is a similar name: that is
            a typing mistake.

    Raises:
        UserError: A file has no such column, or several.
    """
    assert settings.columns is not None, "a kind that knows its columns needs no search"
    prefix = f"{settings.section}.columns"
    positions: dict[str, int | None] = {}
    for key, column in dict(settings.columns).items():
        may_lack = not needs_all and key != "text" and isinstance(column, str)
        if column is None or (may_lack and not difflib.get_close_matches(column, names, 1, 0.8)):
            positions[key] = None
        else:
            positions[key] = _position(f"{prefix}.{key}", column, names, num_columns, source)
    return settings.columns.model_copy(update=positions)


def _position(
    key: str, column: int | str, names: Sequence[str], num_columns: int, source: str
) -> int:
    if isinstance(column, int):
        if column >= num_columns:
            raise UserError(
                f"{key}={column}, but the last column of {source} is {num_columns - 1}",
                hint="positions count from 0; is the delimiter right?",
            )
        return column
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise UserError(
            f"{key}: {source} has {names.count(column)} columns {column!r}",
            hint="give its position, counted from 0",
        )
    raise UserError(
        f"{key}: {source} has no column {column!r}",
        hint=suggest_column(column, names),
    )


def suggest_column(wanted: str, names: Sequence[str]) -> str:
    """List the columns that there are, and ask for the most similar one."""
    if len(names) == 1:
        return f"its only column is {shorten(names[0])!r}; is the delimiter right?"
    close = difflib.get_close_matches(wanted.lower(), [n.lower() for n in names], n=1, cutoff=0.6)
    meant = next((name for name in names if name.lower() in close), "")
    asked = f"did you mean {shorten(meant)!r}? " if meant else ""
    return f"{asked}its columns are {list_names(names)}"


def list_names(names: Sequence[str]) -> str:
    """List the names of columns for a message; of many the first."""
    return ", ".join(few([repr(shorten(name)) for name in names]))


def meanings(settings: FormatSettings) -> tuple[tuple[str, int | None], ...]:
    """List the pairs of written value and label: a position in the classes, or None: unlabelled.

    With ``labels: auto``, any value but an empty one is unknown until the classes are found.
    """
    if settings.kind == "sentiment140":
        return _SENTIMENT140_LABELS
    if settings.labels is None:
        return ()
    if settings.classes is None or settings.labels == "auto":
        return (("", None),)
    meaning = {name: label for label, name in enumerate(settings.classes)}
    return tuple((v, meaning.get(name)) for name, values in settings.labels.items() for v in values)
