"""A column of written times -> the format that reads it, or the formats that a user chooses from.

The whole column decides. A format must read nearly all times. If several do, some are ruled out by
evidence: see ``time_evidence``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from sentiflow.data import time_evidence, time_hints, time_readings
from sentiflow.data.time_readings import Reading
from sentiflow.errors import shorten

_SURE_VALUES = 100
"""From this number of different times on, evidence leaves no doubt."""


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
    values, rows = time_readings.list_values(written)
    everything = time_readings.read_by_all_formats(values)
    fitting = [reading for reading in everything if reading.reads_nearly_all]
    if not len(values) or not fitting:
        return TimeFinding((), values, remark=_explain_unread(everything, values))
    left, evidence = time_evidence.rule_out(fitting, values, rows, now)
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
    if num_future > time_readings.FEW_FUTURE * reading.num_read:
        doubts.append(f"it puts {num_future:,} of {reading.num_read:,} times in the future")
    doubts += time_hints.list_reservations(reading.form, reading.seconds[reading.is_read])
    return doubts


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
