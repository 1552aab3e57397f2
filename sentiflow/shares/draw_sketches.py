"""Parts of predictions -> unlabelled rows by group, and the rows that a draw takes first; kept.

The rows of a *cell* have equal chances, and those with the lowest odds are drawn first. So a few
rows of a part are enough to draw again. Where they are not, the whole part is read, so a draw is
exactly the draw from all rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry
from sentiflow.metrics import drawing
from sentiflow.progress import Progress
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.rows import PredictionBatch, PredictionReader

_VERSION = 2
"""Changes whenever the same part would give other tables."""
_PARTS_PER_TABLE = 64
"""Consecutive parts whose sketches are one kept table."""
_GROUP = "group-"
"""What names of columns with hashes of groups begin with, in a kept table."""
NEVER_CUT = np.inf
"""The odds of a cell whose rows are all in its sketch."""
_MAX_ROW = int(np.iinfo(np.int64).max)
_OF_CELLS = {
    "num_rows": pa.int64(),
    "first_arrival": pa.int64(),
    "last_arrival": pa.int64(),
    "cut": pa.float64(),
}
"""Columns of cells in a kept table, besides their groups: a list for each part."""


@dataclass(frozen=True)
class SketchCells:
    """M cells of unlabelled rows: rows of a group that came between the same two draws."""

    groups: dict[str, np.ndarray]
    """Hashes of the group of each cell, by key."""
    num_rows: np.ndarray
    first_arrival: np.ndarray
    """The first row of each cell in the order of arrival, see ``PredictionBatch.arrival``."""
    last_arrival: np.ndarray
    """The last row of each cell in the order of arrival."""
    cut: np.ndarray
    """The lowest odds of a row of each cell that is not in the sketch; ``NEVER_CUT`` if all are."""


@dataclass(frozen=True)
class Sketch:
    """The unlabelled rows of a part."""

    cells: SketchCells
    row_id: np.ndarray
    """N rows: in each cell those with the lowest odds."""
    cell: np.ndarray
    """The place of the cell of each row in ``cells``."""
    labelled: tuple[int, int]
    """The lowest and the highest number of a row whose label the corpus has; if there is none, the
    second is -1."""
    drawn: str
    """Identifies the rows between these two numbers that were drawn before: they may have had no
    label then."""


class SketchReader:
    """Finds the sketches of all parts, and reads the parts that have none."""

    def __init__(
        self,
        reader: PredictionReader,
        by: Sequence[str],
        ends: np.ndarray,
        drawn_before: np.ndarray,
        depth: int,
        kept: KeptTables,
    ) -> None:
        """Name the parts, and find what is kept of them.

        Args:
            reader: Reads the columns of ``by``.
            by: The keys by whose groups rows are drawn, each once.
            ends: K numbers: rows that came at this number or later came after each draw, see
                ``PredictionBatch.arrival``.
            drawn_before: Numbers of rows that were drawn.
            depth: Rows of a sketch.
            kept: Tables of an earlier result. The sketches for the next one are added.
        """
        self.reader = reader
        self.sketches: list[Sketch] = []
        """The sketch of each part of the reader."""
        self.by = list(by)
        """The keys by whose groups rows are drawn."""
        self._ends = ends
        self._drawn_before = np.unique(drawn_before)
        self.depth = depth
        """Rows of a new sketch."""
        self._kept = kept
        self._tables: dict[tuple[str, ...], str] = {}
        """Names of kept tables, by the names of their parts."""
        self._made: set[str] = set()
        """Names of parts whose sketch was made anew."""
        self._names = []
        for part in reader.parts:
            start = reader.starts.get(part["path"])
            content = [_VERSION, reader.rule, self.by, part["path"], part["bytes"], start]
            self._names.append(manifest.fingerprint(content))

    def read(self) -> None:
        """Fill :attr:`sketches`; read the parts whose sketch is not kept or does not hold."""
        found = self._find_kept()
        unread = [part["rows"] or 0 for part, name in self._pairs() if name not in found]
        with Progress("trends", total=sum(unread), unit="rows") as progress:
            for part, name in self._pairs():
                sketch = found.get(name)
                if sketch is None:
                    sketch = self._read_part(part)
                    self._made.add(name)
                    progress.advance(part["rows"] or 0)
                self.sketches.append(sketch)

    def _pairs(self) -> Iterator[tuple[FileEntry, str]]:
        return zip(self.reader.parts, self._names, strict=True)

    def keep(self) -> None:
        """Keep the sketches for the next result; a table whose sketches are the same stays."""
        for start in range(0, len(self._names), _PARTS_PER_TABLE):
            stop = start + _PARTS_PER_TABLE
            names = self._names[start:stop]
            earlier = self._tables.get(tuple(names))
            if earlier and self._made.isdisjoint(names):
                self._kept.keep_again(earlier)
            else:
                table = _to_table(names, self.sketches[start:stop], self.by)
                self._kept.keep_as("draws", table)

    def replace(self, number: int) -> None:
        """Read a part again, whose sketch had too few rows."""
        self.sketches[number] = self._read_part(self.reader.parts[number])
        self._made.add(self._names[number])

    def _find_kept(self) -> dict[str, Sketch]:
        """Find the kept sketches that hold, by name."""
        current = set(self._names)
        found = {}
        for table_name in self._kept.names("draws"):
            table = self._kept.find(table_name)
            if table is None:
                continue
            names = table["part"].to_pylist()
            self._tables[tuple(names)] = table_name
            if current.isdisjoint(names):
                continue  # of other keys
            for name, sketch in zip(names, _from_table(table, self.by), strict=True):
                if name in current and self._holds(sketch):
                    found[name] = sketch
        return found

    def _holds(self, sketch: Sketch) -> bool:
        """Say whether no draw came amid the rows of a cell, and the same rows had no label."""
        first = find_first_draw(self._ends, sketch.cells.first_arrival)
        last = find_first_draw(self._ends, sketch.cells.last_arrival)
        return bool((first == last).all()) and sketch.drawn == self._name_drawn(sketch.labelled)

    def _name_drawn(self, labelled: tuple[int, int]) -> str:
        """Identify the rows in a range that were drawn before."""
        first, last = labelled
        start = np.searchsorted(self._drawn_before, first)
        stop = np.searchsorted(self._drawn_before, last, side="right")
        return manifest.fingerprint(self._drawn_before[start : max(start, stop)].tolist())

    def find_unlabelled(self, batch: PredictionBatch) -> np.ndarray:
        """Say of each row of a batch whether it had no label before the draws, bool."""
        return (batch.label < 0) | np.isin(batch.row_id, self._drawn_before)

    def hash_groups(self, batch: PredictionBatch) -> dict[str, np.ndarray]:
        """Hash the group of each row of a batch by each key."""
        hashes = {}
        for name in self.by:
            keys = batch.keys[name]
            hashes[name] = pd.util.hash_pandas_object(keys, index=False).to_numpy()
        return hashes

    def _read_part(self, part: FileEntry) -> Sketch:
        """Make the sketch of a part."""
        first_labelled = _MAX_ROW
        last_labelled = -1
        parts = []
        for batch in self.reader.read_part(part):
            of_labelled = batch.row_id[batch.label >= 0]
            first_labelled = min(first_labelled, int(of_labelled.min(initial=_MAX_ROW)))
            last_labelled = max(last_labelled, int(of_labelled.max(initial=-1)))
            groups = pd.DataFrame(self.hash_groups(batch))
            groups = groups.assign(row_id=batch.row_id, arrival=batch.arrival)
            parts.append(groups[self.find_unlabelled(batch)])
        table = pd.concat(parts, ignore_index=True)
        first_draw = find_first_draw(self._ends, table["arrival"].to_numpy())
        grouped = table.assign(first_draw=first_draw).groupby([*self.by, "first_draw"])
        cell = grouped.ngroup().to_numpy()
        of_cells = grouped["arrival"].agg(["size", "min", "max"]).reset_index()
        num_rows = of_cells["size"].to_numpy(np.int64)
        row_id = table["row_id"].to_numpy(np.int64)
        odds = drawing.find_odds(row_id)
        is_kept = np.ones(len(row_id), bool)
        if len(row_id) > self.depth:
            # Rows of small groups have higher chances, see drawing.find_rate.
            order = odds * np.sqrt(num_rows[cell])
            is_kept[np.argpartition(order, self.depth)[self.depth :]] = False
        cut = np.full(len(num_rows), NEVER_CUT)
        np.minimum.at(cut, cell[~is_kept], odds[~is_kept])
        cells = SketchCells(
            groups={key: of_cells[key].to_numpy(np.uint64) for key in self.by},
            num_rows=num_rows,
            first_arrival=of_cells["min"].to_numpy(np.int64),
            last_arrival=of_cells["max"].to_numpy(np.int64),
            cut=cut,
        )
        labelled = (first_labelled, last_labelled)
        return Sketch(
            cells=cells,
            row_id=row_id[is_kept],
            cell=cell[is_kept],
            labelled=labelled,
            drawn=self._name_drawn(labelled),
        )


def find_first_draw(ends: np.ndarray, arrival: np.ndarray) -> np.ndarray:
    """Find the first draw for which rows were there; the number of draws for later rows.

    Args:
        ends: For each draw, rows that came at this number or later came after it.
        arrival: Numbers of rows, see ``PredictionBatch.arrival``.
    """
    return np.searchsorted(ends, arrival, side="right")


def _to_table(names: Sequence[str], sketches: Sequence[Sketch], by: Sequence[str]) -> pa.Table:
    """Convert the sketches of parts to a table: a row for each, with a list for each column."""
    columns: dict[str, Any] = {
        "part": pa.array(names, pa.string()),
        "first_labelled": pa.array([sketch.labelled[0] for sketch in sketches], pa.int64()),
        "last_labelled": pa.array([sketch.labelled[1] for sketch in sketches], pa.int64()),
        "drawn": pa.array([sketch.drawn for sketch in sketches], pa.string()),
        "row_id": _to_lists([sketch.row_id for sketch in sketches], pa.int64()),
        "cell": _to_lists([sketch.cell for sketch in sketches], pa.int32()),
    }
    for number, key in enumerate(by):
        hashes = [sketch.cells.groups[key] for sketch in sketches]
        columns[f"{_GROUP}{number}"] = _to_lists(hashes, pa.uint64())
    for column, kind in _OF_CELLS.items():
        values = [getattr(sketch.cells, column) for sketch in sketches]
        columns[column] = _to_lists(values, kind)
    return pa.table(columns)


def _to_lists(values: Sequence[np.ndarray], kind: pa.DataType) -> pa.ListArray:
    """Convert arrays to an array of lists."""
    offsets = np.cumsum([0, *(len(each) for each in values)])
    joined = np.concatenate(values).astype(kind.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(joined, kind))


def _from_table(table: pa.Table, by: Sequence[str]) -> Iterator[Sketch]:
    """Convert a table of :func:`_to_table` to the sketches of its parts."""
    rows = table.combine_chunks()
    hashes = {key: _from_lists(rows[f"{_GROUP}{number}"]) for number, key in enumerate(by)}
    of_cells = {column: _from_lists(rows[column]) for column in _OF_CELLS}
    row_id = _from_lists(rows["row_id"])
    cell = _from_lists(rows["cell"])
    first_labelled = rows["first_labelled"].to_pylist()
    last_labelled = rows["last_labelled"].to_pylist()
    drawn = rows["drawn"].to_pylist()
    for number in range(len(rows)):
        groups = {key: values[number] for key, values in hashes.items()}
        columns = {column: values[number] for column, values in of_cells.items()}
        yield Sketch(
            cells=SketchCells(groups=groups, **columns),
            row_id=row_id[number],
            cell=cell[number].astype(np.int64),
            labelled=(first_labelled[number], last_labelled[number]),
            drawn=drawn[number],
        )


def _from_lists(lists: pa.ChunkedArray) -> list[np.ndarray]:
    """Convert a column of lists, without nulls and in one chunk, to arrays."""
    chunk = lists.chunk(0)
    return np.split(chunk.values.to_numpy(), chunk.offsets.to_numpy()[1:-1])
