"""Predictions and labels -> a row for each group, period and class: shares with intervals."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.metrics import shares
from sentiflow.metrics.shares import Shares, ShareSums
from sentiflow.shares import labels, rows
from sentiflow.shares.labels import Labels
from sentiflow.shares.rows import Batch, Groups

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
    """The shares of groups that have no row in common."""

    by: str
    """``all``, one of ``trends.by``, or both with a comma between."""
    groups: list[str | None]
    """The values of the columns that are no time; None if there is none."""
    periods: list[datetime | None]
    """The beginning of each period in UTC; None without a time."""
    unit: str
    """``hour``, ``day``, ``week`` or ``month``; empty without a time."""
    shares: Shares
    p_adjusted: np.ndarray
    """``(G, C)``: whether a group differs from all others together; NaN if that is not tested."""


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
    def whole(self) -> Breakdown:
        """The shares in all rows."""
        return self.breakdowns[0]


def measure(settings: TrendsSettings, scored: Manifest, uri: str) -> Trends:
    """Measure the shares.

    Raises:
        UserError: A file of labels is wrong, or names rows that are not in the predictions.
    """
    classes = manifest.find_classes(scored)
    by_hand = labels.read(settings.labels, classes) if settings.labels else None
    finder = _LabelFinder(scored, by_hand)
    groups, sums = Groups(settings.keys), None
    for batch in rows.read(settings, scored, uri, label="trends", with_text=by_hand is None):
        label, weight = finder.find(batch)
        part = shares.add_up(
            group=groups.find(batch.keys, len(label)),
            num_groups=len(groups.number),
            prediction=batch.prediction,
            probabilities=batch.probabilities,
            label=label,
            weight=weight,
        )
        sums = part if sums is None else sums + part
    if sums is None:
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    finder.check_all_found(settings)
    breakdowns = _break_down(settings, list(groups.number), sums)
    num_sample = int(sums.labelled.sum())
    if num_sample and not finder.is_known:
        finder.notes.append("it is unknown whether the model was trained on some labelled rows")
    notes = [*finder.notes, *_note_gaps(settings, breakdowns)]
    num_counted = int(sums.counted.sum())
    return Trends(classes, breakdowns, notes, int(sums.rows.sum()), num_sample, num_counted)


class _LabelFinder:
    """Finds the label of each row, and its weight in the sample."""

    def __init__(self, scored: Manifest, by_hand: Labels | None) -> None:
        self.by_hand, self.num_found = by_hand, 0
        self.notes: list[str] = []
        self.is_known = True
        self.seen_rows, self.seen_texts = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        if by_hand is None:
            self._find_seen(scored)
        elif by_hand.num_missing:
            self.notes.append(f"{by_hand.num_missing:,} rows of trends.labels have no label yet")

    def _find_seen(self, scored: Manifest) -> None:
        """Find the rows and texts that the model was trained on."""
        try:
            seen = lineage.find_training_rows(scored, name="the model")
        except UserError as error:
            self.notes.append(f"the correction may be too small: {error}")
            return
        self.seen_rows = seen.row_ids
        if rows.find_text_column(scored):
            self.seen_texts, _ = lineage.find_training_texts([scored["inputs"]["model"]])
        self.is_known = seen.is_known

    def find(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, -1 for none, and weights, 0 for labels that are only counted."""
        label, weight = batch.label.astype(np.int64), np.zeros(len(batch.label))
        if self.by_hand is not None:
            is_found, place = self.by_hand.find(batch.row_id)
            label[is_found] = self.by_hand.label[place[is_found]]
            weight[is_found] = self.by_hand.weight[place[is_found]]
            self.num_found += int(is_found.sum())
            return label, weight
        is_new = (label >= 0) & ~np.isin(batch.row_id, self.seen_rows, assume_unique=True)
        if batch.text is not None and len(self.seen_texts):
            place = np.flatnonzero(is_new)
            hashes = lineage.hash_texts(batch.text.take(pa.array(place)).fill_null(""))
            is_new[place] = ~np.isin(hashes, self.seen_texts)
        weight[is_new] = 1
        return label, weight

    def check_all_found(self, settings: TrendsSettings) -> None:
        """Check that the predictions have the rows that were labelled by hand.

        Raises:
            UserError: They have not.
        """
        if self.by_hand is None or self.num_found == len(self.by_hand.row_id):
            return
        raise UserError(
            f"trends.labels: {len(self.by_hand.row_id) - self.num_found:,} row_id of "
            f"{', '.join(settings.labels)} are not in the predictions",
            hint="the labels belong to another corpus, or the file was damaged",
        )


