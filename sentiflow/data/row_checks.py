"""Rows as they were read -> checked rows: their labels and times, and why a row is rejected."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import UNLABELLED, check_names, order_classes
from sentiflow.config.sections import PrepareSettings
from sentiflow.data import csv_records, times
from sentiflow.data.arrays import one_array
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.label_files import CorrectedRows
from sentiflow.data.schema import SPLIT_VALUES
from sentiflow.data.table_files import TableFormat
from sentiflow.errors import UserError, few, shorten

WRONG_COLUMNS = "wrong number of columns"
UNKNOWN_LABEL = "unknown label"
EMPTY_TEXT = "empty text"
TEXT_TOO_LONG = "text too long"
NO_USER = "no user"
NO_TIME = "unreadable time"
UNKNOWN_SPLIT = "unknown split"
REASONS = (
    *csv_records.FAULTS,
    WRONG_COLUMNS,
    UNKNOWN_LABEL,
    EMPTY_TEXT,
    TEXT_TOO_LONG,
    NO_USER,
    NO_TIME,
    UNKNOWN_SPLIT,
)
"""Reasons for rejecting a row; the first that applies is recorded."""

REPLACEMENT = "\ufffd"
"""Stands in a text for bytes that are invalid in the encoding, and for U+0000."""
_NUL = "\0"
MAX_COUNTED = 200
"""Values of unknown labels that are counted in a part: more than there can be classes."""


@dataclass(frozen=True)
class RowRules:
    """What a stage asks of each row, and what it reads of it."""

    required: tuple[str, ...] = ()
    """Some of ``label``, ``user`` and ``time``; a row without one is rejected. An unknown value of
    the others becomes null."""
    split_column: str = ""
    """The column that names the split of each row, if there is one; a row with a value that is none
    of ``SPLIT_VALUES`` is rejected."""
    corrections: CorrectedRows | None = None
    """Labels that replace those of some rows."""
    keep: tuple[str, ...] = ()
    """Columns to add: ``user`` (string) and ``time`` (timestamp) if the format names them, and
    other columns by their name (strings of a CSV are null where empty)."""
    keep_raw: bool = True
    """Keep the bytes of rejected records."""
    with_offsets: bool = False
    """Find the offset of accepted records of a CSV, too, which takes time."""

    @classmethod
    def of(cls, settings: PrepareSettings) -> "RowRules":
        """Take the rules of labelled rows from the section ``prepare``."""
        split = settings.split
        needed = tuple(name for name in ("user", "time") if name == split.kind)
        return cls(
            required=("label", *needed),
            split_column=split.column or "",
            keep=tuple(dict.fromkeys((*settings.keep_columns, *needed))),
            keep_raw=settings.keep_raw,
        )


def check(rows: pa.Table, form: CsvFormat | TableFormat, rules: RowRules) -> pa.Table:
    """Check rows: convert labels and times, and find the reason why a row is rejected.

    Every row stays in its place. A null stands for an empty value.

    Args:
        rows: One or more rows of strings.
        form: How their values are written.
        rules: What is asked of them.

    Columns:
        read: ``text``; ``label``, ``user``, ``time`` and ``split`` if present; ``row_id`` for
            corrections; ``reason`` if a row was found to be invalid before. A ``time`` may have a
            type of Arrow for dates and times.
        replaced: U+0000 in ``text`` by ``REPLACEMENT``, ``label`` (int8; null for none or an
            unknown one), ``user`` (trimmed, null if empty), ``time`` (seconds of UTC),
            ``split`` (its name).
        added: ``unknown_label`` (string: the written value of an unknown label, else null),
            ``reason`` (string: one of ``REASONS``; null for an accepted row).

    Example:
        >>> rows = pa.table({"text": ["so good", " ", "hm"], "label": ["pos", "neg", "?"]})
        >>> form = TableFormat(labels=(("neg", 0), ("pos", 1)))
        >>> checked = check(rows, form, RowRules(required=("label",)))
        >>> checked["label"].to_pylist(), checked["reason"].to_pylist()
        ([1, 0, None], [None, 'empty text', 'unknown label'])
    """
    columns = {name: one_array(rows[name]) for name in rows.column_names}
    nulls = pa.nulls(len(rows), pa.string())
    text, reason = columns["text"], columns.pop("reason", nulls)
    if pc.any(pc.match_substring(text, _NUL)).as_py():
        columns["text"] = text = pc.replace_substring(text, _NUL, REPLACEMENT)
    written = columns.pop("label", nulls)
    columns["label"], unknown = pa.nulls(len(rows), pa.int8()), pa.repeat(False, len(rows))
    if "label" in rows.column_names:
        columns["label"], unknown = _read_labels(written, form.labels)
    unknown = pc.and_(unknown, reason.is_null())
    if rules.corrections is not None:
        is_corrected, label = rules.corrections.labels_of(columns["row_id"])
        columns["label"] = pc.if_else(pa.array(is_corrected), label, columns["label"])
        unknown = pc.and_not(unknown, pa.array(is_corrected))
    if "label" in rules.required:
        reason = _add(reason, UNKNOWN_LABEL, unknown)
    is_empty = pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))
    reason = _add(reason, EMPTY_TEXT, pc.fill_null(is_empty, True))
    length = form.max_text_length
    if length and (pc.max(pc.binary_length(text)).as_py() or 0) > length:
        reason = _add(reason, TEXT_TOO_LONG, pc.greater(pc.utf8_length(text), length))
    if "user" in columns:
        columns["user"] = null_if_empty(pc.utf8_trim_whitespace(columns["user"]))
    if "time" in columns:
        columns["time"] = times.read(columns["time"], form.time_format)
    for name, missing in (("user", NO_USER), ("time", NO_TIME)):
        if name in rules.required:
            reason = _add(reason, missing, columns.get(name, nulls).is_null())
    if rules.split_column and "split" in columns:
        value = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(columns["split"], "")))
        place = pc.index_in(value, value_set=pa.array(list(SPLIT_VALUES), pa.string()))
        columns["split"] = pa.array(list(SPLIT_VALUES.values()), pa.string()).take(place)
        reason = _add(reason, UNKNOWN_SPLIT, place.is_null())
    columns["unknown_label"] = pc.if_else(
        unknown, pc.fill_null(written, ""), pa.scalar(None, pa.string())
    )
    return pa.table(columns | {"reason": reason})


def _add(reason: pa.Array, name: str, is_faulty: pa.Array) -> pa.Array:
    """Record a fault of the rows that have none before."""
    if not pc.any(is_faulty).as_py():
        return reason
    return pc.if_else(pc.and_(reason.is_null(), pc.fill_null(is_faulty, False)), name, reason)


def null_if_empty(column: pa.Array) -> pa.Array:
    """Replace empty strings by null."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _read_labels(
    column: pa.Array, labels: Sequence[tuple[str, int | None]]
) -> tuple[pa.Array, pa.Array]:
    """Convert written labels to int8, null for none; also returns which are unknown."""
    coded = pc.fill_null(column, "").dictionary_encode()
    written = pa.array([value for value, _ in labels], pa.string())
    meaning = pa.array([label for _, label in labels], pa.int8())
    place = pc.index_in(pc.utf8_trim_whitespace(coded.dictionary), value_set=written)
    place = place.take(coded.indices)
    return meaning.take(place), place.is_null()


