"""Labelled predictions with their texts -> the mistakes that are most worth reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import set_apart
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.slices import HASH, find_repeated
from sentiflow.metrics.predicted import Predicted

UNDECIDED = 0.2
"""A label is clearly more probable than another if its probability is higher by at least this."""
NUM_KEPT = 100
"""Maximum number of rows of a kind, except ``pair``."""
NUM_OF_PAIR = 5
"""Maximum number of rows of a pair of label and prediction."""
SHOWN = ("confident", "label", "near miss")
"""Kinds of mistakes that a page shows one by one, in its order; see :func:`find`."""
KINDS = (*SHOWN, "pair")
"""All kinds of mistakes."""
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
    occurs once in each kind.

    Args:
        rows: Has ``row_id``, the columns of ``slices.find_traits``, and the columns that
            ``predicted_of`` reads.

    Returns:
        A table with the columns ``COLUMNS``, except ``text``; see :func:`add_texts`.
    """
    predicted = predicted_of(rows)
    row_ids = rows["row_id"].to_numpy()
    hashes = rows[HASH].to_numpy()
    repeated = np.flatnonzero(find_repeated(hashes))
    is_copy = _find_copies(predicted, repeated, row_ids, hashes)
    kept: dict[str, list[pd.DataFrame]] = {"confident": [], "near miss": [], "pair": []}
    for places, part in predicted.parts():
        wrong = _list_wrong(part, row_ids[places], hashes[places], is_copy[places])
        for kind, of_parts in kept.items():
            of_parts.append(_choose(wrong, kind))
    chosen = []
    for kind in ("confident", "near miss"):
        chosen.append(_choose(pd.concat(kept[kind]), kind).assign(kind=kind))
    contradicting = _list_contradicting(predicted, repeated, row_ids, hashes)
    doubtful = _find_contradicting_labels(contradicting, predicted.classes)
    chosen.append(doubtful.assign(kind="label"))
    if not predicted.is_binary:
        chosen.append(_choose(pd.concat(kept["pair"]), "pair").assign(kind="pair"))
    schema = COLUMNS.remove(COLUMNS.get_field_index("text"))
    table = pa.Table.from_pandas(pd.concat(chosen), schema, preserve_index=False)
    return table.replace_schema_metadata()  # without the metadata of pandas


def add_texts(table: pa.Table, text: pa.Array) -> pa.Table:
    """Add the text of each mistake. Texts are untrusted and are not changed.

    Args:
        table: Result of :func:`find`.
        text: A text for each of its rows.
    """
    place = COLUMNS.get_field_index("text")
    return table.add_column(place, COLUMNS.field("text"), text)


def _find_copies(
    predicted: Predicted, repeated: np.ndarray, row_ids: np.ndarray, hashes: np.ndarray
) -> np.ndarray:
    """Say which wrong rows have a text of which another wrong row is clearer, as N booleans.

    Args:
        predicted: N rows.
        repeated: Positions of the rows whose text is on several rows.
        row_ids: N numbers.
        hashes: N hashes of the texts.
    """
    wrong = repeated[~predicted.right[repeated]]
    frame = pd.DataFrame(
        {
            "confidence": predicted.confidence[wrong],
            "row_id": row_ids[wrong],
            "same": hashes[wrong],
            "position": wrong,
        }
    )
    clearest_first = frame.sort_values(["confidence", "row_id"], ascending=[False, True])
    is_copy = np.zeros(len(hashes), bool)
    is_copy[clearest_first["position"][clearest_first.duplicated("same")]] = True
    return is_copy


def _list_wrong(
    part: Predicted, row_ids: np.ndarray, hashes: np.ndarray, is_copy: np.ndarray
) -> pd.DataFrame:
    """List the wrong predictions of a part of the rows.

    Copies of a text have the same number in ``same``. ``is_close`` says whether the two highest
    probabilities differ by less than ``UNDECIDED``.
    """
    chosen = np.flatnonzero(~part.right)
    frame = _to_frame(part.take(chosen), row_ids[chosen], hashes[chosen])
    return frame.assign(is_copy=is_copy[chosen], why=pd.Series("", frame.index, str))


