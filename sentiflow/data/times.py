"""Written times -> timestamps in UTC; the formats that can read them."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_TIME = pa.timestamp("s", tz="UTC")
_SECONDS = r"^-?[0-9]{1,11}(\.[0-9]+)?$"
"""Seconds since 1970, perhaps with a fraction; milliseconds have more digits."""
_FEW_DIGITS = r"^[0-9]{1,8}(\.[0-9]+)?$"
"""Numbers that are probably not seconds since 1970, since they would be before March 1973. They may
be the day numbers of a spreadsheet, or dates without separators."""
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
_FIRST_USUAL_YEAR = 1974
"""A number of few digits that gives an earlier year is not taken as seconds."""


def read(written: pa.Array, time_format: str | None) -> pa.Array:
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
    distinct = pd.Series(coded.dictionary.to_pylist(), dtype=object).str.strip()
    dates = distinct.where(distinct.str.contains(r"\d"))  # pandas reads "now" and "today", too
    times = pd.to_datetime(dates, format=time_format or "ISO8601", errors="coerce", utc=True)
    if time_format is None:
        numbers = pd.to_numeric(distinct.where(distinct.str.match(_SECONDS)), errors="coerce")
        as_seconds = pd.to_datetime(numbers, unit="s", errors="coerce", utc=True)
        # ISO 8601 reads numbers such as -2024 as a year, but here a minus means seconds before 1970
        is_date = times.notna() & ~distinct.str.startswith("-")
        times = times.where(is_date, as_seconds)
    seconds = times.dt.tz_convert(None).to_numpy("datetime64[s]")
    return pa.array(seconds, _TIME).take(coded.indices)


def _are_read(values: pa.Array, time_format: str | None) -> pa.Array:
    """Mark the values that a format reads as plausible times."""
    times = read(values, time_format)
    if time_format is not None:
        return times.is_valid()
    is_number = pc.match_substring_regex(values, _FEW_DIGITS)
    is_early = pc.less(pc.year(times), _FIRST_USUAL_YEAR)
    is_doubtful = pc.fill_null(pc.and_(is_number, is_early), False)
    return pc.and_not(times.is_valid(), is_doubtful)


def find_formats(values: pa.Array) -> list[str | None]:
    """Find the formats that read nearly all of some written times, and more than other formats.

    Returns:
        The formats; None stands for ISO 8601 or seconds. There are several if each day may also be
        a month.

    Example:
        >>> find_formats(pa.array(["31/01/2024", "01/02/2024"]))
        ['%d/%m/%Y']
        >>> find_formats(pa.array(["03/01/2024", "01/02/2024"]))
        ['%d/%m/%Y', '%m/%d/%Y']
    """
    num_read: dict[str | None, int] = {}
    for form in (None, *FORMATS):
        if pc.any(_are_read(values[:_NUM_TRIED], form)).as_py():
            num_read[form] = pc.sum(_are_read(values, form)).as_py()
    most = max(num_read.values(), default=0)
    if most < _MIN_READ * len(values):
        return []
    return [form for form, count in num_read.items() if count == most]


def find_fault(written: pa.Array | pa.ChunkedArray, time_format: str | None) -> tuple[str, bool]:
    """Describe the times of a column that a format does not read, and name a better format.

    Args:
        written: Strings; a string without a digit is not a time.
        time_format: As for :func:`read`.

    Returns:
        The fault, empty if there is none; and whether it is an error. A fault is an error if the
        format reads less than half of the times, or if only other formats read nearly all of them:
        ``time_format`` would then lose times, or swap days and months.
    """
    values = pc.utf8_trim_whitespace(pc.drop_null(written).unique())
    values = values.filter(pc.match_substring_regex(values, r"\d"))[:_MAX_VALUES]
    is_read = _are_read(values, time_format)
    num_read = pc.sum(is_read).as_py() or 0
    num_values = len(values)
    if num_read == num_values:
        return "", False
    example = values.filter(pc.invert(is_read))[0].as_py()
    fault = (
        f"{time_format or 'ISO 8601 or seconds since 1970'} reads {num_read:,} of {num_values:,} "
        f"different times, but not {example!r}"
    )
    fitting = find_formats(values)
    if fitting and time_format not in fitting:
        best = " or ".join("null" if form is None else repr(form) for form in fitting)
        return f"{fault}: write time_format: {best}", True
    if num_read >= _MIN_READ * num_values:
        return "", False
    reads_few = num_read < num_values / 2
    return fault, reads_few
