"""A file of predictions by any program + evaluated rows -> the same rows with these predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, manifest
from sentiflow.data.answers import PROBABILITY, find_faults, row_keys
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.row_ids import find_sorted
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import TEXT, classes_of
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import as_typed

_LABELS = ("predicted_label", "prediction", "label")
"""Names of the column of predicted labels; the first that is there is taken. Beside probabilities a
column ``label`` is not: it may be that of the truth."""
NO_MODEL = "a file of predictions has no model to ask"
_SUFFIXES = (".parquet", ".csv", ".tsv")


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


def names_file(uri: str) -> bool:
    """Say whether a location names a file of predictions and not a directory."""
    return uri.endswith(_SUFFIXES)


def read(uri: str, scored: Manifest) -> PredictionFile:
    """Read a file of predictions: Parquet, or CSV with a header.

    Args:
        uri: Has ``row_id`` or ``text``; and a label, or ``probability_<class>``, or both.
        scored: Manifest of a scoring of the same corpus, which names its classes.

    Raises:
        UserError: A column is missing, or a value is wrong. The message names the first such row.
    """
    table, classes = _read_table(uri), manifest.find_classes(scored)
    names = table.column_names
    columns = [name for name in names if name.startswith(PROBABILITY)]
    allowed = _LABELS[:2] if columns else _LABELS
    labels = next((name for name in allowed if name in names), None)
    if labels is None and not columns:
        labels_allowed = f"{', '.join(_LABELS)} or {PROBABILITY}<class>"
        raise _fault(uri, f"has no column {labels_allowed}", f"it has {', '.join(names)}")
    if foreign := [name for name in columns if name.removeprefix(PROBABILITY) not in classes]:
        hint = f"the classes of the corpus are {', '.join(classes)}"
        raise _fault(uri, f"has a column {foreign[0]}, which is no class of the corpus", hint)
    keys, texts = _read_keys(uri, table)
    of_columns = [classes.index(name.removeprefix(PROBABILITY)) for name in columns]
    whole = np.zeros((len(keys), len(classes)), np.float32)
    if columns:
        whole[:, of_columns] = _read_probabilities(uri, table, columns)
    code = whole.argmax(axis=1)
    if labels is not None:
        code = _read_labels(uri, table[labels], labels, scored)
    if not columns:
        whole[np.arange(len(keys)), code] = 1
    order = sorted({*np.unique(code).tolist(), *of_columns})
    first = _find_first(uri, keys, code, whole, by_text="row_id" not in names)
    return PredictionFile(
        uri,
        "row_id" not in names,
        keys[first],
        None if texts is None else texts[first],
        tuple(classes[number] for number in order),
        np.searchsorted(order, code[first]).astype(np.int8),
        whole[first][:, order],
        bool(columns),
    )


def stand_in(scored: Manifest, file: PredictionFile, described: Input) -> Manifest:
    """Describe a scoring whose model is a file of predictions.

    Args:
        scored: Manifest of the scoring by the model.
        file: The predictions.
        described: The file as an input.
    """
    settings = scored["inputs"]["model"]["settings"]
    own = {"uri": file.uri, "fingerprint": described["fingerprint"]}
    model = {**own, "settings": settings, "training": None, "calibration": None}
    return {**scored, "inputs": {**scored["inputs"], "model": model}}


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
        raise _fault(file.uri, "has no row_id, and the run has no texts", "add the row_id")
    hashes = hash_texts(text) if text is not None else None
    row_ids = rows["row_id"].to_numpy()
    keys = hashes if file.by_text else row_keys(row_ids)
    assert keys is not None, "there are texts"
    is_known, place = find_sorted(file.keys, keys)
    if not is_known.all():
        missing, first = int((~is_known).sum()), row_ids[~is_known].min()
        raise _fault(
            file.uri,
            f"has no prediction for {missing:,} of {len(rows):,} evaluated rows; the first has the "
            f"row_id {first}",
            "predict every row; a row without an answer gets any wrong label",
        )
    if hashes is not None and file.texts is not None and (file.texts[place] != hashes).any():
        wrong = row_ids[file.texts[place] != hashes].min()
        hint = "row_id counts the records of the corpus from 0; or leave it out, and give the texts"
        raise _fault(file.uri, f"has another text at row_id {wrong} than the corpus", hint)
    own = classes_of(rows)
    classes = (*own, *(name for name in file.classes if name not in own))
    code = np.array([classes.index(name) for name in file.classes], np.int8)
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    probabilities[:, code] = file.probabilities[place]
    kept = [n for n in rows.column_names if not n.startswith(("prediction", PROBABILITY))]
    replaced = rows.select(kept)
    replaced = replaced.append_column("prediction", pa.array(code[file.prediction[place]]))
    for name, column in zip(classes, probabilities.T, strict=True):
        replaced = replaced.append_column(PROBABILITY + name, pa.array(column))
    return replaced


def _read_table(uri: str) -> pa.Table:
    """Read the file; keys and labels of a CSV are strings, except row ids.

    Raises:
        UserError: It does not exist, or is no such table.
    """
    try:
        if uri.endswith(".parquet"):
            return parquet.read(uri)
        content = filesystem.read_bytes(uri)
        delimiter = max((b",", b";", b"\t"), key=content.partition(b"\n")[0].count).decode()
        return pv.read_csv(
            pa.BufferReader(content),
            parse_options=pv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pv.ConvertOptions(
                column_types={name: pa.string() for name in (TEXT, *_LABELS)}
            ),
        )
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {as_typed(uri)}", hint="name a file of predictions"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        problem = _fault(uri, "cannot be read as a table", str(error).splitlines()[0])
        raise errors.explain(error, uri=uri) or problem from error


def _read_keys(uri: str, table: pa.Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the keys of N rows, and the hashes of their texts, if there are texts."""
    names, texts = table.column_names, None
    if TEXT not in names and "row_id" not in names:
        raise _fault(uri, "has neither row_id nor text", f"it has {', '.join(names)}")
    if TEXT in names:
        text = one_array(table[TEXT])
        _refuse(uri, text.is_null().to_numpy(zero_copy_only=False), "has no text", "give it")
        texts = hash_texts(text.cast(pa.string()))
    if "row_id" not in names:
        assert texts is not None, "one of both is there"
        return texts, texts
    row_ids = one_array(table["row_id"])
    if not pa.types.is_integer(row_ids.type):
        raise _fault(uri, f"has a row_id of type {row_ids.type}", "give whole numbers")
    _refuse(uri, row_ids.is_null().to_numpy(zero_copy_only=False), "has no row_id", "give it")
    return row_keys(row_ids.to_numpy()), texts


