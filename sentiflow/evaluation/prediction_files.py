"""A file of predictions by any program + evaluated rows -> the same rows with these predictions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import label_files, manifest
from sentiflow.data.arrays import find_sorted, hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import few
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import TEXT, classes_of

_LABEL = "predicted_label"
_KEY = "row_id or text"
SUFFIXES = (".parquet", ".csv", ".tsv")
"""Of a location that is a file of predictions and not a directory."""


@dataclass(frozen=True)
class PredictionFile:
    """N predictions of a file, in the order of their keys."""

    uri: str
    by_text: bool
    """Whether a prediction is found by its text; if not, by its row."""
    keys: np.ndarray
    """N uint64, each once."""
    texts: np.ndarray | None
    """Hashes of the texts, N uint64; None if the file has none."""
    classes: tuple[str, ...]
    """The C classes that the file predicts."""
    prediction: np.ndarray
    """N positions in the classes."""
    probabilities: np.ndarray
    """``(N, C)``; of a file without probabilities 1 for the predicted label."""
    has_probabilities: bool

    @property
    def about(self) -> str:
        """Describe the file in a line."""
        what = "labels and probabilities" if self.has_probabilities else "labels alone"
        return f"a file of predictions, {what}"


def read(uri: str, scored: Manifest) -> PredictionFile:
    """Read a file of predictions: Parquet, or CSV with a header.

    Args:
        uri: Has ``row_id`` or ``text``; and a label, or ``probability_<class>``, or both.
        scored: Manifest of a scoring of the same corpus, which names its classes.

    Raises:
        UserError: A column is missing, or a value is wrong. The message names the first such row.
    """
    hint = "a file of predictions has row_id or text, and predicted_label or probability_<class>"
    table = label_files.read(uri, setting="a file of predictions", needs=[_KEY], hint=hint)
    classes, names = manifest.find_classes(scored), list(table.columns)
    columns = [name for name in names if name.startswith(label_files.PROBABILITY)]
    if _LABEL not in names and not columns:
        problem = f"has no column {_LABEL} or {label_files.PROBABILITY}<class>"
        raise label_files.fault_in(uri, problem, f"it has {', '.join(few(names[:-1]))}")
    if foreign := [
        name for name in columns if name.removeprefix(label_files.PROBABILITY) not in classes
    ]:
        hint = f"the classes of the corpus are {', '.join(few(classes))}"
        raise label_files.fault_in(
            uri, f"has a column {foreign[0]}, which is no class of the corpus", hint
        )
    keys, texts = _read_keys(table)
    of_columns = [classes.index(name.removeprefix(label_files.PROBABILITY)) for name in columns]
    probabilities = np.zeros((len(keys), len(classes)))
    if columns:
        values = table[columns].to_numpy()
        for is_faulty, problem in label_files.find_faults(values):
            label_files.reject(table, is_faulty, problem)
        probabilities[:, of_columns] = values / values.sum(axis=1, keepdims=True)
    code = probabilities.argmax(axis=1)
    if _LABEL in names:
        written = lineage.label_values(scored)
        code = label_files.read_labels(table, classes, written, column=_LABEL).to_numpy()
    if not columns:
        probabilities[np.arange(len(keys)), code] = 1
    order = np.unique([*code, *of_columns])
    first = _find_first(table, keys, code, probabilities, by_text="row_id" not in names)
    return PredictionFile(
        uri,
        "row_id" not in names,
        keys[first],
        None if texts is None else texts[first],
        tuple(classes[number] for number in order),
        np.searchsorted(order, code[first]).astype(np.int8),
        probabilities[first][:, order].astype(np.float32),
        bool(columns),
    )


def put(rows: pa.Table, file: PredictionFile) -> pa.Table:
    """Replace the predictions for N evaluated rows by those of a file.

    Args:
        rows: As ``evaluated_rows.count_others`` returns them.
        file: The predictions.

    Raises:
        UserError: A row has no prediction in the file, or another text.
    """
    text = one_array(rows[TEXT]) if TEXT in rows.column_names else None
    if file.by_text and text is None:
        raise label_files.fault_in(
            file.uri, "has no row_id, and the run has no texts", "add the row_id"
        )
    hashes = hash_texts(text) if text is not None else None
    row_ids = rows["row_id"].to_numpy()
    keys = hashes if file.by_text else row_ids.astype(np.uint64)
    assert keys is not None, "there are texts"
    is_predicted, place = find_sorted(file.keys, keys)
    if not is_predicted.all():
        missing, first = int((~is_predicted).sum()), row_ids[~is_predicted].min()
        raise label_files.fault_in(
            file.uri,
            f"has no prediction for {missing:,} of {len(rows):,} evaluated rows; the first has the "
            f"row_id {first}",
            "predict every row; a row without an answer gets any wrong label",
        )
    if hashes is not None and file.texts is not None and (file.texts[place] != hashes).any():
        wrong = row_ids[file.texts[place] != hashes].min()
        raise label_files.fault_in(
            file.uri,
            f"has another text at row_id {wrong} than the corpus",
            "row_id counts the records of the corpus from 0; or leave it out, and give the texts",
        )
    classes = tuple(dict.fromkeys([*classes_of(rows), *file.classes]))
    code = np.array([classes.index(name) for name in file.classes], np.int8)
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    probabilities[:, code] = file.probabilities[place]
    replaced = {
        label_files.PROBABILITY + name: pa.array(column)
        for name, column in zip(classes, probabilities.T, strict=True)
    }
    replaced["prediction"] = pa.array(code[file.prediction[place]])
    return put_columns(rows, replaced)


def _read_keys(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the keys of N rows, and the hashes of their texts, if there are texts."""
    texts = None
    if TEXT in table:
        label_files.reject(table, table[TEXT] == "", "has no text")
        texts = hash_texts(pa.array(table[TEXT], pa.string()))
    if "row_id" in table:
        return label_files.read_row_ids(table).to_numpy(np.uint64), texts
    assert texts is not None, "one of both is there"
    return texts, texts


def _find_first(
    table: pd.DataFrame,
    keys: np.ndarray,
    code: np.ndarray,
    probabilities: np.ndarray,
    *,
    by_text: bool,
) -> np.ndarray:
    """Find the first row of each key; rows of the same text must agree, a row_id is there once."""
    distinct, first, place = np.unique(keys, return_index=True, return_inverse=True)
    if len(distinct) == len(keys):
        return first
    again = first[place] != np.arange(len(keys))
    if by_text:
        is_same = (code == code[first[place]]) & np.isclose(
            probabilities, probabilities[first[place]], atol=1e-4
        ).all(axis=1)
        label_files.reject(table, again & ~is_same, "another prediction for a text")
    else:
        label_files.reject(table, again, "was given before", column="row_id")
    return first
