"""Files of predictions by any program (Parquet or CSV) -> the predictions, sorted by their keys.

``compare``, ``evaluate`` and ``score`` read such files. The files are read in batches, and of each
row only its key, its label and its probabilities are kept.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config import ordered_classes
from sentiflow.data import label_batches, label_files, label_values
from sentiflow.data.arrays import hash_texts
from sentiflow.data.label_files import PROBABILITY
from sentiflow.errors import few

LABEL = "predicted_label"
"""Column of the predicted label."""
SUFFIXES = (".parquet", ".csv", ".tsv")
"""Suffixes of a location that is a file of predictions and not a directory."""
HINT = "a file of predictions has row_id or text, and predicted_label or probability_<class>"
"""Hint if a column is missing."""
_TEXT = "text"
_CLOSE = 1e-4
"""Probabilities count as the same up to this difference."""


@dataclass(frozen=True)
class PredictionFile:
    """N predictions of one or more files, sorted by their keys."""

    uri: str
    """The first file."""
    by_text: bool
    """Whether the key of a row is its text; otherwise it is its ``row_id``."""
    keys: np.ndarray
    """N uint64, hashes of the texts or row ids; each occurs once."""
    texts: np.ndarray | None
    """Hashes of the texts, N uint64; None if the file has no texts."""
    classes: tuple[str, ...]
    """The C classes that the files predict."""
    prediction: np.ndarray
    """N positions in the classes."""
    known: np.ndarray | None
    """Probabilities, ``(N, C)`` float32; None if the files have only labels."""

    @property
    def has_probabilities(self) -> bool:
        """Whether the files have probabilities."""
        return self.known is not None

    @property
    def about(self) -> str:
        """Describe the files in a line."""
        what = "labels and probabilities" if self.has_probabilities else "labels alone"
        return f"a file of predictions, {what}"

    def find_probabilities(self, place: np.ndarray) -> np.ndarray:
        """Find the probabilities of some rows, (M, C); without any, 1 for the predicted label."""
        if self.known is not None:
            return self.known[place]
        return make_certain(self.prediction[place], len(self.classes))


def make_certain(prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Make the probabilities of labels alone: 1 for the predicted label, float32."""
    probabilities = np.zeros((len(prediction), num_classes), np.float32)
    probabilities[np.arange(len(prediction)), prediction] = 1
    return probabilities


def read(
    uris: Sequence[str],
    classes: Sequence[str],
    values: Mapping[str, int],
    *,
    setting: str = "a file of predictions",
    text_column: str = _TEXT,
) -> PredictionFile:
    """Read files of predictions: Parquet, or CSV with a header.

    Args:
        uris: The files; each has the same of the columns ``row_id``, ``text``, ``predicted_label``
            and ``probability_<class>``. The first or second is needed, and the third or fourth.
        classes: All classes of the corpus.
        values: Labels as files write them, each with the position of its class.
        setting: What names the files, for messages.
        text_column: Another name of the column ``text``.

    Raises:
        UserError: A column is missing, or a value is wrong. The message names the first such row.
    """
    form = _find_form(uris, classes, setting=setting, text_column=text_column)
    batches: list[_Batch] = []
    num_rows = []
    for uri in uris:
        found = list(_read_batches(uri, form, classes, values, setting=setting))
        batches += found
        num_rows.append(sum(len(batch.keys) for batch in found))
    if not sum(num_rows):
        raise label_files.fault_in(uris[0], "has no prediction", "name a file with rows")
    joined = _Batch.join(batches)
    order = _sort(joined, uris, num_rows, form)
    code = joined.code[order]
    with_column = np.array(list(form.columns.values()), np.int64)
    predicted = np.union1d(np.unique(code), with_column)
    known = None
    if form.columns:
        known = np.zeros((len(order), len(predicted)), np.float32)
        known[:, np.searchsorted(predicted, with_column)] = joined.probabilities[order]
    return PredictionFile(
        uri=uris[0],
        by_text=form.by_text,
        keys=joined.keys[order],
        texts=joined.texts[order] if form.has_text else None,
        classes=tuple(classes[number] for number in predicted),
        prediction=np.searchsorted(predicted, code).astype(np.int8),
        known=known,
    )


