"""Predictions and labels -> a row for each group, period and class: shares with intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import sampling, shares
from sentiflow.shares import rows
from sentiflow.shares.labels import LabelFinder, describe_choice
from sentiflow.shares.rows import EVERY, VERSION

ALL = "all"
"""Name of the table of all rows."""
AUTHOR = "\0author"
"""The key of labelled rows by their author."""
_MAX_PARTS = 16
"""Batches whose sums are held at once: there may be as many as authors."""

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


@dataclass(frozen=True)
class Breakdown:
    """The shares of C classes in groups that have no row in common."""

    by: str
    """``all``, one of ``trends.by``, or both with a comma between."""
    unit: str
    """``hour``, ``day``, ``week`` or ``month``; empty without a time."""
    has_groups: bool
    """Whether it is by a column that is no time."""
    table: pd.DataFrame
    """A row for each class and group, with the columns of ``COLUMNS``; ``share``, the corrected one
    or, where there is none, that of predicted labels; and ``error``, the standard error by which
    groups are compared. ``group`` are the values of columns that are no time, ``period`` the
    beginnings of periods in ``trends.time_zone``."""

    def of(self, name: str) -> pd.DataFrame:
        """Return the rows of a class, numbered from 0."""
        return self.table[self.table["class"] == name].reset_index(drop=True)


@dataclass(frozen=True)
class ShareTable:
    """The shares of C classes in a scored corpus."""

    classes: tuple[str, ...]
    breakdowns: list[Breakdown]
    """Of all rows, by each of ``trends.by``, and by both."""
    notes: list[str]
    """What a reader should know first."""
    num_rows: int
    num_sample: int
    """Labelled rows that tell the errors of the model."""
    num_counted: int
    """Other labelled rows."""
    is_random: bool
    """Whether the sample may be random; if not, no group or period is claimed to differ."""

    @property
    def whole(self) -> pd.DataFrame:
        """The shares in all rows, a row for each class."""
        return self.breakdowns[0].table.set_index("class", drop=False)

    @property
    def method(self) -> str:
        """How the shares in all rows were estimated: one of ``shares.METHODS``."""
        return str(self.breakdowns[0].table["method"][0])


def measure(settings: TrendsSettings, scored: Manifest, uri: str) -> ShareTable:
    """Measure the shares.

    Raises:
        UserError: A file of labels is wrong, or names rows that are not in the predictions; or
            there are too many groups.
    """
    classes = manifest.find_classes(scored)
    finder, sums = LabelFinder(scored, settings, uri), list[pd.DataFrame]()
    is_drawn = finder.labels is not None and finder.labels.is_drawn
    shape = (2, len(classes), sampling.NUM_STEPS)
    cells = {version: np.zeros(shape) for version in lineage.models_of(scored)}
    for batch in rows.read(settings, scored, uri, with_text=True):
        label, weight = finder.find(batch)
        predicted = {"prediction": batch.prediction, "probabilities": batch.probabilities}
        in_sample, keys = weight * (label >= 0), batch.keys
        for number, each in enumerate(((label < 0) | (weight > 0), in_sample)):
            for version, of_version in cells.items():
                weights = each * (keys[VERSION] == version)
                of_version[number] += sampling.count_cells(**predicted, weight=weights)
        if batch.author is not None and not is_drawn:
            keys = keys.assign(**{AUTHOR: np.where(in_sample > 0, batch.author, 0)})
        sums.append(sampling.add_up(keys, **predicted, label=label, weight=weight))
        if len(sums) == _MAX_PARTS:
            sums = [_merge(sums, settings)]
    if not sums:
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    merged = _merge(sums, settings)
    totals = merged.sum().groupby(level=0).sum()
    if finder.labels and (num_missing := len(finder.labels.table) - finder.num_matched):
        raise UserError(
            f"trends.labels: {num_missing:,} row_id of {', '.join(settings.labels)} are not in the "
            "predictions",
            hint="the labels belong to another corpus, or the file was damaged",
        )
    if finder.num_seen:
        finder.notes.append(
            f"{finder.num_seen:,} rows of trends.labels were used to train or choose the model: "
            "their labels measure no error of it"
        )
    differs, several = list[str](), len(cells) > 1
    of_models = _group(merged, [VERSION])
    for version, w, ww in zip(of_models.index, of_models["w", 0], of_models["ww", 0], strict=True):
        found = describe_choice(cells[version], w**2 / ww, classes) if w else []
        differs += [f"model version {version}: {line}" if several else line for line in found]
    breakdowns = _break_down(settings, merged, classes, can_compare=not differs, several=several)
    if several:
        finder.notes += _describe_models(breakdowns, classes[0])
    if totals["labelled"] and not finder.is_known:
        finder.notes.append("it is unknown whether the model was trained on some labelled rows")
    notes = [*differs, *finder.notes, *_note_gaps(settings, breakdowns)]
    num_rows, num_sample, num_counted = map(int, totals[["rows", "labelled", "counted"]])
    return ShareTable(classes, breakdowns, notes, num_rows, num_sample, num_counted, not differs)


def _merge(sums: list[pd.DataFrame], settings: TrendsSettings) -> pd.DataFrame:
    """Add up the sums of some batches.

    Raises:
        UserError: There are too many groups.
    """
    merged = sampling.merge(sums)
    keys = [name for name in merged.index.names if name not in (AUTHOR, VERSION)]
    rows.check_number(merged.groupby(level=keys, dropna=False).size(), settings)
    return merged


def _group(sums: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add up by some keys and model, without rows that have no time.

    An author is one observation.
    """
    keys = [*dict.fromkeys([*keys, VERSION])]
    if AUTHOR not in sums.index.names:
        return sums.groupby(level=keys).sum()
    return sampling.join_clusters(sums.groupby(level=[*keys, AUTHOR]).sum(), AUTHOR)


