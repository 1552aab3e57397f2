"""Predictions and labels -> a row for each group, period and class: shares with intervals."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import BINARY
from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import share_changes, shares, skipped_rows, strata
from sentiflow.metrics.agreement import Agreement
from sentiflow.metrics.share_comparison import compare_with_others
from sentiflow.shares import prediction_sums
from sentiflow.shares.label_finder import LabelFinder
from sentiflow.shares.labels import describe_differences
from sentiflow.shares.prediction_sums import SEEN, PredictionSums
from sentiflow.shares.rows import CONSTANT_KEY, VERSION

ALL = "all"
"""Name of the table of all rows."""
MAX_SHOWN = 30
"""Maximum number of groups on the page: the groups with the most rows. The others are one line."""
COLUMNS = pa.schema(
    [
        pa.field("by", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("period", pa.timestamp("us")),
        pa.field("class", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("predicted_share", pa.float64(), nullable=False),
        pa.field("corrected_share", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("labelled", pa.int64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
    ]
)
"""Columns of ``trends.parquet``."""


_MIN_TOLD = 0.01
"""Copies of training texts are told if they are at least this share of all texts."""
_MAX_UNKNOWN = 0.2
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
    """A row for each class and group, with the columns of ``COLUMNS`` except ``by``, and three
    more: ``share``, the corrected share or, if there is none, the share of predicted labels;
    ``error``, its standard error, by which groups are compared; and ``is_comparable``, whether the
    group may be. ``group`` holds the values of columns that are not times, ``period`` the
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

    def count(self) -> int:
        """Count the groups, or periods of groups."""
        return int(self.table["class"].eq(self.table["class"].iloc[0]).sum())

    def of(self, name: str) -> pd.DataFrame:
        """Return the rows of a class, numbered from 0."""
        return self.table[self.table["class"] == name].reset_index(drop=True)


@dataclass(frozen=True)
class ShareTable:
    """The shares of C classes in a scored corpus."""

    classes: tuple[str, ...]
    breakdowns: list[Breakdown]
    """All rows; then by each of ``trends.by``, by both, and by model if there are several."""
    notes: list[str]
    """What a reader should know first."""
    num_rows: int
    num_sample: int
    """Labelled rows that measure the errors of the model."""
    num_counted: int
    """Labelled rows that are only counted, such as rows that the model was trained on."""
    num_skipped: int
    """Rows of the sample that an annotator has left out."""
    agreement: Agreement | None
    """Of two annotators; None if there is only one."""
    is_random: bool
    """Whether the sample may be random; if not, no group or period is claimed to differ."""
    looks: dict[str, share_changes.Looks]
    """By name of a breakdown by time alone: whether a share has changed, at every look."""

    @property
    def whole(self) -> pd.DataFrame:
        """Return the shares in all rows, a row for each class."""
        return self.breakdowns[0].table.set_index("class", drop=False)

    @property
    def method(self) -> str:
        """Say how the shares in all rows were estimated: one of ``shares.METHODS``."""
        return str(self.breakdowns[0].table["method"][0])


def measure(settings: TrendsSettings, scored: Manifest, uri: str) -> ShareTable:
    """Measure the shares of the classes in all rows, and by each column of ``trends.by``.

    Args:
        settings: The section ``trends``.
        scored: Manifest of the scored directory.
        uri: The scored directory.

    Raises:
        UserError: A file of labels is wrong, or names rows that are not in the predictions.
    """
    classes = manifest.find_classes(scored)
    finder = LabelFinder(scored, settings, uri)
    sums = prediction_sums.collect(settings, scored, uri, finder)
    _check_matched(settings, finder)
    notes = list(finder.notes)
    if finder.num_seen:
        notes.append(
            f"{finder.num_seen:,} rows of trends.labels were used to train or choose the model: "
            "their labels do not measure its error"
        )
    differences = _find_differences(sums, classes)
    breakdowns = _break_down(settings, sums, classes, can_compare=not differences)
    focus = choose_focus(classes, breakdowns[0].table["share"])
    if sums.has_versions:
        notes += _describe_models(breakdowns, classes[0])
    totals_by_class = sums.table.sum()  # by name of the sum, and class
    totals = totals_by_class.groupby(level=0).sum()
    notes += _describe_seen(sums)
    if totals["labelled"] and not finder.is_known:
        notes.append("it is unknown whether the model was trained on some labelled rows")
    return ShareTable(
        classes=classes,
        breakdowns=breakdowns,
        notes=[*differences, *notes, *_note_gaps(settings, breakdowns), *_note_methods(breakdowns)],
        num_rows=int(totals["rows"]),
        num_sample=int(totals["labelled"]),
        num_counted=int(totals["counted"]),
        num_skipped=int(totals.get("skipped", 0)),
        agreement=finder.labels.agreement if finder.labels else None,
        is_random=not differences,
        looks=_find_changes(settings, sums, classes.index(focus)),
    )