def find_columns(uris: Sequence[str], *, setting: str, text_column: str = _TEXT) -> tuple[str, ...]:
    """List the columns of files of predictions that are read; check that all files have the same.

    Raises:
        UserError: A needed column is missing, or a file has other columns than the first.
    """
    first: list[str] = []
    for uri in uris:
        names = label_batches.read_names(uri, setting=setting)
        renamed = [_rename(names, text_column).get(name, name) for name in names]
        found = pd.DataFrame(columns=renamed)
        needs = ["row_id or text" if text_column == _TEXT else f"row_id or text or {text_column}"]
        label_files.check_columns(found, uri, needs=needs, hint=HINT)
        is_predicted = LABEL in renamed or any(name.startswith(PROBABILITY) for name in renamed)
        if not is_predicted:
            problem = f"has no column {LABEL} or {PROBABILITY}<class>"
            raise label_files.fault_in(uri, problem, f"it has {', '.join(few(names))}")
        wanted = [name for name in renamed if _is_wanted(name)]
        if first and set(wanted) != set(first):
            problem = f"has the columns {', '.join(few(wanted))}"
            raise label_files.fault_in(uri, problem, f"{uris[0]} has {', '.join(few(first))}")
        first = first or wanted
    return tuple(first)


def name_classes(
    uris: Sequence[str], columns: Sequence[str], values: Mapping[str, str], *, setting: str
) -> list[str]:
    """Name the classes that files predict: the columns of probabilities, or all labels, sorted.

    Args:
        uris: The files.
        columns: Their columns, see :func:`find_columns`.
        values: Labels as files write them, each with the name of its class.
        setting: What names the files, for messages.

    Raises:
        UserError: A file is missing or is no table.
    """
    of_columns = [name for name in columns if name.startswith(PROBABILITY)]
    if of_columns:
        return [name.removeprefix(PROBABILITY) for name in of_columns]
    names: set[str] = set()
    for uri in uris:
        for table in label_batches.read(
            uri, setting=setting, needs=[LABEL], hint=HINT, is_wanted=lambda name: name == LABEL
        ):
            found = table[LABEL].unique()
            names.update(values.get(label, label) for label in found)
    return sorted(names)


@dataclass(frozen=True)
class _Form:
    """What the columns of files hold."""

    by_text: bool
    has_text: bool
    has_label: bool
    columns: dict[str, int]
    """Columns of probabilities, each with the position of its class, in the order of classes."""
    text_column: str


@dataclass(frozen=True)
class _Batch:
    """N rows of a file."""

    keys: np.ndarray
    """N uint64, see :class:`PredictionFile`."""
    texts: np.ndarray
    """Hashes of N texts; empty without texts."""
    code: np.ndarray
    """N positions in the classes of the corpus, int8."""
    probabilities: np.ndarray
    """A row for each, a column for each column of probabilities, float32."""
    number: np.ndarray
    """The number of each row in its file, from 0, int64."""

    @classmethod
    def join(cls, batches: Sequence["_Batch"]) -> "_Batch":
        """Join batches in their order."""
        return cls(
            keys=np.concatenate([each.keys for each in batches]),
            texts=np.concatenate([each.texts for each in batches]),
            code=np.concatenate([each.code for each in batches]),
            probabilities=np.concatenate([each.probabilities for each in batches]),
            number=np.concatenate([each.number for each in batches]),
        )


def _rename(names: Sequence[str], text_column: str) -> dict[str, str]:
    """Give the column of texts its common name, if it has another one."""
    return {text_column: _TEXT} if text_column in names and _TEXT not in names else {}


def _is_wanted(name: str) -> bool:
    """Say whether a column is read."""
    return name in ("row_id", _TEXT, LABEL) or name.startswith(PROBABILITY)


def _find_form(
    uris: Sequence[str], classes: Sequence[str], *, setting: str, text_column: str
) -> _Form:
    """Find what the columns of files hold.

    Raises:
        UserError: A column is missing, or names no class of the corpus.
    """
    names = find_columns(uris, setting=setting, text_column=text_column)
    columns = {}
    for name in names:
        if not name.startswith(PROBABILITY):
            continue
        of_class = name.removeprefix(PROBABILITY)
        if of_class not in classes:
            problem = f"has a column {name}, which is no class of the corpus"
            raise label_files.fault_in(uris[0], problem, _name_way_out(classes))
        columns[name] = classes.index(of_class)
    return _Form(
        by_text="row_id" not in names,
        has_text=_TEXT in names,
        has_label=LABEL in names,
        columns=dict(sorted(columns.items(), key=lambda item: item[1])),
        text_column=text_column,
    )


def _name_way_out(classes: Sequence[str]) -> str:
    """Name the classes of the corpus, and the setting that decides them."""
    names = ", ".join(few(classes))
    return f"the classes of the corpus are {names} (format.labels, or else train.classes)"


