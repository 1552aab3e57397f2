"""Written times -> timestamps in UTC."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_TIME = pa.timestamp("s", tz="UTC")
_SECONDS = r"^-?[0-9]{1,11}(\.[0-9]+)?$"
"""Seconds since 1970, perhaps with a fraction."""
_FINER = r"^([1-9][0-9]{9})(?:[0-9]{3}|[0-9]{6}|[0-9]{9})$"
"""Milliseconds, microseconds or nanoseconds since 1970, from September 2001 on. The first ten
digits are the seconds."""
_MIN_FINER = 13
"""Minimum number of digits of such a number."""
_FEW_DIGITS = r"^[0-9]{1,8}(\.[0-9]+)?$"
"""Numbers that are doubtful as seconds since 1970, since they would be before March 1973. They may
be the day numbers of a spreadsheet, or dates without separators such as ``31122024``."""
_FIRST_USUAL_YEAR = 1900
"""An earlier date without separators is doubtful: ``1430`` may be a time of day."""
_LAST_USUAL_YEAR = 2100
"""A later date without separators is doubtful: ``250112`` is not December 2501."""
_OLD_YEAR = 1990
"""Texts of an earlier year are so rare that their times are counted and told."""
_DATE_SIGNS = "./,年月日号년월일時时点點分秒시분초"
"""Marks after the fields of a date or a time of day; white space after them does not matter."""
WEEKDAY = (
    r"\s*\([日月火水木金土일월화수목금토]\)|\s*[일월화수목금토]요일|\s*[日月火水木金土]曜日?"
    r"|\s*(星期|礼拜|周|週)[一二三四五六日天]"
)
"""The day of the week in Korean, Japanese or Chinese, which no directive of strptime reads."""
ORDINAL = r"(\d)(?:st|nd|rd|th|ST|ND|RD|TH)\b"
"""A day with the ending of an ordinal number, as in ``January 3rd``."""
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
"""A digit of another script, such as an Arabic-Indic one."""
_SIMPLER = (
    (WEEKDAY, ""),
    (ORDINAL, r"\1"),
    (r"\b([Ss]ep|SEP)[tT]\b", r"\1"),
    (rf"([{_DATE_SIGNS}])\s+", r"\1"),
)
"""Patterns on which the reading of a time does not depend, and what replaces them in times and
formats. They mean the same in Arrow and in Python."""
HALVES_OF_DAY = (
    ("AM", r"(?i)(^|[^a-z])(?:a\.? ?m\b\.?|오전|上午|午前)"),
    ("PM", r"(?i)(^|[^a-z])(?:p\.? ?m\b\.?|오후|下午|午後)"),
)
"""Spellings of AM and PM. They may follow a digit."""
_ADJACENT = re.compile(r"(?:%[dmyYHMS]){2,}")
"""Directives without a separator between them."""
_NUM_DIGITS = {"Y": 4}
"""Number of digits of a directive that has no separators; directives that are not named have 2."""


def parse(written: pa.Array, time_format: str | None) -> pa.Array:
    """Convert times to timestamps in whole seconds of UTC; unreadable ones become null.

    Args:
        written: Strings, or a type of Arrow for dates and times; without a zone it is UTC.
        time_format: Format for strptime; None: ISO 8601 (``20240131`` is a date, ``2024`` a year),
            or else seconds since 1970 (of 13, 16 or 19 digits: milliseconds, microseconds or
            nanoseconds). Where the format has a mark such as a point, spaces after
            it may be left out or added. ``%p`` also reads the Korean, Japanese and Chinese words.
            Days of the week in these languages are skipped.

    Example:
        >>> written = pa.array(["2024. 1. 31.(수) 오후 3:05"])
        >>> print(parse(written, "%Y.%m.%d. %p %I:%M")[0].as_py())
        2024-01-31 15:05:00+00:00
    """
    if pa.types.is_date(written.type):
        return written.cast(pa.timestamp("s")).cast(_TIME)
    if pa.types.is_timestamp(written.type):
        return pc.floor_temporal(written, unit="second").cast(_TIME)
    coded = pc.fill_null(written, "").dictionary_encode()
    times = _parse_strings(coded.dictionary, time_format)
    seconds = times.dt.tz_convert(None).to_numpy("datetime64[s]")
    return pa.array(seconds, _TIME).take(coded.indices)


def _parse_strings(written: pa.Array, time_format: str | None) -> pd.Series:
    """Convert strings to times; others become missing."""
    if time_format is not None:
        return _parse_by_format(written, time_format)
    values = _strip(use_plain_characters(written))
    dates = _parse_iso(values)
    is_left = dates.isna()
    if is_left.any():
        dates = dates.where(~is_left, _parse_seconds(values[is_left]))
    return dates


def _strip(values: pa.Array) -> pd.Series:
    """Convert strings to a series without white space at their ends."""
    return pd.Series(values.to_pylist(), dtype=object).str.strip()


def _parse_iso(written: pd.Series) -> pd.Series:
    """Convert dates by ISO 8601 to times; others become missing."""
    # pandas reads "now" and "today", too; and it reads numbers such as -2024 as a year, but here a
    # minus means seconds before 1970
    is_date = written.str.contains(r"\d") & ~written.str.startswith("-")
    return pd.to_datetime(written.where(is_date), format="ISO8601", errors="coerce", utc=True)


def _parse_seconds(written: pd.Series) -> pd.Series:
    """Convert seconds since 1970, or finer units, to times; others become missing."""
    seconds = written
    if (written.str.len() >= _MIN_FINER).any():
        seconds = written.str.replace(_FINER, r"\1", regex=True)
    numbers = pd.to_numeric(seconds.where(seconds.str.match(_SECONDS)), errors="coerce")
    return pd.to_datetime(numbers, unit="s", errors="coerce", utc=True)


def _parse_by_format(written: pa.Array, time_format: str) -> pd.Series:
    """Convert times by a format; others become missing."""
    simpler = simplify(written)
    if "%p" in time_format:
        for word, spellings in HALVES_OF_DAY:
            simpler = pc.replace_substring_regex(simpler, spellings, rf"\1{word}")
    values = _strip(simpler)
    is_time = values.str.contains(r"\d")  # pandas reads "now" and "today", too
    if _ADJACENT.search(time_format):
        is_time &= values.str.match(_count_digits(time_format))
    form = simplify_format(time_format)
    return pd.to_datetime(values.where(is_time), format=form, errors="coerce", utc=True)


def use_plain_characters(written: pa.Array) -> pa.Array:
    r"""Write digits of all scripts, and full-width marks and spaces, as in ASCII.

    Args:
        written: Strings without null.

    Example:
        >>> print(use_plain_characters(pa.array(["\uff11\uff0f\uff12"]))[0].as_py())
        1/2
    """
    if pc.all(pc.string_is_ascii(written)).as_py():
        return written
    # Arrow's utf8_normalize takes Korean syllables apart
    return pa.array([_write_plainly(text) for text in written.to_pylist()], pa.string())


def _write_plainly(text: str) -> str:
    """Write the digits, full-width marks and spaces of a text as in ASCII."""
    if text.isascii():
        return text
    normal = unicodedata.normalize("NFKC", text)
    return _OTHER_DIGIT.sub(lambda digit: str(int(digit.group())), normal)


def simplify(written: pa.Array) -> pa.Array:
    """Leave out what does not decide the reading of a time: some spaces and days of the week."""
    written = use_plain_characters(written)
    for pattern, replacement in _SIMPLER:
        written = pc.replace_substring_regex(written, pattern, replacement)
    return written


def simplify_format(time_format: str) -> str:
    """Leave out of a format what :func:`simplify` leaves out of times."""
    time_format = _write_plainly(time_format)
    for pattern, replacement in _SIMPLER:
        time_format = re.sub(pattern, replacement, time_format)
    return time_format.strip()


def _count_digits(time_format: str) -> str:
    """Return a pattern that requires all digits of directives that no separator divides.

    Without it, ``%y%m%d`` reads ``50131``, which has lost its first zero in a spreadsheet, as a day
    in 2050.
    """

    def write_digits(match: re.Match[str]) -> str:
        total = sum(_NUM_DIGITS.get(letter, 2) for letter in match.group()[1::2])
        return rf"(?<!\d)\d{{{total}}}(?!\d)"

    digits = [write_digits(match) for match in _ADJACENT.finditer(time_format)]
    return ".*" + ".*".join(digits)


def are_read(values: pa.Array, time_format: str | None) -> tuple[pd.Series, pd.Series]:
    """Read values as times, and mark those that are plausible.

    Returns:
        The times; whether each was read and is plausible. A date without separators is not
        plausible before 1900 and, if it is read by a format, after 2100. A number of few digits is
        not taken for seconds since 1970.
    """
    if time_format is not None:
        dates = _parse_by_format(values, time_format)
        is_read = dates.notna()
        if _ADJACENT.search(time_format):
            is_read &= dates.dt.year.between(_FIRST_USUAL_YEAR, _LAST_USUAL_YEAR)
        return dates, is_read
    written = _strip(use_plain_characters(values))
    dates = _parse_iso(written)
    has_few_digits = written.str.match(_FEW_DIGITS)
    is_early = has_few_digits & (dates.dt.year < _FIRST_USUAL_YEAR)
    seconds = _parse_seconds(written)
    is_seconds = dates.isna() & seconds.notna() & ~has_few_digits
    is_read = (dates.notna() & ~is_early) | is_seconds
    return dates.where(dates.notna(), seconds), is_read


class UnusualTimes(NamedTuple):
    """Numbers of times that are unusual for texts."""

    future: int
    """Times in the future."""
    old: int
    """Times before 1990."""

    def describe(self, num_times: int) -> str:
        """Say how many times are unusual; empty if none is."""
        parts = []
        if self.future:
            parts.append(f"{self.future:,} are in the future")
        if self.old:
            parts.append(f"{self.old:,} are before {_OLD_YEAR}")
        if not parts:
            return ""
        return f"of {num_times:,} times {' and '.join(parts)}"


def first_future(now: datetime | None = None) -> datetime:
    """Return the time from which on a time is in the future: in a day, as zones differ.

    Args:
        now: With a zone; None: the clock of this machine.
    """
    return (now or datetime.now(UTC)) + timedelta(days=1)


def count_unusual(times: pa.Array | pa.ChunkedArray, now: datetime | None = None) -> UnusualTimes:
    """Count the times in the future and before 1990.

    Args:
        times: Timestamps in UTC, as :func:`parse` returns them.
        now: As for :func:`first_future`.
    """
    future = pa.scalar(first_future(now), times.type)
    old = pa.scalar(datetime(_OLD_YEAR, 1, 1, tzinfo=UTC), times.type)
    num_future = pc.sum(pc.greater(times, future)).as_py() or 0
    num_old = pc.sum(pc.less(times, old)).as_py() or 0
    return UnusualTimes(num_future, num_old)
