"""Scored rows, batch by batch -> their labels, and their weights in the sample."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage
from sentiflow.data.arrays import hash_texts
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import UserError
from sentiflow.shares import labels, rows
from sentiflow.tracking import training_rows


class _Seen(NamedTuple):
    """What a model was trained on, or chosen by."""

    row_ids: np.ndarray
    """Row numbers in the scored corpus."""
    texts: np.ndarray
    """Hashes of texts; empty if the predictions have no texts to compare."""


class LabelFinder:
    """Finds the label of each scored row, and its weight in the sample.

    Use :meth:`find` once for each batch: it also adds to ``num_matched`` and ``num_seen``.
    """

    def __init__(self, scored: Manifest, settings: TrendsSettings, uri: str) -> None:
        """Read the manual labels, and find what each model was trained on.

        Args:
            scored: Manifest of the scored directory.
            settings: Names the files of labels.
            uri: The scored directory.

        Raises:
            UserError: A file of labels is wrong.
        """
        self.labels = labels.read(settings, scored, uri) if settings.labels else None
        """Manual labels; None if the labels of the corpus are the sample."""
        self.notes: list[str] = []
        """What a reader should know about the labels."""
        self.is_known = True
        """Whether all rows and texts that the model was trained on are known."""
        self.num_matched = 0
        """Rows of ``trends.labels`` that were found in the batches so far."""
        self.num_seen = 0
        """Rows of ``trends.labels`` in the batches so far that the model was trained on."""
        self._seen: dict[str, _Seen] = {}
        """What each model was trained on, by its version."""
        has_text = rows.find_text_column(scored) is not None
        for version, model in lineage.models_of(scored).items():
            self._seen[version] = self._find_seen(scored, version, model, has_text=has_text)
        if self.labels is not None:
            self.notes += self.labels.notes

    def _find_seen(
        self, scored: Manifest, version: str, model: ModelInput, *, has_text: bool
    ) -> _Seen:
        """Find the rows and texts that a model was trained on.

        If the row numbers cannot be found, only texts tell which rows the model has seen. Without
        texts, a note says what follows.
        """
        texts, _ = training_rows.find_text_hashes([model] if has_text else [])
        try:
            row_ids, is_known = training_rows.find_row_ids(
                lineage.of_version(scored, version), name="the model"
            )
            self.is_known &= is_known
        except UserError as error:
            row_ids = np.zeros(0, np.int64)
            if not has_text:
                self.notes.append(f"the correction may be too small: {error}")
        return _Seen(row_ids=row_ids, texts=texts)

    def find(self, batch: rows.PredictionBatch) -> tuple[np.ndarray, np.ndarray]:
        """Find the labels of a batch.

        Returns:
            N labels, -1 for none; and N weights, 0 for labels that are counted but do not measure
            the error of the model, such as labels that it was trained on. If there are manual
            labels, all labels of the corpus are only counted.
        """
        label = batch.label.astype(np.int64)
        weight = np.ones(len(label))
        if self.labels is not None:
            manual = self.labels.table.reindex(batch.row_id)
            is_manual = manual["label"].notna().to_numpy()
            label[is_manual] = manual["label"][is_manual]
            weight = manual["weight"].fillna(0).to_numpy()
            self.num_matched += int(is_manual.sum())
        is_new = (label >= 0) & (weight > 0)
        for version, seen in self._seen.items():
            place = np.flatnonzero(is_new & (batch.keys[rows.VERSION] == version))
            is_seen = np.isin(batch.row_id[place], seen.row_ids, assume_unique=True)
            if batch.text is not None and len(seen.texts):
                hashes = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
                is_seen |= np.isin(hashes, seen.texts)
            is_new[place] = ~is_seen
        if self.labels is not None:
            self.num_seen += int(((weight > 0) & ~is_new).sum())
        return label, np.where(is_new, weight, 0.0)