def _read_batches(
    uri: str, form: _Form, classes: Sequence[str], values: Mapping[str, int], *, setting: str
) -> Iterator[_Batch]:
    """Read a file in batches.

    Raises:
        UserError: A value is wrong.
    """
    names = label_batches.read_names(uri, setting=setting)
    tables = label_batches.read(
        uri,
        setting=setting,
        needs=[],
        hint=HINT,
        is_wanted=_is_wanted,
        rename=_rename(names, form.text_column),
    )
    for table in tables:
        keys, texts = _read_keys(table)
        probabilities = np.zeros((len(keys), 0), np.float32)
        if form.columns:
            probabilities = _read_probabilities(table, [*form.columns])
        if form.has_label:
            hint = f"{label_files.CORRECT}; {_name_way_out(classes)}"
            advice = ordered_classes.advise_on_decimals(table[LABEL].unique(), classes)
            if advice:
                hint += f"; {advice}"
            found = label_values.read_labels(table, classes, values, column=LABEL, hint=hint)
            code = found.to_numpy(np.int8)
        else:
            of_columns = np.array(list(form.columns.values()), np.int8)
            code = of_columns[probabilities.argmax(axis=1)]
        yield _Batch(
            keys=keys,
            texts=np.zeros(0, np.uint64) if texts is None else texts,
            code=code,
            probabilities=probabilities,
            number=table.index.to_numpy(np.int64),
        )


def _read_keys(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the keys of N rows, and the hashes of their texts, which are None without texts.

    Raises:
        UserError: A text is empty, or a ``row_id`` is no number.
    """
    texts = None
    if _TEXT in table:
        label_files.reject(table, table[_TEXT] == "", "has no text")
        texts = hash_texts(pa.array(table[_TEXT], pa.string()))
    if "row_id" in table:
        return label_values.read_row_ids(table).to_numpy(np.uint64), texts
    assert texts is not None, "there is a row_id or a text"
    return texts, texts


def _read_probabilities(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Read columns of probabilities, and divide each row by its sum, which is about 1.

    Raises:
        UserError: A value is no probability.
    """
    values = table[columns].to_numpy()
    for is_faulty, problem in label_values.find_faults(values):
        label_files.reject(table, is_faulty, problem)
    return np.asarray(values / values.sum(axis=1, keepdims=True), np.float32)


def _sort(rows: _Batch, uris: Sequence[str], num_rows: Sequence[int], form: _Form) -> np.ndarray:
    """Sort rows by their keys, and leave out repeated ones; return places in ``rows``.

    Args:
        rows: N rows of all files.
        uris: The files.
        num_rows: The rows of each.
        form: What they hold. Only texts may occur again, with the same prediction.

    Raises:
        UserError: A row_id occurs twice, or rows of the same text have different predictions.
    """
    order = np.argsort(rows.keys, kind="stable")
    keys = rows.keys[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    if is_first.all():
        return order
    first = order[is_first]
    repeated = order[~is_first]
    first_of_repeated = first[(np.cumsum(is_first) - 1)[~is_first]]
    if not form.by_text:
        wrong = repeated
        problem = "was given before"
        hint = label_files.CORRECT
    else:
        same_label = rows.code[repeated] == rows.code[first_of_repeated]
        there = rows.probabilities[first_of_repeated]
        is_close = np.isclose(rows.probabilities[repeated], there, atol=_CLOSE).all(axis=1)
        wrong = repeated[~(same_label & is_close)]
        problem = "the text has another prediction above"
        hint = "keep one prediction of each text, or name the rows by row_id"
    if len(wrong):
        _refuse(rows, wrong, uris, num_rows, problem, by_text=form.by_text, hint=hint)
    return first


def _refuse(
    rows: _Batch,
    wrong: np.ndarray,
    uris: Sequence[str],
    num_rows: Sequence[int],
    problem: str,
    *,
    by_text: bool,
    hint: str,
) -> None:
    """Refuse repeated rows; name the first.

    Args:
        rows: The rows of all files.
        wrong: Places of the wrong ones.
        uris: The files.
        num_rows: The rows of each.
        problem: What is wrong.
        by_text: Whether keys are texts, which are not shown.
        hint: What to do.

    Raises:
        UserError: Always.
    """
    first = int(wrong.min())
    ends = list(itertools.accumulate(num_rows))
    uri = uris[int(np.searchsorted(ends, first, side="right"))]
    places = [label_files.name_row(uri, int(rows.number[first]))] * len(wrong)
    table = pd.DataFrame({label_files.PLACE: places, "row_id": str(rows.keys[first])})
    label_files.reject(
        table, np.ones(len(wrong), bool), problem, column="" if by_text else "row_id", hint=hint
    )
