"""Labelled predictions with their texts -> the mistakes that are most worth reading."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data.arrays import hash_texts, one_array, put_columns
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.metrics.predicted import Predicted

UNDECIDED = 0.2
"""Of two probabilities that are less apart, no label is clearly the more probable."""
NUM_KEPT = 100
"""Rows of each kind."""

NUM_OF_PAIR = 5
"""Rows of each pair of label and prediction."""

MIN_ACCURACY = 0.7
"""A model with a lower one is too often wrong to judge the labels."""

COLUMNS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("prediction", pa.int8(), nullable=False),
        pa.field("probability", pa.float32()),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)
"""``kind`` is ``confident``, ``near miss``, ``label`` or ``pair``; ``probability`` is that of
positive, null unless the classes are negative and positive; ``confidence`` is that of the
prediction. ``why`` is the reason to doubt a label."""


@dataclass(frozen=True)
class LabelErrors:
    """How many labels may be wrong, by :func:`count_label_errors`."""

    num_rows: int
    num_doubtful: int
    fraction: float | None
    """None unless two classes occur, at least."""


def find(rows: pa.Table) -> pa.Table:
    """Choose rows of some kinds, at most ``NUM_KEPT`` of each, the clearest cases first.

    - ``near miss``: a wrong prediction whose probability is less than ``UNDECIDED`` above the next.
    - ``confident``: another wrong prediction.
    - ``label``: the label may be wrong, as the corpus has the text with several labels. It is a row
      with a rarer label.
    - ``pair``: wrong predictions with a high probability, ``NUM_OF_PAIR`` of each pair of label and
      prediction. There are none if the classes are negative and positive.

    A text occurs once in each kind. Texts are untrusted and are not changed.

    Args:
        rows: ``row_id``, ``text`` (without nulls), and what ``predicted_of`` takes.

    Returns:
        A table with the columns ``COLUMNS``.
    """
    text, predicted = rows["text"].combine_chunks(), predicted_of(rows)
    frame = (
        rows.select(["row_id", "label", "prediction"])
        .to_pandas()
        .assign(
            probability=predicted.positive if predicted.is_binary else np.nan,
            same=hash_texts(text),
            confidence=predicted.confidence,
            is_close=np.ptp(np.sort(predicted.probabilities, axis=1)[:, -2:], axis=1) < UNDECIDED,
        )
    )
    wrong = frame[frame["prediction"] != frame["label"]].assign(why="")
    clearest = wrong.sort_values(["confidence", "row_id"], ascending=[False, True])
    by_kind = {
        "confident": clearest[~clearest["is_close"]],
        "near miss": wrong[wrong["is_close"]].sort_values(["confidence", "row_id"]),
        "label": _contradicting_labels(frame, predicted.classes),
    }
    chosen = [
        each.drop_duplicates("same").head(NUM_KEPT).assign(kind=kind)
        for kind, each in by_kind.items()
    ]
    if not predicted.is_binary:
        pairs = clearest.drop_duplicates("same").groupby(["label", "prediction"])
        chosen.append(pairs.head(NUM_OF_PAIR).assign(kind="pair"))
    joined = pd.concat(chosen)
    joined["text"] = text.take(pa.array(joined.index)).to_pylist()
    # without the metadata of pandas
    return pa.Table.from_pandas(joined, COLUMNS, preserve_index=False).replace_schema_metadata()


def name_labels(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Replace ``label`` and ``prediction`` by names, which a person can read and correct.

    Args:
        table: Has the columns ``COLUMNS``.
        classes: Those of the model, in order.
    """
    names = pa.array(classes, pa.string())
    codes = {column: one_array(table[column]) for column in ("label", "prediction")}
    return put_columns(table, {column: names.take(code) for column, code in codes.items()})


def count_label_errors(predicted: Predicted) -> LabelErrors:
    """Estimate how many labels are wrong, by confident learning.

    After Northcutt, Jiang and Chuang, "Confident learning" (JAIR 2021). A row counts if another
    class is predicted, and its probability is at least the mean probability of that class on the
    rows that have it. The method trusts a model that is very sure: confident mistakes of the model
    are counted as wrong labels, so the estimate may be too high.
    """
    label, prediction = predicted.label, predicted.prediction
    present = np.unique(label)
    if len(present) < 2:
        return LabelErrors(len(label), 0, None)
    usual = np.full(len(predicted.classes), np.inf)
    for code in present:
        usual[code] = predicted.probabilities[label == code, code].mean()
    of_prediction = predicted.probabilities[np.arange(len(label)), prediction]
    num_doubtful = int(((of_prediction >= usual[prediction]) & ~predicted.right).sum())
    return LabelErrors(len(label), num_doubtful, num_doubtful / len(label))


def _contradicting_labels(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Take the rows with a rarer label of each text that has several, the most repeated first.

    Where labels are equally frequent, it is a row with a label that the model does not predict.
    """
    frame = frame[frame.groupby("same")["label"].transform("nunique") > 1]
    with_label = frame.groupby(["same", "label"])["label"].transform("size")
    texts = frame.groupby("same")
    by_model = texts["prediction"].transform(lambda values: values.mode().max())
    most = with_label.groupby(frame["same"]).transform("max")
    is_tied = with_label.groupby(frame["same"]).transform("min") == most
    doubtful = frame[(with_label < most) | (is_tied & (frame["label"] != by_model))]
    doubtful = doubtful.assign(num_rows=texts["label"].transform("size")[doubtful.index])
    counts = frame.groupby("same")["label"].value_counts()
    many = "both" if len(classes) == 2 else "several"
    doubtful["why"] = [
        f"this text has {many} labels in these rows: "
        + ", ".join(
            f"{classes[code]} {'once' if count == 1 else f'{count:,} times'}"
            for code, count in counts[same].sort_index(ascending=False).items()
        )
        for same in doubtful["same"]
    ]
    return doubtful.sort_values("num_rows", ascending=False, kind="stable")
