"""Evaluated rows -> the rows that the model was not trained on, as far as is known."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage
from sentiflow.data.arrays import find_sorted, hash_texts
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError, rows_are
from sentiflow.evaluation.text_source import TextSource
from sentiflow.metrics.row_ranges import row_ranges
from sentiflow.tracking import refits, training_rows


class UnseenRows(NamedTuple):
    """Rows that the model was not trained on, as far as is known."""

    rows: pa.Table
    is_unseen: bool
    """Whether it is certain that the model was trained on none of the rows."""
    notes: list[str]
    """Which rows were left out, and what is not certain."""


def leave_out_training_rows(
    rows: pa.Table, scored: Manifest, corpus: ScoredCorpus, texts: TextSource | None
) -> UnseenRows:
    """Leave out rows that the model was trained on, or chosen by, and that no split marks as such.

    Such rows are found by their numbers. They are also found by their texts, except in the prepared
    data of the model's own training without given test rows (``prepare.test``): there the splits
    decide. In any other corpus the model, or the one it began from, may have learned the same text
    under another number.

    Args:
        rows: As ``compact_rows.read`` returns them.
        scored: Manifest of the predictions.
        corpus: The corpus that was scored.
        texts: Where the texts of the rows are; None if they are unknown.

    Raises:
        UserError: The model is a refit, and the rows that it was trained on cannot be told apart.
    """
    model = scored["inputs"]["model"]
    is_one_of_several = lineage.is_one_of_several(scored)
    try:
        seen, is_unseen = training_rows.find_row_ids(scored, name="the model", by_splits=False)
    except UserError as error:
        if texts and (is_one_of_several or "refit" not in model):  # the texts are enough
            seen = np.empty(0, np.int64)
            _, are_known = training_rows.find_text_hashes([model])  # the texts are left out below
            is_unseen = all(are_known)
        elif "refit" in model:
            raise
        else:
            notes = [f"the metrics are too optimistic: {error}"]
            return UnseenRows(rows=rows, is_unseen=False, notes=notes)
    unseen = _leave_out(rows, _are_in(rows["row_id"].to_numpy(), seen))
    notes = []
    refit = model.get("refit")
    if refit:
        notes.append(refits.describe(refit))
    num_seen = len(rows) - len(unseen)
    if num_seen:
        notes.append(f"{rows_are(num_seen)} left out: they were used to train or choose the model")
    if not is_unseen:
        notes.append("it is unknown whether the model was trained on some of the rows")
    is_own = lineage.is_of_training(scored, lineage.training_of(model))
    if texts and (is_one_of_several or not is_own or corpus.given_test_files):
        is_learned = _are_learned(unseen, model, corpus, texts)
        unseen = _leave_out(unseen, is_learned)
        num_learned = int(is_learned.sum())
        if num_learned:
            learner = "an earlier model" if is_own and not is_one_of_several else "the model has"
            notes.append(f"{rows_are(num_learned)} left out: {learner} learned their texts")
    return UnseenRows(rows=unseen, is_unseen=is_unseen, notes=notes)


def _leave_out(rows: pa.Table, is_left_out: np.ndarray) -> pa.Table:
    """Leave out rows; without such rows, the table is not copied."""
    return rows.filter(pa.array(~is_left_out)) if is_left_out.any() else rows


def _are_in(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Say which keys are among known keys, which are distinct and in rising order."""
    found = np.empty(len(keys), bool)
    for part in row_ranges(len(keys)):
        found[part], _ = find_sorted(known, keys[part])
    return found


def _are_learned(
    rows: pa.Table, model: Mapping[str, Any], corpus: ScoredCorpus, texts: TextSource
) -> np.ndarray:
    """Say which rows have a text that a model has learned from other data than this corpus."""
    fingerprint = corpus.described["fingerprint"]
    learned, _ = training_rows.find_text_hashes([model], other_than=fingerprint)
    found = np.zeros(len(rows), bool)
    if not len(learned):
        return found
    for positions, text in texts.read_texts(rows["row_id"].to_numpy()):
        found[positions] = training_rows.are_learned(hash_texts(text), learned)
    return found
