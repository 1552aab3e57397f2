"""Predictions and labels -> a row for each group, period and class: shares with intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.metrics import shares
from sentiflow.shares import labels, rows
from sentiflow.shares.rows import EVERY, Batch

ALL = "all"
"""Name of the table of all rows."""

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
class Trends:
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

    @property
    def whole(self) -> pd.DataFrame:
        """The shares in all rows, a row for each class."""
        return self.breakdowns[0].table.set_index("class", drop=False)

    @property
    def method(self) -> str:
        """How the shares in all rows were estimated: one of ``shares.METHODS``."""
        return str(self.breakdowns[0].table["method"][0])


def measure(settings: TrendsSettings, scored: Manifest, uri: str) -> Trends:
    """Measure the shares.

    Raises:
        UserError: A file of labels is wrong, or names rows that are not in the predictions; or
            there are too many groups.
    """
    classes = manifest.find_classes(scored)
    finder, sums = _LabelFinder(scored, settings, classes), list[pd.DataFrame]()
    for batch in rows.read(settings, scored, uri, label="trends", with_text=True):
        label, weight = finder.find(batch)
        part = shares.add_up(
            batch.keys,
            prediction=batch.prediction,
            probabilities=batch.probabilities,
            label=label,
            weight=weight,
        )
        sums = [shares.merge([*sums, part])]
        rows.check_number(sums[0], settings)
    if not sums:
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    totals = sums[0].sum().groupby(level=0).sum()
    if missing := finder.by_hand is not None and len(finder.by_hand) - finder.num_found:
        raise UserError(
            f"trends.labels: {missing:,} row_id of {', '.join(settings.labels)} are not in the "
            "predictions",
            hint="the labels belong to another corpus, or the file was damaged",
        )
    if finder.num_seen:
        finder.notes.append(
            f"{finder.num_seen:,} rows of trends.labels are among those that the model was trained "
            "on or chosen by: their labels are counted, and say nothing of its errors"
        )
    breakdowns = _break_down(settings, sums[0], classes)
    if totals["labelled"] and not finder.is_known:
        finder.notes.append("it is unknown whether the model was trained on some labelled rows")
    notes = [*finder.notes, *_note_gaps(settings, breakdowns)]
    counts = totals[["rows", "labelled", "counted"]].astype(int).tolist()
    return Trends(classes, breakdowns, notes, *counts)


class _LabelFinder:
    """Finds the label of each row, and its weight in the sample."""

    def __init__(
        self, scored: Manifest, settings: TrendsSettings, classes: tuple[str, ...]
    ) -> None:
        self.by_hand: pd.DataFrame | None = None
        self.notes: list[str] = []
        self.is_known = True
        self.seen_rows, self.seen_texts = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        self.num_found = self.num_seen = 0
        """Rows of ``trends.labels`` in the predictions, and those that the model was trained on."""
        self._find_seen(scored)
        if not settings.labels:
            return
        self.by_hand, num_missing = labels.read(settings.labels, classes)
        if num_missing:
            self.notes.append(f"{num_missing:,} rows of trends.labels have no label yet")

    def _find_seen(self, scored: Manifest) -> None:
        """Find the rows and texts that the model was trained on."""
        if has_text := bool(rows.find_text_column(scored)):
            self.seen_texts, _ = lineage.find_training_texts([scored["inputs"]["model"]])
        try:
            seen = lineage.find_training_rows(scored, name="the model")
        except UserError as error:
            if not has_text:
                self.notes.append(f"the correction may be too small: {error}")
            return
        self.seen_rows, self.is_known = seen.row_ids, seen.is_known

    def find(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, -1 for none, and weights, 0 for labels that are only counted."""
        label = batch.label.astype(np.int64)
        weight = np.ones(len(label))
        if self.by_hand is not None:
            found = self.by_hand.reindex(batch.row_id)
            is_found = found["label"].notna().to_numpy()
            label[is_found] = found["label"][is_found]
            weight = found["weight"].fillna(0).to_numpy()
        is_new = self._find_new(batch, (label >= 0) & (weight > 0))
        if self.by_hand is not None:
            self.num_found += int(is_found.sum())
            self.num_seen += int((is_found & ~is_new).sum())
        return label, np.where(is_new, weight, 0.0)

    def _find_new(self, batch: Batch, is_new: np.ndarray) -> np.ndarray:
        """Find which of some rows the model has not seen."""
        is_new &= ~np.isin(batch.row_id, self.seen_rows, assume_unique=True)
        if batch.text is not None and len(self.seen_texts):
            place = np.flatnonzero(is_new)
            hashes = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
            is_new[place] = ~np.isin(hashes, self.seen_texts)
        return is_new