def choose_focus(classes: tuple[str, ...], share: pd.Series) -> str:
    """Choose the class that groups and periods are compared by: negative, or else the largest.

    Args:
        classes: C names.
        share: The share of each in all rows.
    """
    negative = BINARY[0]
    if negative in classes:
        return negative
    return classes[int(np.argmax(share.to_numpy()))]


def _find_changes(
    settings: TrendsSettings, sums: PredictionSums, focus: int
) -> dict[str, share_changes.Looks]:
    """Look for a change of a share over time, for each key that is a time."""
    looks = {}
    for name, (_, unit) in zip(settings.by, settings.keys, strict=True):
        if not unit:
            continue
        of_periods = sums.by([name]).groupby(level=[name, VERSION]).sum()
        if len(of_periods):  # not all rows lack a time
            index = of_periods.index
            looks[name] = share_changes.find_changes(
                of_periods,
                period=pd.factorize(index.get_level_values(name), sort=True)[0],
                model=pd.factorize(index.get_level_values(VERSION))[0],
                focus=focus,
            )
    return looks


def _check_matched(settings: TrendsSettings, finder: LabelFinder) -> None:
    """Check that all rows of ``trends.labels`` are in the predictions.

    Raises:
        UserError: Some are not.
    """
    if finder.labels is None:
        return
    num_missing = finder.labels.num_labelled - finder.num_matched
    if num_missing:
        raise UserError(
            f"trends.labels: {num_missing:,} row ids of {', '.join(settings.labels)} are not in "
            "the predictions",
            hint="the labels belong to another corpus, or the file was damaged",
        )


def _find_differences(sums: PredictionSums, classes: tuple[str, ...]) -> list[str]:
    """Say for each model if its labelled rows are not a random sample of the rows it scored."""
    differences = []
    by_model = sums.by([VERSION])
    is_seen = by_model.index.get_level_values(SEEN).to_numpy(bool)
    by_model = by_model[~is_seen]
    versions = by_model.index.get_level_values(VERSION)
    weights = by_model["w", 0]
    squared_weights = by_model["ww", 0]
    for version, weight, squared in zip(versions, weights, squared_weights, strict=True):
        if not weight:
            continue
        effective_size = weight**2 / squared
        prefix = f"model version {version}: " if sums.has_versions else ""
        notes = describe_differences(sums.cell_counts[version], effective_size, classes)
        differences += [f"{prefix}{note}" for note in notes]
    return differences


def _describe_seen(sums: PredictionSums) -> list[str]:
    """Say how many texts the model has seen, and what measures its error on them."""
    whole = sums.by([CONSTANT_KEY])
    is_seen = whole.index.get_level_values(SEEN).to_numpy(bool)
    of_seen = whole[is_seen]
    num_rows = int(of_seen["rows", 0].sum())
    share = num_rows / whole["rows", 0].sum()
    if share < _MIN_TOLD:
        return []
    num_labelled = int(of_seen["labelled", 0].sum())
    line = (
        f"{num_rows:,} texts ({share:.1%}) are copies of texts that the model was trained on: "
        "they are corrected by themselves"
    )
    if num_labelled < shares.MIN_CORRECTED:
        line += (
            f"; {num_labelled:,} of them measure its error there, which are too few, so any share "
            "among them is possible"
        )
    else:
        line += f", by {num_labelled:,} labels"
    return [line]


def _break_down(
    settings: TrendsSettings,
    sums: PredictionSums,
    classes: tuple[str, ...],
    *,
    can_compare: bool,
) -> list[Breakdown]:
    """Estimate the shares in all rows, by each key, by both, and by model if there are several."""
    choices = [[CONSTANT_KEY]]
    choices += [[name] for name in settings.by]
    if len(settings.by) > 1:
        choices.append(list(settings.by))
    if sums.has_versions and VERSION not in settings.by:
        choices.append([VERSION])
    breakdowns = []
    for chosen in choices:
        of_groups = sums.by(chosen)
        if len(of_groups):
            breakdowns.append(
                _estimate_by(settings, of_groups, classes, chosen, can_compare=can_compare)
            )
    return breakdowns


