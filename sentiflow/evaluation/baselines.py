"""Evaluated rows and their texts -> a simple model, and the evaluated model compared with it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import followed_inputs, lineage, manifest
from sentiflow.data.arrays import one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS, TRAIN
from sentiflow.errors import UserError
from sentiflow.evaluation import tfidf
from sentiflow.evaluation.evaluated_rows import choose_evenly, predicted_of
from sentiflow.evaluation.other_models import Baseline, RatingComparison
from sentiflow.metrics.dependence import FoldGroups
from sentiflow.tracking import training_rows

MAX_TRAIN_ROWS = 100_000
"""Maximum number of rows that the baseline is trained on, spread over all train rows."""
MAX_ROWS = 50_000
"""Maximum number of rows that the baseline is measured on, spread over all evaluated rows."""

_NAME = "TF-IDF with logistic regression"


def choose_rows(rows: pa.Table) -> pa.Table:
    """Choose the evaluated rows that the baseline is measured on."""
    return rows.take(pa.array(choose_evenly(len(rows), MAX_ROWS)))


def measure(rows: pa.Table | None, scored: Manifest) -> tuple[list[Baseline], str]:
    """Train TF-IDF with logistic regression on the model's train rows, and measure it.

    A second baseline, the most frequent label, needs no training: see ``Metrics.most_frequent``.

    Args:
        rows: Result of :func:`choose_rows`, with the column ``text``. None: there are no texts.
        scored: Manifest of the predictions.

    Returns:
        A list of one baseline and an empty text; or an empty list and why there is no baseline.
    """
    if rows is None:
        return [], "there are no texts"
    predicted = predicted_of(rows, lineage.class_values_of(scored))
    try:
        text, label = _read_train_rows(scored)
        began = time.monotonic()
        chosen = choose_evenly(len(label), MAX_TRAIN_ROWS)
        train_text = text.take(pa.array(chosen))
        answers = tfidf.predict(
            train_text,
            label[chosen],
            rows["text"].combine_chunks(),
            class_values=predicted.class_values,  # the model's classes are the first
        )
    except UserError as error:
        return [], str(error)
    baseline = Baseline.of(
        predicted,
        answers.prediction,
        ratings=RatingComparison.of(predicted, answers.median),
        name=_NAME,
        num_train_rows=len(chosen),
        num_train_rows_in_all=len(label),
        max_train_rows=MAX_TRAIN_ROWS,
        c=answers.c,
        seconds=time.monotonic() - began,
    )
    return [baseline], ""


def measure_folds(answers: pa.Table, measured: np.ndarray, scored: Manifest) -> list[Baseline]:
    """Measure the baseline by cross-validation over the folds of a training.

    Args:
        answers: Predictions of the models of the folds, as their training has written them.
        measured: Which of these rows are measured, as booleans; all rows are trained on.
        scored: Manifest of the predictions.

    Returns:
        A list of one baseline; an empty list if the texts are gone, or if the other folds of some
        fold have too few.
    """
    began = time.monotonic()
    chosen = choose_evenly(len(answers), MAX_TRAIN_ROWS)
    rows = answers.take(pa.array(chosen))
    is_measured = measured[chosen]
    class_values = lineage.class_values_of(scored)
    fold = rows["fold"].to_numpy()
    try:
        text = _read_texts(scored, one_array(rows["row_id"]))
        of_rows = _predict_folds(
            text,
            rows["label"].to_numpy(),
            fold,
            predicted_of(rows, class_values).class_values,
        )
    except UserError:
        return []
    groups = FoldGroups(fold[is_measured])
    measured_rows = rows.filter(pa.array(is_measured))
    predicted = predicted_of(measured_rows, class_values)
    predicted = replace(predicted, groups=groups)
    median = None if of_rows.median is None else of_rows.median[is_measured]
    baseline = Baseline.of(
        predicted,
        of_rows.prediction[is_measured],
        ratings=RatingComparison.of(predicted, median),
        name=f"{_NAME} over the same folds",
        num_train_rows=int((fold != fold[0]).sum()),  # for one fold; folds are of similar size
        num_train_rows_in_all=len(answers),
        max_train_rows=MAX_TRAIN_ROWS,
        c=of_rows.c,
        seconds=time.monotonic() - began,
    )
    return [baseline]


def _predict_folds(
    text: pa.Array,
    label: np.ndarray,
    fold: np.ndarray,
    class_values: Sequence[float] | None,
) -> tfidf.TfidfAnswers:
    """Predict the labels of each fold by a model that is trained on the other folds.

    Returns:
        The answers, with the ``C`` for the last fold, as an example of all.
    """
    prediction = np.empty_like(label)
    median = None if class_values is None else np.empty_like(label)
    c = 0.0
    for number in np.unique(fold):
        is_tested = fold == number
        train_text = text.filter(pa.array(~is_tested))
        of_fold = tfidf.predict(
            train_text,
            label[~is_tested],
            text.filter(pa.array(is_tested)),
            class_values=class_values,
        )
        prediction[is_tested] = of_fold.prediction
        c = of_fold.c
        if median is not None:
            median[is_tested] = of_fold.median
    return tfidf.TfidfAnswers(prediction, c, median)


def _read_texts(scored: Manifest, row_ids: pa.Array) -> pa.Array:
    """Read the texts of some prepared rows of the training, in the order of ``row_ids``.

    Raises:
        UserError: The prepared rows are gone, or a file is damaged.
    """
    _, tables = _read_prepared(scored, SPLITS, ["row_id", "text"])
    texts = pa.concat_tables(tables)
    place = pc.index_in(row_ids, value_set=one_array(texts["row_id"]))
    return one_array(texts["text"]).take(place)


def _read_train_rows(scored: Manifest) -> tuple[pa.Array, np.ndarray]:
    """Read the train texts that are labelled with a class of the model.

    Returns:
        The texts; and their labels, as positions in the classes of the model.

    Raises:
        UserError: The prepared rows are gone, or a file is damaged.
    """
    prepared, tables = _read_prepared(scored, [TRAIN], ["text", "label"])
    classes = lineage.classes_of_model(scored)
    names = manifest.find_classes(prepared)
    learned = [code for code, name in enumerate(names) if name in classes]
    code_of_model = np.full(len(names), -1, np.int64)  # -1 is never used: such rows are left out
    for code in learned:
        code_of_model[code] = classes.index(names[code])
    rows = pa.concat_tables(table.filter(pc.field("label").isin(learned)) for table in tables)
    return rows["text"].combine_chunks(), code_of_model[rows["label"].to_numpy()]


def _read_prepared(
    scored: Manifest, splits: Sequence[str], columns: list[str]
) -> tuple[Manifest, Iterator[pa.Table]]:
    """Read columns of some splits of the training's prepared rows.

    If the model is a refit, the splits that it has learned are read instead.

    Returns:
        Manifest of the prepared rows, and the tables.

    Raises:
        UserError: The prepared rows are gone, or a file is damaged.
    """
    training = lineage.training_of(scored["inputs"]["model"])
    prepared = followed_inputs.follow(training["inputs"], "prepared") if training else None
    if not training or not prepared:
        raise UserError("the texts that the model was trained on are gone")
    folders = lineage.name_folders(splits)
    if "refit" in training:
        folders = training_rows.name_learned_folders(training)
    uri = training["inputs"]["prepared"]["uri"]
    return prepared, lineage.read_tables(uri, prepared, folders, columns)
