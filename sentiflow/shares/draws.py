"""The draws of a corpus so far -> their rows again, and the chance of each row to be drawn.

A corpus grows at its end: rows that are there keep their numbers, or, if they have ids of their
own, their order. Each row has a random number that never changes (``metrics.drawing``). So a draw
can be repeated whatever was added since, and all draws together are one sample, in which each row
has a known chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import drawing
from sentiflow.shares import draw_candidates, draw_chances, draw_sketches, rows
from sentiflow.shares.draw_candidates import Candidates, ChanceCells, Rows
from sentiflow.shares.draw_chances import CellCounts, Chances, DrawnGroups, Rates
from sentiflow.shares.draw_history import History, write_history
from sentiflow.shares.kept_tables import KeptTables

MAX_MISSING = 0.1
"""Maximum share of the rows of a sample that may be missing when it is drawn again. Above it, the
corpus has changed, or somebody has chosen rows by hand."""
_ALL_ROWS = np.iinfo(np.int64).max
"""Number of rows of the corpus if a draw does not tell it."""
_MIN_DEPTH = 256
"""Minimum rows of the sketch of a part."""
_MAX_CELLS = 1 << 20
"""Number of cells whose counts are held before they are merged."""
_KEY_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd factor by which hashes are combined to the key of a cell."""


@dataclass(frozen=True)
class Drawn:
    """The rows of K draws, N in total, in the order of the draws and of their files."""

    rows: pd.DataFrame
    """``row_id``, ``draw`` (counted from 0), the columns of ``trends.by``, ``text``."""
    chances: np.ndarray
    """``(N, K)``, the chance of each row to be in each draw."""
    first_draw: np.ndarray
    """N numbers: the first draw for which each row was there."""
    ends: np.ndarray
    """K numbers: rows that came at this number or later came after each draw, see
    ``PredictionBatch.arrival``."""
    num_new: int
    """Unlabelled rows that came after the last draw."""
    cell_rows: np.ndarray
    """Number of rows in each of M cells; rows of a cell have equal chances."""
    chances_so_far: Chances
    """For each draw the chances of the rows of each cell to be in it or in an earlier one."""


def replay(
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    history: History,
    drawn_before: np.ndarray,
    kept: KeptTables,
    *,
    with_text: bool = False,
) -> Drawn:
    """Draw the rows of a history by their numbers and groups alone.

    Predictions do not matter, so the same rows are drawn after another model has scored the corpus.
    A draw takes the rows with the smallest ranks among the rows that were there and were not drawn
    before. A part whose sketch is kept is not read.

    Args:
        settings: What the drawn rows are grouped by, for their columns.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        history: The draws.
        drawn_before: Numbers of rows that were drawn. The predictions may have labels of them now,
            but they had no label when they were drawn.
        kept: Tables of an earlier result. The sketches for the next one are added.
        with_text: Read the texts, too.

    Raises:
        UserError: Every row has a label, or a draw was from more rows than the one after it, or
            than there are.
    """
    replayed = _Replay(settings, scored, uri, history, drawn_before, kept)
    cells = replayed.count_cells()
    table = replayed.choose(cells)
    cell = table.pop("cell").to_numpy()
    chances_so_far = np.stack([chances[cell] for chances in cells.chances_so_far])
    if settings.by or with_text:
        table = _add_columns(table, settings, scored, uri, len(history) - 1, with_text=with_text)
    return Drawn(
        rows=table,
        chances=np.ascontiguousarray(np.diff(chances_so_far, axis=0, prepend=0).T),
        first_draw=cells.first_draw[cell],
        ends=replayed.ends,
        num_new=cells.num_new,
        cell_rows=cells.num_rows,
        chances_so_far=cells.chances_so_far,
    )


def check_arrived(history: History, num_rows: int) -> None:
    """Check that draws from files with their own ids were not from more rows than there are.

    Args:
        history: The draws.
        num_rows: Number of predictions.

    Raises:
        UserError: A draw was from more rows.
    """
    for draw in history:
        if (draw.num_rows or 0) > num_rows:
            raise UserError(
                f"sample {write_history((draw,))!r}: the predictions have {num_rows:,} rows. They "
                "are of another corpus, or the second number is the largest row_id + 1, which was "
                "written before rows with ids of their own were counted",
                hint="draw a sample again; leave such files out of trends.labels, and move such "
                "files of OUTPUT_URI/samples away",
            )


