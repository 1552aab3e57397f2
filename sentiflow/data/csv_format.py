"""Format settings + the beginning of a CSV -> the meaning of its columns."""

import codecs
import contextlib
import csv
import difflib
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
_SENTIMENT140_NUM_COLUMNS = 6
_SENTIMENT140_LABELS = (("0", 0), ("4", 1), ("2", 2))
"""Pairs of target and label: 0 is negative, 4 positive, 2 neutral."""
SENTIMENT140_TIME = "%a %b %d %H:%M:%S PDT %Y"
"""Format of its dates, for example ``Mon Apr 06 22:19:45 PDT 2009``."""
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
"""First bytes of files that are not CSV: the kind of file, and a hint."""
_SIMILAR = 0.8
"""Minimum similarity of a column in the file for a missing one to be a typing mistake."""
_SUGGESTED = 0.6
"""Minimum similarity of a column in the file to be suggested in a hint."""


@dataclass(frozen=True)
class CsvFormat:
    """How to read the records of one file."""

    settings: FormatSettings
    """Delimiter, encoding and the treatment of texts."""
    num_columns: int
    columns: ColumnsSettings
    """The position of the column of each meaning: text, label, id, user, time; None if missing."""
    labels: tuple[tuple[str, int | None], ...] = ()
    """Pairs of written value and label, see :func:`written_labels`."""
    time_format: str | None = None
    header: tuple[str, ...] = ()
    """Names of all columns in order; empty if the file has no header."""

    def position(self, name: str) -> int | None:
        """Return the position of a column by its meaning, or else by its name in the header."""
        meaning = "id" if name == "tweet_id" else name  # our tables name the column tweet_id
        if meaning in _MEANINGS:
            return getattr(self.columns, meaning)
        if name in self.names:
            return self.header.index(name)
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """List ``user``, ``time`` and the columns of the header that may be kept.

        A column of the header may be kept if its name is unique and not the name of a meaning.
        """
        names = [name for name in ("user", "time") if self.position(name) is not None]
        reserved = {"", *_MEANINGS, *schema.TWEETS.names}
        for name in self.header:
            if name not in reserved and self.header.count(name) == 1:
                names.append(name)
        return tuple(names)


class FoundColumns(NamedTuple):
    """The columns of a CSV, found at its beginning."""

    names: list[str]
    """Their names; none without a header."""
    num_columns: int
    start: int
    """Position of the first data record in bytes, or of a blank line before it."""


_MEANINGS = tuple(ColumnsSettings.model_fields)
"""The meanings that a column may have: text, label, id, user and time."""


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
    found = find_columns(settings, head, source=source)
    if settings.kind == "sentiment140":
        columns = _SENTIMENT140_COLUMNS
        time_format: str | None = SENTIMENT140_TIME
    else:
        columns = find_positions(
            settings, found.names, found.num_columns, source, needs_all=needs_all
        )
        time_format = settings.time_format
    resolved = CsvFormat(
        settings=settings,
        num_columns=found.num_columns,
        columns=columns,
        labels=written_labels(settings),
        time_format=time_format,
        header=tuple(found.names),
    )
    return resolved, found.start


