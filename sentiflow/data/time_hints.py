"""Times that no format reads, or reads with a reservation -> what they may be, and the way out."""

import re

import numpy as np

_HINTS = (
    (
        r"(令和|平成|昭和|大正|明治|民[國国])|[RHSTM] ?\d{1,2} ?[./年-]|\d{3} ?[./年-]",
        "years of an era or of another calendar are not read: write years such as 2024",
    ),
    (
        r"\d{5}([.,]\d+)?$",
        "these may be day numbers of a spreadsheet: write them as dates",
    ),
    (
        r"\d([.,]\d+)?[eE]\+?\d+$",
        "a spreadsheet may have rounded these numbers: export them with all digits",
    ),
    (
        r"\d{1,2}:\d{2}",
        "a time of day has no date",
    ),
    (
        r"\d{1,2}\W{1,2}(de )?[^\W\d]{3}|[^\W\d]{3,}\W{1,2}\d",
        "months are read with English names or as numbers",
    ),
)
"""Patterns that begin as a time does, and what is said of it; the first one that fits counts."""
_ZONE = re.compile(r"%[HIMSpf] ?([A-Z]{2,5})$")
"""The name of a zone at the end of a format."""
_UTC = ("UTC", "GMT", "UT")
_FIRST_YEAR = 1600
_LAST_YEAR = 2400
"""Years outside these are of another calendar: Hijri and Persian ones are smaller, Buddhist ones
larger."""


def hint(written: str) -> str:
    """Say what a time that no format reads may be; empty if nothing is known.

    Example:
        >>> hint("45322")
        'these may be day numbers of a spreadsheet: write them as dates'
    """
    return next((text for pattern, text in _HINTS if re.match(pattern, written)), "")


def list_reservations(time_format: str | None, seconds: np.ndarray) -> list[str]:
    """List what a format does not say about its times: their zone or their calendar.

    Args:
        time_format: The format; None: ISO 8601, or else seconds since 1970.
        seconds: Seconds since 1970 of times that it reads.
    """
    reservations = []
    zone = _ZONE.search(time_format or "")
    if zone and zone[1] not in _UTC:
        reservations.append(f"the zone {zone[1]} is not read, and the times are taken as UTC")
    if "%y年" in (time_format or ""):
        reservations.append("years of two digits before 年 may be those of an era")
    year = int(np.median(seconds.astype("datetime64[s]").astype("datetime64[Y]").astype(int)))
    year += 1970
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        reservations.append(
            f"its years, such as {year}, seem to be of another calendar: write years such as 2024"
        )
    return reservations
