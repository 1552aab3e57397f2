"""Labelled predictions with their texts -> the mistakes that are most worth reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import set_apart
from sentiflow.data.arrays import hash_texts, one_array, put_columns
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.metrics.predicted import Predicted

UNDECIDED = 0.2
"""A label is clearly more probable than another if its probability is higher by at least this."""
NUM_KEPT = 100
"""Maximum number of rows of a kind, except ``pair``."""
NUM_OF_PAIR = 5
"""Maximum number of rows of a pair of label and prediction."""
MIN_ACCURACY = 0.7
"""A model with a lower accuracy is too often wrong to judge the labels."""

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
"""``kind``: ``confident``, ``near miss``, ``label`` or ``pair``. ``probability``: of positive; null
unless the classes are negative and positive. ``confidence``: the probability of the prediction.
``why``: the reason to doubt a label, or empty."""


@dataclass(frozen=True)
class LabelErrors:
    """How many labels may be wrong, as :func:`count_label_errors` estimates."""

    num_rows: int
    num_doubtful: int
    """Rows whose label may be wrong."""
    fraction: float | None
    """Share of the rows whose label may be wrong; None if fewer than two classes occur."""


def find(rows: pa.Table) -> pa.Table:
    """Choose mistakes of four kinds, the clearest first.

    - ``confident``: a wrong prediction whose probability is clearly the highest.
    - ``near miss``: a wrong prediction whose probability is less than ``UNDECIDED`` above the next.
    - ``label``: a label that may be wrong. The rows have the text with several labels, and this
      label is rarer than another.
    - ``pair``: the most confident mistakes of each pair of label and prediction. There are none if
      the classes are negative and positive.

    There are at most ``NUM_KEPT`` mistakes of a kind, but ``NUM_OF_PAIR`` of each pair. A text
    occurs once in each kind. Texts are untrusted and are not changed.

    Args:
        rows: Has ``row_id``, ``text`` without nulls, and the columns that ``predicted_of`` reads.

    Returns:
        A table with the columns ``COLUMNS``.
    """
    text = rows["text"].combine_chunks()
    predicted = predicted_of(rows)
    frame = _to_frame(rows, text, predicted)
    wrong = frame[frame["prediction"] != frame["label"]].assign(why="")
    clearest_first = wrong.sort_values(["confidence", "row_id"], ascending=[False, True])
    by_kind = {
        "confident": clearest_first[~clearest_first["is_close"]],
        "near miss": wrong[wrong["is_close"]].sort_values(["confidence", "row_id"]),
        "label": _find_contradicting_labels(frame, predicted.classes),
    }
    chosen = []
    for kind, candidates in by_kind.items():
        kept = candidates.drop_duplicates("same").head(NUM_KEPT)
        chosen.append(kept.assign(kind=kind))
    if not predicted.is_binary:
        pairs = clearest_first.drop_duplicates("same").groupby(["label", "prediction"])
        chosen.append(pairs.head(NUM_OF_PAIR).assign(kind="pair"))
    joined = pd.concat(chosen)
    joined["text"] = text.take(pa.array(joined.index)).to_pylist()
    table = pa.Table.from_pandas(joined, COLUMNS, preserve_index=False)
    return table.replace_schema_metadata()  # without the metadata of pandas


def _to_frame(rows: pa.Table, text: pa.Array, predicted: Predicted) -> pd.DataFrame:
    """Make a table of what mistakes are chosen by, with a line for each row.

    Copies of a text have the same number in ``same``. ``is_close`` says whether the two highest
    probabilities differ by less than ``UNDECIDED``.
    """
    highest_two = np.sort(predicted.probabilities, axis=1)[:, -2:]
    frame = rows.select(["row_id", "label", "prediction"]).to_pandas()
    return frame.assign(
        probability=predicted.positive if predicted.is_binary else np.nan,
        same=hash_texts(text),
        confidence=predicted.confidence,
        is_close=np.ptp(highest_two, axis=1) < UNDECIDED,
    )


def name_labels(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Replace ``label`` and ``prediction`` by names, which a person can read and correct.

    Args:
        table: Has the columns ``COLUMNS``.
        classes: The names, in the order of their numbers.
    """
    names = pa.array(classes, pa.string())
    named = {}
    for column in ("label", "prediction"):
        named[column] = names.take(one_array(table[column]))
    return put_columns(table, named)


def count_label_errors(predicted: Predicted) -> LabelErrors:
    """Estimate how many labels are wrong, by confident learning.

    After Northcutt, Jiang and Chuang, "Confident learning" (JAIR 2021). A row counts if another
    class than its label is predicted, with at least the mean probability of this class on the rows
    labelled with it. The method trusts a confident model: its confident mistakes are counted as
    wrong labels, so the estimate may be too high.
    """
    label = predicted.label
    prediction = predicted.prediction
    present = np.unique(label)
    if len(present) < 2:
        return LabelErrors(num_rows=len(label), num_doubtful=0, fraction=None)
    # A class without labelled rows has no mean probability, so its rows never count.
    usual = np.full(len(predicted.classes), np.inf)
    for code in present:
        usual[code] = predicted.probabilities[label == code, code].mean()
    of_prediction = predicted.probabilities[np.arange(len(label)), prediction]
    is_doubtful = (of_prediction >= usual[prediction]) & ~predicted.right
    num_doubtful = int(is_doubtful.sum())
    return LabelErrors(
        num_rows=len(label), num_doubtful=num_doubtful, fraction=num_doubtful / len(label)
    )


def _find_contradicting_labels(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Find the rows whose label is rarer than another label of the same text.

    If all labels of a text are equally frequent, its rows with labels that the model does not
    predict are taken.

    Returns:
        The rows, the most frequent text first, with ``why`` and ``num_rows`` of the text.
    """
    frame = frame[frame.groupby("same")["label"].transform("nunique") > 1]
    texts = frame.groupby("same")
    num_with_label = frame.groupby(["same", "label"])["label"].transform("size")
    highest = num_with_label.groupby(frame["same"]).transform("max")
    lowest = num_with_label.groupby(frame["same"]).transform("min")
    is_rarer = num_with_label < highest
    is_tied = lowest == highest
    predicted = texts["prediction"].transform(lambda values: values.mode().max())
    doubtful = frame[is_rarer | (is_tied & (frame["label"] != predicted))]
    num_rows = texts["label"].transform("size")
    doubtful = doubtful.assign(num_rows=num_rows[doubtful.index])
    counts = texts["label"].value_counts()
    doubtful["why"] = [
        _describe_labels(counts[same].to_dict(), classes) for same in doubtful["same"]
    ]
    return doubtful.sort_values("num_rows", ascending=False, kind="stable")


def _describe_labels(counts: dict[Any, int], classes: Sequence[str]) -> str:
    """Say how often a text has each label.

    Args:
        counts: Number of rows of the text, by the number of their label.
        classes: The names of the classes.
    """
    listed = []
    for code, count in sorted(counts.items(), reverse=True):
        times = "once" if count == 1 else f"{count:,} times"
        listed.append(f"{set_apart(classes[code])} {times}")
    many = "both" if len(classes) == 2 else "several"
    return f"this text has {many} labels in these rows: {', '.join(listed)}"
