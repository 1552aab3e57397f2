"""Unlabelled rows by cell -> the chance of the rows of each cell in each draw; rates are kept.

A chance for each draw and cell would take much memory, so the chances of a draw are computed when
they are needed.

A draw raises the chances of the rows that are there, see ``drawing.find_rate``. Its rate
depends on these rows and on earlier draws alone. So a rate that was kept holds until one of them
changes, and only the rate of the last draw is searched for.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.metrics import drawing
from sentiflow.shares.kept_tables import KeptTables

_VERSION = 1
"""Changes whenever the same cells and draws would give other rates."""
_KIND = "rates"
"""What the name of a kept table begins with."""


class CellCounts(NamedTuple):
    """Unlabelled rows of M cells: rows of a group that came between the same two draws."""

    key: np.ndarray
    """M keys."""
    first_draw: np.ndarray
    """The first draw for which the rows of each cell were there."""
    groups: Mapping[str, np.ndarray]
    """Hashes of the group of each cell, by key."""
    num_rows: np.ndarray
    """Number of rows in each cell."""

    def take(self, place: np.ndarray | slice) -> "CellCounts":
        """Return some of the cells, by M bools, by their places or as a slice."""
        groups = {name: hashes[place] for name, hashes in self.groups.items()}
        return CellCounts(
            key=self.key[place],
            first_draw=self.first_draw[place],
            groups=groups,
            num_rows=self.num_rows[place],
        )


def merge(parts: Sequence[CellCounts]) -> CellCounts:
    """Add up the counts of cells; the result is sorted by key."""
    every = np.concatenate([part.key for part in parts])
    key, first, cell = np.unique(every, return_index=True, return_inverse=True)
    num_rows = np.bincount(cell, np.concatenate([part.num_rows for part in parts]), len(key))
    groups = {}
    for name in parts[0].groups:
        groups[name] = np.concatenate([part.groups[name] for part in parts])[first]
    first_draw = np.concatenate([part.first_draw for part in parts])[first]
    return CellCounts(
        key=key, first_draw=first_draw, groups=groups, num_rows=num_rows.astype(np.int64)
    )


class DrawnGroups(NamedTuple):
    """What a draw asks for."""

    size: int
    """Number of rows to draw."""
    by: str
    """The key by whose groups rows are drawn."""


class Rates:
    """The rates of draws, as far as they are kept."""

    def __init__(self, kept: KeptTables) -> None:
        """Find the rates of an earlier result."""
        self._kept = kept
        self._earlier: dict[str, float] = {}
        for name in kept.names(_KIND):
            table = kept.find(name)
            if table is not None:
                digests = table["draws"].to_pylist()
                rates = table["rate"].to_pylist()
                self._earlier.update(zip(digests, rates, strict=True))

    def replay(self, counts: CellCounts, draws: Sequence[DrawnGroups]) -> "Chances":
        """Raise the chances of M cells from draw to draw; keep the rates.

        Args:
            counts: The cells, sorted by their first draw.
            draws: K draws.
        """
        ends = np.searchsorted(counts.first_draw, np.arange(len(draws)), side="right")
        num_rows = counts.num_rows.astype(float)
        groups = {name: _Groups(hashes) for name, hashes in counts.groups.items()}
        chances = Chances(len(num_rows))
        rates: dict[str, float] = {}
        before = np.zeros(len(num_rows))
        name = str(_VERSION)
        start = 0
        for draw, end in zip(draws, ends.tolist(), strict=True):
            for of_key in groups.values():
                of_key.add(num_rows, start, end)
            name = _name(name, draw, counts.take(slice(start, end)))
            drawn = groups[draw.by]
            rate = self._earlier.get(name)
            if rate is None:
                rate = drawn.find_rate(num_rows[:end], before[:end], draw.size)
            rates[name] = rate
            least = drawing.find_least_chances(np.maximum(drawn.num_rows, 1), rate)
            before = chances.add(end, drawn.number, least, before)
            start = end
        table = pa.table({"draws": list(rates), "rate": pa.array(rates.values(), pa.float64())})
        self._kept.keep_as(_KIND, table)
        return chances


class _Draw(NamedTuple):
    """What a draw makes of the chances before it."""

    num_there: int
    """So many of the first cells were there."""
    group: np.ndarray
    """The number of the group of each cell."""
    least: np.ndarray
    """The chance that a row of each group has at least."""

    def raise_chances(self, before: np.ndarray) -> np.ndarray:
        """Raise the chances of M cells."""
        chances = before.copy()
        there = chances[: self.num_there]
        np.maximum(there, self.least[self.group[: self.num_there]], out=there)
        return chances


class Chances:
    """The chances of M cells after each of K draws."""

    def __init__(self, num_cells: int) -> None:
        """Begin without draws."""
        self._num_cells = num_cells
        self._draws: list[_Draw] = []

    def add(
        self, num_there: int, group: np.ndarray, least: np.ndarray, before: np.ndarray
    ) -> np.ndarray:
        """Add a draw; the arguments are those of ``_Draw``. Return the chances after it."""
        draw = _Draw(num_there, group, least)
        self._draws.append(draw)
        return draw.raise_chances(before)

    def __len__(self) -> int:
        """Return the number of draws."""
        return len(self._draws)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield for each draw ``(M,)``, the chance of a row to be in it or in an earlier one."""
        chances = np.zeros(self._num_cells)
        for draw in self._draws:
            chances = draw.raise_chances(chances)
            yield chances


class _Groups:
    """The groups of M cells by a key."""

    def __init__(self, hashes: np.ndarray) -> None:
        values, number = np.unique(hashes, return_inverse=True)
        self.number = number
        """The number of the group of each cell."""
        self.num_rows = np.zeros(len(values))
        """Number of rows of each group that are there."""

    def add(self, num_rows: np.ndarray, start: int, stop: int) -> None:
        """Add the rows of some cells."""
        number = self.number[start:stop]
        self.num_rows += np.bincount(number, num_rows[start:stop], len(self.num_rows))

    def find_rate(self, num_rows: np.ndarray, before: np.ndarray, size: int) -> float:
        """Find the rate of a draw, given the rows and the chances of the cells that are there."""
        if not len(num_rows):
            return 0.0
        group_rows = self.num_rows[self.number[: len(num_rows)]]
        return drawing.find_rate(num_rows, group_rows, before, size)


def _name(earlier: str, draw: DrawnGroups, new: CellCounts) -> str:
    """Name a draw by the draw before it, by what it asks for, and by the cells that were new."""
    digest = hashlib.sha256(
        f"{earlier} {draw.size} {draw.by} {len(new.key)} {list(new.groups)}".encode()
    )
    digest.update(new.num_rows.tobytes())
    for hashes in new.groups.values():
        digest.update(hashes.tobytes())
    return digest.hexdigest()