def count_values(column: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """Count the values of a column without white space around them, the most frequent first.

    A null counts as an empty value.

    Example:
        >>> count_values(pa.array(["good", " bad", "good", None]))
        {'good': 2, '': 1, 'bad': 1}
    """
    counts = pc.value_counts(pc.utf8_trim_whitespace(pc.fill_null(column, "")))
    order = [("rows", "descending"), ("value", "ascending")]
    table = pa.table(counts.flatten(), names=["value", "rows"]).sort_by(order)
    return dict(zip(table["value"].to_pylist(), table["rows"].to_pylist(), strict=True))


def count_unknown(rows: pa.Table) -> dict[str, int]:
    """Count the values of unknown labels among the rows of a part, the most frequent first.

    Args:
        rows: Has ``unknown_label``.

    Returns:
        Rows by value, without white space around it; of many values the first ``MAX_COUNTED``.
    """
    counts = count_values(rows["unknown_label"].drop_null())
    return dict(itertools.islice(counts.items(), MAX_COUNTED))


def list_unknown(counts: Mapping[str, int]) -> str:
    """List the values of unknown labels for a message, the most frequent first, ten at most.

    Example:
        >>> list_unknown({"mixed": 1203, "irrelevant": 88})
        "'mixed' (1,203), 'irrelevant' (88)"
    """
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(few([f"{shorten(value)!r} ({rows:,})" for value, rows in order]))


def list_reasons(counts: Mapping[str, int]) -> str:
    """List the reasons for which rows are rejected or left out, the most frequent first.

    Example:
        >>> list_reasons({"empty text": 2, "unknown label": 1302})
        '1,302 unknown label, 2 empty text'
    """
    return ", ".join(f"{rows:,} {reason}" for reason, rows in Counter(counts).most_common())


def choose_classes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Take the written labels as the names of the classes, for ``labels: auto``.

    Args:
        counts: Rows by value, of the most frequent ones at least.

    Raises:
        UserError: There are too few or too many, or one is no name.
    """
    names = sorted(counts.keys() - {UNLABELLED})
    shown = "the column of the label is empty"
    if counts:
        shown = f"the values of the label are {list_unknown(counts)}"
    hint = f"{shown}: set format.columns.label, or give those of each class in format.labels"
    try:
        check_names(names)
    except ValueError as error:
        raise UserError(f"format.labels=auto: {error}", hint=hint) from error
    return order_classes(names)
