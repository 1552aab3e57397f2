"""A column of written times and its format -> what is wrong with them, and a better format."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.data import time_readings, times
from sentiflow.data.time_readings import Reading

_NUM_CHECKED = 1000
"""Maximum number of different values in which faults are searched."""


class TimeFault(NamedTuple):
    """A fault in the times of a column."""

    text: str
    """Empty: there is no fault."""
    is_error: bool
    """Whether the format loses many times, or may swap days and months."""


NO_FAULT = TimeFault("", is_error=False)


def find_fault(
    written: pa.Array | pa.ChunkedArray, time_format: str | None, now: datetime | None = None
) -> TimeFault:
    """Describe the times of a column that a format does not read, and name a better format.

    Args:
        written: Strings; a string without a digit is not a time.
        time_format: As for :func:`times.parse`.
        now: As for :func:`times.first_future`.

    Returns:
        The fault. It is an error if the format reads less than half of the times, or if another
        format reads nearly all of them and more than this one. Times in the future and before 1990
        are a fault, but no error.
    """
    column = pa.chunked_array([written]) if isinstance(written, pa.Array) else written
    values, _ = time_readings.list_values(column.combine_chunks(), _NUM_CHECKED)
    reading = time_readings.read_by_format(values, time_format, is_usual=True)
    unread = _find_unread(reading, values)
    if unread.is_error:
        return unread
    unusual = _describe_unusual(reading, values, now)
    faults = [text for text in (unread.text, unusual) if text]
    return TimeFault("; ".join(faults), is_error=False)


def _find_unread(reading: Reading, values: pa.Array) -> TimeFault:
    """Describe the times that a format does not read, and name a better format."""
    num_values = len(values)
    if reading.num_read == num_values:
        return NO_FAULT
    example = values[int(np.argmax(~reading.is_read))].as_py()
    fault = (
        f"{reading.form or 'ISO 8601 or seconds since 1970'} reads {reading.num_read:,} of "
        f"{num_values:,} different times, but not {example!r}"
    )
    fitting = [other for other in _read_fitting(values) if other.num_read > reading.num_read]
    if fitting:
        most = max(other.num_read for other in fitting)
        best = [other.name for other in fitting if other.num_read == most]
        return TimeFault(f"{fault}: write time_format: {' or '.join(best)}", is_error=True)
    if reading.reads_nearly_all:
        return NO_FAULT
    return TimeFault(fault, is_error=reading.num_read < num_values / 2)


def _read_fitting(values: pa.Array) -> list[Reading]:
    """Read times by the usual formats that read nearly all of them."""
    everything = time_readings.read_by_all_formats(values)
    return [reading for reading in everything if reading.is_usual and reading.reads_nearly_all]


def _describe_unusual(reading: Reading, values: pa.Array, now: datetime | None) -> str:
    """Describe times in the future and before 1990, and name a format that has none in the future.

    Returns:
        Empty if there are no such times.
    """
    moments = pa.array(reading.seconds[reading.is_read].astype("datetime64[s]"))
    moments = moments.cast(pa.timestamp("s", "UTC"))
    unusual = times.count_unusual(moments, now)
    if unusual == (0, 0):
        return ""
    if unusual.future:
        limit = times.first_future(now).timestamp()
        place = int(np.argmax(reading.seconds > limit))
    else:
        place = int(np.nanargmin(reading.seconds))
    example = values[place].as_py()
    text = f"{unusual.describe(reading.num_read)}: {example!r} is read as "
    text += reading.write_day(place)
    if not unusual.future:
        return text
    others = [other.name for other in _read_fitting(values) if not other.num_future(now)]
    if others:
        text += f"; none is in the future by {' or '.join(others)}"
    return text
