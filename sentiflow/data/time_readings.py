"""A column of written times -> the format that reads it, or the formats that a user chooses from.

The whole column decides. A format must read nearly all times. If several do, a reading is ruled out
where it alone puts many times in the future, where another reading has the rows in order of time,
or where it spreads a few weeks over many years.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import time_formats, time_hints, times
from sentiflow.errors import shorten

_MIN_READ = 0.98
"""Share of the different times that a format must read."""
_MAX_VALUES = 20_000
"""Maximum number of different values that are examined, at equal distances in the column."""
_NUM_TRIED = 500
"""Number of values that each format is tried on; if it reads none, it is dropped."""
FEW_FUTURE = 0.005
"""A reading is plausible if at most this share of its times is in the future. Only then it may rule
out others by their times in the future."""
_MANY_FUTURE = 0.05
"""Minimum share of times in the future by which a reading is ruled out."""
_MIN_FUTURE = 5
"""Minimum number of such times."""
_MIN_LOST = 3
"""Minimum number of times that a reading does not read, but another one does, to rule it out."""
_FEW_LOST = 0.002
"""Minimum share of such times."""
_LOST_PER_GAINED = 10
"""Minimum number of such times for each time that only the ruled-out reading reads."""
_MIN_STEPS = 8
"""Minimum number of rows with another time than the row before, to judge the order of the rows."""
_SORTED = 0.95
"""Minimum share of steps in one direction in a column that is in order of time."""
_UNSORTED = 0.8
"""Maximum share of steps in one direction in a column that is not in order of time."""
_SPREAD = 100
"""A reading is ruled out only if the range of its times is at least this many times larger."""
_MIN_DAYS = 10
"""Minimum number of different days, to judge ranges."""
_USUAL_DAYS = (1, 28, 29, 30, 31)
"""Days of a month on which a column may well have all its times."""
_SURE_VALUES = 100
"""From this number of different times on, evidence leaves no doubt."""


@dataclass(frozen=True)
class Reading:
    """The different times of a column as one format reads them."""

    form: str | None
    """Format for strptime; None: ISO 8601, or else seconds since 1970."""
    is_usual: bool
    """As in ``time_formats.Candidate``."""
    seconds: np.ndarray
    """Seconds since 1970 of each different time; NaN if the format does not read it."""

    @property
    def is_read(self) -> np.ndarray:
        """Whether the format reads each different time."""
        return ~np.isnan(self.seconds)

    @property
    def num_read(self) -> int:
        """Number of different times that the format reads."""
        return int(self.is_read.sum())

    @property
    def reads_nearly_all(self) -> bool:
        """Whether the format reads enough of the different times to be the one of the column."""
        return self.num_read >= _MIN_READ * len(self.seconds)

    @property
    def name(self) -> str:
        """The format for a message."""
        return "null" if self.form is None else repr(self.form)

    def num_future(self, now: datetime | None) -> int:
        """Return the number of different times that are in the future."""
        limit = times.first_future(now).timestamp()
        return int((self.seconds > limit).sum())

    def write_day(self, place: int) -> str:
        """Write the day of the time at a position, with the name of its month."""
        return write_day(pd.Timestamp(self.seconds[place], unit="s"))


@dataclass(frozen=True)
class TimeFinding:
    """How the times of a column are read."""

    readings: tuple[Reading, ...]
    """One: the column is read by it. Several: a user must choose. Empty: no format reads the
    column."""
    values: pa.Array
    """The different times that were examined."""
    remark: str = ""
    """Why no format reads them, what decided between readings, or what is not read."""
    is_doubtful: bool = False
    """Whether the format was chosen by evidence from few times, or the column may be mixed or have
    another format."""

    def describe_choice(self) -> str:
        """Ask which reading is right: say how each one reads a time on which they differ."""
        seconds = np.array([reading.seconds for reading in self.readings])
        is_shared = ~np.isnan(seconds).any(axis=0)
        differs = is_shared & (seconds != seconds[0]).any(axis=0)
        place = int(np.argmax(differs if differs.any() else is_shared))
        example = self.values[place].as_py()
        choices = [f"{reading.name} reads {reading.write_day(place)}" for reading in self.readings]
        first_letters = {reading.form.lstrip("%")[0] for reading in self.readings if reading.form}
        question = "which is the day, which the month, which the year"
        if first_letters <= {"d", "m"}:
            question = "is the day or the month first"
        return f"in {example}, {question}? {', '.join(choices)}"


def write_day(moment: datetime) -> str:
    """Write a day with the name of its month.

    Example:
        >>> write_day(datetime(2015, 8, 25))
        '25 August 2015'
    """
    return f"{moment.day} {moment:%B} {moment.year}"


def find(written: pa.Array, now: datetime | None = None) -> TimeFinding:
    """Find how the times of a column are read.

    Args:
        written: The column: strings in the order of its rows. Null and strings without a digit are
            not times.
        now: As for :func:`times.first_future`.

    Example:
        >>> column = pa.array(["15.08.25", "15.08.31", "03.11.27", "99.01.02"])
        >>> [reading.form for reading in find(column).readings]
        ['%y.%m.%d']
    """
    values, rows = list_values(written)
    everything = read_by_all_formats(values)
    fitting = [reading for reading in everything if reading.reads_nearly_all]
    if not len(values) or not fitting:
        return TimeFinding((), values, remark=_explain_unread(everything, values))
    left, evidence = _rule_out(fitting, values, rows, now)
    if len(left) > 1:
        return TimeFinding(tuple(left), values)
    reading = left[0]
    doubts = _list_doubts(reading, everything, values, now)
    for other in fitting:
        if other is not reading and other.form not in evidence:
            reason = "is not ISO 8601" if reading.form is None else "is rare"
            doubts.append(f"{other.name} would fit, too, but {reason}")
    is_unsure = bool(evidence) and reading.num_read < _SURE_VALUES
    return TimeFinding(
        readings=(reading,),
        values=values,
        remark="; ".join([*evidence.values(), *doubts]),
        is_doubtful=is_unsure or bool(doubts),
    )


def find_formats(written: pa.Array, now: datetime | None = None) -> list[str | None]:
    """Return the formats of :func:`find`.

    Example:
        >>> find_formats(pa.array(["31/01/2024", "01/02/2024"]))
        ['%d/%m/%Y']
        >>> find_formats(pa.array(["03/01/2024", "01/02/2024"]))
        ['%d/%m/%Y', '%m/%d/%Y']
    """
    return [reading.form for reading in find(written, now).readings]


def list_values(written: pa.Array, max_values: int = _MAX_VALUES) -> tuple[pa.Array, np.ndarray]:
    """List the different times of a column, and where each one stands.

    Args:
        written: As for :func:`find`.
        max_values: If there are more times, so many are listed, at equal distances.

    Returns:
        The listed times; for each row with a listed time, in the order of the rows, its position
        in the list.
    """
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(written, ""))
    trimmed = trimmed.filter(pc.match_substring_regex(trimmed, r"\p{Nd}"))
    coded = trimmed.dictionary_encode()
    values = times.use_plain_characters(coded.dictionary)
    places = np.arange(len(values))
    if len(values) > max_values:
        places = np.linspace(0, len(values) - 1, max_values, dtype=np.int64)
        values = values.take(pa.array(places))
    new_place = np.full(len(coded.dictionary), -1)
    new_place[places] = np.arange(len(places))
    rows = new_place[coded.indices.to_numpy()]
    return values, rows[rows >= 0]


def read_by_all_formats(values: pa.Array) -> list[Reading]:
    """Read times by each format that their shapes allow.

    Formats that read none are left out, and so are redundant ones.
    """
    step = max(1, len(values) // _NUM_TRIED)
    tried = values.take(pa.array(np.arange(0, len(values), step)))
    readings: list[Reading] = []
    for candidate in time_formats.list_candidates(tried):
        _, is_read = times.are_read(tried, candidate.form)
        if is_read.any():
            readings.append(read_by_format(values, candidate.form, is_usual=candidate.is_usual))
    return [reading for reading in readings if not _is_redundant(reading, readings)]


def _is_redundant(reading: Reading, others: Sequence[Reading]) -> bool:
    """Say whether another format reads the same times alike, and reads more or is ISO 8601."""
    for other in others:
        if other is reading:
            continue
        is_preferred = other.form is None or other.num_read > reading.num_read
        is_equal = other.seconds[reading.is_read] == reading.seconds[reading.is_read]
        if is_preferred and is_equal.all():
            return True
    return False


def read_by_format(values: pa.Array, form: str | None, *, is_usual: bool) -> Reading:
    """Read times by a format; the arguments are as in ``Reading``."""
    found, is_read = times.are_read(values, form)
    moments = found.where(is_read).dt.tz_convert(None).to_numpy("datetime64[s]")
    seconds = moments.astype(np.int64).astype(np.float64)
    seconds[np.isnat(moments)] = np.nan
    return Reading(form, is_usual, seconds)


def _rule_out(
    fitting: Sequence[Reading], values: pa.Array, rows: np.ndarray, now: datetime | None
) -> tuple[list[Reading], dict[str | None, str]]:
    """Rule out readings by evidence.

    If two readings rule out each other, both stay. A reading that is not usual cannot rule out a
    usual one. Where usual ones stay, it stays only if it has evidence against a usual one.

    Returns:
        The readings that stay; the evidence by the format that is ruled out.
    """
    written_order = _measure_written_order(values, rows)
    against: dict[tuple[str | None, str | None], str] = {}
    for reading, other in itertools.permutations(fitting, 2):
        against[reading.form, other.form] = _compare(reading, other, rows, written_order, now)
    evidence: dict[str | None, str] = {}
    favored: set[str | None] = set()
    for reading, other in itertools.permutations(fitting, 2):
        found = against[reading.form, other.form]
        is_mutual = bool(against[other.form, reading.form])
        if not found or is_mutual:
            continue
        if other.is_usual and not reading.is_usual:
            favored.add(reading.form)
        else:
            evidence[other.form] = found
    left = [reading for reading in fitting if reading.form not in evidence]
    if not left:  # they rule out one another in a circle
        left = list(fitting)
    if any(reading.is_usual for reading in left):
        left = [reading for reading in left if reading.is_usual or reading.form in favored]
    return left, evidence


def _compare(
    reading: Reading,
    other: Reading,
    rows: np.ndarray,
    written_order: float,
    now: datetime | None,
) -> str:
    """Return the evidence for a reading and against another one; empty if there is none.

    ``written_order`` is the result of :func:`_measure_written_order`.
    """
    num_lost = int((reading.is_read & ~other.is_read).sum())
    num_gained = int((other.is_read & ~reading.is_read).sum())
    if num_lost >= max(_MIN_LOST, _FEW_LOST * len(reading.seconds), _LOST_PER_GAINED * num_gained):
        return f"{other.name} does not read {num_lost:,} times that {reading.name} reads"
    num_future = other.num_future(now)
    are_many = num_future >= max(_MIN_FUTURE, _MANY_FUTURE * other.num_read)
    if are_many and reading.num_future(now) <= FEW_FUTURE * reading.num_read:
        return f"{other.name} would put {num_future:,} of {other.num_read:,} times in the future"
    if written_order <= _UNSORTED:
        in_order = _measure_order(reading.seconds, rows)
        if in_order >= _SORTED and 0 < _measure_order(other.seconds, rows) <= _UNSORTED:
            return f"by {reading.name} the rows are in order of time, by {other.name} they are not"
    if _has_implausible_range(reading, other):
        return f"by {other.name} a few weeks would be one day in each of many years"
    return ""


def _measure_order(numbers: np.ndarray, rows: np.ndarray) -> float:
    """Return the share of steps from row to row that go in the direction of most steps.

    From a row to an equal row there is no step.

    Args:
        numbers: A number for each different time; NaN: its rows are left out.
        rows: The position of each row's time.

    Returns:
        The share; 0 if there are too few steps.
    """
    in_rows = numbers[rows]
    steps = np.diff(in_rows[~np.isnan(in_rows)])
    num_steps = np.count_nonzero(steps)
    if num_steps < _MIN_STEPS:
        return 0.0
    num_up = np.count_nonzero(steps > 0)
    return max(num_up, num_steps - num_up) / num_steps


def _measure_written_order(values: pa.Array, rows: np.ndarray) -> float:
    """Measure whether the rows are sorted by the times as written: as text, or by their numbers.

    Such a column seems to be in order of time by the reading whose first field is the largest one.
    This is no evidence for the reading.
    """
    texts = pd.Series(values.to_pylist(), dtype=object)
    _, by_text = np.unique(texts.to_numpy(str), return_inverse=True)
    fields = texts.str.extract(r"(\d+)\D*(\d*)\D*(\d*)").apply(pd.to_numeric, errors="coerce")
    _, by_number = np.unique(fields.fillna(0).to_numpy(), axis=0, return_inverse=True)
    orders = [_measure_order(numbers.astype(float), rows) for numbers in (by_text, by_number)]
    return max(orders)


def _has_implausible_range(reading: Reading, other: Reading) -> bool:
    """Say whether the other reading spreads a few weeks over the same day of many years."""
    is_shared = reading.is_read & other.is_read
    if not is_shared.any():
        return False
    seconds = reading.seconds[is_shared]
    others = other.seconds[is_shared]
    num_days = len(np.unique(seconds // 86_400))
    if num_days < _MIN_DAYS or np.ptp(others) < _SPREAD * np.ptp(seconds):
        return False
    days = np.unique(pd.to_datetime(others, unit="s").day)
    return len(days) == 1 and days[0] not in _USUAL_DAYS


def _find_other(reading: Reading, everything: Sequence[Reading]) -> tuple[Reading | None, int]:
    """Find the format that reads most of the times that a reading does not read.

    Returns:
        The format, if there is one; how many of these times it reads.
    """
    best = None
    most = 0
    for other in everything:
        num_further = int((other.is_read & ~reading.is_read).sum())
        if num_further > most:
            best = other
            most = num_further
    return best, most


def _list_doubts(
    reading: Reading, everything: Sequence[Reading], values: pa.Array, now: datetime | None
) -> list[str]:
    """List what makes the chosen reading doubtful: unread, future or strange times, a zone."""
    doubts = []
    if reading.num_read < len(values):
        unread = _describe_unread(reading, values)
        other, num_further = _find_other(reading, everything)
        if other:
            unread += f", and {other.name} reads {num_further:,} of these: is the column mixed?"
        doubts.append(unread)
    num_future = reading.num_future(now)
    if num_future > FEW_FUTURE * reading.num_read:
        doubts.append(f"it puts {num_future:,} of {reading.num_read:,} times in the future")
    doubts += time_hints.list_reservations(reading.form, reading.seconds[reading.is_read])
    return doubts


def _describe_unread(reading: Reading, values: pa.Array) -> str:
    """Say how many times a format does not read, with one of them."""
    is_unread = ~reading.is_read
    example = shorten(values[int(np.argmax(is_unread))].as_py())
    return (
        f"{reading.name} does not read {is_unread.sum():,} of {len(values):,} different times, "
        f"such as {example!r}"
    )


def _explain_unread(everything: Sequence[Reading], values: pa.Array) -> str:
    """Say why no format reads a column: what the best formats read, and what none reads."""
    if not len(values):
        return "its values have no digits"
    is_left = np.full(len(values), True)
    parts: list[str] = []
    for reading in sorted(everything, key=lambda reading: -reading.num_read):
        is_new = reading.is_read & is_left
        if is_new.any() and len(parts) < 3:
            example = shorten(values[int(np.argmax(is_new))].as_py())
            further = " of the others" if parts else ""
            parts.append(f"{reading.name} reads {is_new.sum():,}{further}, such as {example!r}")
            is_left &= ~is_new
    if is_left.any():
        example = values[int(np.argmax(is_left))].as_py()
        parts.append(f"{is_left.sum():,} are not read, such as {shorten(example)!r}")
        hint = time_hints.hint(example)
        if hint:
            parts.append(hint)
    return f"no format reads nearly all of its {len(values):,} different times: {'; '.join(parts)}"
