"""Rows that may be drawn -> the rows that each of some draws takes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.data.arrays import find_sorted
from sentiflow.metrics import drawing
from sentiflow.shares.draw_chances import Chances


class ChanceCells(NamedTuple):
    """M cells of rows that were there for a draw, sorted by the first draw."""

    key: np.ndarray
    """M keys, sorted."""
    position_of_key: np.ndarray
    """The place of the cell of each key."""
    chances_so_far: Chances
    """For each of K draws the chances of the rows of each cell to be in it or in an earlier one."""
    first_draw: np.ndarray
    """The first draw for which the rows of each cell were there, M."""
    num_rows: np.ndarray
    """Number of rows in each cell, M."""
    num_new: int
    """Rows after the last draw, which are in no cell."""


class Rows(NamedTuple):
    """N unlabelled rows that may be drawn, sorted by their first draw."""

    row_id: np.ndarray
    odds: np.ndarray
    """See :func:`drawing.find_odds`."""
    cell: np.ndarray
    """The place of the cell of each row."""
    order: np.ndarray
    """The place of each row before they were sorted."""
    num_there: np.ndarray
    """K numbers: for each draw, so many of the first rows were there."""


def to_rows(
    cells: ChanceCells,
    row_id: np.ndarray,
    odds: np.ndarray,
    first_draw: np.ndarray,
    key: np.ndarray,
) -> Rows:
    """Find the cells of N rows, and sort the rows by their first draw.

    Args:
        cells: The cells.
        row_id: N row numbers.
        odds: See :func:`drawing.find_odds`.
        first_draw: The first draw for which each row was there; the number of draws for none.
        key: The key of the cell of each row.
    """
    order = np.argsort(first_draw, kind="stable")
    _, of_key = find_sorted(cells.key, key[order])
    draws = np.arange(len(cells.chances_so_far))
    return Rows(
        row_id=row_id[order],
        odds=odds[order],
        cell=cells.position_of_key[of_key],
        order=order,
        num_there=np.searchsorted(first_draw[order], draws, side="right"),
    )


class Candidates:
    """The rows with the smallest ranks of each draw.

    Earlier draws may take some of these rows. So each draw keeps as many candidates as it and all
    earlier draws together take.
    """

    def __init__(self, sizes: Sequence[int], cells: ChanceCells) -> None:
        """Begin without rows, given the number of rows of each of K draws."""
        self._sizes = sizes
        self._limits: list[int] = np.cumsum(sizes).tolist()
        self._cells = cells
        nothing = _Ranked(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        self._ranked = [nothing] * len(sizes)

    def add(self, new: Rows) -> None:
        """Add rows; none may be added twice."""
        draws = zip(self._limits, self._cells.chances_so_far, strict=True)
        for number, (limit, chances) in enumerate(draws):
            rank = _rank(new, number, chances)
            highest = self._find_highest(number)
            is_near = rank <= highest
            # Before the list is full, at most ``limit`` of the new rows can stay.
            if len(rank) > limit and not np.isfinite(highest):
                is_near = rank <= np.partition(rank, limit - 1)[limit - 1]
            near = np.flatnonzero(is_near)
            if len(near):
                found = _Ranked(new.row_id[near], new.cell[near], rank[near])
                self._ranked[number] = self._ranked[number].add(found, limit)

    def find_takable(self, new: Rows) -> np.ndarray:
        """Say of each of some rows that were not added whether a draw may take it, bool."""
        is_takable = np.zeros(len(new.row_id), bool)
        for number, chances in enumerate(self._cells.chances_so_far):
            rank = _rank(new, number, chances)
            is_takable[: len(rank)] |= rank <= self._find_highest(number)
        in_order = np.zeros(len(new.row_id), bool)
        in_order[new.order] = is_takable
        return in_order

    def _find_highest(self, number: int) -> float:
        """Find the rank up to which a row is a candidate of a draw."""
        found = self._ranked[number]
        if len(found.rank) < self._limits[number]:
            return np.inf
        return float(found.rank[-1])

    def choose(self) -> pd.DataFrame:
        """Choose the rows of each draw that no earlier draw has taken, in random order.

        Returns:
            ``row_id``, ``draw``, and ``cell``, the place of the cell of each row.
        """
        row_ids = []
        cells = []
        taken = np.zeros(0, np.int64)
        for found, size in zip(self._ranked, self._sizes, strict=True):
            is_free = ~np.isin(found.row_id, taken)
            free = np.flatnonzero(is_free)[:size]
            row_id = found.row_id[free]
            order = np.argsort(drawing.order_rows(row_id))
            row_ids.append(row_id[order])
            cells.append(found.cell[free][order])
            taken = np.concatenate([taken, row_id])
        num_rows = [len(row_id) for row_id in row_ids]
        return pd.DataFrame(
            {
                "row_id": np.concatenate(row_ids),
                "cell": np.concatenate(cells),
                "draw": np.repeat(np.arange(len(num_rows)), num_rows),
            }
        )


class _Ranked(NamedTuple):
    """Candidates of a draw, sorted by rank."""

    row_id: np.ndarray
    cell: np.ndarray
    """The place of the cell of each row."""
    rank: np.ndarray

    def add(self, other: "_Ranked", limit: int) -> "_Ranked":
        """Add candidates, and return the first ones up to a limit."""
        row_id = np.concatenate([self.row_id, other.row_id])
        cell = np.concatenate([self.cell, other.cell])
        rank = np.concatenate([self.rank, other.rank])
        order = np.lexsort((row_id, rank))[:limit]
        return _Ranked(row_id[order], cell[order], rank[order])


def _rank(new: Rows, number: int, chances: np.ndarray) -> np.ndarray:
    """Rank the rows that were there for a draw, given the chances of all cells after it."""
    end = new.num_there[number]
    return drawing.rank_odds(chances[new.cell[:end]], new.odds[:end])