def _read_probabilities(uri: str, table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Read the columns of probabilities, ``(N, columns)`` float64."""
    for name in columns:
        kind = table[name].type
        if not pa.types.is_floating(kind) and not pa.types.is_integer(kind):
            raise _fault(uri, f"has {name} of type {kind}", "give numbers with a decimal point")
    probabilities = np.stack(
        [table[name].to_numpy().astype(np.float64) for name in columns], axis=1
    )
    for is_faulty, problem, hint in find_faults(probabilities):
        _refuse(uri, is_faulty, problem, hint)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _read_labels(uri: str, column: pa.ChunkedArray, name: str, scored: Manifest) -> np.ndarray:
    """Convert predicted labels to positions in the classes: their names, or values of the CSV."""
    coded = one_array(column.cast(pa.string())).dictionary_encode()
    _refuse(uri, coded.is_null().to_numpy(zero_copy_only=False), f"has no {name}", "give it")
    classes, prepared = manifest.find_classes(scored), lineage.corpus_of(scored)
    values = {each.casefold(): code for code, each in enumerate(classes)}
    if prepared:  # the CSV may write the classes in another way
        settings = FormatSettings.model_validate(prepared["settings"].get("format") or {})
        names = [each if each in classes else None for each in settings.classes or ()]
        for value, code in csv_format.meanings(settings):
            if code is not None and (of_value := names[code]) is not None:
                values[value] = classes.index(of_value)
    written = [value.strip() for value in coded.dictionary.to_pylist()]
    codes = np.array([values.get(w, values.get(w.casefold(), -1)) for w in written], np.int64)
    codes = codes[coded.indices.to_numpy()]
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        problem = f"has the {name} {column[row].as_py()!r} in row {row:,}, which is no class"
        raise _fault(uri, problem, f"the classes of the corpus are {', '.join(classes)}")
    return codes


def _find_first(
    uri: str, keys: np.ndarray, code: np.ndarray, probabilities: np.ndarray, *, by_text: bool
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
        _refuse(uri, again & ~is_same, "has another prediction for a text", "give each text one")
    else:
        _refuse(uri, again, "has a row_id for the second time", "give each row one prediction")
    return first


def _refuse(uri: str, is_faulty: np.ndarray, problem: str, hint: str) -> None:
    if is_faulty.any():
        raise _fault(uri, f"{problem} in row {int(np.flatnonzero(is_faulty)[0]):,}", hint)


def _fault(uri: str, problem: str, hint: str) -> UserError:
    return UserError(f"{as_typed(uri)} {problem}", hint=hint)