def find_columns(settings: FormatSettings, head: bytes, *, source: str) -> FoundColumns:
    """Find the columns of a CSV, see :func:`resolve`.

    Raises:
        UserError: The file is not text.
    """
    for mark, (kind, hint) in _OTHER_KINDS.items():
        if head.startswith(mark):
            raise UserError(f"{source} is {kind}", hint=hint)
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    if settings.kind == "sentiment140":
        return FoundColumns([], _SENTIMENT140_NUM_COLUMNS, start)
    limit = 1 if settings.has_header else SAMPLE_RECORDS
    rows, records = split_first(
        head[start:], settings.delimiter, settings.encoding, max_records=limit
    )
    if not len(records):
        raise UserError(f"{source} holds no record", hint="the file is empty: name another CSV")
    if not settings.has_header:
        if not rows:
            raise UserError(
                f"{source} has no valid record at its beginning", hint="is it a CSV file?"
            )
        most_frequent = statistics.multimode([len(row) for row in rows])
        # of several numbers of columns that are equally frequent, the largest is taken
        return FoundColumns([], max(most_frequent), start)
    header_stop = int(records.stops[0])
    # a header that fills the whole head may continue after it
    is_cut = header_stop >= HEAD_BYTES - len(codecs.BOM_UTF8)
    if not rows or is_cut:
        raise UserError(
            f"{source}: the header is too long, or a quote in it is unclosed or misplaced",
            hint="is it a CSV file?",
        )
    names = [name.strip() for name in rows[0]]
    return FoundColumns(names, len(names), start + header_stop)


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
        encoding: The encoding of the text.
        last: Whether this is the whole file; if not, the last record may be cut.
        max_records: Maximum number of records to split.

    Returns:
        The fields of each well-formed record among the first ``max_records``; and the positions of
        all records.
    """
    records, _ = find_records(head, delimiter=delimiter, last=last)
    rows = []
    for number in np.flatnonzero(~records.malformed[:max_records]):
        record = head[records.starts[number] : records.stops[number]]
        text = record.decode(encoding, "replace")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        with contextlib.suppress(csv.Error):  # the csv module refuses fields above 128 KiB
            rows.append(next(reader))
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
        settings: The section ``format``, with the name or position of each column.
        names: The names in the file; empty if it has none.
        num_columns: Number of columns in the file.
        source: The file, for messages.
        needs_all: Whether the file must have all columns. If not, it may lack named columns other
            than the text. A similar name in the file is still an error: a typing mistake.

    Raises:
        UserError: The file lacks a required column, or has several columns of its name.
    """
    assert settings.columns is not None, "a kind that knows its columns needs no search"
    positions: dict[str, int | None] = {}
    for meaning, column in dict(settings.columns).items():
        positions[meaning] = None
        if column is None:
            continue
        if isinstance(column, str) and meaning != "text" and not needs_all:
            similar = difflib.get_close_matches(column, names, n=1, cutoff=_SIMILAR)
            if not similar:
                continue
        key = f"{settings.section}.columns.{meaning}"
        positions[meaning] = _find_position(key, column, names, num_columns, source)
    return settings.columns.model_copy(update=positions)


def _find_position(
    key: str, column: int | str, names: Sequence[str], num_columns: int, source: str
) -> int:
    """Find the position of a column that a setting names."""
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
    raise UserError(f"{key}: {source} has no column {column!r}", hint=suggest_column(column, names))


def suggest_column(wanted: str, names: Sequence[str]) -> str:
    """List the columns of a file for a hint, after the most similar one."""
    if len(names) == 1:
        return f"its only column is {shorten(names[0])!r}; is the delimiter right?"
    hint = f"its columns are {list_names(names)}"
    lower = [name.lower() for name in names]
    similar = difflib.get_close_matches(wanted.lower(), lower, n=1, cutoff=_SUGGESTED)
    if similar:
        meant = names[lower.index(similar[0])]
        hint = f"did you mean {shorten(meant)!r}? {hint}"
    return hint


def list_names(names: Sequence[str]) -> str:
    """List the names of columns for a message; only the first of many."""
    return ", ".join(few([repr(shorten(name)) for name in names]))


def written_labels(settings: FormatSettings) -> tuple[tuple[str, int | None], ...]:
    """List the values that the label column may have, each with its label.

    A label is a position in the classes, or None: unlabelled. With ``labels: auto``, only the empty
    value is known until the classes are found.
    """
    if settings.kind == "sentiment140":
        return _SENTIMENT140_LABELS
    if settings.labels is None:
        return ()
    if settings.classes is None or settings.labels == "auto":
        return (("", None),)
    pairs = []
    for name, values in settings.labels.items():
        label = None
        if name in settings.classes:
            label = settings.classes.index(name)
        pairs += [(value, label) for value in values]
    return tuple(pairs)
