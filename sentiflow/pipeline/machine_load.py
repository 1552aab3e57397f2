"""This machine -> how busy other processes keep it."""

import os
from pathlib import Path

_MAX_LOAD = 900
"""Largest load that counts, in percent."""
_SCHEDULE = Path("/proc/self/schedstat")
"""Nanoseconds in which this process ran, and in which it waited for a core. Linux only."""


def find() -> int:
    """Find how many processes want to run on this machine, in percent of its cores.

    With 100% a stage takes twice as long, as its processes get half of the time. It is the smallest
    of the means over one, five and fifteen minutes, as a job that has just ended does not count;
    and at most how long this process has waited for a core, in percent of the time in which it ran.
    Linux shares the cores among sessions, so 16 processes of one session may slow down another
    session only as much as a few do.
    """
    load = min(os.getloadavg())
    percent = round(100 * load / (os.cpu_count() or 1))
    return min(percent, _find_waiting(), _MAX_LOAD)


def _find_waiting() -> int:
    """Find how long this process has waited for a core, in percent of the time in which it ran."""
    try:
        running, waiting, _ = map(int, _SCHEDULE.read_text().split())
    except (OSError, ValueError):  # not on Linux, or not told
        return _MAX_LOAD
    return round(100 * waiting / max(running, 1))