def _break_down(
    settings: TrendsSettings,
    sums: pd.DataFrame,
    classes: tuple[str, ...],
    *,
    can_compare: bool,
    several: bool,
) -> list[Breakdown]:
    """Estimate the shares in all rows, by each key, by both, and by model if there are several."""
    choices = [[EVERY], *([name] for name in settings.by)]
    choices += [[*settings.by]] if len(settings.by) > 1 else []
    choices += [[VERSION]] if several and VERSION not in settings.by else []
    units = {name: unit for name, (_, unit) in zip(settings.by, settings.keys, strict=True) if unit}
    breakdowns = []
    for chosen in choices:
        time = next((name for name in chosen if name in units), None)
        of_groups = _group(sums, chosen)
        if len(of_groups):
            columns = [name for name in chosen if name not in (EVERY, time)]
            table = _estimate(of_groups, classes, columns, time)
            if not can_compare:
                table["p_adjusted"] = np.nan
            by = ", ".join(chosen) if chosen != [EVERY] else ALL
            breakdowns.append(Breakdown(by, units[time] if time else "", bool(columns), table))
    return breakdowns


def _estimate(
    sums: pd.DataFrame,
    classes: tuple[str, ...],
    columns: list[str],
    time: str | None,
) -> pd.DataFrame:
    """Estimate the shares in groups: a ``Breakdown.table``."""
    index = sums.index.to_frame(index=False)
    by = [name for name in index if name != VERSION or VERSION in columns]
    number, keys = index.groupby(by).ngroup().to_numpy(), index[by].drop_duplicates()
    keys = keys.reset_index(drop=True)
    groups = keys[columns].agg(", ".join, axis=1) if columns else None
    strata = []
    for version in index[VERSION].unique():
        place = np.flatnonzero(index[VERSION] == version)
        pool = pd.Index(groups[number[place]]) if time and groups is not None else None
        strata.append((number[place], shares.estimate(sums.iloc[place], pool=pool)))
    of_groups = shares.join(strata)
    p_adjusted = np.full(of_groups.share.shape, np.nan)
    if columns and not time:
        p_adjusted = shares.compare_with_others(of_groups)
        p_adjusted[of_groups.method == shares.UNLABELLED] = np.nan
    every = {
        "group": groups,
        "period": keys[time] if time else pd.NaT,
        "rows": of_groups.rows.astype(np.int64),
        "labelled": of_groups.labelled.astype(np.int64),
        "method": of_groups.method,
    }
    of_classes = [
        pd.DataFrame(
            every
            | {
                "class": name,
                "predicted_share": of_groups.predicted[:, number],
                "corrected_share": of_groups.share[:, number],
                "low": of_groups.low[:, number],
                "high": of_groups.high[:, number],
                "error": of_groups.error[:, number],
                "p_adjusted": p_adjusted[:, number],
            }
        )
        for number, name in enumerate(classes)
    ]
    table = pd.concat(of_classes, ignore_index=True)
    return table.assign(share=table["corrected_share"].fillna(table["predicted_share"]))


def _describe_models(breakdowns: list[Breakdown], name: str) -> list[str]:
    """Say of each model how many rows it has scored, and how many labels there are."""
    (item,) = (each for each in breakdowns if each.by == VERSION)
    few = "; too few to measure its error: shares with its rows are not corrected"
    return [
        f"model version {line.group}: {line.rows:,} rows, {line.labelled:,} labelled"
        + (few if line.method == shares.UNCORRECTED else "")
        for line in item.of(name).itertuples()
    ]


def _note_gaps(settings: TrendsSettings, breakdowns: list[Breakdown]) -> list[str]:
    """Say how many rows are in no period."""
    sizes = {item.by: int(item.of(item.table["class"][0])["rows"].sum()) for item in breakdowns}
    return [
        f"{missing:,} rows have no time in {column} and are in no period"
        for by, (column, unit) in zip(settings.by, settings.keys, strict=True)
        if unit and (missing := sizes[ALL] - sizes.get(by, 0))
    ]


def tabulate(trends: ShareTable) -> pa.Table:
    """Make the table ``trends.parquet``, with the columns of ``COLUMNS``."""
    table = pd.concat(item.table.assign(by=item.by) for item in trends.breakdowns)
    return pa.Table.from_pandas(table, schema=COLUMNS, preserve_index=False)
