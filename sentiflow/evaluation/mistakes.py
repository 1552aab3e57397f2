"""Labelled predictions with their texts -> the mistakes that are worth reading."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.evaluation.slices import HAPPY, SAD

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
"""``kind`` is ``confident``, ``near miss`` or ``label``; ``why`` says what is suspicious about a
label."""


def find(
    *,
    row_id: np.ndarray,
    text: pa.Array,
    label: np.ndarray,
    probability: np.ndarray,
    prediction: np.ndarray,
) -> pa.Table:
    """Choose rows of three kinds, at most ``NUM_KEPT`` of each, the most telling first.

    - ``confident``: wrong, and farthest from one half.
    - ``near miss``: wrong, and nearest to one half.
    - ``label``: the label itself is doubtful. First texts that stand in the corpus with both
      labels, on the rows whose label is the rarer one; then texts with an emoticon that
      contradicts the label, where the model contradicts it too.

    A text is shown once in each kind. The corpus' text is untrusted, and goes through as it is.

    Args:
        row_id: N numbers of rows.
        text: N strings, without nulls.
        label: N labels, 0 or 1.
        probability: Of positive, float32.
        prediction: N predicted labels.

    Returns:
        As ``COLUMNS``.
    """
    certainty = np.abs(probability - 0.5)
    wrong = np.flatnonzero(prediction != label)
    same = hash_strings(normalize_text(text))
    chosen: list[tuple[str, np.ndarray, list[str]]] = []
    for kind, sign in (("confident", -1), ("near miss", 1)):
        order = wrong[np.lexsort((row_id[wrong], sign * certainty[wrong]))]
        rows = _first_of_each(order, same)[:NUM_KEPT]
        chosen.append((kind, rows, [""] * len(rows)))
    rows, reasons = _doubtful_labels(text, label, prediction, certainty, same)
    chosen.append(("label", rows[:NUM_KEPT], reasons[:NUM_KEPT]))
    tables = [
        pa.table(
            [
                pa.array([kind] * len(rows), pa.string()), pa.array(row_id[rows], pa.int64()),
                text.take(pa.array(rows, pa.int64())), pa.array(label[rows], pa.int8()),
                pa.array(prediction[rows], pa.int8()), pa.array(probability[rows], pa.float32()),
                pa.array(reasons, pa.string()),
            ],
            schema=COLUMNS,
        )
        for kind, rows, reasons in chosen
    ]  # fmt: skip
    return pa.concat_tables(tables)


def count_label_errors(*, label: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    """Estimate how many labels are wrong, by confident learning.

    After Northcutt, Jiang and Chuang, "Confident learning" (JAIR 2021): a row counts if the model
    gives the other label at least the probability that it gives that label on average where it is
    the label. It takes a model for better than labels where it is very sure, so it is an estimate
    from above where the model's confident mistakes are its own.

    Returns:
        ``num_rows``, ``num_doubtful``, ``fraction`` (None unless both labels are there).
    """
    found: dict[str, Any] = {"num_rows": len(label), "num_doubtful": 0, "fraction": None}
    positive = label == POSITIVE
    if positive.all() or not positive.any():
        return found
    self_confidence = {
        POSITIVE: probability[positive].mean(),
        NEGATIVE: (1 - probability[~positive]).mean(),
    }
    doubtful = (~positive & (probability >= self_confidence[POSITIVE])) | (
        positive & (1 - probability >= self_confidence[NEGATIVE])
    )
    doubtful &= (probability >= 0.5) != positive
    num_doubtful = int(doubtful.sum())
    return found | {"num_doubtful": num_doubtful, "fraction": num_doubtful / len(label)}


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
    """Find rows whose label is doubtful, and say why of each."""
    contradicting, reasons = _contradicting(label, prediction, same)
    happy, sad = (
        pc.match_substring_regex(text, form).to_numpy(zero_copy_only=False).astype(bool)
        for form in (HAPPY, SAD)
    )
    against = np.where(label == POSITIVE, sad & ~happy, happy & ~sad) & (prediction != label)
    against &= ~np.isin(same, same[contradicting])
    rows = np.flatnonzero(against)
    rows = _first_of_each(rows[np.argsort(-certainty[rows], kind="stable")], same)
    reasons += [
        f"an emoticon says {LABEL_NAMES[1 - label[row]]}, and so does the model" for row in rows
    ]
    return np.concatenate([contradicting, rows]).astype(np.int64), reasons


def _contradicting(
    label: np.ndarray, prediction: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Take one row of each text with both labels: of its rarer label, the most repeated first."""
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
        f"these rows have this text with both labels: positive {_times(num_positive[k])}, "
        f"negative {_times(num_negative[k])}"
        for k in member[rows]
    ]
    return rows, reasons


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
