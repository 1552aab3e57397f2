"""Predictions and their labels -> sums by group, period, author and model."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.metrics import sample_randomness, sampling
from sentiflow.shares import rows
from sentiflow.shares.label_finder import LabelFinder
from sentiflow.shares.randomness import CellCounts
from sentiflow.shares.rows import VERSION

_AUTHOR = "\0author"
"""Key of the author of a row of the sample; no column has this name."""
SEEN = "\0seen"
"""Key of the rows whose text the model was trained on: they are a stratum, as copies of training
texts have other errors."""
_NO_AUTHOR = 0
"""Author of all rows outside the sample: only observations of the sample are counted."""
_MAX_PARTS = 16
"""Number of batches whose sums are held before they are merged. Sums have a row for each author, so
they may need much memory."""


@dataclass(frozen=True)
class PredictionSums:
    """What the predictions add up to."""

    table: pd.DataFrame
    """Sums of ``sampling.add_up`` by all keys, and by author if the authors are known."""
    cell_counts: dict[str, CellCounts]
    """By version of the model: rows that it has not seen, and that could be drawn."""

    @property
    def has_versions(self) -> bool:
        """Say whether several models have made the predictions."""
        return len(self.cell_counts) > 1

    def by(self, keys: list[str]) -> pd.DataFrame:
        """Add up the sums by some keys, by model, and by whether the model has seen the text.

        Each model has its own error, and another one on texts that it was trained on.

        If there are authors, the labelled texts of an author count as one observation, because they
        resemble each other. Rows without a time are in no period: if a key is a time, they are left
        out.
        """
        levels = keys if VERSION in keys else [*keys, VERSION]
        levels = [*levels, SEEN]
        if _AUTHOR not in self.table.index.names:
            return self.table.groupby(level=levels).sum()
        by_author = self.table.groupby(level=[*levels, _AUTHOR]).sum()
        return sampling.join_clusters(by_author, _AUTHOR)


def collect(
    settings: TrendsSettings, scored: Manifest, uri: str, finder: LabelFinder
) -> PredictionSums:
    """Read all predictions, find their labels, and add them up.

    Args:
        settings: The section ``trends``.
        scored: Manifest of the scored directory.
        uri: The scored directory.
        finder: Finds the labels. It has not seen any row yet.

    Raises:
        UserError: There are no predictions.
    """
    num_classes = len(manifest.find_classes(scored))
    cell_counts = {}
    for version in lineage.models_of(scored):
        cell_counts[version] = CellCounts.zeros(num_classes)
    sample = finder.labels.sample if finder.labels is not None else None
    sums: list[pd.DataFrame] = []
    for batch in rows.read(settings, scored, uri, with_text=True):
        label, weight, is_skipped, is_seen = finder.find(batch)
        in_population = sampling.find_population(label, weight)
        sample_weight = np.where(label >= 0, weight, 0.0)
        is_compared = ~is_seen
        if sample is not None:
            is_compared &= batch.row_id < sample.end
        for version, of_version in cell_counts.items():
            is_of_version = is_compared & (batch.keys[VERSION] == version).to_numpy()
            of_version.population += _count_cells(batch, in_population & is_of_version)
            of_version.sample += _count_cells(batch, np.where(is_of_version, sample_weight, 0.0))
        keys = batch.keys.assign(**{SEEN: is_seen})
        # The rows of a drawn sample are independent, because each was drawn by itself.
        if batch.author is not None and sample is None:
            author = np.where(sample_weight > 0, batch.author, _NO_AUTHOR)
            keys = keys.assign(**{_AUTHOR: author})
        of_batch = sampling.add_up(
            keys,
            prediction=batch.prediction,
            probabilities=batch.probabilities,
            label=label,
            weight=weight,
            is_skipped=is_skipped,
        )
        sums.append(of_batch)
        if len(sums) == _MAX_PARTS:
            sums = [sampling.merge(sums)]
    if not sums:
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    return PredictionSums(table=sampling.merge(sums), cell_counts=cell_counts)


def _count_cells(batch: rows.PredictionBatch, weight: np.ndarray) -> np.ndarray:
    return sample_randomness.count_cells(batch.prediction, batch.probabilities, weight)
