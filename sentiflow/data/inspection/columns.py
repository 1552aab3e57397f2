"""Columns of texts -> what their values look like, and which is the text, the label, a time..."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import MAX_CLASSES, MIN_CLASS_ROWS
from sentiflow.data import schema, times
from sentiflow.data.arrays import UNSPACED
from sentiflow.data.inspection.column_names import name_classes, rate, rate_sentiments
from sentiflow.data.row_checks import count_values
from sentiflow.errors import UserError, shorten
from sentiflow.progress import say

_SAMPLE = 5_000
"""Values that are looked at to tell what a column is."""
_MAX_COUNTED = 1_000
_MIN_LETTERS = 5
"""Letters of a script without spaces that are a text; a name has fewer."""
_MAX_SHOWN = 40
_NUMBER = r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?$"
_WHOLE = r"^[-+]?\d+(\.0+)?$"
_DATE = (
    r"^(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[- ][A-Z][a-z]{2,8}[- ]\d{2,4}|"
    r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} )"
)


@dataclass(frozen=True)
class Column:
    """What is known of a column."""

    name: str | int
    """Its name in the header, or its position."""
    counts: Mapping[str, int]
    """Rows of the most frequent values, up to ``_MAX_COUNTED``; an empty one is not among them."""
    num_distinct: int
    """Different values."""
    num_filled: int
    """Rows with a value."""
    filled_share: float
    """Share of the rows with a value."""
    mean_length: float
    """Characters in a value."""
    mean_words: float
    mean_letters: float
    """Letters of scripts without spaces in a value."""
    number_share: float
    """Share of the values that are numbers."""
    whole_share: float
    """Share of the values that are whole numbers."""
    date_share: float
    """Share of the values that begin like a date."""

    @property
    def distinct_share(self) -> float:
        """Share of the values that are different."""
        return self.num_distinct / max(1, self.num_filled)

    def fits(self, meaning: str) -> int:
        """Rate how well the name fits a meaning, as :func:`column_names.rate` does."""
        return rate(self.name, meaning) if isinstance(self.name, str) else 0


def describe(name: str | int, values: pa.Array) -> Column:
    """Describe a column of strings."""
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(values, ""))
    filled = trimmed.filter(pc.not_equal(trimmed, ""))
    counts = count_values(filled)
    sample = filled.take(pa.array(np.arange(0, len(filled), max(1, len(filled) // _SAMPLE))))

    def mean(values: pa.Array) -> float:
        return pc.mean(values).as_py() or 0.0

    return Column(
        name,
        dict(itertools.islice(counts.items(), _MAX_COUNTED)),
        len(counts),
        len(filled),
        len(filled) / max(1, len(values)),
        mean_length=mean(pc.utf8_length(sample)),
        mean_words=1 + mean(pc.count_substring_regex(sample, r"\s+")),
        mean_letters=mean(pc.count_substring_regex(sample, f"[{UNSPACED}]")),
        number_share=mean(pc.match_substring_regex(sample, _NUMBER)),
        whole_share=mean(pc.match_substring_regex(sample, _WHOLE)),
        date_share=mean(pc.match_substring_regex(sample, _DATE)),
    )


def main_values(column: Column) -> dict[str, int]:
    """Return the values of a label, without those that so few rows have that they are mistakes."""
    least = min(column.num_filled / 2000, MIN_CLASS_ROWS)
    return {value: rows for value, rows in column.counts.items() if rows >= least}


def classes_of(column: Column) -> dict[str, list[str]]:
    """Name the classes of a column of labels, each with its values."""
    is_sentiment = isinstance(column.name, str) and any(
        word in column.name.lower() for word in ("sentiment", "polarity")
    )
    return name_classes(main_values(column), is_sentiment=is_sentiment)


def brief(text: str | int) -> str:
    """Write a name or a value in one line, shortened."""
    return shorten("".join(c if c.isprintable() else " " for c in str(text)))


_MAX_VALUES = 50
"""Different values of a column that is worth keeping."""
_TAKEN = ("user", "time", "id", "raw", "reason", "source", "offset")


@dataclass(frozen=True)
class Roles:
    """The meaning of each column."""

    text: str | int
    label: str | int | None = None
    id: str | int | None = None
    user: str | int | None = None
    time: str | int | None = None
    time_format: str | None = None
    split: str | None = None
    """The column that says which rows are train, validation and test."""
    keep: tuple[str, ...] = ()
    """Columns with few values, such as a brand."""

    def of(self, name: str | int) -> str:
        """Name the meaning of a column, or return an empty text."""
        meanings = ("text", "label", "id", "user", "time", "split")
        names = [meaning for meaning in meanings if getattr(self, meaning) == name]
        return "".join(names) or ("kept" if name in self.keep else "")


def find_roles(
    columns: Sequence[Column],
    *,
    source: str,
    text: str | None = None,
    label: str | None = None,
    finds_label: bool = True,
) -> Roles:
    """Find the meaning of each column by its values and its name.

    Args:
        columns: All columns.
        source: The file, for messages.
        text: Name or position of the column of texts, if the user has said it.
        label: The same of the column of labels.
        finds_label: Whether it is found if the user has not said it.

    Raises:
        UserError: No column, or several, may be the text or the label; the message names them.
    """
    roles: dict[str, Any] = {}
    remaining = list(columns)

    def take(meaning: str, column: Column | None) -> None:
        roles[meaning] = None if column is None else column.name
        remaining[:] = [other for other in remaining if other is not column]

    take("split", next(filter(_is_split, remaining), None))
    if label is not None:
        take("label", _named(columns, label, "--label", source))
    named = None if text is None else _named(columns, text, "--text", source)
    take("text", named or _find_text(remaining, source))
    if label is None and finds_label:
        take("label", _find_label(remaining, source))
    time, roles["time_format"] = _find_time(remaining)
    take("time", time)
    for meaning, may_be in (("id", _is_id), ("user", _is_user)):
        usual = [c for c in remaining if may_be(c) and (c.fits(meaning) or isinstance(c.name, int))]
        take(meaning, max(usual, key=lambda column: column.fits(meaning), default=None))
    keep = [column.name for column in remaining if _is_worth_keeping(column)]
    return Roles(**roles, keep=tuple(map(str, keep[:8])))


def _named(columns: Sequence[Column], written: str, option: str, source: str) -> Column:
    """Find a column that the user has named, or given by its position."""
    chosen = [column for column in columns if str(column.name) == written]
    if not chosen and written.isdigit():
        chosen = list(columns[int(written) :][:1])
    if not chosen:
        raise UserError(
            f"{option}: {source} has no column {written!r}",
            hint=f"its columns are {_list(columns)}",
        )
    return chosen[0]


def _list(columns: Iterable[Column]) -> str:
    return ", ".join(brief(column.name) for column in columns)


def _find_text(columns: Sequence[Column], source: str) -> Column:
    """Find the column of texts: the one with the usual name, or with by far the longest values.

    Raises:
        UserError: None or several may be it.
    """
    candidates = [
        c for c in columns
        if (c.mean_words >= 2 or c.mean_letters >= _MIN_LETTERS)
        and c.number_share < 0.5 and c.date_share < 0.5
        and c.filled_share >= 0.3 and (c.distinct_share >= 0.2 or c.fits("text") == 2)
    ]  # fmt: skip
    candidates = candidates or [c for c in columns if c.fits("text") == 2 and c.counts]
    filled = [column for column in columns if column.counts]
    if not candidates and len(filled) == 1 and filled[0].number_share < 0.5:
        candidates = filled
    if not candidates:
        raise UserError(
            f"{source}: no column holds texts of several words",
            hint=f"name one with --text; the columns are {_list(columns)}",
        )
    candidates.sort(key=lambda c: c.mean_length, reverse=True)
    others = [column for column in candidates if column.fits("text") == 2] or candidates
    if len(others) == 1 or others[0].mean_length >= 2 * others[1].mean_length:
        return others[0]
    raise UserError(
        f"{source}: several columns hold texts: {_list(others)}",
        hint="choose one with --text COLUMN",
    )


def _find_label(columns: Sequence[Column], source: str) -> Column | None:
    """Find the column of labels: by its values, by its name, or because there is no other one.

    Raises:
        UserError: Several may be it.
    """
    filled = [column for column in columns if column.counts]
    ranks = {id(column): _rank_label(column, is_only=len(filled) == 1) for column in filled}
    best = max(ranks.values(), default=0)
    candidates = [column for column in filled if best and ranks[id(column)] == best]
    most = max((column.num_filled for column in candidates), default=0)
    candidates = [column for column in candidates if 2 * column.num_filled > most]
    named = [column for column in candidates if column.fits("label") == 2]
    chosen = named if len(named) == 1 else candidates
    if len(chosen) > 1:
        values = "; ".join(
            f"{brief(c.name)} ({', '.join(map(brief, list(c.counts)[:4]))})" for c in candidates
        )
        raise UserError(
            f"{source}: several columns may be the label: {values}",
            hint="choose one with --label COLUMN",
        )
    return chosen[0] if chosen else None


def _rank_label(column: Column, *, is_only: bool) -> int:
    """Rate a column as the label: 5 or 4 by its values, 3 or 2 by its name, 1 as the only one."""
    values = main_values(column)
    fits = column.fits("label")
    limit = MAX_CLASSES if fits == 2 else 20
    is_repeated = column.num_filled >= 3 * len(values) or len(values) <= 3
    if not 2 <= len(values) <= limit or not is_repeated or column.mean_length > 40:
        return 0
    is_measure = column.number_share > 0.5 and column.whole_share < 0.99
    if is_measure or sum(values.values()) < 0.98 * column.num_filled:
        return 0
    if sentiments := rate_sentiments(values):
        return 3 + sentiments
    return fits + 1 if fits else int(is_only)


def _find_time(columns: Sequence[Column]) -> tuple[Column | None, str | None]:
    """Find a column of times, and its format if it is neither ISO 8601 nor seconds.

    It is left out, and the user is told, if several formats fit.
    """
    for column in sorted(columns, key=lambda c: c.fits("time"), reverse=True):
        values = pa.array(list(column.counts), pa.string())
        if column.date_share < 0.95 and not column.fits("time"):
            continue
        formats = times.find_formats(values)
        if formats[:1] == [None] or len(formats) == 1:
            return column, formats[0]
        if formats:
            say(
                "init",
                f"{column.name} is left out: in {values[0]}, is the day or the month first? "
                "Set format.columns.time and format.time_format",
            )
    return None, None


def _is_split(column: Column) -> bool:
    """Say whether the values of a column name splits, train among them."""
    splits = schema.SPLIT_VALUES
    names = {splits[value.lower()] for value in column.counts if value.lower() in splits}
    rows = sum(n for value, n in column.counts.items() if value.lower() in splits)
    is_named = isinstance(column.name, str) and rows >= 0.99 * column.num_filled
    return is_named and len(names) > 1 and None in names


def _is_id(column: Column) -> bool:
    if column.distinct_share < 0.95 or column.filled_share < 0.95 or column.mean_words > 1:
        return False
    if isinstance(column.name, int):
        return column.whole_share == 1 and column.mean_length >= 5
    return not rate(column.name, "user") or column.fits("id") == 2


def _is_user(column: Column) -> bool:
    is_short = column.num_distinct > 1 and column.mean_words < 4
    return isinstance(column.name, str) and is_short and column.number_share < 0.9


def _is_worth_keeping(column: Column) -> bool:
    """Say whether a column has a name, and few values that are repeated, and is not a measure."""
    name = str(column.name).lower()
    taken = {*schema.predictions((), has_unsure=True).names, *schema.TWEETS.names, *_TAKEN}
    is_taken = isinstance(column.name, int) or name in taken or name.startswith("probability")
    is_repeated = column.num_filled >= 5 * column.num_distinct
    is_measure = column.number_share > 0.5 and column.whole_share < 0.99
    is_short = column.filled_share >= 0.5 and column.mean_length <= 40
    has_few = 2 <= column.num_distinct <= _MAX_VALUES and is_repeated
    return has_few and is_short and not (is_taken or is_measure)
