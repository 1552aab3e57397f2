"""Times as they are written -> timestamps of UTC, and the formats that read them."""

import itertools

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_TIME = pa.timestamp("s", tz="UTC")
_SECONDS = r"^-?[0-9]{1,11}(\.[0-9]+)?$"
_FEW_DIGITS = r"^[0-9]{1,8}(\.[0-9]+)?$"
"""As seconds before March 1973: they are days of a spreadsheet, or dates without marks."""
_DATES = (
    "%d.%m.%Y", "%d.%m.%y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y",
    "%d/%m/%y", "%m/%d/%y", "%d%m%Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y",
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
FORMATS = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    *map("".join, itertools.product(_DATES, _CLOCKS)),
)
"""Formats other than ISO 8601 that are tried."""
_MIN_READ = 0.98
"""Share of the times that a format must read."""
_MAX_VALUES, _FIRST = 1000, 20
"""Different values that are looked at, and those of which a format must read one."""


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
        since = pd.to_datetime(numbers, unit="s", errors="coerce", utc=True)
        times = times.where(times.notna() & ~distinct.str.startswith("-"), since)
    seconds = times.dt.tz_convert(None).to_numpy("datetime64[s]")
    return pa.array(seconds, _TIME).take(coded.indices)


def _are_read(values: pa.Array, time_format: str | None) -> pa.Array:
    """Say which values a format reads, as times that are meant."""
    times = read(values, time_format)
    if time_format is not None:
        return times.is_valid()
    is_number = pc.match_substring_regex(values, _FEW_DIGITS)
    is_early = pc.less(pc.year(times), 1974)
    return pc.and_not(times.is_valid(), pc.fill_null(pc.and_(is_number, is_early), False))


def find_formats(values: pa.Array) -> list[str | None]:
    """Find the formats that read most of some written times, and nearly all.

    Returns:
        None for ISO 8601 or seconds; of other formats several where each day may be a month.

    Example:
        >>> find_formats(pa.array(["31/01/2024", "01/02/2024"]))
        ['%d/%m/%Y']
        >>> find_formats(pa.array(["03/01/2024", "01/02/2024"]))
        ['%d/%m/%Y', '%m/%d/%Y']
    """
    tried = [some for some in (None, *FORMATS) if pc.any(_are_read(values[:_FIRST], some)).as_py()]
    counts = {some: pc.sum(_are_read(values, some)).as_py() for some in tried}
    most = max(counts.values(), default=0)
    return [some for some, n in counts.items() if n == most >= _MIN_READ * len(values)]


def find_fault(written: pa.Array | pa.ChunkedArray, time_format: str | None) -> tuple[str, bool]:
    """Say how a format misses the times of a column, and which one reads them.

    Args:
        written: Strings; those without a digit are no times.
        time_format: As for :func:`read`.

    Returns:
        The fault, empty if there is none; and whether it reads few of them, or another format reads
        them and this one would change their months or lose them.
    """
    values = pc.utf8_trim_whitespace(pc.drop_null(written).unique())
    values = values.filter(pc.match_substring_regex(values, r"\d"))[:_MAX_VALUES]
    is_read = _are_read(values, time_format)
    num_read, num_values = pc.sum(is_read).as_py() or 0, len(values)
    if num_read == num_values:
        return "", False
    example = values.filter(pc.invert(is_read))[0].as_py()
    fault = (
        f"{time_format or 'ISO 8601 or seconds since 1970'} reads {num_read:,} of {num_values:,} "
        f"different times, not {example!r}"
    )
    fitting = find_formats(values)
    if time_format in fitting or not fitting:
        return fault if num_read < _MIN_READ * num_values else "", num_read < num_values / 2
    best = " or ".join("null" if some is None else repr(some) for some in fitting)
    return f"{fault}: write time_format: {best}", True
