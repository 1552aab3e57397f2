"""Sums of predictions and labels -> the shares of the classes in groups of rows, with intervals."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.metrics import shares, skipped_rows, strata
from sentiflow.metrics.groupings import group_rows
from sentiflow.metrics.share_comparison import compare_with_others
from sentiflow.shares.part_sums import SEEN
from sentiflow.shares.prediction_sums import PredictionSums
from sentiflow.shares.ratings import MEAN, average_expected
from sentiflow.shares.rows import CONSTANT_KEY, VERSION

ALL = "all"
"""Name of the table of all rows."""
MAX_SHOWN = 30
"""Maximum number of groups on the page: the groups with the most rows. The others are one line."""
MAX_UNKNOWN = 0.2
"""Maximum share of rows by a model with too few labels in a corrected share."""


@dataclass(frozen=True)
class Breakdown:
    """The shares of C classes in groups of rows; each row is in at most one group."""

    keys: tuple[str, ...]
    """One or both of ``trends.by``, or ``model_version``; empty for all rows in one group."""
    unit: str
    """``hour``, ``day``, ``week`` or ``month``; empty without a time."""
    has_groups: bool
    """Whether one of its columns is not a time."""
    table: pd.DataFrame
    """A row for each class and group, first all groups of the first class. The columns are
    ``table.COLUMNS`` except ``by``, and seven more: ``expected_share``, see
    ``ratings.average_expected``; ``share``, the corrected share or, if there is none, the share of
    predicted labels (of mean ratings ``expected_share``); ``compared``, the share by which groups
    are compared; ``error``, the standard error of ``compared``; ``spread``, see ``Shares.spread``;
    ``measured``, the number of labels that measure the error; and ``is_comparable``, whether the
    group may be compared. ``group`` holds the values of columns that are not times, ``period`` the
    beginnings of periods in ``trends.time_zone``."""
    other: pd.DataFrame | None = None
    """All rows outside the ``MAX_SHOWN`` largest groups as one group, a row for each class; None
    for groups by time, or if there are no more groups."""

    @property
    def by(self) -> str:
        """Name the breakdown in tables: its keys with a comma in between, or ``all``."""
        return ", ".join(self.keys) or ALL

    @property
    def is_by_both(self) -> bool:
        """Say whether the groups are by both of ``trends.by``."""
        return len(self.keys) > 1

    @cached_property
    def num_groups(self) -> int:
        """The number of groups, or of periods of groups."""
        return int(self.table["class"].eq(self.table["class"].iloc[0]).sum())

    def of(self, name: str) -> pd.DataFrame:
        """Return the rows of a class, numbered from 0."""
        classes = self.table["class"].iloc[:: self.num_groups].tolist()
        start = classes.index(name) * self.num_groups
        return self.table.iloc[start : start + self.num_groups].reset_index(drop=True)


def break_down(
    settings: TrendsSettings,
    sums: PredictionSums,
    classes: tuple[str, ...],
    *,
    can_compare: bool,
) -> list[Breakdown]:
    """Estimate the shares in all rows, by each key, by both, and by model if there are several."""
    breakdowns = []
    for keys in _choose_keys(settings, sums):
        of_groups = sums.by(keys)
        if len(of_groups):
            breakdowns.append(
                _make_breakdown(settings, of_groups, classes, keys, can_compare=can_compare)
            )
    return breakdowns


def break_down_means(
    settings: TrendsSettings, sums: PredictionSums, step: float, *, can_compare: bool
) -> list[Breakdown]:
    """Estimate the mean of the values of ordered classes in the groups of :func:`break_down`.

    Returns:
        Breakdowns of one class, ``MEAN``, whose share is the mean, from 0 to 1.
    """
    breakdowns = []
    for keys in _choose_keys(settings, sums):
        of_groups = sums.by_value(keys)
        if len(of_groups):
            found = _make_breakdown(
                settings, of_groups, (MEAN,), keys, can_compare=can_compare, step=step
            )
            breakdowns.append(_take_expected(found))
    return breakdowns


def _take_expected(item: Breakdown) -> Breakdown:
    """Take the mean by the probabilities where a mean rating could not be corrected.

    The mean of the predicted labels is further off: the most probable class of a middling text is
    often the most frequent one.
    """

    def take(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(share=table["corrected_share"].fillna(table["expected_share"]))

    other = None if item.other is None else take(item.other)
    return replace(item, table=take(item.table), other=other)


def _choose_keys(settings: TrendsSettings, sums: PredictionSums) -> list[list[str]]:
    """Choose the keys of each breakdown."""
    choices = [[CONSTANT_KEY]]
    choices += [[name] for name in settings.by]
    if len(settings.by) > 1:
        choices.append(list(settings.by))
    if sums.has_versions and VERSION not in settings.by:
        choices.append([VERSION])
    return choices


def _make_breakdown(
    settings: TrendsSettings,
    sums: pd.DataFrame,
    classes: tuple[str, ...],
    keys: list[str],
    *,
    can_compare: bool,
    step: float = 1.0,
) -> Breakdown:
    """Make the breakdown by some keys: its table, and the table of the other groups.

    Args:
        settings: The section ``trends``.
        sums: Sums by these keys and model.
        classes: The classes.
        keys: The keys: of ``trends.by``, ``CONSTANT_KEY`` or ``VERSION``.
        can_compare: Whether groups may be said to differ.
        step: See ``shares.estimate``.
    """
    units = {}
    for name, (_, unit) in zip(settings.by, settings.keys, strict=True):
        units[name] = unit
    time = ""
    columns = []
    for name in keys:
        if units.get(name):
            time = name
        elif name != CONSTANT_KEY:
            columns.append(name)
    table = _make_table(sums, classes, columns, time, step)
    if not can_compare:
        table["p_adjusted"] = np.nan
    other = None
    if columns and not time and len(table) > MAX_SHOWN * len(classes):
        other = _make_other_table(sums, classes, columns, step)
    return Breakdown(
        keys=tuple(name for name in keys if name != CONSTANT_KEY),
        unit=units.get(time, ""),
        has_groups=bool(columns),
        table=table,
        other=other,
    )


class _Numbered(NamedTuple):
    """The groups of sums by key and model."""

    of_row: np.ndarray
    """The number of the group of each row of the sums."""
    keys: pd.DataFrame
    """The keys of each group, by number."""


def _number_groups(sums: pd.DataFrame, columns: list[str]) -> _Numbered:
    """Number the groups of sums by key and model, which may have a row for each model."""
    names = sums.index.names
    by = [name for name in names if name != SEEN and (name != VERSION or VERSION in columns)]
    number, index = group_rows([sums.index], by)
    return _Numbered(number, index.to_frame(index=False))


def _make_table(
    sums: pd.DataFrame, classes: tuple[str, ...], columns: list[str], time: str, step: float
) -> pd.DataFrame:
    """Estimate the shares in groups; return a table as in ``Breakdown.table``.

    Args:
        sums: Sums by keys and model.
        classes: The classes.
        columns: The keys that are not times.
        time: The key that is a time; empty for none.
        step: See ``shares.estimate``.
    """
    group_of_row, keys = _number_groups(sums, columns)
    groups = None
    if columns:
        groups = keys[columns[0]].astype(str)
        for name in columns[1:]:
            groups = groups + ", " + keys[name].astype(str)
    pool = None
    if time and groups is not None:
        pool = pd.factorize(groups)[0]
    found = _estimate_with_skipped(sums, group_of_row, pool, step)
    p_adjusted = np.full(found.share.shape, np.nan)
    if columns and not time:
        p_adjusted = compare_with_others(found, step=step)
    expected = average_expected(sums, group_of_row)
    periods = keys[time] if time else pd.NaT
    return _to_table(found, classes, expected, p_adjusted, groups, periods)


def _make_other_table(
    sums: pd.DataFrame, classes: tuple[str, ...], columns: list[str], step: float
) -> pd.DataFrame:
    """Estimate the shares in all rows outside the ``MAX_SHOWN`` largest groups.

    They are one more group beside the largest ones, with the labels of all of them.

    Args:
        sums: Sums by keys and model.
        classes: The classes.
        columns: The keys, which are not times.
        step: See ``shares.estimate``.
    """
    group_of_row, keys = _number_groups(sums, columns)
    rows = np.bincount(group_of_row, sums["rows", 0])
    place = np.full(len(keys), MAX_SHOWN)
    place[np.argsort(-rows, kind="stable")[:MAX_SHOWN]] = np.arange(MAX_SHOWN)
    of_strata = [sums.index.get_level_values(name) for name in (VERSION, SEEN)]
    joined = sums.groupby([place[group_of_row], *of_strata]).sum()
    group = joined.index.get_level_values(0).to_numpy()
    found = _estimate_with_skipped(joined, group, None, step)
    name = f"other ({len(keys) - MAX_SHOWN:,} groups)"
    expected = average_expected(joined, group)
    p_adjusted = np.full(found.share.shape, np.nan)
    table = _to_table(found, classes, expected, p_adjusted, name, pd.NaT)
    # For each class there are MAX_SHOWN groups, then the others.
    return table.iloc[MAX_SHOWN :: MAX_SHOWN + 1].reset_index(drop=True)


def _to_table(
    found: shares.Shares,
    classes: tuple[str, ...],
    expected: np.ndarray,
    p_adjusted: np.ndarray,
    groups: pd.Series | str | None,
    periods: Any,
) -> pd.DataFrame:
    """Make a table as in ``Breakdown.table``: all groups for the first class, then for the next."""
    num_classes = len(classes)

    def repeat(values: Any) -> Any:
        if isinstance(values, pd.Series):
            return pd.concat([values] * num_classes, ignore_index=True)
        return values

    columns = {
        "group": repeat(groups),
        "period": repeat(periods),
        "rows": np.tile(found.rows.astype(np.int64), num_classes),
        "labelled": np.tile(found.labelled.astype(np.int64), num_classes),
        "method": repeat(pd.Series(found.method)),
        "class": pd.Series(classes).repeat(len(found.rows)).array,
        "predicted_share": found.predicted.T.ravel(),
        "expected_share": expected.T.ravel(),
        "corrected_share": found.share.T.ravel(),
        "low": found.low.T.ravel(),
        "high": found.high.T.ravel(),
        "compared": found.compared.T.ravel(),
        "error": found.error.T.ravel(),
        "spread": found.spread.T.ravel(),
        "measured": np.tile(found.measured.astype(np.int64), num_classes),
        "p_adjusted": p_adjusted.T.ravel(),
        "is_comparable": np.tile(found.is_comparable, num_classes),
    }
    table = pd.DataFrame(columns)
    return table.assign(share=table["corrected_share"].fillna(table["predicted_share"]))


def _estimate_with_skipped(
    sums: pd.DataFrame, group_of_row: np.ndarray, pool: np.ndarray | None, step: float
) -> shares.Shares:
    """Estimate the shares in groups, and allow for the rows that an annotator has skipped.

    The arguments are the same as in :func:`_estimate_strata`.
    """
    found = _estimate_strata(sums, group_of_row, pool, step)
    if skipped_rows.SKIPPED not in sums:
        return found
    skipped = skipped_rows.measure(sums, group_of_row, found.method)
    return skipped_rows.widen(found, skipped)


def _to_slice(places: np.ndarray) -> slice | np.ndarray:
    """Return a slice in place of places side by side, which pandas takes without a copy."""
    first = int(places[0])
    stop = int(places[-1]) + 1
    return slice(first, stop) if stop - first == len(places) else places


def _estimate_strata(
    sums: pd.DataFrame, group_of_row: np.ndarray, pool: np.ndarray | None, step: float
) -> shares.Shares:
    """Estimate the shares in each stratum by itself, and join the strata of a group.

    A stratum has the texts of one model: either the texts that it was trained on, or the others. A
    stratum with too few labels gets the interval 0 to 1, if it has few rows or if its texts were
    trained on: it widens the interval of its group, whose other rows are corrected.

    The method of a group is the weakest method of its strata. Two kinds of strata do not count:
    those that got the interval 0 to 1, and beside others those that were trained on. They are given
    the strongest method. If no stratum of a group has an interval, none gets the interval 0 to 1.

    Args:
        sums: Sums by keys and model, in R rows.
        group_of_row: The number of the group of each row, R integers.
        pool: The number of each group's pool, by number of the group. Groups of a pool share an
            error if they have few labels. None: all groups are one pool.
        step: See ``shares.estimate``.
    """
    # Codes are compared, not half a million texts.
    assert isinstance(sums.index, pd.MultiIndex)
    place = sums.index.names.index(VERSION)
    versions = np.asarray(sums.index.codes[place])
    is_seen = sums.index.get_level_values(SEEN).to_numpy(bool)
    rows_of_group = np.bincount(group_of_row, sums["rows", 0])
    has_interval = np.zeros(len(rows_of_group), bool)
    estimated = []
    for of_seen in (False, True):
        for version in np.unique(versions):
            of_stratum = np.flatnonzero((versions == version) & (is_seen == of_seen))
            if not len(of_stratum):
                continue
            group = group_of_row[of_stratum]
            own_sums = sums.iloc[_to_slice(of_stratum)]
            own_pool = None if pool is None else pool[group]
            found = shares.estimate(own_sums, pool=own_pool, step=step)
            has_interval[group[~np.isnan(found.low).any(axis=1)]] = True
            estimated.append((of_seen, group, own_sums, found))
    found_strata = []
    has_method = np.zeros(len(rows_of_group), bool)
    for of_seen, group, own_sums, found in estimated:  # texts that were trained on come last
        is_few = found.rows <= MAX_UNKNOWN * rows_of_group[group]
        may_bound = (is_few | of_seen) & has_interval[group]
        bounded = strata.bound_unknown(own_sums, found, may_bound)
        is_method_used = bounded.method == found.method
        if of_seen:
            is_method_used &= ~has_method[group]
        else:
            has_method[group[is_method_used]] = True
        method = np.where(is_method_used, bounded.method, shares.COUNTED)
        found_strata.append(strata.Stratum(group, replace(bounded, method=method)))
    return strata.join(found_strata)
