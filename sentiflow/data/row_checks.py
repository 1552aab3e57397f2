"""Rows of strings -> checked rows: their labels and times, and why a row is rejected."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import UNLABELLED, check_names, order_classes
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import csv_records, times
from sentiflow.data.arrays import one_array
from sentiflow.data.corrections import CorrectedRows
from sentiflow.data.csv_format import CsvFormat
from sentiflow.data.schema import SPLIT_VALUES
from sentiflow.data.table_files import TableFormat
from sentiflow.errors import UserError, few, shorten

REPLACEMENT = "\ufffd"
"""Stands in a text for bytes that are invalid in the encoding, and for U+0000."""
MAX_COUNTED = 200
"""Maximum number of unknown labels that are counted in a part. It is above the maximum number of
classes, so that :func:`choose_classes` notices if there are too many."""

_NUL = "\0"


@dataclass(frozen=True)
class RowRules:
    """What a stage requires of each row, and which columns it reads."""

    required: tuple[str, ...] = ()
    """Some of ``label``, ``user`` and ``time``; a row without a valid value is rejected. If one of
    them is not required, its invalid values become null."""
    max_text_length: int | None = None
    """Maximum length of a text in characters; None: any length."""
    split_column: str = ""
    """The column that names the split of each row, if there is one. A row is rejected if its value
    is not one of ``SPLIT_VALUES``."""
    corrections: CorrectedRows | None = None
    """Labels that replace the labels of some rows."""
    keep: tuple[str, ...] = ()
    """Columns to add to the result: ``user`` (string) and ``time`` (timestamp) if the format names
    them, and other columns by name. In the other columns of a CSV, null stands for an empty
    string."""
    keep_raw: bool = True
    """Keep the bytes of rejected records."""
    with_offsets: bool = False
    """Find the offsets of accepted CSV records, too, which takes time."""

    @classmethod
    def of_texts(
        cls,
        form: FormatSettings,
        *,
        keep: Sequence[str] = (),
        keep_raw: bool = True,
        with_offsets: bool = False,
    ) -> "RowRules":
        """Take the rules of texts from a section ``format``; labels are optional."""
        return cls(
            max_text_length=form.max_text_length,
            keep=tuple(keep),
            keep_raw=keep_raw,
            with_offsets=with_offsets,
        )

    @classmethod
    def of_labelled(cls, form: FormatSettings, settings: PrepareSettings) -> "RowRules":
        """Take the rules of labelled rows from the sections ``format`` and ``prepare``."""
        split = settings.split
        required = ["label"]
        keep = list(settings.keep_columns)
        if split.kind in ("user", "time"):
            required.append(split.kind)
            if split.kind not in keep:
                keep.append(split.kind)
        rules = cls.of_texts(form, keep=keep, keep_raw=settings.keep_raw)
        return replace(rules, required=tuple(required), split_column=split.column or "")


_Columns = dict[str, pa.Array]
"""The columns of some rows by name."""


def check(rows: pa.Table, form: CsvFormat | TableFormat, rules: RowRules) -> pa.Table:
    """Check rows: convert labels and times, and find the reason why a row is rejected.

    Every row stays in its place. A null stands for an empty value.

    Args:
        rows: One or more rows of strings.
        form: How their values are written.
        rules: What is required of them.

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
    reason = columns.pop("reason", pa.nulls(len(rows), pa.string()))
    columns["text"] = _replace_nul(columns["text"])
    label, unknown_label = _read_labels(columns, form, rules, is_readable=reason.is_null())
    columns["label"] = label
    columns["unknown_label"] = unknown_label
    if "user" in columns:
        columns["user"] = null_if_empty(pc.utf8_trim_whitespace(columns["user"]))
    if "time" in columns:
        columns["time"] = times.parse(columns["time"], form.time_format)
    if rules.split_column and "split" in columns:
        split, is_unknown_split = _read_splits(columns["split"])
        columns["split"] = split
        columns[_IS_UNKNOWN_SPLIT] = is_unknown_split
    for name, find_faulty in _CHECKS.items():
        is_faulty = find_faulty(columns, rules)
        if is_faulty is not None:
            reason = _add_reason(reason, name, is_faulty)
    columns.pop(_IS_UNKNOWN_SPLIT, None)
    return pa.table(columns | {"reason": reason})


def _replace_nul(text: pa.Array) -> pa.Array:
    """Replace U+0000 in texts, which few have."""
    if not pc.any(pc.match_substring(text, _NUL)).as_py():
        return text
    return pc.replace_substring(text, _NUL, REPLACEMENT)


