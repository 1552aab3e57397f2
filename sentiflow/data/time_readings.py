"""A column of written times -> its different times, as each format reads them.

Which of the formats is right: see ``time_findings``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import time_formats, times

_MIN_READ = 0.98
"""Share of the different times that a format must read."""
_MAX_VALUES = 20_000
"""Maximum number of different values that are examined, at equal distances in the column."""
_NUM_TRIED = 500
"""Number of values that each format is tried on; if it reads none, it is dropped."""
FEW_FUTURE = 0.005
"""A reading is plausible if at most this share of its times is in the future."""


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


def write_day(moment: datetime) -> str:
    """Write a day with the name of its month.

    Example:
        >>> write_day(datetime(2015, 8, 25))
        '25 August 2015'
    """
    return f"{moment.day} {moment:%B} {moment.year}"


def list_values(written: pa.Array, max_values: int = _MAX_VALUES) -> tuple[pa.Array, np.ndarray]:
    """List the different times of a column, and where each one stands.

    Args:
        written: The column: strings in the order of its rows. Null and strings without a digit are
            not times.
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
