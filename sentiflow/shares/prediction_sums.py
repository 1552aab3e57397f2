"""Predictions and their labels -> sums by group, period, author and model."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import sampling
from sentiflow.metrics.rating_scale import RatingScale
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.label_finder import LabelFinder, RowLabels
from sentiflow.shares.part_facts import count_bins
from sentiflow.shares.part_sums import AUTHOR, NO_AUTHOR, SEEN, PartSums
from sentiflow.shares.randomness import BinCounts
from sentiflow.shares.ratings import find_scale
from sentiflow.shares.rows import VERSION, PredictionBatch


@dataclass(frozen=True)
class PredictionSums:
    """What the predictions add up to."""

    table: pd.DataFrame
    """Sums of ``sampling.add_up`` by all keys, without manual labels; by author, too, if the labels
    of the corpus are the sample and their authors are known. Sums that are 0 may be missing."""
    change: pd.DataFrame | None
    """What manual labels add to these sums, by the same keys; by author if rows of an author are
    one observation. None if there are no manual labels."""
    num_classes: int
    scale: RatingScale | None
    """The values of ordered classes, whose mean has sums, too; None: the classes have no order."""
    bin_counts: dict[str, BinCounts]
    """By version of the model: rows that it has not seen, and that could be drawn."""
    _found: dict[tuple[str, ...], pd.DataFrame] = field(default_factory=dict)
    """Results of :meth:`_find`, by their keys."""

    @property
    def has_versions(self) -> bool:
        """Say whether several models have made the predictions."""
        return len(self.bin_counts) > 1

    def by(self, keys: list[str]) -> pd.DataFrame:
        """Add up the sums by some keys, by model, and by whether the model has seen the text.

        Each model has its own error, and another one on texts that it was trained on.

        If there are authors, the labelled texts of an author count as one observation, because they
        resemble each other. Rows without a time are in no period: if a key is a time, they are left
        out.
        """
        return self._take_classes(self._find(keys))

    def by_value(self, keys: list[str]) -> pd.DataFrame:
        """Add up the sums of the values of ordered classes by some keys, as :meth:`by` does."""
        return sampling.of_values(self._find(keys), self.num_classes)

    def list_parts(self) -> list[pd.DataFrame]:
        """List sums of the classes whose sum are the sums of all rows."""
        parts = [self.table] if self.change is None else [self.table, self.change]
        return [self._take_classes(part) for part in parts]

    def _take_classes(self, sums: pd.DataFrame) -> pd.DataFrame:
        """Leave out the sums of the values of ordered classes."""
        return sums if self.scale is None else sampling.of_classes(sums, self.num_classes)

    def _find(self, keys: list[str]) -> pd.DataFrame:
        """Add up the sums by some keys, of classes and of values; or find them."""
        levels = [SEEN, *keys]
        if VERSION not in keys:
            # The rows of a stratum are side by side, so it is taken without a copy.
            levels.insert(0, VERSION)
        if tuple(levels) not in self._found:
            self._found[tuple(levels)] = self._add_up(levels)
        return self._found[tuple(levels)]

    def _add_up(self, levels: list[str]) -> pd.DataFrame:
        """Add up the sums by some keys."""
        if self.change is None:
            return self._join_authors(self.table, levels)
        sums = [self.table, self._join_authors(self.change, levels)]
        columns = self._list_columns()
        return _leave_out_empty(sampling.merge_by(sums, levels, columns=columns))

    def _join_authors(self, sums: pd.DataFrame, levels: list[str]) -> pd.DataFrame:
        """Add up sums by some keys; the rows of an author are one observation."""
        columns = self._list_columns()
        if AUTHOR not in sums.index.names:
            return sampling.merge_by([sums], levels, columns=columns)
        by_author = sampling.merge_by([sums], [*levels, AUTHOR], columns=columns)
        return sampling.join_clusters(by_author, AUTHOR)

    def _list_columns(self) -> list[tuple[str, int]]:
        """List the columns that sums have."""
        return sampling.list_columns(self.num_classes, has_values=self.scale is not None)


def _leave_out_empty(sums: pd.DataFrame) -> pd.DataFrame:
    """Leave out groups without rows. A manual label may move a row to another group."""
    is_empty = sums["rows", 0] <= 0
    if is_empty.any():
        sums = sums[~is_empty]
    has_none = sums["population", 0] == 0
    if has_none.any():
        # A group without a population has no probabilities either, not even errors of rounding.
        of_probabilities = [name for name in sums.columns if name[0] in ("p", "pp")]
        sums.loc[has_none, of_probabilities] = 0.0
    return sums


def collect(
    settings: TrendsSettings,
    scored: Manifest,
    uri: str,
    finder: LabelFinder,
    kept: KeptTables,
) -> PredictionSums:
    """Add up all predictions and their labels; read the parts whose sums are not kept.

    The sums without manual labels are the sums of the parts. For each row with a manual label, the
    change is the row with it minus the row without it.

    Args:
        settings: The section ``trends``.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        finder: Finds the labels. It has not seen any row yet.
        kept: Tables of an earlier result. All that the next result needs is added.

    Raises:
        UserError: There are no predictions.
    """
    parts = PartSums(settings, scored, uri, finder, kept)
    table = parts.read()
    if table is None:
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    sample = finder.labels.sample if finder.labels is not None else None
    end = sample.end if sample is not None else None
    bin_counts = {}
    for version in lineage.models_of(scored):
        bin_counts[version] = parts.count(version, end)
    scale = find_scale(scored)
    change = None
    labelled = parts.find_rows() if finder.labels is not None else None
    if labelled is not None:
        own = finder.find_own(labelled)
        manual = finder.find(labelled)
        for version, of_version in bin_counts.items():
            is_counted = (labelled.keys[VERSION] == version).to_numpy()
            if end is not None:
                is_counted = is_counted & (labelled.arrival < end)
            without_labels = of_version - count_bins(labelled, own, is_counted)
            bin_counts[version] = without_labels + count_bins(labelled, manual, is_counted)
        # The rows of a drawn sample are independent, because each was drawn by itself.
        author = labelled.author if sample is None else None
        without = _add_up(labelled, own, author, scale)
        with_labels = _add_up(labelled, manual, author, scale)
        change = sampling.merge([-without, with_labels])
    return PredictionSums(
        table=table,
        change=change,
        num_classes=len(manifest.find_classes(scored)),
        scale=scale,
        bin_counts=bin_counts,
    )


def _add_up(
    batch: PredictionBatch,
    found: RowLabels,
    author: np.ndarray | None,
    scale: RatingScale | None,
) -> pd.DataFrame:
    """Add up rows with their labels."""
    keys = batch.keys.assign(**{SEEN: found.is_seen})
    if author is not None:
        is_sample = (found.label >= 0) & (found.weight > 0)
        keys = keys.assign(**{AUTHOR: np.where(is_sample, author, NO_AUTHOR)})
    return sampling.add_up(
        keys,
        prediction=batch.prediction,
        probabilities=batch.probabilities,
        label=found.label,
        weight=found.weight,
        is_skipped=found.is_skipped,
        values=None if scale is None else scale.units,
    )