def _read_labels(
    columns: _Columns, form: CsvFormat | TableFormat, rules: RowRules, *, is_readable: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """Read the labels of rows, and apply corrections.

    Args:
        columns: Has ``label``, unless all rows are unlabelled, and ``row_id`` for corrections.
        form: The meaning of the written labels.
        rules: Has the corrections.
        is_readable: Whether the record of each row could be split. If not, its label is null, but
            not unknown.

    Returns:
        The labels (int8; null for none or an unknown one), and the written values of unknown labels
        (string; null for all others).
    """
    num_rows = len(is_readable)
    if "label" in columns:
        written = columns["label"]
        label, is_unknown = _convert_labels(written, form.labels)
        is_unknown = pc.and_(is_unknown, is_readable)
    else:
        written = pa.nulls(num_rows, pa.string())
        label = pa.nulls(num_rows, pa.int8())
        is_unknown = pa.repeat(False, num_rows)
    if rules.corrections is not None:
        found, corrected = rules.corrections.find_labels(columns["row_id"])
        is_corrected = pa.array(found)
        label = pc.if_else(is_corrected, corrected, label)
        is_unknown = pc.and_not(is_unknown, is_corrected)
    none = pa.scalar(None, pa.string())
    return label, pc.if_else(is_unknown, pc.fill_null(written, ""), none)


def _convert_labels(
    written: pa.Array, labels: Sequence[tuple[str, int | None]]
) -> tuple[pa.Array, pa.Array]:
    """Convert written labels to int8, null for no label; also return which labels are unknown."""
    coded = pc.fill_null(written, "").dictionary_encode()
    known = pa.array([value for value, _ in labels], pa.string())
    meaning = pa.array([label for _, label in labels], pa.int8())
    place = pc.index_in(pc.utf8_trim_whitespace(coded.dictionary), value_set=known)
    place = place.take(coded.indices)
    return meaning.take(place), place.is_null()


def _read_splits(written: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Convert written splits to their names, null for train; also return which are unknown."""
    value = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(written, "")))
    place = pc.index_in(value, value_set=pa.array(list(SPLIT_VALUES), pa.string()))
    names = pa.array(list(SPLIT_VALUES.values()), pa.string())
    return names.take(place), place.is_null()


def null_if_empty(column: pa.Array) -> pa.Array:
    """Replace empty strings by null."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _add_reason(reason: pa.Array, name: str, is_faulty: pa.Array) -> pa.Array:
    """Record a reason for faulty rows that have none before."""
    if not pc.any(is_faulty).as_py():
        return reason
    is_new = pc.and_(reason.is_null(), pc.fill_null(is_faulty, False))
    return pc.if_else(is_new, name, reason)


# The reasons to reject a row, each with its check. A check gets the columns after :func:`check` has
# converted their values. It marks the faulty rows, or returns None if no row can be faulty.

WRONG_COLUMNS = "wrong number of columns"
"""``csv_rows`` finds it while the records are split."""

UNKNOWN_LABEL = "unknown label"


def _has_unknown_label(columns: _Columns, rules: RowRules) -> pa.Array | None:
    if "label" not in rules.required:
        return None
    return columns["unknown_label"].is_valid()


EMPTY_TEXT = "empty text"


def _has_empty_text(columns: _Columns, rules: RowRules) -> pa.Array | None:
    text = columns["text"]
    is_empty = pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))
    return pc.fill_null(is_empty, True)


TEXT_TOO_LONG = "text too long"


def _has_long_text(columns: _Columns, rules: RowRules) -> pa.Array | None:
    text = columns["text"]
    limit = rules.max_text_length
    if limit is None:
        return None
    most_bytes = pc.max(pc.binary_length(text)).as_py() or 0
    if most_bytes <= limit:  # a character has one byte or more
        return None
    return pc.greater(pc.utf8_length(text), limit)


NO_USER = "no user"


def _has_no_user(columns: _Columns, rules: RowRules) -> pa.Array | None:
    return _is_missing("user", columns, rules)


NO_TIME = "unreadable time"


def _has_no_time(columns: _Columns, rules: RowRules) -> pa.Array | None:
    return _is_missing("time", columns, rules)


def _is_missing(name: str, columns: _Columns, rules: RowRules) -> pa.Array | None:
    """Mark the rows without a value in a required column; all rows if there is no such column."""
    if name not in rules.required:
        return None
    if name not in columns:
        return pa.repeat(True, len(columns["text"]))
    return columns[name].is_null()


UNKNOWN_SPLIT = "unknown split"
_IS_UNKNOWN_SPLIT = "is_unknown_split"
"""Temporary column of :func:`check`. A null in ``split`` may also mean train."""


def _has_unknown_split(columns: _Columns, rules: RowRules) -> pa.Array | None:
    return columns.get(_IS_UNKNOWN_SPLIT)


_CHECKS: dict[str, Callable[[_Columns, RowRules], pa.Array | None]] = {
    UNKNOWN_LABEL: _has_unknown_label,
    EMPTY_TEXT: _has_empty_text,
    TEXT_TOO_LONG: _has_long_text,
    NO_USER: _has_no_user,
    NO_TIME: _has_no_time,
    UNKNOWN_SPLIT: _has_unknown_split,
}
REASONS = (*csv_records.FAULTS, WRONG_COLUMNS, *_CHECKS)
"""Reasons for rejecting a row, in the order of their checks; the first that applies is recorded."""


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
    """Count the rows of a part by unknown label, the most frequent label first.

    Args:
        rows: Has ``unknown_label``.

    Returns:
        Rows by label, without white space around it: at most ``MAX_COUNTED`` labels.
    """
    counts = count_values(rows["unknown_label"].drop_null())
    return dict(itertools.islice(counts.items(), MAX_COUNTED))


def list_unknown(counts: Mapping[str, int]) -> str:
    """List unknown labels for a message, the most frequent first, at most ten.

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
        counts: Rows by written label; rare labels may be missing.

    Raises:
        UserError: There are too few or too many labels, or one is not a valid name.
    """
    names = sorted(counts.keys() - {UNLABELLED})
    shown = "the column of the label is empty"
    if counts:
        shown = f"the values of the label are {list_unknown(counts)}"
    hint = f"{shown}: set format.columns.label, or list the values of each class in format.labels"
    try:
        check_names(names)
    except ValueError as error:
        raise UserError(f"format.labels=auto: {error}", hint=hint) from error
    return order_classes(names)


def name_classes(form: FormatSettings, names: Iterable[str]) -> FormatSettings:
    """Replace ``labels: auto`` by classes, see :meth:`FormatSettings.name_classes`.

    Raises:
        UserError: The classes are ordered, and one has no number.
    """
    try:
        return form.name_classes(names)
    except ValueError as error:
        raise UserError(f"{form.section}.{error}") from error
