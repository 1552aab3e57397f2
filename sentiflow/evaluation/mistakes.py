"""Labelled predictions with their texts -> the mistakes that are most worth reading."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data.schema import LABEL_NAMES, POSITIVE
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
    text = rows["text"].combine_chunks()
    frame = rows.select(["row_id", "label", "prediction", "probability"]).to_pandas()
    frame["same"] = hash_strings(normalize_text(text))
    frame["certainty"] = (frame["probability"] - 0.5).abs()
    wrong = frame[frame["prediction"] != frame["label"]].assign(why="")
    order = ["certainty", "row_id"]
    found = {
        "confident": wrong.sort_values(order, ascending=[False, True]),
        "near miss": wrong.sort_values(order),
        "label": pd.concat([_contradicting_labels(frame), _contradicting_emoticons(wrong, text)]),
    }
    chosen = pd.concat(
        each.drop_duplicates("same").head(NUM_KEPT).assign(kind=kind)
        for kind, each in found.items()
    )
    chosen["text"] = text.take(pa.array(chosen.index)).to_pylist()
    table = pa.Table.from_pandas(chosen, COLUMNS, preserve_index=False)
    return table.replace_schema_metadata()  # without that of pandas


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
    of_other = np.where(positive, 1 - probability, probability)
    usual = np.where(positive, (1 - probability[~positive]).mean(), probability[positive].mean())
    doubtful = (of_other >= usual) & ((probability >= 0.5) != positive)
    num_doubtful = int(doubtful.sum())
    return LabelErrors(len(label), num_doubtful, num_doubtful / len(label))


def _contradicting_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the rows with the rarer label of each text that has both, the most repeated first."""
    texts = frame.groupby("same")
    num_rows, num_positive = texts["label"].transform("size"), texts["label"].transform("sum")
    with_label = num_positive.where(frame["label"] == POSITIVE, num_rows - num_positive)
    by_model = (texts["prediction"].transform("mean") >= 0.5).astype(int)
    is_rarer = (with_label < num_rows / 2) | (
        (with_label == num_rows / 2) & (frame["label"] != by_model)
    )
    found = frame.assign(num_rows=num_rows, num_positive=num_positive)[is_rarer]
    found["why"] = [
        f"this text has both labels in these rows: positive {_times(positive)}, "
        f"negative {_times(both - positive)}"
        for both, positive in zip(found["num_rows"], found["num_positive"], strict=True)
    ]
    return found.sort_values("num_rows", ascending=False, kind="stable")


def _contradicting_emoticons(wrong: pd.DataFrame, text: pa.Array) -> pd.DataFrame:
    """Take the wrong predictions where an emoticon agrees with the model, the clearest first."""
    happy, sad = (matches(text, regex)[wrong.index] for regex in (HAPPY, SAD))
    agrees = np.where(wrong["prediction"] == POSITIVE, happy & ~sad, sad & ~happy)
    found = wrong[agrees].sort_values("certainty", ascending=False, kind="stable")
    names = found["prediction"].map(dict(enumerate(LABEL_NAMES)))
    return found.assign(why="an emoticon is " + names + ", and so is the prediction")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