def _add_columns(
    table: pd.DataFrame,
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    last_draw: int,
    *,
    with_text: bool,
) -> pd.DataFrame:
    """Add the groups and texts of the rows of the last draw; other rows have none."""
    wanted = np.sort(table.loc[table["draw"] == last_draw, "row_id"].to_numpy())
    reader = rows.PredictionReader(settings, scored, uri, with_text=with_text)
    found = [pd.DataFrame({"row_id": np.zeros(0, np.int64)})]
    num_found = 0
    for part in reversed(reader.parts):  # most rows of a draw are new
        if num_found == len(wanted):
            break
        for batch in reader.read_part(part, only=wanted):
            columns = batch.keys.assign(row_id=batch.row_id)
            if batch.text is not None:
                columns["text"] = batch.text.to_pandas().to_numpy()
            found.append(columns)
            num_found += len(columns)
    return table.merge(pd.concat(found), how="left", on="row_id")


class _Replay:
    """Replays draws from the sketches of the parts."""

    def __init__(
        self,
        settings: TrendsSettings,
        scored: Manifest,
        uri: str,
        history: History,
        drawn_before: np.ndarray,
        kept: KeptTables,
    ) -> None:
        """Check the order of the draws, and find the sketches of all parts.

        Raises:
            UserError: A draw was from more rows than the one after it, or from more than there are.
        """
        self.history = history
        self.by = [draw.by or rows.CONSTANT_KEY for draw in history]
        self.ends = np.array([draw.num_rows or _ALL_ROWS for draw in history], np.int64)
        if (np.diff(self.ends) < 0).any():
            raise UserError(
                f"sample {write_history(history)!r}: a corpus grows from draw to draw",
                hint="use the column sample as sentiflow trends --sample has written it",
            )
        columns = dict.fromkeys(draw.by for draw in history if draw.by)
        grouping = settings.model_copy(update={"by": tuple(columns)})
        reader = rows.PredictionReader(grouping, scored, uri)
        if reader.starts:
            check_arrived(history, rows.find_end(scored, uri))
        sizes = [draw.size for draw in history]
        a_part = 2 * sum(sizes) // max(1, len(reader.parts))
        self._reader = draw_sketches.SketchReader(
            reader,
            by=list(dict.fromkeys(self.by)),
            ends=self.ends,
            drawn_before=drawn_before,
            depth=max(_MIN_DEPTH, 4 * max(sizes), a_part),
            kept=kept,
        )
        self._reader.read()
        self._rates = Rates(kept)

    def count_cells(self) -> ChanceCells:
        """Add up the rows of each cell, and replay the chances of the draws.

        Raises:
            UserError: Every row has a label.
        """
        parts: list[CellCounts] = []
        num_cells = 0
        for sketch in self._reader.sketches:
            cells = sketch.cells
            first_draw = draw_sketches.find_first_draw(self.ends, cells.first_arrival)
            key = _combine(first_draw, cells.groups, self._reader.by)
            parts.append(CellCounts(key, first_draw, cells.groups, cells.num_rows))
            num_cells += len(key)
            if num_cells > _MAX_CELLS:
                parts = [draw_chances.merge(parts)]
                num_cells = 0
        counts = draw_chances.merge(parts) if parts else None
        if counts is None or not len(counts.key):
            raise UserError(
                "every row of the predictions has a label",
                hint="run without --sample, which counts the labels",
            )
        is_new = counts.first_draw == len(self.history)
        num_new = int(counts.num_rows[is_new].sum())
        counts = counts.take(~is_new)
        if not len(counts.key):
            raise UserError(
                f"no row of the sample of {write_history(self.history)} is in these predictions",
                hint="the file belongs to another corpus",
            )
        order = np.argsort(counts.first_draw, kind="stable")
        position_of_key = np.empty(len(order), np.int64)
        position_of_key[order] = np.arange(len(order))
        in_order = counts.take(order)
        return ChanceCells(
            key=counts.key,
            position_of_key=position_of_key,
            chances_so_far=self._replay_chances(in_order),
            first_draw=in_order.first_draw,
            num_rows=in_order.num_rows,
            num_new=num_new,
        )

    def _replay_chances(self, counts: CellCounts) -> Chances:
        """Raise the chances of M cells, sorted by their first draw, from draw to draw."""
        draws = []
        for draw, key in zip(self.history, self.by, strict=True):
            draws.append(DrawnGroups(draw.size, key))
        return self._rates.replay(counts, draws)

    def choose(self, cells: ChanceCells) -> pd.DataFrame:
        """Choose the rows of all draws; read the parts whose sketch has too few rows.

        Returns:
            ``row_id``, ``draw``, and ``cell``, the place of the cell of each row.
        """
        sizes = [draw.size for draw in self.history]
        candidates = Candidates(sizes, cells)
        candidates.add(self._join_sketches(cells))
        for number in self._find_short(candidates, cells):
            sketch = self._reader.sketches[number]
            for batch in self._reader.reader.read_part(self._reader.reader.parts[number]):
                is_left = self._reader.find_unlabelled(batch)
                is_left &= ~np.isin(batch.row_id, sketch.row_id)
                first_draw = draw_sketches.find_first_draw(self.ends, batch.arrival)
                groups = self._reader.hash_groups(batch)
                key = _combine(first_draw, groups, self._reader.by)
                row_id = batch.row_id[is_left]
                odds = drawing.find_odds(row_id)
                candidates.add(
                    draw_candidates.to_rows(cells, row_id, odds, first_draw[is_left], key[is_left])
                )
            if len(sketch.row_id) < self._reader.depth:  # another run made it, for fewer rows
                self._reader.replace(number)
        self._reader.keep()
        return candidates.choose()

    def _join_sketches(self, cells: ChanceCells) -> Rows:
        """Join the rows of all sketches."""
        keys = []
        first_draws = []
        row_ids = []
        for sketch in self._reader.sketches:
            first_draw = draw_sketches.find_first_draw(self.ends, sketch.cells.first_arrival)
            key = _combine(first_draw, sketch.cells.groups, self._reader.by)
            keys.append(key[sketch.cell])
            first_draws.append(first_draw[sketch.cell])
            row_ids.append(sketch.row_id)
        row_id = np.concatenate(row_ids)
        odds = drawing.find_odds(row_id)
        first_draw = np.concatenate(first_draws)
        return draw_candidates.to_rows(cells, row_id, odds, first_draw, np.concatenate(keys))

    def _find_short(self, candidates: Candidates, cells: ChanceCells) -> list[int]:
        """Find the parts of which a draw may take a row that is not in their sketch."""
        found: list[int] = []
        lacking: list[_Lacking] = []
        num_cells = 0
        last = len(self._reader.sketches) - 1
        for number, sketch in enumerate(self._reader.sketches):
            lacking.append(self._find_lacking(number, sketch))
            num_cells += len(lacking[-1].cut)
            if num_cells > _MAX_CELLS or number == last:
                part = np.concatenate([each.part for each in lacking])
                placed = draw_candidates.to_rows(
                    cells,
                    row_id=np.arange(len(part)),  # which row it would be is unknown
                    odds=np.concatenate([each.cut for each in lacking]),
                    first_draw=np.concatenate([each.first_draw for each in lacking]),
                    key=np.concatenate([each.key for each in lacking]),
                )
                found += np.unique(part[candidates.find_takable(placed)]).tolist()
                lacking = []
                num_cells = 0
        return found

    def _find_lacking(self, number: int, sketch: draw_sketches.Sketch) -> "_Lacking":
        """Find the cells of a part that have rows which are not in its sketch."""
        is_cut = sketch.cells.cut < draw_sketches.NEVER_CUT
        first_draw = draw_sketches.find_first_draw(self.ends, sketch.cells.first_arrival[is_cut])
        groups = {name: hashes[is_cut] for name, hashes in sketch.cells.groups.items()}
        return _Lacking(
            part=np.full(len(first_draw), number),
            first_draw=first_draw,
            key=_combine(first_draw, groups, self._reader.by),
            cut=sketch.cells.cut[is_cut],
        )


class _Lacking(NamedTuple):
    """Cells of parts that have rows which are not in the sketch of the part."""

    part: np.ndarray
    """The number of the part of each cell."""
    first_draw: np.ndarray
    """The first draw for which the rows of each cell were there."""
    key: np.ndarray
    """The key of each cell."""
    cut: np.ndarray
    """The lowest odds of a row of each cell that is not in the sketch."""


def _combine(
    first_draw: np.ndarray, groups: Mapping[str, np.ndarray], by: Sequence[str]
) -> np.ndarray:
    """Combine the groups and the first draw of rows or cells to the key of the cell."""
    key = first_draw.astype(np.uint64)
    for name in by:
        key = (key ^ groups[name]) * _KEY_FACTOR
    return key