def _break_down(
    settings: TrendsSettings, found: list[tuple[Any, ...]], sums: ShareSums
) -> list[Breakdown]:
    """Estimate the shares in all rows, by each key, and by both."""
    choices: list[tuple[int, ...]] = [(), *((at,) for at in range(len(settings.keys)))]
    if len(settings.keys) > 1:
        choices.append((0, 1))
    breakdowns = []
    for chosen in choices:
        values = [tuple(one[at] for at in chosen) for one in found]
        names = sorted({one for one in values if None not in one})
        number = {one: at for at, one in enumerate(names)}
        inside = [at for at, one in enumerate(values) if one in number]
        if not inside:
            continue
        own = sums.merge(np.array([number.get(one, len(names)) for one in values]), len(names) + 1)
        own = ShareSums(*(part[: len(names)] for part in own))
        places = range(len(chosen))
        time = next((place for place in places if settings.keys[chosen[place]][1]), None)
        columns = [place for place in places if place != time]
        groups = [", ".join(str(one[p]) for p in columns) if columns else None for one in names]
        pool = None
        if time is not None and columns:
            pool = np.unique(np.array(groups, str), return_inverse=True)[1]
        estimated = shares.estimate(own, min_labelled=settings.min_labelled, pool=pool)
        p_adjusted = np.full(estimated.share.shape, np.nan)
        if chosen and time is None:
            p_adjusted = shares.compare_with_others(estimated)
        breakdowns.append(
            Breakdown(
                ", ".join(settings.by[at] for at in chosen) or ALL,
                groups,
                [None if time is None else one[time] for one in names],
                "" if time is None else settings.keys[chosen[time]][1],
                estimated,
                p_adjusted,
            )
        )
    return breakdowns


def _note_gaps(settings: TrendsSettings, breakdowns: list[Breakdown]) -> list[str]:
    """Say how many rows are in no period."""
    every = breakdowns[0].shares.rows.sum()
    notes = []
    for (column, unit), breakdown in zip(settings.keys, breakdowns[1:], strict=False):
        missing = int(every - breakdown.shares.rows.sum())
        if unit and missing:
            notes.append(f"{missing:,} rows have no time in {column} and are in no period")
    return notes


def tabulate(trends: Trends) -> pa.Table:
    """Make the table ``trends.parquet``, with the columns of ``COLUMNS``."""
    frames = []
    for item in trends.breakdowns:
        found = item.shares
        for number, name in enumerate(trends.classes):
            frame = pd.DataFrame(
                {
                    "by": item.by,
                    "group": item.groups,
                    "period": pd.Series(item.periods, dtype="datetime64[us]"),
                    "class": name,
                    "rows": found.rows.astype(np.int64),
                    "predicted_share": found.predicted[:, number],
                    "corrected_share": found.share[:, number],
                    "low": found.low[:, number],
                    "high": found.high[:, number],
                    "p_adjusted": item.p_adjusted[:, number],
                    "labelled": found.labelled.astype(np.int64),
                    "method": found.method,
                }
            )
            frames.append(frame)
    return pa.Table.from_pandas(pd.concat(frames), schema=COLUMNS, preserve_index=False)
