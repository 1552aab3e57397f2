"""Evaluated rows + a file of predictions by any program -> the rows with these predictions."""

import numpy as np
import pyarrow as pa

from sentiflow.data import label_files, lineage, manifest, prediction_files
from sentiflow.data.arrays import find_sorted, hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.prediction_files import PredictionFile
from sentiflow.evaluation.evaluated_rows import TEXT, classes_of


def read(uri: str, scored: Manifest) -> PredictionFile:
    """Read a file of predictions for a scored corpus.

    Args:
        uri: The file, see :func:`prediction_files.read`.
        scored: Manifest of a scoring of the same corpus, which names its classes.

    Raises:
        UserError: A column is missing, or a value is wrong. The message names the first such row.
    """
    classes = manifest.find_classes(scored)
    return prediction_files.read([uri], classes, lineage.label_values(scored))


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
    probabilities[:, code] = file.find_probabilities(place)
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
