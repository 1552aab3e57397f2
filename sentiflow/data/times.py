"""Written times -> timestamps in UTC; the formats that can read them."""

from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_TIME = pa.timestamp("s", tz="UTC")
_SECONDS = r"^-?[0-9]{1,11}(\.[0-9]+)?$"
"""Seconds since 1970, perhaps with a fraction; milliseconds have more digits."""
_FEW_DIGITS = r"^[0-9]{1,8}(\.[0-9]+)?$"
"""Numbers that are doubtful as seconds since 1970, since they would be before March 1973. They may
be the day numbers of a spreadsheet, or dates without separators such as ``31122024``."""
_FIRST_USUAL_YEAR = 1900
"""A number of few digits is doubtful as an earlier date: ``1430`` may be a time of day."""
_DATES = (
    "%d.%m.%Y", "%d.%m.%y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y",
    "%d/%m/%y", "%m/%d/%y", "%d%m%Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y",
)  # fmt: skip
"""Formats of a day."""
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
"""Formats of the time of day that may follow a day."""
FORMATS = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    *(date + clock for date in _DATES for clock in _CLOCKS),
)
"""Formats other than ISO 8601 that are tried."""
_MIN_READ = 0.98
"""Share of the times that a format must read."""
_MAX_VALUES = 1000
"""Maximum number of different values that are examined."""
_NUM_TRIED = 20
"""Number of first values; a format that reads none of them is not tried on the others."""


class TimeFault(NamedTuple):
    """A fault in the times of a column."""

    text: str
    """Empty: there is no fault."""
    is_error: bool
    """Whether the format loses many times, or may swap days and months."""


def parse(written: pa.Array, time_format: str | None) -> pa.Array:
    """Convert times to timestamps in whole seconds of UTC; unreadable ones become null.

    Args:
        written: Strings, or a type of Arrow for dates and times; without a zone it is UTC.
        time_format: Format for strptime; None: ISO 8601 (``20240131`` is a date, ``2024`` a year),
            or else seconds since 1970.
    """
    if pa.types.is_date(written.type):
        return written.cast(pa.timestamp("s")).cast(_TIME)
    if pa.types.is_timestamp(written.type):
        return pc.floor_temporal(written, unit="second").cast(_TIME)
    coded = pc.fill_null(written, "").dictionary_encode()
    distinct = _strip(coded.dictionary)
    times = _parse_dates(distinct, time_format)
    if time_format is None:
        times = times.where(times.notna(), _parse_seconds(distinct))
    seconds = times.dt.tz_convert(None).to_numpy("datetime64[s]")
    return pa.array(seconds, _TIME).take(coded.indices)


def _strip(values: pa.Array) -> pd.Series:
    """Convert strings to a series without white space at their ends."""
    return pd.Series(values.to_pylist(), dtype=object).str.strip()


def _parse_dates(written: pd.Series, time_format: str | None) -> pd.Series:
    """Convert dates to times, by a format or by ISO 8601; others become missing."""
    is_date = written.str.contains(r"\d")  # pandas reads "now" and "today", too
    if time_format is None:
        # ISO 8601 reads numbers such as -2024 as a year, but here a minus means seconds before 1970
        is_date &= ~written.str.startswith("-")
    dates = written.where(is_date)
    return pd.to_datetime(dates, format=time_format or "ISO8601", errors="coerce", utc=True)


def _parse_seconds(written: pd.Series) -> pd.Series:
    """Convert seconds since 1970 to times; others become missing."""
    numbers = pd.to_numeric(written.where(written.str.match(_SECONDS)), errors="coerce")
    return pd.to_datetime(numbers, unit="s", errors="coerce", utc=True)


def _are_read(values: pa.Array, time_format: str | None) -> pa.Array:
    """Mark the values that a format reads as plausible times."""
    written = _strip(values)
    dates = _parse_dates(written, time_format)
    is_date = dates.notna()
    if time_format is not None:
        return pa.array(is_date, pa.bool_())
    has_few_digits = written.str.match(_FEW_DIGITS)
    is_usual_date = is_date & ~(has_few_digits & (dates.dt.year < _FIRST_USUAL_YEAR))
    is_seconds = ~is_date & _parse_seconds(written).notna()
    is_read = is_usual_date | (is_seconds & ~has_few_digits)
    return pa.array(is_read, pa.bool_())


def find_formats(values: pa.Array) -> list[str | None]:
    """Find the formats that read nearly all of some written times, and more than other formats.

    Returns:
        The formats; None stands for ISO 8601 or seconds. There are several if each day may also be
        a month. If every month is May, only the format with the short name of the month is listed.

    Example:
        >>> find_formats(pa.array(["31/01/2024", "01/02/2024"]))
        ['%d/%m/%Y']
        >>> find_formats(pa.array(["03/01/2024", "01/02/2024"]))
        ['%d/%m/%Y', '%m/%d/%Y']
    """
    fitting = _find_fitting(values)
    formats = []
    for form in fitting:
        is_of_may = form is not None and "%B" in form and form.replace("%B", "%b") in fitting
        if not is_of_may:
            formats.append(form)
    return formats


def _find_fitting(values: pa.Array) -> list[str | None]:
    """Find the formats that read nearly all of some written times, and more than other formats."""
    num_read: dict[str | None, int] = {}
    for form in (None, *FORMATS):
        if pc.any(_are_read(values[:_NUM_TRIED], form)).as_py():
            num_read[form] = pc.sum(_are_read(values, form)).as_py()
    most = max(num_read.values(), default=0)
    if most < _MIN_READ * len(values):
        return []
    return [form for form, count in num_read.items() if count == most]


def find_fault(written: pa.Array | pa.ChunkedArray, time_format: str | None) -> TimeFault:
    """Describe the times of a column that a format does not read, and name a better format.

    Args:
        written: Strings; a string without a digit is not a time.
        time_format: As for :func:`parse`.

    Returns:
        The fault. It is an error if the format reads less than half of the times, or if another
        format reads nearly all of them and more than this one.
    """
    values = pc.utf8_trim_whitespace(pc.drop_null(written).unique())
    values = values.filter(pc.match_substring_regex(values, r"\d"))[:_MAX_VALUES]
    is_read = _are_read(values, time_format)
    num_read = pc.sum(is_read).as_py() or 0
    num_values = len(values)
    if num_read == num_values:
        return TimeFault("", is_error=False)
    example = values.filter(pc.invert(is_read))[0].as_py()
    fault = (
        f"{time_format or 'ISO 8601 or seconds since 1970'} reads {num_read:,} of {num_values:,} "
        f"different times, but not {example!r}"
    )
    fitting = _find_fitting(values)
    if fitting and time_format not in fitting:
        best = " or ".join("null" if form is None else repr(form) for form in fitting)
        return TimeFault(f"{fault}: write time_format: {best}", is_error=True)
    if num_read >= _MIN_READ * num_values:
        return TimeFault("", is_error=False)
    return TimeFault(fault, is_error=num_read < num_values / 2)
