"""The draws of a corpus so far <-> the column ``sample`` of the drawn rows."""

import re
from typing import NamedTuple

_ITEM = re.compile(
    r"(?P<size>\d[\d,]*)(?: of (?P<num_rows>\d[\d,]*))?(?P<rows> rows(?: by (?P<by>.+?))?)?"
    r"(?:, after (?=\d[\d,]* of )|$)"
)
"""A draw in a value of the column ``sample``."""


class Draw(NamedTuple):
    """A draw of rows to label."""

    size: int
    """Number of rows that were asked for."""
    num_rows: int | None
    """Number of rows that had arrived: the rows with smaller numbers, see
    ``PredictionBatch.arrival``. None: all rows, as values of an earlier version say it."""
    by: str
    """The column by whose groups rows were drawn, as in ``trends.by``; empty for none."""

    def is_same(self, other: "Draw") -> bool:
        """Say whether two values mean the same draw."""
        if None in (self.num_rows, other.num_rows):
            return (self.size, self.by) == (other.size, other.by)
        return self == other


History = tuple[Draw, ...]
"""The draws of a corpus in their order; none of their rows is drawn twice."""


def write_history(history: History) -> str:
    """Write the last draw and the draws before it, as the column ``sample`` has them.

    Example:
        >>> write_history((Draw(300, 10_208, "airline"), Draw(30, 20_416, "airline")))
        '30 of 20,416 rows by airline, after 300 of 10,208'
    """
    items = []
    by = None
    for draw in reversed(history):
        item = f"{draw.size:,}"
        if draw.num_rows is not None:
            item += f" of {draw.num_rows:,}"
        if draw.by != by:
            item += f" rows by {draw.by}" if draw.by else " rows"
        by = draw.by
        items.append(item)
    return ", after ".join(items)


def read_history(text: str) -> History | None:
    """Read a value of the column ``sample``; None if it is not written as :func:`write_history`.

    Example:
        >>> read_history("30 of 20,416 rows by airline, after 300 of 10,208")
        (Draw(size=300, num_rows=10208, by='airline'), Draw(size=30, num_rows=20416, by='airline'))
        >>> read_history("300 rows by airline")  # of an earlier version
        (Draw(size=300, num_rows=None, by='airline'),)
    """
    draws: list[Draw] = []
    place = 0
    while place < len(text):
        item = _ITEM.match(text, place)
        if not item or not (item["rows"] or draws):
            return None
        by = (item["by"] or "") if item["rows"] else draws[-1].by
        num_rows = _read_number(item["num_rows"]) if item["num_rows"] else None
        draws.append(Draw(_read_number(item["size"]), num_rows, by))
        place = item.end()
    return tuple(reversed(draws)) or None


def _read_number(written: str) -> int:
    return int(written.replace(",", ""))


def is_before(first: History, second: History) -> bool:
    """Say whether a history begins with all draws of another one, ``first``."""
    if len(first) > len(second):
        return False
    return all(one.is_same(other) for one, other in zip(first, second, strict=False))
