"""Evaluated rows + a file of predictions by any program -> the rows with these predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.data import label_files, lineage, manifest
from sentiflow.data.arrays import find_sorted, hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import few
from sentiflow.evaluation.evaluated_rows import TEXT, classes_of

_LABEL = "predicted_label"
"""Column of the predicted label."""
_KEY = "row_id or text"
"""Columns of which a file needs one, as ``label_files.read`` takes them."""
_CLOSE = 1e-4
"""Probabilities count as the same up to this difference."""
SUFFIXES = (".parquet", ".csv", ".tsv")
"""Suffixes of a location that is a file of predictions and not a directory."""


@dataclass(frozen=True)
class PredictionFile:
    """N predictions of a file, sorted by their keys."""

    uri: str
    by_text: bool
    """Whether the key of a row is its text; otherwise it is its ``row_id``."""
    keys: np.ndarray
    """N uint64, hashes of the texts or row ids; each occurs once."""
    texts: np.ndarray | None
    """Hashes of the texts, N uint64; None if the file has no texts."""
    classes: tuple[str, ...]
    """The C classes that the file predicts."""
    prediction: np.ndarray
    """N positions in the classes."""
    probabilities: np.ndarray
    """``(N, C)``; in a file without probabilities, 1 for the predicted label."""
    has_probabilities: bool
    """Whether the file has probabilities."""

    @property
    def about(self) -> str:
        """Describe the file in a line."""
        what = "labels and probabilities" if self.has_probabilities else "labels alone"
        return f"a file of predictions, {what}"


def read(uri: str, scored: Manifest) -> PredictionFile:
    """Read a file of predictions: Parquet, or CSV with a header.

    Args:
        uri: The file. It has a column ``row_id`` or ``text``; and ``predicted_label``, or
            ``probability_<class>``, or both.
        scored: Manifest of a scoring of the same corpus, which names its classes.

    Raises:
        UserError: A column is missing, or a value is wrong. The message names the first such row.
    """
    hint = "a file of predictions has row_id or text, and predicted_label or probability_<class>"
    table = label_files.read(uri, setting="a file of predictions", needs=[_KEY], hint=hint)
    classes = manifest.find_classes(scored)
    columns = _find_columns(uri, table, classes)
    keys, texts = _read_keys(table)
    probabilities = np.zeros((len(keys), len(classes)))
    if columns:
        probabilities[:, list(columns.values())] = _read_probabilities(table, [*columns])
    code = probabilities.argmax(axis=1)
    if _LABEL in table:
        written = lineage.label_values(scored)
        code = label_files.read_labels(table, classes, written, column=_LABEL).to_numpy()
    if not columns:
        probabilities[np.arange(len(keys)), code] = 1
    by_text = "row_id" not in table
    first = _find_first(table, keys, code, probabilities, by_text=by_text)
    with_column = np.array(list(columns.values()), np.int64)
    predicted = np.union1d(code, with_column)
    return PredictionFile(
        uri=uri,
        by_text=by_text,
        keys=keys[first],
        texts=None if texts is None else texts[first],
        classes=tuple(classes[number] for number in predicted),
        prediction=np.searchsorted(predicted, code[first]).astype(np.int8),
        probabilities=probabilities[first][:, predicted].astype(np.float32),
        has_probabilities=bool(columns),
    )


def _find_columns(uri: str, table: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    """Find the columns of probabilities, each with the position of its class.

    Raises:
        UserError: A column names no class of the corpus, or there is neither a label nor a column
            of probabilities.
    """
    names = list(table.columns)
    columns = {}
    for name in names:
        if not name.startswith(label_files.PROBABILITY):
            continue
        of_class = name.removeprefix(label_files.PROBABILITY)
        if of_class not in classes:
            problem = f"has a column {name}, which is no class of the corpus"
            hint = f"the classes of the corpus are {', '.join(few(classes))}"
            raise label_files.fault_in(uri, problem, hint)
        columns[name] = classes.index(of_class)
    if _LABEL not in names and not columns:
        problem = f"has no column {_LABEL} or {label_files.PROBABILITY}<class>"
        in_file = [name for name in names if name != label_files.PLACE]
        raise label_files.fault_in(uri, problem, f"it has {', '.join(few(in_file))}")
    return columns


def _read_probabilities(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Read columns of probabilities, and divide each row by its sum, which is about 1.

    Raises:
        UserError: A value is no probability.
    """
    values = table[columns].to_numpy()
    for is_faulty, problem in label_files.find_faults(values):
        label_files.reject(table, is_faulty, problem)
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def replace_predictions(rows: pa.Table, file: PredictionFile) -> pa.Table:
    """Replace the predictions for N evaluated rows by the predictions of a file.

    Args:
        rows: As ``evaluated_classes.match_classes`` returns them.
        file: The predictions.

    Raises:
        UserError: A row has no prediction in the file, or another text.
    """
    place = _find_places(rows, file)
    classes = tuple(dict.fromkeys([*classes_of(rows), *file.classes]))
    code = np.array([classes.index(name) for name in file.classes], np.int8)
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    probabilities[:, code] = file.probabilities[place]
    replaced = {"prediction": pa.array(code[file.prediction[place]])}
    for name, column in zip(classes, probabilities.T, strict=True):
        replaced[label_files.PROBABILITY + name] = pa.array(column)
    return put_columns(rows, replaced)


