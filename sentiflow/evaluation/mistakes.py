"""Labelled predictions with their texts -> the mistakes that are most worth reading."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.evaluation.slices import HAPPY, SAD, matches

NUM_KEPT = 100
"""Rows of each kind."""

COLUMNS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("prediction", pa.int8(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)
"""``kind`` is ``confident``, ``near miss`` or ``label``. ``why`` is the reason to doubt a label."""


@dataclass(frozen=True)
class LabelErrors:
    """How many labels may be wrong, by :func:`count_label_errors`."""

    num_rows: int
    num_doubtful: int
    fraction: float | None
    """None unless both labels occur."""


def find(rows: pa.Table) -> pa.Table:
    """Choose rows of three kinds, at most ``NUM_KEPT`` of each, the clearest cases first.

    - ``confident``: a wrong prediction with a probability far from one half.
    - ``near miss``: a wrong prediction with a probability near one half.
    - ``label``: the label may be wrong. First come texts that the corpus has with both labels, on
      a row with the rarer label; then texts with an emoticon that contradicts the label, where the
      model contradicts it too.

    A text occurs once in each kind. Texts are untrusted and are not changed.

    Args:
        rows: ``row_id``, ``text`` (without nulls), ``label`` (0 or 1), ``probability`` (of
            positive), ``prediction``.

    Returns:
        A table with the columns ``COLUMNS``.
    """
    row_id, label, prediction, probability = (
        rows[name].to_numpy() for name in ("row_id", "label", "prediction", "probability")
    )
    text = rows["text"].combine_chunks()
    certainty = np.abs(probability - 0.5)
    wrong = np.flatnonzero(prediction != label)
    same = hash_strings(normalize_text(text))
    chosen: list[tuple[str, np.ndarray, list[str]]] = []
    for kind, sign in (("confident", -1), ("near miss", 1)):
        order = wrong[np.lexsort((row_id[wrong], sign * certainty[wrong]))]
        positions = _first_of_each(order, same)[:NUM_KEPT]
        chosen.append((kind, positions, [""] * len(positions)))
    positions, reasons = _doubtful_labels(text, label, prediction, certainty, same)
    chosen.append(("label", positions[:NUM_KEPT], reasons[:NUM_KEPT]))
    tables = [
        rows.take(pa.array(positions, pa.int64()))
        .append_column("kind", pa.array([kind] * len(positions), pa.string()))
        .append_column("why", pa.array(reasons, pa.string()))
        .select(COLUMNS.names)
        .cast(COLUMNS)
        for kind, positions, reasons in chosen
    ]
    return pa.concat_tables(tables)


def count_label_errors(*, label: np.ndarray, probability: np.ndarray) -> LabelErrors:
    """Estimate how many labels are wrong, by confident learning.

    After Northcutt, Jiang and Chuang, "Confident learning" (JAIR 2021). A row counts if the
    probability of the other label is at least the mean probability of that label on the rows that
    have it. The method trusts a model that is very sure: confident mistakes of the model are
    counted as wrong labels, so the estimate may be too high.
    """
    positive = label == POSITIVE
    if positive.all() or not positive.any():
        return LabelErrors(len(label), 0, None)
    self_confidence = {
        POSITIVE: probability[positive].mean(),
        NEGATIVE: (1 - probability[~positive]).mean(),
    }
    doubtful = (~positive & (probability >= self_confidence[POSITIVE])) | (
        positive & (1 - probability >= self_confidence[NEGATIVE])
    )
    doubtful &= (probability >= 0.5) != positive
    num_doubtful = int(doubtful.sum())
    return LabelErrors(len(label), num_doubtful, num_doubtful / len(label))


def _first_of_each(rows: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Keep the first row of each text, in the order given."""
    _, first = np.unique(same[rows], return_index=True)
    return rows[np.sort(first)]


def _doubtful_labels(
    text: pa.Array,
    label: np.ndarray,
    prediction: np.ndarray,
    certainty: np.ndarray,
    same: np.ndarray,
) -> tuple[np.ndarray, list[str]]:
    """Find rows whose label is doubtful, and the reason for each."""
    contradicting, reasons = _contradicting(label, prediction, same)
    happy, sad = matches(text, HAPPY), matches(text, SAD)
    against = np.where(label == POSITIVE, sad & ~happy, happy & ~sad) & (prediction != label)
    against &= ~np.isin(same, same[contradicting])
    rows = np.flatnonzero(against)
    rows = _first_of_each(rows[np.argsort(-certainty[rows], kind="stable")], same)
    reasons += [
        f"an emoticon is {LABEL_NAMES[1 - label[row]]}, and so is the prediction" for row in rows
    ]
    return np.concatenate([contradicting, rows]).astype(np.int64), reasons


def _contradicting(
    label: np.ndarray, prediction: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Take a row with the rarer label of each text that has both, the most repeated first."""
    _, member, counts = np.unique(same, return_inverse=True, return_counts=True)
    num_positive = np.bincount(member, label, minlength=len(counts)).astype(np.int64)
    num_negative = counts - num_positive
    both = (num_positive > 0) & (num_negative > 0)
    by_model = np.bincount(member, prediction, minlength=len(counts)) / counts >= 0.5
    rarer = np.where(
        num_positive == num_negative, 1 - by_model, (num_positive < num_negative).astype(int)
    )
    rows = _first_of_each(np.flatnonzero(both[member] & (label == rarer[member])), same)
    rows = rows[np.argsort(-counts[member[rows]], kind="stable")]
    reasons = [
        f"this text has both labels in these rows: positive {_times(num_positive[k])}, "
        f"negative {_times(num_negative[k])}"
        for k in member[rows]
    ]
    return rows, reasons


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
