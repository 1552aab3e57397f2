"""Predictions, labels and a wanted half-width -> the number of labels, in all and by group."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.metrics import drawing, label_budget, sampling
from sentiflow.metrics.groupings import group_rows
from sentiflow.metrics.label_budget import Factors
from sentiflow.metrics.share_samples import measure
from sentiflow.metrics.shares import COUNTED, MIN_LABELLED, UNBOUNDED, UNCORRECTED
from sentiflow.shares import next_draw, prediction_sums, rows, sample_log, written_labels
from sentiflow.shares.breakdowns import break_down
from sentiflow.shares.label_finder import LabelFinder
from sentiflow.shares.part_sums import SEEN
from sentiflow.shares.rows import VERSION
from sentiflow.shares.wording import write_period
from sentiflow.storage import filesystem

_STRATA = [VERSION, SEEN]
"""The keys of strata, each of which is corrected by its own labels."""


@dataclass(frozen=True)
class GroupNeed:
    """The labels that the groups by one of ``trends.by`` need, each by itself."""

    by: str
    table: pd.DataFrame
    """``group``, as text; ``rows``; ``labels``, the number that the group needs; ``in_sample``, how
    many labels of it the sample of all rows is expected to have. The largest groups come first."""

    @property
    def num_more(self) -> int:
        """Count the labels that the groups need beyond those of the sample."""
        missing = self.table["labels"] - self.table["in_sample"]
        return int(np.ceil(missing.clip(lower=0).sum()))


class Reached(NamedTuple):
    """The widest interval of a class in all rows."""

    half_width: float
    """In points."""
    widest: str
    """The class."""


@dataclass(frozen=True)
class LabelPlan:
    """How many labels the wanted half-width needs."""

    wanted: float
    """The wanted half-width of the 95% intervals, in points."""
    widest: str
    """The class whose interval is the widest."""
    labels: int
    """The labels of a sample that it needs in all rows."""
    labelled: int
    """How many of them are there."""
    pending: int
    """Rows of earlier draws without a label, of files that are there."""
    is_measured: bool
    """Whether labels tell the error of the model; if not, its probabilities are taken as right."""
    at_most: int
    """The labels if the predictions were of no use."""
    num_rows: int
    """All texts, which the width is about."""
    num_known: int
    """Texts among them with a label that is only counted, or that the next draw leaves out."""
    reached: "Reached | None"
    """The widest interval by the labels that are there; None if there is none."""
    is_drawn: bool
    """Whether ``--sample`` drew the labels that are there."""
    skipped: int
    """Rows of the sample that an annotator has left out."""
    groups: tuple[GroupNeed, ...]
    """By each of ``trends.by``."""
    has_mean: bool
    """Whether there is a mean rating, which the width is not about."""

    @property
    def num_more(self) -> int:
        """Count the labels that are missing."""
        return max(self.labels - self.labelled, 0)

    @property
    def num_to_draw(self) -> int:
        """Count the rows to draw, beyond the rows of earlier draws."""
        return max(self.num_more - self.pending, 0)


class _Cells:
    """The rows that a sample stands for: sums of N cells, by stratum and drawn group.

    Attributes:
        sums: the sums, in N rows.
        stratum, group: ``(N,)``, the numbers of each cell's stratum and drawn group.
        weight: ``(S,)``, the part of all rows that each stratum is.
        is_drawn: whether the labels that are there count; if not, the next draw is without them.
        factors: by which the labels of each stratum differ from its probabilities; None: there are
            too few labels.
    """

    def __init__(self, parts: list[pd.DataFrame], by: str, *, is_drawn: bool) -> None:
        """Find the cells.

        Args:
            parts: Sums whose sum are the sums of all rows.
            by: The column by whose groups rows are drawn; empty for none.
            is_drawn: See the class.

        Raises:
            UserError: Every row has a label.
        """
        self.is_drawn = is_drawn
        columns = _list_columns(parts)
        whole = sampling.merge_by(parts, _STRATA, columns=columns)
        of_groups = sampling.merge_by(parts, [*_STRATA, by] if by else _STRATA, columns=columns)
        in_groups = of_groups.groupby(level=_STRATA).sum().reindex(whole.index, fill_value=0)
        rest = whole - in_groups  # rows without a time are one drawn group
        stratum, _ = group_rows([of_groups.index, rest.index], _STRATA)
        group = np.zeros(len(of_groups), np.int64)
        if by:
            group, _ = group_rows([of_groups.index], [by])
        group = np.concatenate([group, np.full(len(rest), group.max(initial=-1) + 1)])
        sums = pd.concat([of_groups, rest], ignore_index=True)
        if not is_drawn:
            sums = _leave_out_labelled(sums)
        is_there = (sums["population", 0] > 0.5).to_numpy()  # up to errors of rounding
        place = np.unique(stratum[is_there])
        if not len(place):
            raise UserError(
                "every row of the predictions has a label",
                hint="run without --width, which counts the labels",
            )
        self.sums = sums[is_there].reset_index(drop=True)
        self.stratum = np.unique(stratum[is_there], return_inverse=True)[1]
        self.group = np.unique(group[is_there], return_inverse=True)[1]
        rows_of = self.sums["population", 0].to_numpy()
        self.weight = np.bincount(self.stratum, rows_of) / whole["rows", 0].sum()
        self.group_rows = np.bincount(self.group, rows_of)
        self.factors = self._find_factors(whole.iloc[place])

    def find_rate(self, size: int) -> float:
        """Find the rate of a draw, as ``--sample`` draws rows."""
        nothing = np.zeros(len(self.group_rows))
        return drawing.find_rate(self.group_rows, self.group_rows, nothing, size)

    def find_chances(self, size: int) -> np.ndarray:
        """Find the chance of the rows of each cell in a draw, ``(N,)``."""
        of_groups = drawing.find_least_chances(self.group_rows, self.find_rate(size))
        return np.asarray(of_groups[self.group])

    def _find_factors(self, of_strata: pd.DataFrame) -> Factors | None:
        """Compare the labels of each stratum with its probabilities, if there are enough."""
        measured = measure(of_strata)
        number = int(of_strata["labelled", 0].sum())
        if number < MIN_LABELLED:
            return None
        chance = np.full(len(self.stratum), min(number / self.group_rows.sum(), 1))
        if self.is_drawn:
            chance = self.find_chances(number)
        expected = label_budget.expect(self.sums, chance, self.stratum)
        factors = label_budget.find_factors(measured, expected)
        nothing = label_budget.find_factors(expected, expected)
        return factors.where(measured.size >= MIN_LABELLED, nothing)

    def expect_reach(self, size: int, *, is_useless: bool = False) -> np.ndarray:
        """Expect the half-width of the interval of each class in all rows, ``(C,)``."""
        chance = self.find_chances(size)
        expected = label_budget.expect(self.sums, chance, self.stratum, self.factors)
        if is_useless:
            expected = label_budget.without_predictions(expected)
        return label_budget.join_reach(expected, self.weight)

    def count_labels(self, wanted: float, *, is_useless: bool = False) -> int:
        """Count the labels that a half-width needs, as a share."""

        def reach(number: np.ndarray) -> np.ndarray:
            found = self.expect_reach(int(number[0]), is_useless=is_useless)
            return found.max(keepdims=True)

        most = np.array([round(self.group_rows.sum())])
        return int(label_budget.count_labels(reach, wanted, most)[0])


def plan(config: Config, wanted: float) -> LabelPlan:
    """Count the labels that a half-width needs, given the labels that are there.

    Labels of drawn rows count. Other labels, of the corpus or of rows that somebody chose, tell the
    error of the model, but the next draw is a sample without them.

    Args:
        config: Names the predictions, the columns and the files of labels.
        wanted: The half-width of the 95% intervals, in points.

    Raises:
        UserError: There are no complete predictions, a file of labels is wrong, or fewer labels
            than all rows are not enough.
    """
    uri = config.score.output_uri
    scored = manifest.require(uri, stage="score", setting="score.output_uri")
    rows.check_columns(config.trends, scored)
    files = next_draw.find_files(config.trends.labels)
    written = written_labels.read(files, scored) if files else None
    if written is None or not len(written.labelled):
        files = []
    settings = config.trends.model_copy(update={"labels": tuple(files)})
    kept = next_draw.find_kept(settings)
    finder = LabelFinder(scored, settings, uri, kept)
    sums = prediction_sums.collect(settings, scored, uri, finder, kept)
    is_drawn = finder.labels is not None and finder.labels.sample is not None
    parts = sums.list_parts()
    by = settings.by[0] if settings.by else ""
    cells = _Cells(parts, by, is_drawn=is_drawn)
    whole = sampling.merge_by(parts, _STRATA, columns=_list_columns(parts)).sum()
    labels = cells.count_labels(wanted / 100)
    num_left = round(cells.group_rows.sum())
    has_mean = sums.scale is not None
    if labels >= num_left:
        unit = "points of the shares, not of the mean rating" if has_mean else "points"
        raise UserError(
            f"--width {wanted:g}: all {num_left:,} rows would have to be labelled",
            hint=f"name a larger half-width, in {unit}",
        )
    labelled = int(whole["labelled", 0]) if is_drawn else 0
    classes = manifest.find_classes(scored)
    num_rows = round(whole["rows", 0])
    return LabelPlan(
        wanted=wanted,
        widest=classes[int(cells.expect_reach(labels).argmax())],
        labels=labels,
        labelled=labelled,
        pending=_count_pending(config, finder, written),
        is_measured=cells.factors is not None,
        at_most=cells.count_labels(wanted / 100, is_useless=True),
        num_rows=num_rows,
        num_known=num_rows - num_left,
        reached=_find_reached(settings, sums, classes),
        is_drawn=is_drawn,
        skipped=int(whole.get(("skipped", 0), 0)),
        groups=tuple(
            _plan_groups(settings, parts, cells, by, max(labels, labelled), wanted=wanted / 100)
            for by in settings.by
        ),
        has_mean=has_mean,
    )


def _find_reached(
    settings: TrendsSettings, sums: prediction_sums.PredictionSums, classes: tuple[str, ...]
) -> Reached | None:
    """Find the widest interval of a class in all rows, as ``trends`` shows it; None for none."""
    without_groups = settings.model_copy(update={"by": ()})
    whole = break_down(without_groups, sums, classes, can_compare=False)[0].table
    if whole["method"][0] in (COUNTED, UNBOUNDED, UNCORRECTED):
        return None
    half_widths = 50 * (whole["high"] - whole["low"])
    return Reached(float(half_widths.max()), classes[int(half_widths.argmax())])


def _list_columns(parts: list[pd.DataFrame]) -> list[tuple[str, int]]:
    """List the columns that sums have for any rows, given the sums of some parts."""
    numbers = parts[0].columns.get_level_values(1)
    return sampling.list_columns(1 + int(numbers.max()))


def _leave_out_labelled(sums: pd.DataFrame) -> pd.DataFrame:
    """Leave the labelled rows, of weight 1, out of what the next sample stands for."""
    left = sums.copy()
    left["population", 0] -= sums["labelled", 0]
    for name, of_labelled in (("p", "wp"), ("pp", "wwpp")):
        for number in sums[name].columns:
            left[name, number] -= sums[of_labelled, number]
    return left


def _count_pending(
    config: Config, finder: LabelFinder, written: written_labels.WrittenLabels | None
) -> int:
    """Count the rows of earlier draws that have no label yet, of files that are there."""
    row_ids = np.zeros(0, np.int64)
    if written is not None and any(written.histories):
        row_ids = written.row_ids
    for draw in sample_log.read_each(config):
        if filesystem.exists(draw.path):
            row_ids = np.union1d(row_ids, np.array(draw.row_ids, np.int64))
    if finder.labels is not None:  # labelled or skipped
        row_ids = np.setdiff1d(row_ids, finder.labels.table.index.to_numpy())
    return len(row_ids)


def _plan_groups(
    settings: TrendsSettings,
    parts: list[pd.DataFrame],
    cells: _Cells,
    by: str,
    size: int,
    *,
    wanted: float,
) -> GroupNeed:
    """Count the labels that each group by a column needs by itself.

    Args:
        settings: The section ``trends``.
        parts: Sums whose sum are the sums of all rows.
        cells: What the sample of all rows is drawn from.
        by: One of ``trends.by``.
        size: Labels of the sample of all rows.
        wanted: The half-width, as a share.
    """
    columns = _list_columns(parts)
    of_groups = sampling.merge_by(parts, [by], columns=columns)
    drawn_by = settings.by[0]
    pairs = sampling.merge_by(parts, list(dict.fromkeys([drawn_by, by])), columns=columns)
    left = of_groups
    if not cells.is_drawn:
        left, pairs = _leave_out_labelled(left), _leave_out_labelled(pairs)
    is_there = (left["population", 0] > 0.5).to_numpy()
    left, of_groups = left[is_there], of_groups[is_there]
    population = left["population", 0].to_numpy().round()
    # Other rows have a label that is counted, so their share is known.
    fraction = population / of_groups["rows", 0].to_numpy()
    factors = _find_group_factors(of_groups, left) if cells.factors is not None else None

    def reach(number: np.ndarray) -> np.ndarray:
        chance = np.minimum(number / population, 1)
        expected = label_budget.expect(left, chance, np.arange(len(left)), factors)
        found = fraction * label_budget.expect_reach(expected).max(axis=1)
        return np.where((number < MIN_LABELLED) & (chance < 1), label_budget.UNKNOWN, found)

    rows_of_drawn = pairs["population", 0].groupby(level=drawn_by).transform("sum").to_numpy()
    chance = drawing.find_least_chances(np.maximum(rows_of_drawn, 1), cells.find_rate(size))
    in_sample = (chance * pairs["population", 0]).groupby(level=by).sum()
    unit = dict(zip(settings.by, settings.keys, strict=True))[by].unit
    names = left.index.get_level_values(by)
    table = pd.DataFrame(
        {
            "group": [write_period(name, unit) if unit else str(name) for name in names],
            "rows": of_groups["rows", 0].to_numpy().round().astype(np.int64),
            "labels": label_budget.count_labels(reach, wanted, population),
            "in_sample": in_sample.reindex(names).to_numpy(),
        }
    )
    if not unit:
        table = table.sort_values("rows", ascending=False, kind="stable", ignore_index=True)
    return GroupNeed(by, table)


def _find_group_factors(of_groups: pd.DataFrame, left: pd.DataFrame) -> Factors:
    """Compare the labels of each group with its probabilities; with few labels, those of all.

    Args:
        of_groups: Sums of G groups with their labels.
        left: Sums of the rows that a sample stands for.
    """
    number = of_groups["labelled", 0].to_numpy()
    population = left["population", 0].to_numpy()
    all_groups = np.zeros(len(left), int)
    share = min(number.sum() / population.sum(), 1)
    of_all = label_budget.find_factors(
        measure(sampling.merge([of_groups.set_axis(pd.Index(all_groups))])),
        label_budget.expect(left, np.full(len(left), share), all_groups),
    )
    measured = measure(of_groups)
    chance = np.clip(number, 1, population) / population
    own = label_budget.find_factors(
        measured, label_budget.expect(left, chance, np.arange(len(left)))
    )
    return own.where(measured.size >= MIN_LABELLED, of_all.take(all_groups))
