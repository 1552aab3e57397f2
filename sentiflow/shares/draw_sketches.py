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
from sentiflow.metrics import sampling
from sentiflow.progress import Progress
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.rows import PredictionBatch, PredictionReader

_VERSION = 1
"""Changes whenever the same part would give other tables."""
_PARTS_PER_TABLE = 64
"""Consecutive parts whose sketches are one kept table."""
_GROUP = "group-"
"""What names of columns with hashes of groups begin with, in a kept table."""
NEVER_CUT = np.inf
"""The odds of a cell whose rows are all in its sketch."""
_MAX_ROW = int(np.iinfo(np.int64).max)
_OF_CELLS = ("num_rows", "first_row", "last_row", "cut")
"""Columns of cells, besides their groups."""
_TYPES = {
    "part": pa.string(),
    "first_labelled": pa.int64(),
    "last_labelled": pa.int64(),
    "drawn": pa.string(),
    "row_id": pa.list_(pa.int64()),
    "cell": pa.list_(pa.int32()),
    "num_rows": pa.list_(pa.int64()),
    "first_row": pa.list_(pa.int64()),
    "last_row": pa.list_(pa.int64()),
    "cut": pa.list_(pa.float64()),
}
"""Types of the columns of a kept table; groups are lists of hashes."""


@dataclass(frozen=True)
class Sketch:
    """The unlabelled rows of a part."""

    cells: pd.DataFrame
    """Rows of a group that came between the same two draws: hashes of the group by each column,
    ``num_rows``, ``first_row`` and ``last_row`` (row numbers), and ``cut``: the lowest odds of a
    row of the cell that is not in this sketch."""
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
            ends: K row numbers: rows with this number and greater ones came after each draw.
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
        self._names = []
        for part in reader.parts:
            content = [_VERSION, reader.rule, self.by, part["path"], part["bytes"]]
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
                    progress.advance(part["rows"] or 0)
                self.sketches.append(sketch)

    def _pairs(self) -> Iterator[tuple[FileEntry, str]]:
        return zip(self.reader.parts, self._names, strict=True)

    def keep(self) -> None:
        """Keep the sketches for the next result."""
        for start in range(0, len(self._names), _PARTS_PER_TABLE):
            tables = []
            stop = start + _PARTS_PER_TABLE
            chosen = zip(self._names[start:stop], self.sketches[start:stop], strict=True)
            for name, sketch in chosen:
                tables.append(_to_table(name, sketch, self.by))
            self._kept.keep_as("draws", pa.concat_tables(tables))

    def replace(self, number: int) -> None:
        """Read a part again, whose sketch had too few rows."""
        self.sketches[number] = self._read_part(self.reader.parts[number])

    def _find_kept(self) -> dict[str, Sketch]:
        """Find the kept sketches that hold, by name."""
        current = set(self._names)
        found = {}
        for table_name in self._kept.names("draws"):
            table = self._kept.find(table_name)
            for line in table.to_batches(max_chunksize=1) if table is not None else ():
                name = line["part"][0].as_py()
                if name in current:
                    sketch = _from_line(line, self.by)
                    if self._holds(sketch):
                        found[name] = sketch
        return found

    def _holds(self, sketch: Sketch) -> bool:
        """Say whether no draw came amid the rows of a cell, and the same rows had no label."""
        first = np.searchsorted(self._ends, sketch.cells["first_row"], side="right")
        last = np.searchsorted(self._ends, sketch.cells["last_row"], side="right")
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

    def hash_groups(self, batch: PredictionBatch) -> pd.DataFrame:
        """Hash the group of each row of a batch by each key."""
        hashes = {}
        for name in self.by:
            keys = batch.keys[name]
            hashes[name] = pd.util.hash_pandas_object(keys, index=False).to_numpy()
        return pd.DataFrame(hashes)

    def _read_part(self, part: FileEntry) -> Sketch:
        """Make the sketch of a part."""
        first_labelled = _MAX_ROW
        last_labelled = -1
        parts = []
        for batch in self.reader.read_part(part):
            of_labelled = batch.row_id[batch.label >= 0]
            first_labelled = min(first_labelled, int(of_labelled.min(initial=_MAX_ROW)))
            last_labelled = max(last_labelled, int(of_labelled.max(initial=-1)))
            groups = self.hash_groups(batch).assign(row_id=batch.row_id)
            parts.append(groups[self.find_unlabelled(batch)])
        table = pd.concat(parts, ignore_index=True)
        first_draw = np.searchsorted(self._ends, table["row_id"], side="right")
        grouped = table.assign(first_draw=first_draw).groupby([*self.by, "first_draw"])
        cell = grouped.ngroup().to_numpy()
        of_cells = grouped["row_id"].agg(["size", "min", "max"]).reset_index()
        names = {"size": "num_rows", "min": "first_row", "max": "last_row"}
        cells = of_cells.rename(columns=names).drop(columns="first_draw")
        row_id = table["row_id"].to_numpy(np.int64)
        odds = sampling.find_odds(row_id)
        is_kept = np.ones(len(row_id), bool)
        if len(row_id) > self.depth:
            # Rows of small groups have higher chances, see sampling.raise_chances.
            order = odds * np.sqrt(cells["num_rows"].to_numpy()[cell])
            is_kept[np.argpartition(order, self.depth)[self.depth :]] = False
        cut = np.full(len(cells), NEVER_CUT)
        np.minimum.at(cut, cell[~is_kept], odds[~is_kept])
        labelled = (first_labelled, last_labelled)
        return Sketch(
            cells=cells.assign(cut=cut),
            row_id=row_id[is_kept],
            cell=cell[is_kept],
            labelled=labelled,
            drawn=self._name_drawn(labelled),
        )


def _to_table(name: str, sketch: Sketch, by: Sequence[str]) -> pa.Table:
    """Convert the sketch of a part to a table of one row, with a list for each column of cells."""
    columns: dict[str, Any] = {
        "part": [name],
        "first_labelled": [sketch.labelled[0]],
        "last_labelled": [sketch.labelled[1]],
        "drawn": [sketch.drawn],
        "row_id": [sketch.row_id],
        "cell": [sketch.cell.astype(np.int32)],
    }
    for number, key in enumerate(by):
        columns[f"{_GROUP}{number}"] = [sketch.cells[key].to_numpy(np.uint64)]
    for column in _OF_CELLS:
        columns[column] = [sketch.cells[column].to_numpy()]
    schema = pa.schema([(column, _TYPES.get(column, pa.list_(pa.uint64()))) for column in columns])
    return pa.table(columns, schema=schema)


def _from_line(line: pa.RecordBatch, by: Sequence[str]) -> Sketch:
    """Convert a table of :func:`_to_table` to a sketch."""

    def read(column: str) -> np.ndarray:
        return np.asarray(line[column].flatten().to_numpy())

    cells = {key: read(f"{_GROUP}{number}") for number, key in enumerate(by)}
    for column in _OF_CELLS:
        cells[column] = read(column)
    return Sketch(
        cells=pd.DataFrame(cells),
        row_id=read("row_id"),
        cell=read("cell").astype(np.int64),
        labelled=(line["first_labelled"][0].as_py(), line["last_labelled"][0].as_py()),
        drawn=line["drawn"][0].as_py(),
    )
