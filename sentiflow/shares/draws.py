"""The draws of a corpus so far -> their rows again, and the chance of each row to be drawn.

A corpus grows at its end: rows that are there keep their numbers. Each row has a random number that
never changes (``metrics.sampling``). So a draw can be repeated whatever was added since, and all
draws together are one sample, in which each row has a known chance.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data.arrays import find_sorted
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import sampling
from sentiflow.shares import rows

_ITEM = re.compile(
    r"(?P<size>\d[\d,]*)(?: of (?P<num_rows>\d[\d,]*))?(?P<rows> rows(?: by (?P<by>.+?))?)?"
    r"(?:, after (?=\d[\d,]* of )|$)"
)
"""A draw in a value of the column ``sample``."""
MAX_MISSING = 0.1
"""Maximum share of the rows of a sample that may be missing when it is drawn again. Above it, the
corpus has changed, or somebody has chosen rows by hand."""
_ALL_ROWS = np.iinfo(np.int64).max
"""Number of rows of the corpus if a draw does not tell it."""
_MAX_PARTS = 16
"""Number of batches whose counts are held before they are merged."""
_KEY_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd factor by which hashes are combined to the key of a cell."""


class Draw(NamedTuple):
    """A draw of rows to label."""

    size: int
    """Number of rows that were asked for."""
    num_rows: int | None
    """Number of rows that the corpus had: the rows with smaller numbers. None: all rows, as values
    of an earlier version say it."""
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


@dataclass(frozen=True)
class Drawn:
    """The rows of K draws, N in total, in the order of the draws and of their files."""

    rows: pd.DataFrame
    """``row_id``, ``draw`` (counted from 0), the columns of ``trends.by``, ``text``."""
    chances: np.ndarray
    """``(N, K)``, the chance of each row to be in each draw."""
    ends: np.ndarray
    """K row numbers: rows with this number and greater ones came after each draw."""
    num_new: int
    """Unlabelled rows that came after the last draw."""
    cell_rows: np.ndarray
    """Number of rows in each of M cells; rows of a cell have equal chances."""
    cell_chances: np.ndarray
    """``(M, K)``, the chance of a row of each cell to be in each draw."""


class _Cells(NamedTuple):
    """M cells of unlabelled rows: rows of a group that came between the same two draws."""

    key: np.ndarray
    """M keys, sorted."""
    chances_so_far: np.ndarray
    """``(M, K)``, the chance of a row to be in each draw or in an earlier one."""
    num_rows: np.ndarray
    """Number of rows in each cell, M."""
    num_new: int
    """Rows after the last draw, which are in no cell."""


class _Batch(NamedTuple):
    """The unlabelled rows of a batch."""

    row_id: np.ndarray
    first_draw: np.ndarray
    """The first draw for which each row was there; the number of draws if it came later."""
    groups: pd.DataFrame
    """Hashes of the groups by each column; rows that come after the last draw are included."""
    keys: pd.DataFrame
    text: pa.Array | None


def replay(
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    history: History,
    drawn_before: np.ndarray,
    *,
    with_text: bool = False,
) -> Drawn:
    """Draw the rows of a history by their numbers and groups alone.

    Predictions do not matter, so the same rows are drawn after another model has scored the corpus.
    A draw takes the rows with the smallest ranks among the rows that were there and were not drawn
    before. Two passes over the rows: one counts them by group, the other draws.

    Args:
        settings: What the drawn rows are grouped by, for their columns.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        history: The draws.
        drawn_before: Numbers of rows that were drawn. The predictions may have labels of them now,
            but they had no label when they were drawn.
        with_text: Read the texts, too.

    Raises:
        UserError: Every row has a label, or a draw was from more rows than the one after it.
    """
    reader = _Reader(settings, scored, uri, history, drawn_before)
    cells = reader.count_cells()
    candidates = _Candidates(history, cells)
    for batch in reader.read(with_text=with_text):
        candidates.add(batch)
    table = candidates.choose()
    cell = table.pop("cell").to_numpy()
    cell_chances = np.diff(cells.chances_so_far, axis=1, prepend=0)
    return Drawn(
        rows=table,
        chances=cell_chances[cell],
        ends=reader.ends,
        num_new=cells.num_new,
        cell_rows=cells.num_rows,
        cell_chances=cell_chances,
    )