def _break_down(
    settings: TrendsSettings, sums: pd.DataFrame, classes: tuple[str, ...]
) -> list[Breakdown]:
    """Estimate the shares in all rows, by each key, and by both."""
    choices = [[EVERY], *([name] for name in settings.by)]
    choices += [[*settings.by]] if len(settings.by) > 1 else []
    units = {name: unit for name, (_, unit) in zip(settings.by, settings.keys, strict=True) if unit}
    found = []
    for chosen in choices:
        time = next((name for name in chosen if name in units), None)
        of_groups = sums.groupby(level=chosen).sum()  # without rows that have no time
        if len(of_groups):
            columns = [name for name in chosen if name not in (EVERY, time)]
            table = _estimate(of_groups, classes, columns, time, settings.min_labelled)
            by = ", ".join(chosen) if chosen != [EVERY] else ALL
            found.append(Breakdown(by, units[time] if time else "", bool(columns), table))
    return found


def _estimate(
    sums: pd.DataFrame,
    classes: tuple[str, ...],
    columns: list[str],
    time: str | None,
    min_labelled: int,
) -> pd.DataFrame:
    """Estimate the shares in groups: a ``Breakdown.table``."""
    keys = sums.index.to_frame(index=False)
    groups = keys[columns].agg(", ".join, axis=1) if columns else None
    pool = pd.Index(groups) if time and groups is not None else None
    found = shares.estimate(sums, min_labelled=min_labelled, pool=pool)
    p_adjusted = np.full(found.share.shape, np.nan)
    if columns and not time:
        p_adjusted = shares.compare_with_others(found)
    every = {
        "group": groups,
        "period": keys[time] if time else pd.NaT,
        "rows": found.rows.astype(np.int64),
        "labelled": found.labelled.astype(np.int64),
        "method": found.method,
    }
    of_classes = [
        pd.DataFrame(
            every
            | {
                "class": name,
                "predicted_share": found.predicted[:, number],
                "corrected_share": found.share[:, number],
                "low": found.low[:, number],
                "high": found.high[:, number],
                "error": found.error[:, number],
                "p_adjusted": p_adjusted[:, number],
            }
        )
        for number, name in enumerate(classes)
    ]
    table = pd.concat(of_classes, ignore_index=True)
    return table.assign(share=table["corrected_share"].fillna(table["predicted_share"]))


def _note_gaps(settings: TrendsSettings, breakdowns: list[Breakdown]) -> list[str]:
    """Say how many rows are in no period."""
    sizes = {item.by: int(item.of(item.table["class"][0])["rows"].sum()) for item in breakdowns}
    return [
        f"{missing:,} rows have no time in {column} and are in no period"
        for by, (column, unit) in zip(settings.by, settings.keys, strict=True)
        if unit and (missing := sizes[ALL] - sizes.get(by, 0))
    ]


def tabulate(trends: Trends) -> pa.Table:
    """Make the table ``trends.parquet``, with the columns of ``COLUMNS``."""
    found = pd.concat(item.table.assign(by=item.by) for item in trends.breakdowns)
    return pa.Table.from_pandas(found, schema=COLUMNS, preserve_index=False)
