"""Files of predictions by another program -> the predictions of a corpus, in place of a model's.

The driver reads the files once, sorts the predictions by their keys (row ids or hashes of texts),
and writes them to the unfinished output. A task finds the predictions of its part in this file,
one row group after the other, so its memory does not grow with the number of predictions.
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiflow.config import ordered_classes
from sentiflow.config.class_names import check_names, order_classes
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import csv_format, input_files, manifest, parts, prediction_files
from sentiflow.data.arrays import find_sorted, hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import GivenCounts, Manifest, ModelInput
from sentiflow.data.prediction_files import PredictionFile
from sentiflow.errors import UserError
from sentiflow.models.scores import Scores
from sentiflow.progress import say
from sentiflow.storage import parquet
from sentiflow.storage.uris import display_uri, join

SETTING = "score.predictions"
NO_PREDICTION = "no prediction"
"""Reason for rejecting a row of the corpus."""

_GROUP_ROWS = 1 << 17
"""Rows in a row group of the sorted predictions."""


class Given(NamedTuple):
    """Predictions that tasks look up."""

    uri: str
    """The sorted predictions."""
    name: str
    """The first file that they come from, for messages."""
    by_text: bool
    """Whether they are found by text, or else by row id."""
    classes: tuple[str, ...]
    """The C classes."""
    class_values: tuple[float, ...] | None
    """Their numbers; None if they have no order."""


class Found(NamedTuple):
    """The predictions for the rows of a part."""

    table: pa.Table
    """The rows; those without a prediction are rejected."""
    scores: Scores
    """The predictions of the accepted rows."""
    used: str
    """The places of the predictions that were found, see :func:`_pack`."""


def describe(config: Config, prepared: Manifest | None, earlier: Manifest | None) -> ModelInput:
    """Describe the files of predictions as a stage's model.

    Args:
        config: The experiment.
        prepared: Manifest of the prepared data, if they are the corpus.
        earlier: Manifest of a complete scoring. Files that it has read are not read again.

    Raises:
        UserError: A file is missing, or does not name two classes or more.
    """
    settings = config.score
    uris = input_files.expand(settings.predictions, setting=SETTING)
    for uri in uris:
        if not uri.endswith(prediction_files.SUFFIXES):
            raise UserError(
                f"{SETTING}: {display_uri(uri)} is neither Parquet nor CSV",
                hint=f"name files that end with {', '.join(prediction_files.SUFFIXES)}",
            )
    known = earlier["inputs"]["model"] if earlier else None
    described = input_files.describe(uris, earlier=known)
    columns = prediction_files.find_columns(
        uris, setting=SETTING, text_column=_find_text_column(settings)
    )
    has_probabilities = any(name.startswith(prediction_files.PROBABILITY) for name in columns)
    given: Any = "probabilities" if has_probabilities else "labels"
    classes = _find_classes(config, prepared, uris, columns)
    described_settings: dict[str, Any] = {"classes": list(classes), "given": given}
    decisive: list[Any] = [described["fingerprint"], classes]
    values = _find_class_values(_form_of(settings), prepared, classes)
    if values is not None:
        described_settings["class_values"] = list(values)
        decisive.append(values)
    return {
        "uri": uris[0],
        "files": described["files"],
        "fingerprint": manifest.fingerprint(decisive),
        "training": None,
        "reference": None,
        "calibration": None,
        "settings": described_settings,
        "given": given,
    }


def _find_text_column(settings: ScoreSettings) -> str:
    """Name the column of texts as the corpus does, if it has a name."""
    columns = settings.format.columns if settings.format else None
    if columns and isinstance(columns.text, str):
        return columns.text
    return settings.text_column


def _find_classes(
    config: Config, prepared: Manifest | None, uris: Sequence[str], columns: Sequence[str]
) -> tuple[str, ...]:
    """Name the classes: of the prepared data, of the settings, or else of the files.

    Args:
        config: The experiment.
        prepared: Manifest of the prepared data, if they are the corpus.
        uris: The files of predictions.
        columns: Their columns.

    Raises:
        UserError: There are fewer than two classes, or a name cannot be used.
    """
    if prepared:
        return manifest.find_classes(prepared)
    form = _form_of(config.score)
    if form.kind == "csv" and form.classes:
        return form.classes
    if config.train.classes:
        return order_classes(config.train.classes)
    names = prediction_files.name_classes(uris, columns, _name_values(form), setting=SETTING)
    classes = order_classes(names)
    if form.ordered:
        classes = ordered_classes.sort_by_value(names, form.values)
    try:
        check_names(classes)
    except ValueError as error:
        way_out = "name all classes: in format.labels, or in train.classes"
        advice = ordered_classes.advise_on_decimals(names, ())
        raise UserError(
            f"{SETTING}: {display_uri(uris[0])}: {error}",
            hint=f"{advice}; and {way_out}" if advice else way_out,
        ) from error
    return classes


def _find_class_values(
    form: FormatSettings, prepared: Manifest | None, classes: Sequence[str]
) -> Sequence[float] | None:
    """Find the numbers of ordered classes: of the prepared data, or of the settings.

    Args:
        form: The format of the corpus.
        prepared: Manifest of the prepared data, if they are the corpus.
        classes: The classes of the predictions.

    Returns:
        None if the classes have no order.

    Raises:
        UserError: A class has no number, or the numbers neither rise nor fall.
    """
    if prepared:
        of_prepared = manifest.find_class_values(prepared)
        if of_prepared is None:
            return None
        return [value for value in of_prepared if value is not None]
    if not form.ordered:
        return None
    try:
        return ordered_classes.find_values(classes, form.values)
    except ValueError as error:
        raise UserError(f"{SETTING}: {error}") from error


def _form_of(settings: ScoreSettings) -> FormatSettings:
    assert settings.format is not None, "settings are resolved"
    return settings.format


def _name_values(form: FormatSettings) -> dict[str, str]:
    """List the labels as files write them, each with the name of its class."""
    names = form.classes or ()
    values = {}
    for value, code in csv_format.written_labels(form):
        if code is not None:
            values[value] = names[code]
    return values


def read(settings: ScoreSettings, model: ModelInput) -> PredictionFile:
    """Read all predictions; a second call in this process does not read them again.

    Args:
        settings: The section ``score``.
        model: The files, as :func:`describe` returns them.

    Raises:
        UserError: A value is wrong.
    """
    classes = tuple((model["settings"] or {})["classes"])
    named = _name_values(_form_of(settings)).items()
    values = {value: classes.index(name) for value, name in named if name in classes}
    return _read(
        tuple(item["uri"] for item in model["files"]),
        model["fingerprint"],
        classes,
        tuple(values.items()),
        _find_text_column(settings),
    )


@functools.lru_cache(maxsize=1)
def _read(
    uris: tuple[str, ...],
    fingerprint: str,
    classes: tuple[str, ...],
    values: tuple[tuple[str, int], ...],
    text_column: str,
) -> PredictionFile:
    """Read files; their fingerprint tells a changed file from the one that was read before."""
    return prediction_files.read(
        uris, classes, dict(values), setting=SETTING, text_column=text_column
    )


def write(
    file: PredictionFile,
    classes: tuple[str, ...],
    class_values: tuple[float, ...] | None,
    *,
    folder: str,
) -> Given:
    """Write the sorted predictions to the unfinished output, where all nodes can read them.

    Args:
        file: The predictions.
        classes: All classes; the file may predict only some.
        class_values: Their numbers; None if they have no order.
        folder: Folder of the unfinished output.
    """
    code = np.array([classes.index(name) for name in file.classes], np.int8)
    columns: dict[str, np.ndarray] = {"key": file.keys, "prediction": code[file.prediction]}
    if file.texts is not None and not file.by_text:
        columns["text"] = file.texts
    if file.known is not None:
        for number, of_class in zip(code, file.known.T, strict=True):
            columns[f"{prediction_files.PROBABILITY}{number}"] = of_class
    uri = join(folder, "given.parquet")
    parquet.write(uri, pa.table(columns), rows_per_group=_GROUP_ROWS)
    return Given(
        uri=uri,
        name=file.uri,
        by_text=file.by_text,
        classes=classes,
        class_values=class_values,
    )


def find(table: pa.Table, given: Given) -> Found:
    """Find the predictions of a part; reject the accepted rows that have none.

    Args:
        table: The rows, as :func:`parts.read` returns them.
        given: The predictions.

    Raises:
        UserError: A row has another text in the files than in the corpus.
    """
    accepted = parts.accepted(table)
    row_ids = accepted["row_id"].to_numpy()
    texts = hash_texts(one_array(accepted["text"]))
    keys = texts if given.by_text else row_ids.astype(np.uint64)
    place = np.full(len(keys), -1, np.int64)
    prediction = np.zeros(len(keys), np.int8)
    probabilities = np.zeros((len(keys), len(given.classes)), np.float32)
    has_probabilities = False
    for start, group in _read_groups(given.uri, keys):
        is_found, there = find_sorted(group["key"].to_numpy(), keys)
        there = there[is_found]
        place[is_found] = start + there
        prediction[is_found] = group["prediction"].to_numpy()[there]
        if "text" in group.column_names:
            is_other = group["text"].to_numpy()[there] != texts[is_found]
            _refuse_other_texts(given, row_ids[is_found][is_other])
        for number in range(len(given.classes)):
            name = f"{prediction_files.PROBABILITY}{number}"
            if name in group.column_names:
                has_probabilities = True
                probabilities[is_found, number] = group[name].to_numpy()[there]
    if not has_probabilities:
        probabilities = prediction_files.make_certain(prediction, len(given.classes))
    is_predicted = place >= 0
    num_words = _count_words(one_array(accepted["text"]))
    scores = Scores(
        probabilities=probabilities,
        classes=given.classes,
        class_values=given.class_values,
        num_tokens=num_words,
        lengths=num_words.astype(np.int64),
        num_unknown=np.zeros(len(keys), np.int32),
        given=prediction,
    )
    return Found(
        table=_reject(table, row_ids[~is_predicted]),
        scores=scores.take(is_predicted),
        used=_pack(np.unique(place[is_predicted])),
    )


def _read_groups(uri: str, keys: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """Read the row groups that may hold some keys, each with the number of rows before it."""
    file = parquet.open_file(uri)
    wanted = np.sort(keys)
    column = file.schema_arrow.get_field_index("key")
    start = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if _may_hold(group.column(column).statistics, wanted):
            yield start, file.read_row_group(number)
        start += group.num_rows


def _may_hold(statistics: pq.Statistics | None, wanted: np.ndarray) -> bool:
    """Say whether a row group may hold some of the sorted keys."""
    if statistics is None or not statistics.has_min_max:
        return True
    first = np.searchsorted(wanted, np.uint64(statistics.min))
    return bool(first < len(wanted) and wanted[first] <= np.uint64(statistics.max))


def _refuse_other_texts(given: Given, row_ids: np.ndarray) -> None:
    """Refuse predictions whose texts are not those of the corpus.

    Raises:
        UserError: There is one.
    """
    if len(row_ids):
        raise UserError(
            f"{SETTING}: {display_uri(given.name)} has another text at row_id {row_ids.min()} than "
            "the corpus",
            hint="row_id counts the records of the corpus from 0; or leave it out, and give the "
            "texts",
        )


def _reject(table: pa.Table, row_ids: np.ndarray) -> pa.Table:
    """Reject rows of a part as they have no prediction."""
    if not len(row_ids):
        return table
    is_wanted = pc.and_(
        pc.is_null(table["reason"]), pc.is_in(table["row_id"], value_set=pa.array(row_ids))
    )
    return put_columns(
        table,
        {
            "reason": pc.if_else(is_wanted, NO_PREDICTION, table["reason"]),
            "raw": pc.if_else(is_wanted, pa.scalar(b"", pa.binary()), table["raw"]),
        },
    )


def _count_words(text: pa.Array) -> np.ndarray:
    """Count the words of texts between blanks, at least 1; int32."""
    counts = pc.count_substring_regex(text, r"\S+").to_numpy(zero_copy_only=False)
    return np.maximum(counts, 1).astype(np.int32)


def _pack(places: np.ndarray) -> str:
    """Pack distinct places in rising order as a short text, for the marker of a part."""
    steps = np.diff(places, prepend=0).astype("<u4").tobytes()
    return base64.b64encode(zlib.compress(steps, 1)).decode()


def count(
    results: Sequence[Mapping[str, Any]], num_predictions: int, previous: Manifest | None
) -> GivenCounts:
    """Count the predictions for no row of the corpus, and the rows without a prediction.

    Args:
        results: Results of all parts that were scored now.
        num_predictions: Number of predictions in the files.
        previous: Manifest of the result that is extended. Its rows are not looked up again.
    """
    is_used = np.zeros(num_predictions, bool)
    rows_without = 0
    for result in results:
        steps = np.frombuffer(zlib.decompress(base64.b64decode(result["used"])), "<u4")
        is_used[np.cumsum(steps, dtype=np.int64)] = True
        rows_without += result["rejected_by_reason"].get(NO_PREDICTION, 0)
    unused = int((~is_used).sum())
    if previous:
        unused = 0
        rows_without += previous["given"]["rows_without"]
    return {"predictions": num_predictions, "unused": unused, "rows_without": rows_without}


def tell(counts: GivenCounts) -> None:
    """Say how many predictions are left out."""
    if counts["unused"]:
        say(
            "score",
            f"{counts['unused']:,} of {counts['predictions']:,} predictions are left out: the "
            "corpus has no such row",
        )
