"""Statistics of columns -> the meaning of each column: the text, the label, a time and others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import MAX_CLASSES
from sentiflow.data import schema, time_findings
from sentiflow.data.inspection.column_names import rate_sentiments
from sentiflow.data.inspection.columns import Column, brief, holds_ratings, main_values
from sentiflow.errors import UserError
from sentiflow.progress import say

_MIN_LETTERS = 5
"""Minimum average number of letters in texts of a script without spaces; names have fewer."""
_MIN_DATES = 0.5
"""Minimum share of dates in a column of times, or of values with digits if its name says time."""
_MAX_VALUES = 50
"""Maximum number of different values of a column that is worth keeping."""
_MAX_KEPT = 8
"""Maximum number of columns to keep."""
_TAKEN = ("user", "time", "id", "raw", "reason", "source", "offset")
"""Names of columns in the tables that sentiflow writes; a column to keep must have another name."""


@dataclass(frozen=True)
class Roles:
    """The meaning of each column.

    Columns are given by their names, or by their positions if they have no name.
    """

    text: str | int
    label: str | int | None = None
    id: str | int | None = None
    user: str | int | None = None
    time: str | int | None = None
    time_format: str | None = None
    """Format of the column of times; None: ISO 8601 or seconds since 1970."""
    is_time_doubtful: bool = False
    """Whether the format of the times is in doubt, so that no split by time is advised."""
    split: str | None = None
    """The column that says which rows are train, validation and test."""
    keep: tuple[str, ...] = ()
    """Columns with few values, such as a brand."""

    def of(self, name: str | int) -> str:
        """Name the meaning of a column; empty if it has none."""
        for meaning in ("text", "label", "id", "user", "time", "split"):
            if getattr(self, meaning) == name:
                return meaning
        return "kept" if name in self.keep else ""


def find_roles(
    columns: Sequence[Column],
    *,
    source: str,
    read: Callable[[str | int], pa.Array],
    text: str | None = None,
    label: str | None = None,
    finds_label: bool = True,
) -> Roles:
    """Find the meaning of each column by its values and its name.

    Args:
        columns: All columns.
        source: The file, for messages.
        read: Returns the values of a column in the order of the rows.
        text: Name or position of the text column, if the user has given it.
        label: Name or position of the label column, if the user has given it.
        finds_label: Whether to find the label column if the user has not given it.

    Raises:
        UserError: No column, or several, may be the text or the label; the message names them.
    """
    roles: dict[str, Any] = {}
    remaining = list(columns)  # columns without a meaning yet

    def take(meaning: str, column: Column | None) -> None:
        roles[meaning] = None if column is None else column.name
        remaining[:] = [other for other in remaining if other is not column]

    splits = [column for column in remaining if _is_split(column)]
    take("split", splits[0] if splits else None)
    if label is not None:
        take("label", _find_named(columns, label, "--label", source))
    if text is not None:
        take("text", _find_named(columns, text, "--text", source))
    else:
        take("text", _find_text(remaining, source))
    if label is None and finds_label:
        take("label", _find_label(remaining, source))
    time, finding = _find_time(remaining, read)
    take("time", time)
    if finding:
        roles["time_format"] = finding.readings[0].form
        roles["is_time_doubtful"] = finding.is_doubtful
    take("id", _find_usual("id", filter(_may_be_id, remaining)))
    take("user", _find_usual("user", filter(_may_be_user, remaining)))
    keep = [str(column.name) for column in remaining if _is_worth_keeping(column)]
    return Roles(**roles, keep=tuple(keep[:_MAX_KEPT]))


def _find_named(columns: Sequence[Column], written: str, option: str, source: str) -> Column:
    """Find the column that the user has given by its name or position.

    Raises:
        UserError: There is none.
    """
    for column in columns:
        if str(column.name) == written:
            return column
    if written.isdecimal() and int(written) < len(columns):
        return columns[int(written)]
    raise UserError(
        f"{option}: {source} has no column {written!r}",
        hint=f"its columns are {_list_names(columns)}",
    )


def _list_names(columns: Iterable[Column]) -> str:
    """List the names of columns for a message."""
    return ", ".join(brief(column.name) for column in columns)


def _find_text(columns: Sequence[Column], source: str) -> Column:
    """Find the column of texts: it has the usual name, or by far the longest values.

    If no column seems to hold texts, a column with the usual name is taken, or the only column.

    Raises:
        UserError: No column, or several, may be the text.
    """
    candidates = [column for column in columns if _holds_texts(column)]
    filled = [column for column in columns if column.counts]
    if not candidates:
        candidates = [column for column in filled if column.rate_name("text") == 2]
    if not candidates and len(filled) == 1 and filled[0].number_fraction < 0.5:
        candidates = filled
    if not candidates:
        raise UserError(
            f"{source}: no column holds texts of several words",
            hint=f"name one with --text; the columns are {_list_names(columns)}",
        )
    candidates.sort(key=lambda column: column.mean_length, reverse=True)
    usual = [column for column in candidates if column.rate_name("text") == 2]
    best = usual or candidates
    if len(best) == 1 or best[0].mean_length >= 2 * best[1].mean_length:
        return best[0]
    raise UserError(
        f"{source}: several columns hold texts: {_list_names(best)}",
        hint="choose one with --text COLUMN",
    )


def _holds_texts(column: Column) -> bool:
    """Say whether most values of a column are different texts of several words."""
    is_long = column.mean_words >= 2 or column.mean_unspaced_letters >= _MIN_LETTERS
    are_words = column.number_fraction < 0.5 and column.date_fraction < 0.5
    are_different = column.distinct_fraction >= 0.2 or column.rate_name("text") == 2
    return is_long and are_words and are_different and column.filled_fraction >= 0.3


def _find_label(columns: Sequence[Column], source: str) -> Column | None:
    """Find the column of labels: by its values, by its name, or because it is the only column.

    Raises:
        UserError: Several columns may be the label.
    """
    filled = [column for column in columns if column.counts]
    ranks = [_rank_label(column, is_only=len(filled) == 1) for column in filled]
    best = max(ranks, default=0)
    if best == 0:
        return None
    candidates = [column for column, rank in zip(filled, ranks, strict=True) if rank == best]
    most_rows = max(column.num_filled for column in candidates)
    candidates = [column for column in candidates if 2 * column.num_filled > most_rows]
    named = [column for column in candidates if column.rate_name("label") == 2]
    if len(named) == 1:
        return named[0]
    if len(candidates) == 1:
        return candidates[0]
    raise UserError(
        f"{source}: several columns may be the label: {'; '.join(map(_show_values, candidates))}",
        hint="choose one with --label COLUMN",
    )


def _show_values(column: Column) -> str:
    """Write the name of a column and its four most frequent values."""
    values = [brief(value) for value in list(column.counts)[:4]]
    return f"{brief(column.name)} ({', '.join(values)})"


def _rank_label(column: Column, *, is_only: bool) -> int:
    """Rate how well a column fits as the label.

    Returns:
        5 or 4 by its values, 3 or 2 by its name, 1 as the only column; 0: it is not the label.
    """
    values = main_values(column)
    name_fit = column.rate_name("label")
    max_values = MAX_CLASSES if name_fit == 2 else 20
    are_few = 2 <= len(values) <= max_values
    are_repeated = column.num_filled >= 3 * len(values) or len(values) <= 3
    have_most_rows = sum(values.values()) >= 0.98 * column.num_filled
    are_classes = are_few and are_repeated and have_most_rows
    if not are_classes or column.mean_length > 40:
        return 0
    if column.is_measure and not holds_ratings(column):
        return 0
    value_fit = rate_sentiments(values)
    if value_fit:
        return 3 + value_fit
    if name_fit:
        return 1 + name_fit
    return 1 if is_only else 0


def _find_time(
    columns: Sequence[Column], read: Callable[[str | int], pa.Array]
) -> tuple[Column | None, time_findings.TimeFinding | None]:
    """Find a column of times, and how they are read.

    A column that no format reads, or that several formats fit equally well, is left out, and a
    message says so.
    """
    for column in sorted(columns, key=lambda c: c.rate_name("time"), reverse=True):
        if column.date_fraction < _MIN_DATES and not column.rate_name("time"):
            continue
        written = read(column.name)
        with_digits = pc.sum(pc.match_substring_regex(written, r"\p{Nd}")).as_py() or 0
        if with_digits < _MIN_DATES * max(1, column.num_filled):
            continue
        finding = time_findings.find(written)
        if len(finding.readings) == 1:
            if finding.remark:
                reading = finding.readings[0]
                how = f"has the time_format {reading.name}"
                if reading.form is None:
                    how = "is read as ISO 8601 or seconds since 1970"
                say("init", f"{brief(column.name)} {how}: {finding.remark}")
            return column, finding
        reason = finding.remark
        way_out = "If you know their format for strptime, set"
        if finding.readings:
            reason = finding.describe_choice()
            way_out = "Set"
        way_out += " format.columns.time and format.time_format"
        say("init", f"{brief(column.name)} is left out: {reason}. {way_out}")
    return None, None


def _is_split(column: Column) -> bool:
    """Say whether the values of a column name splits, train among them."""
    if not isinstance(column.name, str):
        return False
    splits = set()
    rows = 0
    for value, num_rows in column.counts.items():
        if value.lower() in schema.SPLIT_VALUES:
            splits.add(schema.SPLIT_VALUES[value.lower()])
            rows += num_rows
    has_train = None in splits  # SPLIT_VALUES has None for train
    return has_train and len(splits) > 1 and rows >= 0.99 * column.num_filled


def _find_usual(meaning: str, candidates: Iterable[Column]) -> Column | None:
    """Find the column whose name fits a meaning best; a column without a name fits least."""
    usual = [c for c in candidates if c.rate_name(meaning) or isinstance(c.name, int)]
    return max(usual, key=lambda column: column.rate_name(meaning), default=None)


def _may_be_id(column: Column) -> bool:
    """Say whether nearly all values of a column differ, and its name does not mean a user."""
    if column.distinct_fraction < 0.95 or column.filled_fraction < 0.95 or column.mean_words > 1:
        return False
    if isinstance(column.name, int):
        return column.whole_fraction == 1 and column.mean_length >= 5
    return not column.rate_name("user") or column.rate_name("id") == 2


def _may_be_user(column: Column) -> bool:
    """Say whether a column has a name, and short values that are not numbers."""
    is_short = column.num_distinct > 1 and column.mean_words < 4
    return isinstance(column.name, str) and is_short and column.number_fraction < 0.9


def _is_worth_keeping(column: Column) -> bool:
    """Say whether a column has a name, and few, repeated values that are not measurements."""
    if isinstance(column.name, int) or column.is_measure:
        return False
    name = column.name.lower()
    taken = {*schema.predictions((), has_unsure=True).names, *schema.TWEETS.names, *_TAKEN}
    if name in taken or name.startswith("probability"):
        return False
    is_repeated = column.num_filled >= 5 * column.num_distinct
    has_few = 2 <= column.num_distinct <= _MAX_VALUES and is_repeated
    return has_few and column.filled_fraction >= 0.5 and column.mean_length <= 40