def _estimate_by(
    settings: TrendsSettings,
    sums: pd.DataFrame,
    classes: tuple[str, ...],
    chosen: list[str],
    *,
    can_compare: bool,
) -> Breakdown:
    """Estimate the shares in groups by some keys.

    Args:
        settings: The section ``trends``.
        sums: Sums by these keys and model.
        classes: The classes.
        chosen: The keys: of ``trends.by``, ``CONSTANT_KEY`` or ``VERSION``.
        can_compare: Whether groups may be said to differ.
    """
    units = {}
    for name, (_, unit) in zip(settings.by, settings.keys, strict=True):
        units[name] = unit
    time = ""
    columns = []
    for name in chosen:
        if units.get(name):
            time = name
        elif name != CONSTANT_KEY:
            columns.append(name)
    table = _estimate(sums, classes, columns, time)
    if not can_compare:
        table["p_adjusted"] = np.nan
    other = None
    if columns and not time and len(table) > MAX_SHOWN * len(classes):
        other = _estimate_other(sums, classes, columns)
    return Breakdown(
        keys=tuple(name for name in chosen if name != CONSTANT_KEY),
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
    index = sums.index.to_frame(index=False)
    by = [name for name in index if name != SEEN and (name != VERSION or VERSION in columns)]
    # ``sums`` are sorted by their keys, so group n is row n of ``keys``.
    of_row = index.groupby(by).ngroup().to_numpy()
    return _Numbered(of_row, index[by].drop_duplicates().reset_index(drop=True))


def _estimate(
    sums: pd.DataFrame, classes: tuple[str, ...], columns: list[str], time: str
) -> pd.DataFrame:
    """Estimate the shares in groups; return a table as in ``Breakdown.table``.

    Args:
        sums: Sums by keys and model.
        classes: The classes.
        columns: The keys that are not times.
        time: The key that is a time; empty for none.
    """
    group_of_row, keys = _number_groups(sums, columns)
    groups = None
    if columns:
        groups = keys[columns[0]].astype(str)
        for name in columns[1:]:
            groups = groups + ", " + keys[name].astype(str)
    found = _estimate_groups(sums, group_of_row, groups if time else None)
    p_adjusted = np.full(found.share.shape, np.nan)
    if columns and not time:
        p_adjusted = compare_with_others(found)
    return _to_table(found, classes, p_adjusted, groups, keys[time] if time else pd.NaT)


def _estimate_other(
    sums: pd.DataFrame, classes: tuple[str, ...], columns: list[str]
) -> pd.DataFrame:
    """Estimate the shares in all rows outside the ``MAX_SHOWN`` largest groups.

    They are one more group beside the largest ones, with the labels of all of them.

    Args:
        sums: Sums by keys and model.
        classes: The classes.
        columns: The keys, which are not times.
    """
    group_of_row, keys = _number_groups(sums, columns)
    rows = np.bincount(group_of_row, sums["rows", 0])
    place = np.full(len(keys), MAX_SHOWN)
    place[np.argsort(-rows, kind="stable")[:MAX_SHOWN]] = np.arange(MAX_SHOWN)
    of_strata = [sums.index.get_level_values(name) for name in (VERSION, SEEN)]
    joined = sums.groupby([place[group_of_row], *of_strata]).sum()
    found = _estimate_groups(joined, joined.index.get_level_values(0).to_numpy(), None)
    name = f"other ({len(keys) - MAX_SHOWN:,} groups)"
    table = _to_table(found, classes, np.full(found.share.shape, np.nan), name, pd.NaT)
    return table.iloc[MAX_SHOWN :: MAX_SHOWN + 1].reset_index(drop=True)


def _to_table(
    found: shares.Shares,
    classes: tuple[str, ...],
    p_adjusted: np.ndarray,
    groups: pd.Series | str | None,
    periods: Any,
) -> pd.DataFrame:
    """Make a table as in ``Breakdown.table``: all groups for the first class, then for the next."""
    tables = []
    for code, name in enumerate(classes):
        of_class = {
            "group": groups,
            "period": periods,
            "rows": found.rows.astype(np.int64),
            "labelled": found.labelled.astype(np.int64),
            "method": found.method,
            "class": name,
            "predicted_share": found.predicted[:, code],
            "corrected_share": found.share[:, code],
            "low": found.low[:, code],
            "high": found.high[:, code],
            "error": found.error[:, code],
            "p_adjusted": p_adjusted[:, code],
            "is_comparable": found.is_comparable,
        }
        tables.append(pd.DataFrame(of_class))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(share=table["corrected_share"].fillna(table["predicted_share"]))


def _estimate_groups(
    sums: pd.DataFrame, group_of_row: np.ndarray, pools: pd.Series | None
) -> shares.Shares:
    """Estimate the shares in groups, and allow for the rows that an annotator has skipped.

    Args:
        sums: See :func:`_estimate_by_model`.
        group_of_row: The same.
        pools: The same.
    """
    found = _estimate_by_model(sums, group_of_row, pools)
    if skipped_rows.SKIPPED not in sums:
        return found
    skipped = skipped_rows.measure(sums, group_of_row, found.method)
    return skipped_rows.widen(found, skipped)


def _estimate_by_model(
    sums: pd.DataFrame, group_of_row: np.ndarray, pools: pd.Series | None
) -> shares.Shares:
    """Estimate the shares with the error of each model, and join the models of a group.

    Texts that a model has seen are a stratum of their own. If it has too few labels, its interval
    is 0 to 1, as is the interval of a model with too few labels and few rows. The group keeps the
    method of its other rows.

    Args:
        sums: Sums by keys and model, in R rows.
        group_of_row: The number of the group of each row, R integers.
        pools: For each group, by number, the name of its pool. Groups of a pool share an error if
            they have few labels. None: all groups are one pool.
    """
    versions = sums.index.get_level_values(VERSION)
    is_seen = sums.index.get_level_values(SEEN).to_numpy(bool)
    rows_of_group = np.bincount(group_of_row, sums["rows", 0])
    unseen_rows_of_group = np.bincount(
        group_of_row[~is_seen], sums.loc[~is_seen, ("rows", 0)], minlength=len(rows_of_group)
    )
    parts = []
    for version in versions.unique():
        for of_seen in (False, True):
            of_stratum = np.flatnonzero((versions == version) & (is_seen == of_seen))
            if not len(of_stratum):
                continue
            group = group_of_row[of_stratum]
            pool = None if pools is None else pd.Index(pools[group])
            stratum = sums.iloc[of_stratum]
            found = shares.estimate(stratum, pool=pool)
            is_minor = found.rows <= _MAX_UNKNOWN * rows_of_group[group]
            if of_seen:
                is_minor = np.ones(len(group), bool)
            bounded = strata.bound_unknown(stratum, found, is_minor)
            # The group keeps the method of its other rows.
            has_method = bounded.method == found.method
            if of_seen:
                has_method = unseen_rows_of_group[group] == 0
            method = np.where(has_method, bounded.method, shares.COUNTED)
            parts.append((group, replace(bounded, method=method)))
    return strata.join(parts)


def _describe_models(breakdowns: list[Breakdown], name: str) -> list[str]:
    """Say for each model how many rows it has scored, and how many of them are labelled.

    Args:
        breakdowns: One of them is by model.
        name: Any class, because the number of rows is the same for all classes.
    """
    by_model = next(item for item in breakdowns if item.by == VERSION)
    lines = []
    for model in by_model.of(name).itertuples():
        line = f"model version {model.group}: {model.rows:,} rows, {model.labelled:,} labelled"
        if model.method == shares.UNCORRECTED:
            line += (
                "; too few to measure its error: any share among its rows is possible, and shares "
                f"of which they are more than {_MAX_UNKNOWN:.0%} are not corrected"
            )
        lines.append(line)
    return lines


def _note_gaps(settings: TrendsSettings, breakdowns: list[Breakdown]) -> list[str]:
    """Say how many rows are in no period."""
    num_rows = {}
    for item in breakdowns:
        first_class = item.table["class"][0]
        num_rows[item.by] = int(item.of(first_class)["rows"].sum())
    notes = []
    for by, (column, unit) in zip(settings.by, settings.keys, strict=True):
        num_missing = num_rows[ALL] - num_rows.get(by, 0)
        if unit and num_missing:
            notes.append(f"{num_missing:,} rows have no time in {column} and are in no period")
    return notes


def _note_methods(breakdowns: list[Breakdown]) -> list[str]:
    """Say where groups have no interval, or predicted shares in place of corrected ones."""
    notes = []
    for item in breakdowns:
        method = item.of(item.table["class"].iloc[0])["method"]
        num_unbounded = int((method == shares.UNBOUNDED).sum())
        if num_unbounded:
            coarser = "a longer unit of time" if item.unit else "a column with fewer values"
            notes.append(
                f"{item.by}: too few labels for groups: {num_unbounded:,} of {len(method):,} have "
                "no interval, because fewer than two labels in a labelled group do not tell how "
                f"much the groups differ; label more rows, or name {coarser}"
            )
        num_predicted = int((method == shares.PREDICTED).sum())
        if num_predicted:
            notes.append(
                f"{item.by}: on the labelled texts the share of predicted labels is nearer to the "
                f"groups' shares than the corrected share, so {num_predicted:,} of "
                f"{len(method):,} groups have it (predicted)"
            )
    return notes


def tabulate(trends: ShareTable) -> pa.Table:
    """Make the table ``trends.parquet``, with the columns of ``COLUMNS``."""
    table = pd.concat(item.table.assign(by=item.by) for item in trends.breakdowns)
    return pa.Table.from_pandas(table, schema=COLUMNS, preserve_index=False)
