"""Drawn rows, and which are labelled -> the rows that an annotator has reached, with weights."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.shares import draw_history, draws

_NEVER = 1e-9
"""Rows whose chance to be drawn is at most this are never drawn; a chance is computed with small
errors of rounding."""
_MAX_LATE = 0.1
"""Maximum share of labelled rows that were there already at an earlier draw than their own, for
labels that come in the order of the rows."""


@dataclass(frozen=True)
class DrawnSample:
    """The rows of K draws up to the last labelled row of each draw, N in total."""

    row_id: np.ndarray
    """N row numbers."""
    draw: np.ndarray
    """The draw of each row, from 0."""
    first_draw: np.ndarray
    """The first draw for which each row was there."""
    chances: np.ndarray
    """``(N, K)``, the chance of each row to be in each draw."""
    sizes: np.ndarray
    """The number of rows of each draw, also those after its last labelled row."""
    ends: np.ndarray
    """K numbers: rows that came at this number or later came after each draw, see
    ``PredictionBatch.arrival``."""

    @property
    def end(self) -> int:
        """Return the number at which rows begin that came after the last draw with a label."""
        return int(self.ends[self.draw.max(initial=0)])

    @property
    def is_in_order(self) -> bool:
        """Say whether nearly all rows of each draw came after the draw before it."""
        num_late = np.count_nonzero(self.first_draw < self.draw)
        return num_late <= _MAX_LATE * len(self.row_id)

    def weigh(self, is_usable: np.ndarray) -> np.ndarray:
        """Weigh each row by the inverse of its chance to be in the usable part of a draw.

        The rows of a draw are in random order, so a usable part of it is a smaller draw. The chance
        of a row is the sum over the draws: its chance to be drawn, times the usable part. The parts
        are relative to the largest one.

        A later draw takes rows whose chance was smaller than others' so far. Rows that have caught
        up are expected in none, but a few are in one by chance; if the earlier draws are not
        usable, their weight would be infinite. So the chance has a lower limit: with c the chance
        to be in this draw or an earlier one, and n the rows of these draws, it is the usable part
        of the draw times c / (2 √n), half the standard error of c.

        Args:
            is_usable: Whether each row may measure the error of a model, bool.

        Returns:
            N weights; 0 for rows that are not usable.
        """
        num_usable = np.bincount(self.draw[is_usable], minlength=len(self.sizes))
        part = num_usable / np.maximum(self.sizes, 1)
        if not part.any():
            return np.zeros(len(self.row_id))
        part = part / part.max()
        is_up_to_own = np.arange(len(self.sizes)) <= self.draw[:, None]
        chance_so_far = (self.chances * is_up_to_own).sum(axis=1)
        num_drawn = np.cumsum(self.sizes)[self.draw]
        limit = part[self.draw] * chance_so_far / (2 * np.sqrt(num_drawn))
        chance = np.maximum(self.chances @ part, limit)
        return np.divide(1, chance, out=np.zeros(len(chance)), where=is_usable)


def find_reached(drawn: draws.Drawn, labelled: pd.Index, has_order: np.ndarray) -> DrawnSample:
    """Find the rows of each draw up to its last labelled row: the others were not reached.

    Args:
        drawn: The rows in the order of the draws.
        labelled: Numbers of the labelled rows.
        has_order: Whether the order of each draw is known. If not, rows without a label count as
            not reached.
    """
    num_draws = len(has_order)
    row_id = drawn.rows["row_id"].to_numpy()
    draw = drawn.rows["draw"].to_numpy()
    place = np.arange(len(row_id))
    is_labelled = np.isin(row_id, labelled)
    last = np.full(num_draws, -1)
    np.maximum.at(last, draw[is_labelled], place[is_labelled])
    is_reached = is_labelled | (has_order[draw] & (place <= last[draw]))
    return DrawnSample(
        row_id=row_id[is_reached],
        draw=draw[is_reached],
        first_draw=drawn.first_draw[is_reached],
        chances=drawn.chances[is_reached],
        sizes=np.bincount(draw, minlength=num_draws),
        ends=drawn.ends,
    )


def describe_skipped(sample: DrawnSample, table: pd.DataFrame) -> list[str]:
    """Say how many rows were skipped; no line if none.

    Args:
        sample: The sample.
        table: ``label`` and ``weight`` of its rows, as in ``Labels.table``.
    """
    is_skipped = table["label"] < 0
    num_skipped = int(is_skipped.sum())
    if not num_skipped:
        return []
    weight = table["weight"]
    share = weight[is_skipped].sum() / weight.sum()
    return [
        f"{num_skipped:,} of {len(sample.row_id):,} rows of the sample were skipped "
        f"({share:.1%} by weight): they have no label, but rows after them in the order of the "
        "draw have one; shares are of the other texts, and intervals are wider, as the skipped "
        "texts may all be of one class or of none"
    ]


def describe_uncovered(
    drawn: draws.Drawn, sample: DrawnSample, history: draw_history.History
) -> list[str]:
    """Say how many rows the sample does not stand for, because no labelled draw could take them.

    Args:
        drawn: The rows of the draws.
        sample: Their rows up to the last label. There is one at least.
        history: The draws.
    """
    notes = []
    if drawn.num_new:
        notes.append(
            f"{drawn.num_new:,} rows came after the last draw: their shares are estimated with the "
            "error on earlier rows; draw again (--sample), which takes rows of them, too"
        )
    num_reached = np.bincount(sample.draw, minlength=len(history))
    is_covered = np.zeros(len(drawn.cell_rows), bool)
    before = np.zeros(len(drawn.cell_rows))
    for chances, number in zip(drawn.chances_so_far, num_reached, strict=True):
        if number > 0:
            is_covered |= chances - before > _NEVER
        before = chances
    num_uncovered = int(drawn.cell_rows[~is_covered].sum())
    if num_uncovered:
        unlabelled = [history[number] for number in np.flatnonzero(num_reached == 0)]
        names = " and ".join(f"{draw.size:,} of {draw.num_rows:,}" for draw in unlabelled)
        notes.append(
            f"no label of the draws of {names}: {num_uncovered:,} rows could be in no other draw, "
            "and are estimated with the error on other rows"
        )
    return notes


def describe_absent(
    drawn: draws.Drawn, history: draw_history.History, named: np.ndarray
) -> list[str]:
    """Say which draws have no row in the files, labelled or not; no line if none.

    Their files were not named. The last draw is not among them, as the files name it.

    Args:
        drawn: The rows of the draws.
        history: The draws.
        named: Numbers of all rows in the files.
    """
    is_named = np.isin(drawn.rows["row_id"], named)
    present = set(drawn.rows["draw"][is_named])
    absent = [draw for number, draw in enumerate(history) if number not in present]
    if not absent:
        return []
    names = " and ".join(draw_history.write_history((draw,)) for draw in absent)
    return [
        f"trends.labels has no row of an earlier draw ({names}): if its rows are labelled, name "
        "its file, too"
    ]