class _Reader:
    """Reads the rows that were unlabelled before the draws of a history."""

    def __init__(
        self,
        settings: TrendsSettings,
        scored: Manifest,
        uri: str,
        history: History,
        drawn_before: np.ndarray,
    ) -> None:
        """Check the order of the draws.

        Raises:
            UserError: A draw was from more rows than the one after it.
        """
        self.history = history
        self.by = [draw.by or rows.CONSTANT_KEY for draw in history]
        self.ends = np.array([draw.num_rows or _ALL_ROWS for draw in history], np.int64)
        if (np.diff(self.ends) < 0).any():
            raise UserError(
                f"sample {write_history(history)!r}: a corpus grows from draw to draw",
                hint="use the column sample as sentiflow trends --sample has written it",
            )
        columns = dict.fromkeys([*settings.by, *(draw.by for draw in history if draw.by)])
        self._settings = settings.model_copy(update={"by": tuple(columns)})
        self._scored = scored
        self._uri = uri
        self._drawn_before = drawn_before

    def read(self, *, with_text: bool = False) -> Iterator[_Batch]:
        """Read the unlabelled rows, batch by batch."""
        for batch in rows.read(self._settings, self._scored, self._uri, with_text=with_text):
            was_unlabelled = (batch.label < 0) | np.isin(batch.row_id, self._drawn_before)
            row_id = batch.row_id[was_unlabelled]
            keys = batch.keys[was_unlabelled]
            groups = {}
            for name in dict.fromkeys(self.by):
                groups[name] = pd.util.hash_pandas_object(keys[name], index=False).to_numpy()
            text = None
            if batch.text is not None:
                text = batch.text.filter(pa.array(was_unlabelled))
            yield _Batch(
                row_id=row_id,
                first_draw=np.searchsorted(self.ends, row_id, side="right"),
                groups=pd.DataFrame(groups),
                keys=keys,
                text=text,
            )

    def count_cells(self) -> _Cells:
        """Count the rows of each cell, and replay the chances of the draws.

        Raises:
            UserError: Every row has a label.
        """
        parts: list[pd.DataFrame] = []
        for batch in self.read():
            table = batch.groups.assign(
                first_draw=batch.first_draw, key=_combine(batch), num_rows=1
            )
            parts.append(_merge_cells([table]))
            if len(parts) == _MAX_PARTS:
                parts = [_merge_cells(parts)]
        counts = _merge_cells(parts) if parts else pd.DataFrame()
        if not len(counts):
            raise UserError(
                "every row of the predictions has a label",
                hint="run without --sample, which counts the labels",
            )
        is_new = counts["first_draw"] == len(self.history)
        num_new = int(counts.loc[is_new, "num_rows"].sum())
        counts = counts[~is_new]
        if not len(counts):
            raise UserError(
                f"no row of the sample of {write_history(self.history)} is in these predictions",
                hint="the file belongs to another corpus",
            )
        return _Cells(
            key=counts["key"].to_numpy(),
            chances_so_far=self._replay_chances(counts),
            num_rows=counts["num_rows"].to_numpy(),
            num_new=num_new,
        )

    def _replay_chances(self, counts: pd.DataFrame) -> np.ndarray:
        """Raise the chances of M cells from draw to draw; return ``_Cells.chances_so_far``."""
        chances = np.zeros((len(counts), len(self.history)))
        before = np.zeros(len(counts))
        for number, draw in enumerate(self.history):
            was_there = (counts["first_draw"] <= number).to_numpy()
            if was_there.any():
                present = counts[was_there]
                num_rows = present["num_rows"]
                group_rows = num_rows.groupby(present[self.by[number]]).transform("sum")
                after = sampling.raise_chances(
                    num_rows.to_numpy(float),
                    group_rows.to_numpy(float),
                    before[was_there],
                    draw.size,
                )
                before[was_there] = after
            chances[:, number] = before
        return chances


def _combine(batch: _Batch) -> np.ndarray:
    """Combine the groups and the first draw of each row to the key of its cell."""
    key = batch.first_draw.astype(np.uint64)
    for name in batch.groups:
        key = (key ^ batch.groups[name].to_numpy()) * _KEY_FACTOR
    return key


def _merge_cells(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Add up the counts of cells; the result is sorted by key."""
    table = pd.concat(parts)
    how = dict.fromkeys(table.columns.drop("key"), "first") | {"num_rows": "sum"}
    return table.groupby("key", as_index=False).agg(how)


class _Candidates:
    """The rows with the smallest ranks of each draw, from batch to batch.

    Earlier draws may take some of these rows. So each draw keeps as many candidates as it and all
    earlier draws together take.
    """

    def __init__(self, history: History, cells: _Cells) -> None:
        self._sizes = [draw.size for draw in history]
        self._limits: list[int] = np.cumsum(self._sizes).tolist()
        self._cells = cells
        self._tables: list[pd.DataFrame] = [pd.DataFrame()] * len(history)

    def add(self, batch: _Batch) -> None:
        """Add the rows of a batch."""
        _, cell = find_sorted(self._cells.key, _combine(batch))
        for number, limit in enumerate(self._limits):
            at = np.flatnonzero(batch.first_draw <= number)
            chance = self._cells.chances_so_far[cell[at], number]
            rank = sampling.rank_rows(chance, batch.row_id[at])
            lowest = self._find_lowest(number, rank)
            at = at[lowest]
            new = pd.DataFrame({"row_id": batch.row_id[at], "cell": cell[at], "rank": rank[lowest]})
            is_last = number == len(self._limits) - 1
            if is_last:
                new = new.join(batch.keys.iloc[at].reset_index(drop=True))
                if batch.text is not None:
                    new["text"] = batch.text.take(pa.array(at)).to_pandas().to_numpy()
            self._tables[number] = pd.concat([self._tables[number], new]).nsmallest(limit, "rank")

    def _find_lowest(self, number: int, rank: np.ndarray) -> np.ndarray:
        """Find the rows of a batch that may be among the candidates of a draw."""
        limit = self._limits[number]
        found = self._tables[number]
        if len(found) == limit:
            return np.flatnonzero(rank < found["rank"].max())
        if len(rank) > limit:
            return np.argpartition(rank, limit - 1)[:limit]
        return np.arange(len(rank))

    def choose(self) -> pd.DataFrame:
        """Choose the rows of each draw that no earlier draw has taken, in random order.

        Returns:
            ``Drawn.rows``, with groups and texts only for rows of the last draw; and ``cell``, the
            place of the cell of each row.
        """
        chosen = []
        taken = np.zeros(0, np.int64)
        for number, table in enumerate(self._tables):
            is_free = ~table["row_id"].isin(taken)
            of_draw = table[is_free].head(self._sizes[number])
            order = sampling.order_rows(of_draw["row_id"].to_numpy())
            of_draw = of_draw.iloc[np.argsort(order)]
            taken = np.concatenate([taken, of_draw["row_id"].to_numpy()])
            chosen.append(of_draw.assign(draw=number))
        return pd.concat(chosen, ignore_index=True).drop(columns="rank")
