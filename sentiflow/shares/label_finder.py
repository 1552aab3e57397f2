"""Scored rows, batch by batch -> their labels, and their weights in the sample."""

import hashlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import UserError
from sentiflow.shares import labels, rows
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.tracking import training_rows


class _Seen(NamedTuple):
    """What a model was trained on, or chosen by."""

    labelled: np.ndarray
    """Numbers of rows in the scored corpus whose labels the model has learned."""
    row_ids: np.ndarray
    """These rows, and the rows that it has learned without a label, from its teachers."""
    texts: np.ndarray
    """Hashes of texts; empty if the predictions have no texts to compare."""


class RowLabels(NamedTuple):
    """The labels of N rows."""

    label: np.ndarray
    """Positions among the classes; -1 for none."""
    weight: np.ndarray
    """0 for labels that are counted but do not measure the error of the model, such as labels that
    it was trained on. If there are manual labels, all labels of the corpus are only counted."""
    is_skipped: np.ndarray
    """Whether the row was drawn and left out by an annotator, bool. It has a weight, but no
    label."""
    is_seen: np.ndarray
    """Whether the model was trained on the text of the row, bool; false for counted labels. Copies
    of training texts have other errors, so they are a stratum of their own."""


class LabelFinder:
    """Finds the label of each scored row, and its weight in the sample.

    Use :meth:`find` once for the rows of ``trends.labels``: it also adds to ``num_matched`` and
    ``num_seen``.
    """

    def __init__(
        self, scored: Manifest, settings: TrendsSettings, uri: str, kept: KeptTables
    ) -> None:
        """Read the manual labels, and find what each model was trained on.

        Args:
            scored: Manifest of the scored directory.
            settings: Names the files of labels.
            uri: The scored directory.
            kept: Tables of an earlier result. The sketches of draws for the next one are added.

        Raises:
            UserError: A file of labels is wrong.
        """
        self.labels = labels.read(settings, scored, uri, kept) if settings.labels else None
        """Manual labels; None if the labels of the corpus are the sample."""
        self.notes: list[str] = []
        """What a reader should know about the labels."""
        self.is_known = True
        """Whether all rows and texts that the model was trained on are known."""
        self.num_matched = 0
        """Rows of ``trends.labels`` that were found in the batches so far."""
        self.num_seen = 0
        """Rows of ``trends.labels`` in the batches so far whose labels the model was trained on."""
        self._seen: dict[str, _Seen] = {}
        """What each model was trained on, by its version."""
        self._weights: dict[str, pd.Series] = {}
        """The weights of the manual labels for each model, by version and row number."""
        has_text = rows.find_text_column(scored) is not None
        for version, model in lineage.models_of(scored).items():
            self._seen[version] = self._find_seen(scored, version, model, has_text=has_text)
        if self.labels is not None:
            self.notes += self.labels.notes
            for version, seen in self._seen.items():
                self._weights[version] = _weigh(self.labels, seen.labelled)

    def _find_seen(
        self, scored: Manifest, version: str, model: ModelInput, *, has_text: bool
    ) -> _Seen:
        """Find the rows and texts that a model was trained on.

        If the row numbers cannot be found, only texts tell which rows the model has seen. Without
        texts, a note says what follows. Of another program nothing is known.
        """
        if lineage.is_of_others(model):
            nothing = np.zeros(0, np.int64)
            return _Seen(labelled=nothing, row_ids=nothing, texts=np.zeros(0, np.uint64))
        texts, _ = training_rows.find_text_hashes([model] if has_text else [])
        of_version = lineage.of_version(scored, version)
        try:
            row_ids, is_known = training_rows.find_row_ids(of_version, name="the model")
            labelled, _ = training_rows.find_row_ids(
                of_version, name="the model", only_labelled=True
            )
            self.is_known &= is_known
        except UserError as error:
            row_ids = np.zeros(0, np.int64)
            labelled = row_ids
            if not has_text:
                self.notes.append(f"the correction may be too small: {error}")
        return _Seen(labelled=labelled, row_ids=row_ids, texts=texts)

    def find_own(self, batch: rows.PredictionBatch) -> RowLabels:
        """Find the labels of a batch that the corpus itself has.

        If there are manual labels, these labels are only counted. The result depends on the rows
        and on what their model was trained on, not on any manual label.
        """
        label = batch.label.astype(np.int64)
        weight = np.zeros(len(label))
        if self.labels is None:
            weight[label >= 0] = 1
        return self._leave_out_learned(batch, label, weight)

    def find(self, batch: rows.PredictionBatch) -> RowLabels:
        """Find the labels of a batch, manual ones first."""
        if self.labels is None:
            return self.find_own(batch)
        label, weight = self._find_manual(batch)
        for version, seen in self._seen.items():
            place = np.flatnonzero(batch.keys[rows.VERSION] == version)
            row_id = batch.row_id[place]
            is_learned = (label[place] >= 0) & np.isin(row_id, seen.labelled)
            self.num_seen += int((is_learned & self._is_in_sample(row_id)).sum())
        return self._leave_out_learned(batch, label, weight)

    def _leave_out_learned(
        self, batch: rows.PredictionBatch, label: np.ndarray, weight: np.ndarray
    ) -> RowLabels:
        """Take the weight of labels that a model has learned, and find copies of its texts.

        Args:
            batch: N rows.
            label: Their labels; -1 for none.
            weight: Their weights; it is changed.
        """
        is_seen = np.zeros(len(label), bool)
        for version, seen in self._seen.items():
            place = np.flatnonzero(batch.keys[rows.VERSION] == version)
            row_id = batch.row_id[place]
            is_learned = (label[place] >= 0) & np.isin(row_id, seen.labelled)
            weight[place[is_learned]] = 0
            is_seen[place] = np.isin(row_id, seen.row_ids)
            if len(seen.texts) and len(place):
                hashes = batch.hash_texts()
                if hashes is not None:
                    is_seen[place] |= np.isin(hashes[place], seen.texts)
        is_counted = (label >= 0) & (weight == 0)
        return RowLabels(
            label=label,
            weight=weight,
            is_skipped=(label < 0) & (weight > 0),
            is_seen=is_seen & ~is_counted,
        )

    def identify_seen(self) -> dict[str, str]:
        """Hash what each model was trained on, by its version."""
        hashes = {}
        for version, seen in self._seen.items():
            contents = [hashlib.sha256(each.tobytes()).hexdigest() for each in seen]
            hashes[version] = manifest.fingerprint(contents)
        return hashes

    def _find_manual(self, batch: rows.PredictionBatch) -> tuple[np.ndarray, np.ndarray]:
        """Find the manual labels of a batch, and their weights for the model of each row."""
        assert self.labels is not None
        label = batch.label.astype(np.int64)
        manual = self.labels.table["label"].reindex(batch.row_id)
        is_manual = (manual >= 0).to_numpy()
        label[is_manual] = manual[is_manual]
        weight = np.zeros(len(label))
        for version, of_version in self._weights.items():
            place = np.flatnonzero(batch.keys[rows.VERSION] == version)
            weight[place] = of_version.reindex(batch.row_id[place]).fillna(0)
        weight[(label >= 0) & ~is_manual] = 0  # also a row that was skipped, and labelled since
        self.num_matched += int(is_manual.sum())
        return label, weight

    def _is_in_sample(self, row_id: np.ndarray) -> np.ndarray:
        """Say of each row whether it has a manual label that may measure the error."""
        assert self.labels is not None
        table = self.labels.table.reindex(row_id)
        return ((table["label"] >= 0) & (table["weight"] > 0)).to_numpy()


def _weigh(manual: labels.Labels, learned: np.ndarray) -> pd.Series:
    """Weigh manual labels for a model, which may have learned some of them; by row number.

    If the rows were drawn, they are weighed as if the learned ones had not been: a draw whose
    labels the model has learned adds nothing to the chance of a row to be in the sample.
    """
    sample = manual.sample
    if sample is None:
        return manual.table["weight"]
    is_learned = np.isin(sample.row_id, learned)
    weights = pd.Series(sample.weigh(~is_learned), sample.row_id)
    return weights.reindex(manual.table.index).fillna(0)