def _find_places(rows: pa.Table, file: PredictionFile) -> np.ndarray:
    """Find the position of each row's prediction in the file.

    Raises:
        UserError: A row has no prediction in the file or another text, or rows cannot be found
            because the file has only texts and the rows have none.
    """
    row_ids = rows["row_id"].to_numpy()
    hashes = hash_texts(one_array(rows[TEXT])) if TEXT in rows.column_names else None
    keys = row_ids.astype(np.uint64)
    if file.by_text:
        if hashes is None:
            problem = "has no row_id, and the run has no texts"
            raise label_files.fault_in(file.uri, problem, "add the row_id")
        keys = hashes
    is_predicted, place = find_sorted(file.keys, keys)
    if not is_predicted.all():
        num_missing = int((~is_predicted).sum())
        first = row_ids[~is_predicted].min()
        raise label_files.fault_in(
            file.uri,
            f"has no prediction for {num_missing:,} of {len(rows):,} evaluated rows; the first has "
            f"the row_id {first}",
            "predict every row; a row without an answer gets any wrong label",
        )
    if hashes is None or file.texts is None:
        return place
    is_other = file.texts[place] != hashes
    if is_other.any():
        raise label_files.fault_in(
            file.uri,
            f"has another text at row_id {row_ids[is_other].min()} than the corpus",
            "row_id counts the records of the corpus from 0; or leave it out, and give the texts",
        )
    return place


def _read_keys(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the keys of N rows, and the hashes of their texts, which are None without texts.

    Raises:
        UserError: A text is empty, or a ``row_id`` is no number.
    """
    texts = None
    if TEXT in table:
        label_files.reject(table, table[TEXT] == "", "has no text")
        texts = hash_texts(pa.array(table[TEXT], pa.string()))
    if "row_id" in table:
        return label_files.read_row_ids(table).to_numpy(np.uint64), texts
    assert texts is not None, "there is a row_id or a text"
    return texts, texts


def _find_first(
    table: pd.DataFrame,
    keys: np.ndarray,
    code: np.ndarray,
    probabilities: np.ndarray,
    *,
    by_text: bool,
) -> np.ndarray:
    """Find the first row of each key, in the order of keys.

    Args:
        table: N rows of the file.
        keys: Their keys.
        code: Positions of their predicted labels.
        probabilities: ``(N, C)``.
        by_text: Whether keys are texts, which may occur again with the same prediction.

    Raises:
        UserError: A row_id occurs twice, or rows of the same text have different predictions.
    """
    distinct, first, place = np.unique(keys, return_index=True, return_inverse=True)
    if len(distinct) == len(keys):
        return first
    first_of_row = first[place]
    is_repeated = first_of_row != np.arange(len(keys))
    if by_text:
        same_label = code == code[first_of_row]
        close = np.isclose(probabilities, probabilities[first_of_row], atol=_CLOSE)
        is_other = ~(same_label & close.all(axis=1))
        label_files.reject(table, is_repeated & is_other, "the text has another prediction above")
    else:
        label_files.reject(table, is_repeated, "was given before", column="row_id")
    return first
