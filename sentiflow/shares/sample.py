"""Labelled rows -> those that tell the errors of a model, and whether they are a random sample."""

import numpy as np
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.metrics import sampling
from sentiflow.metrics.paired import write_p
from sentiflow.shares import labels, rows
from sentiflow.shares.rows import Batch

_IMPROBABLE = 0.01
"""Labelled rows that differ so improbably from all rows are no random sample."""


class LabelFinder:
    """Finds the label of each row, and its weight in the sample."""

    def __init__(self, scored: Manifest, settings: TrendsSettings, uri: str) -> None:
        """Read the manual labels, and find what the model was trained on.

        Raises:
            UserError: A file of labels is wrong.
        """
        self.labels = labels.read(settings, scored, uri) if settings.labels else None
        self.notes: list[str] = []
        self.is_known = True
        """Whether all rows and texts that the model was trained on are known."""
        self.seen_rows, self.seen_texts = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        self.num_matched = self.num_seen = 0
        """Rows of ``trends.labels`` in the predictions, and those that the model was trained on."""
        if has_text := bool(rows.find_text_column(scored)):
            self.seen_texts, _ = lineage.find_training_texts([scored["inputs"]["model"]])
        try:
            seen = lineage.find_training_rows(scored, name="the model")
            self.seen_rows, self.is_known = seen.row_ids, seen.is_known
        except UserError as error:
            if not has_text:
                self.notes.append(f"the correction may be too small: {error}")
        if self.labels is not None:
            self.notes += self.labels.notes

    def find(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, -1 for none, and weights, 0 for labels that are only counted."""
        label, weight = batch.label.astype(np.int64), np.ones(len(batch.label))
        if self.labels is not None:
            manual = self.labels.table.reindex(batch.row_id)
            is_manual = manual["label"].notna().to_numpy()
            label[is_manual] = manual["label"][is_manual]
            weight = manual["weight"].fillna(0).to_numpy()
            self.num_matched += int(is_manual.sum())
        is_new = (label >= 0) & (weight > 0)
        is_new &= ~np.isin(batch.row_id, self.seen_rows, assume_unique=True)
        if batch.text is not None and len(self.seen_texts):
            place = np.flatnonzero(is_new)
            hashes = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
            is_new[place] = ~np.isin(hashes, self.seen_texts)
        if self.labels is not None:
            self.num_seen += int(((weight > 0) & ~is_new).sum())
        return label, np.where(is_new, weight, 0.0)


def describe_choice(cells: np.ndarray, size: float, classes: tuple[str, ...]) -> list[str]:
    """Say how the labelled rows differ from all, if that is improbable in a random sample.

    Args:
        cells: Those of ``sampling.count_cells``, of all rows and of the sample.
        size: The effective size of the sample.
        classes: The classes.
    """
    p_values = sampling.check_randomness(cells[0], cells[1], size)
    if p_values.min() >= _IMPROBABLE:
        return []
    of_classes, of_steps = (
        cells.sum(axis=axis) / cells.sum(axis=(1, 2))[:, None] for axis in (2, 1)
    )
    at = int(np.abs(of_classes[1] - of_classes[0]).argmax())
    what, (every, sample) = f"are predicted {classes[at]}", of_classes[:, at]
    if p_values[1] < p_values[0]:
        at = int(np.abs(np.diff(of_steps, axis=0).cumsum()).argmax()) + 1
        what = f"have a probability of {at / sampling.NUM_STEPS:.2f} or more"
        every, sample = of_steps[:, at:].sum(axis=1)
    return [
        f"the labelled texts are no random sample: {sample:.1%} of them {what}, of all "
        f"{every:.1%} ({write_p(p_values.min())}); the intervals hold only for texts like them, "
        "and no group or period is claimed to differ"
    ]