def _to_frame(predicted: Predicted, row_ids: np.ndarray, hashes: np.ndarray) -> pd.DataFrame:
    """Make a table of what mistakes are chosen by, with a line for each row."""
    highest_two = np.sort(predicted.matrix, axis=1)[:, -2:]
    return pd.DataFrame(
        {
            "row_id": row_ids,
            "label": predicted.label,
            "prediction": predicted.prediction,
            "probability": predicted.positive if predicted.is_binary else np.nan,
            "same": hashes,
            "confidence": predicted.confidence,
            "is_close": np.ptp(highest_two, axis=1) < UNDECIDED,
        }
    )


def _choose(wrong: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Choose the clearest mistakes of a kind: ``confident``, ``near miss`` or ``pair``.

    The choice among the choices of several parts is the choice among all of their rows.
    """
    if kind == "near miss":
        close = wrong[wrong["is_close"]].sort_values(["confidence", "row_id"])
        return close.drop_duplicates("same").head(NUM_KEPT)
    clearest_first = wrong.sort_values(["confidence", "row_id"], ascending=[False, True])
    if kind == "confident":
        certain = clearest_first[~clearest_first["is_close"]]
        return certain.drop_duplicates("same").head(NUM_KEPT)
    by_pair = clearest_first[~clearest_first["is_copy"]].groupby(["label", "prediction"])
    return by_pair.head(NUM_OF_PAIR)


def _list_contradicting(
    predicted: Predicted, repeated: np.ndarray, row_ids: np.ndarray, hashes: np.ndarray
) -> pd.DataFrame:
    """List the rows of the texts with several labels that are on the most rows.

    There are at least ``NUM_KEPT`` texts, if so many have several labels. The arguments are those
    of :func:`_find_copies`.
    """
    _, number, num_rows = np.unique(hashes[repeated], return_inverse=True, return_counts=True)
    label = predicted.label[repeated]
    lowest = np.full(len(num_rows), np.iinfo(label.dtype).max, label.dtype)
    highest = np.full(len(num_rows), np.iinfo(label.dtype).min, label.dtype)
    np.minimum.at(lowest, number, label)
    np.maximum.at(highest, number, label)
    num_rows[lowest == highest] = 0  # these texts have one label
    largest = np.sort(num_rows)[-NUM_KEPT:]
    least = largest[0] if len(largest) else 1
    chosen = repeated[num_rows[number] >= max(least, 1)]
    return _to_frame(predicted.take(chosen), row_ids[chosen], hashes[chosen])


def choose_shown(table: pa.Table, number: int) -> pa.Table:
    """Choose the first mistakes of each kind that a page shows one by one.

    Args:
        table: Has the columns ``COLUMNS``.
        number: Maximum number of each kind.
    """
    of_kinds = [table.slice(0, 0)]
    for kind in SHOWN:
        of_kinds.append(table.filter(pc.equal(table["kind"], kind)).slice(0, number))
    return pa.concat_tables(of_kinds)


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
    of_label = predicted.of_label
    for code in present:
        usual[code] = of_label[label == code].mean()
    of_prediction = predicted.of_prediction
    is_doubtful = (of_prediction >= usual[prediction]) & ~predicted.right
    num_doubtful = int(is_doubtful.sum())
    return LabelErrors(
        num_rows=len(label), num_doubtful=num_doubtful, fraction=num_doubtful / len(label)
    )


def _find_contradicting_labels(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Find the rows whose label is rarer than another label of the same text.

    If all labels of a text are equally frequent, its rows with labels that the model does not
    predict are taken.

    Args:
        frame: Rows of texts with several labels.
        classes: The names of the classes.

    Returns:
        A row of each text, at most ``NUM_KEPT``, the most frequent text first, with ``why`` and
        ``num_rows`` of the text.
    """
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
    most_first = doubtful.sort_values("num_rows", ascending=False, kind="stable")
    kept = most_first.drop_duplicates("same").head(NUM_KEPT)
    counts = texts["label"].value_counts()
    why = [_describe_labels(counts[same].to_dict(), classes) for same in kept["same"]]
    return kept.assign(why=pd.Series(why, kept.index, str))


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
