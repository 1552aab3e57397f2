"""Readings that fit a column -> the readings that stay, and the evidence against the others.

A reading is ruled out where it alone puts many times in the future, where another reading has the
rows in order of time, or where it spreads a few weeks over many years.
"""

import itertools
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data.time_readings import FEW_FUTURE, Reading

_MANY_FUTURE = 0.05
"""Minimum share of times in the future by which a reading is ruled out; only a plausible reading
rules it out, see ``FEW_FUTURE``."""
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


def rule_out(
    fitting: Sequence[Reading], values: pa.Array, rows: np.ndarray, now: datetime | None
) -> tuple[list[Reading], dict[str | None, str]]:
    """Rule out readings of a column by evidence.

    If two readings rule out each other, both stay. A reading that is not usual cannot rule out a
    usual one. Where usual ones stay, it stays only if it has evidence against a usual one.

    Args:
        fitting: Readings that read nearly all times.
        values: The different times.
        rows: The position of each row's time.
        now: As for :func:`times.first_future`.

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
