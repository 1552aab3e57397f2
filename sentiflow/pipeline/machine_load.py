"""This machine -> how busy other processes keep it."""

import os

_MAX_LOAD = 900
"""Largest load that counts, in percent."""


def find() -> int:
    """Find how many processes want to run on this machine, in percent of its cores.

    It is the smallest of three means, over one, five and fifteen minutes: a job that has just ended
    does not count. With 100% a stage takes twice as long, as its processes get half of the time.
    """
    load = min(os.getloadavg())
    percent = round(100 * load / (os.cpu_count() or 1))
    return min(percent, _MAX_LOAD)
