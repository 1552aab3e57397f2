"""Evaluated rows -> the model compared with a baseline, and with its teachers if it has any."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import followed_inputs, lineage, manifest
from sentiflow.data.arrays import one_array, to_matrix
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS, TRAIN
from sentiflow.errors import UserError
from sentiflow.evaluation import tfidf
from sentiflow.evaluation.evaluated_rows import choose_evenly, predicted_of
from sentiflow.metrics import ordered, paired
from sentiflow.metrics.dependence import FoldGroups
from sentiflow.metrics.intervals import right_interval
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.predicted import Predicted, count_confusion
from sentiflow.models import package_files
from sentiflow.models.scores import choose_classes
from sentiflow.tracking import training_rows
from sentiflow.tracking.model_sources import TEACHER

MAX_TRAIN_ROWS = 100_000
"""Maximum number of rows that the baseline is trained on, spread over all train rows."""
MAX_ROWS = 50_000
"""Maximum number of rows that the baseline is measured on, spread over all evaluated rows."""

_NAME = "TF-IDF with logistic regression"
_NUM_RESAMPLES = 1000
"""Resamples in the test of macro F1."""


@dataclass(frozen=True)
class ModelComparison:
    """The model compared with another one; a difference is the model's metric minus the other's."""

    num_rows: int
    """Rows that both models are measured on."""
    accuracy: float
    """Accuracy of the other model."""
    f1_macro: float | None
    """Macro F1 of the other model; None if it is undefined."""
    accuracy_of_model: float
    f1_macro_of_model: float | None
    accuracy_difference: paired.Difference
    f1_macro_difference: paired.Difference | None

    @property
    def points(self) -> tuple[float, float, float]:
        """Return the difference of accuracy and the two ends of its interval, in points."""
        difference = self.accuracy_difference
        return 100 * difference.value, 100 * difference.low, 100 * difference.high

    @classmethod
    def of(cls, predicted: Predicted, prediction: np.ndarray, **further: Any) -> Self:
        """Compare a model with another model on the same rows.

        Args:
            predicted: Labels of the rows, and predictions of the model.
            prediction: Predictions of the other model, as positions in the same classes.
            further: The fields that a subclass adds.
        """
        label = predicted.label
        num_classes = len(predicted.classes)
        is_right = prediction == label
        accuracy_difference, _ = paired.compare_accuracy(
            is_right, predicted.right, predicted.groups
        )
        f1_macro_difference = paired.f1_macro_difference(
            label=label,
            first=prediction,
            second=predicted.prediction,
            num_classes=num_classes,
            num_resamples=_NUM_RESAMPLES,
            groups=predicted.groups,
        )
        confusion = count_confusion(label, prediction, num_labels=num_classes)
        return cls(
            num_rows=len(label),
            accuracy=float(is_right.mean()),
            f1_macro=macro_f1(confusion),
            accuracy_of_model=float(predicted.right.mean()),
            f1_macro_of_model=macro_f1(predicted.confusion),
            accuracy_difference=accuracy_difference,
            f1_macro_difference=f1_macro_difference,
            **further,
        )


@dataclass(frozen=True)
class RatingComparison:
    """The median labels of the model and of a simple one, for ordered classes."""

    mae: float
    """Mean absolute error of the simple model, in units of the ratings."""
    mae_of_model: float
    mae_difference: paired.Difference | None
    """The model's minus the simple one's: below 0 the model is better."""
    quadratic_kappa: float | None
    quadratic_kappa_of_model: float | None

    @classmethod
    def of(cls, predicted: Predicted, median: np.ndarray | None) -> "RatingComparison | None":
        """Compare median labels; None if the classes have no order, or no label has a number.

        Args:
            predicted: Labels of the rows, and predictions of the model.
            median: The median label of the simple model, as positions in the same classes.
        """
        if median is None or predicted.class_values is None:
            return None
        simple = replace(predicted, probabilities=np.eye(len(predicted.classes))[median])
        if predicted.is_binary:
            simple = replace(predicted, probabilities=median[:, None].astype(float))
        mae = ordered.measure_median_error(simple)
        mae_of_model = ordered.measure_median_error(predicted)
        if mae is None or mae_of_model is None:
            return None
        return cls(
            mae=mae,
            mae_of_model=mae_of_model,
            mae_difference=ordered.compare_median_errors(simple, predicted),
            quadratic_kappa=ordered.measure_kappa(simple),
            quadratic_kappa_of_model=ordered.measure_kappa(predicted),
        )

    @property
    def verdict(self) -> str:
        """Say in words how the median labels compare."""
        shown = f"the model's is {self.mae_of_model:.3f}"
        difference = self.mae_difference
        if difference is None:
            return shown
        interval = f"95% interval {difference.low:+.3f} to {difference.high:+.3f}"
        return f"{shown}, a difference of {difference.value:+.3f} ({interval})"


@dataclass(frozen=True)
class Baseline(ModelComparison):
    """The model compared with a simple one."""

    name: str
    num_train_rows: int
    """Rows that the simple model was trained on; over folds, for one fold."""
    num_train_rows_in_all: int
    """Rows that it could have been trained on."""
    max_train_rows: int
    """Limit of ``num_train_rows``."""
    c: float
    """``C`` of the logistic regression, chosen by cross-validation within the train rows."""
    seconds: float
    """Duration of training and prediction."""
    ratings: RatingComparison | None = None
    """Of ordered classes: the median labels of both."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; ``ratings`` only of ordered classes."""
        fields = asdict(self)
        if self.ratings is None:
            del fields["ratings"]
        return fields

    @property
    def training(self) -> str:
        """Say in words how many texts it was trained on, the limit, and how long it took."""
        rows = f"{self.num_train_rows:,} of {self.num_train_rows_in_all:,} train texts"
        return f"trained on {rows} (limit {self.max_train_rows:,}) in {self.seconds:.1f} s"

    @property
    def verdict(self) -> str:
        """Say in words whether the model is better than the simple one."""
        points, low, high = self.points
        interval = f"95% interval of the difference {low:+.1f} to {high:+.1f}"
        if low > 0:
            return f"the model is {points:.1f} points better ({interval})"
        if high < 0:
            return f"the model is {-points:.1f} points worse ({interval})"
        return f"the model is not shown to be any better ({interval})"


@dataclass(frozen=True)
class TeacherComparison(ModelComparison):
    """A distilled model compared with its teachers, on rows that the teachers have answered.

    The mean of the teachers' probabilities counts as the other model.
    """

    num_teachers: int
    agreement: float
    """Share of the rows for which the model and the teachers predict the same class."""
    agreement_low: float
    """Lower end of the exact 95% interval."""
    agreement_high: float

    @property
    def name(self) -> str:
        """Return ``teacher``, or how many teachers there are."""
        return "teacher" if self.num_teachers == 1 else f"mean of {self.num_teachers} teachers"

    @property
    def verdict(self) -> str:
        """Say in words how the model compares in accuracy."""
        points, low, high = self.points
        return (
            f"accuracy {self.accuracy_of_model:.1%} against {self.accuracy:.1%}, a difference of "
            f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
        )


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
    try:
        text, label = _read_train_rows(scored)
        began = time.monotonic()
        chosen = choose_evenly(len(label), MAX_TRAIN_ROWS)
        train_text = text.take(pa.array(chosen))
        answers = tfidf.predict(
            train_text,
            label[chosen],
            rows["text"].combine_chunks(),
            class_values=package_files.class_values_of(scored["inputs"]["model"]),
        )
    except UserError as error:
        return [], str(error)
    predicted = predicted_of(rows, lineage.class_values_of(scored))
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
    fold = rows["fold"].to_numpy()
    try:
        text = _read_texts(scored, one_array(rows["row_id"]))
        of_rows = _predict_folds(
            text,
            rows["label"].to_numpy(),
            fold,
            package_files.class_values_of(scored["inputs"]["model"]),
        )
    except UserError:
        return []
    groups = FoldGroups(fold[is_measured])
    measured_rows = rows.filter(pa.array(is_measured))
    predicted = predicted_of(measured_rows, lineage.class_values_of(scored))
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


def compare_teachers(
    rows: pa.Table, scored: Manifest, *, split: str
) -> tuple[TeacherComparison | None, str]:
    """Compare a distilled model with its teachers.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        split: The split.

    Returns:
        The comparison and an empty text; or None and why there is no comparison. The reason is
        also empty if the model is not distilled, or is an average.
    """
    model = scored["inputs"]["model"]
    training = lineage.training_of(model)
    if training is None or "taught" not in training or "members" in model:
        return None, ""
    if not lineage.is_of_training(scored, training):
        return None, "the teachers have answered only the rows of the model's prepared data"
    try:
        answers = _read_answers(training["taught"], split)
    except UserError as error:
        return None, str(error)
    place = pc.index_in(one_array(rows["row_id"]), value_set=one_array(answers["row_id"]))
    rows = rows.filter(place.is_valid())
    if not len(rows):
        return None, "no teacher has answered any of these texts"
    probabilities = to_matrix(one_array(answers["teacher"]).take(place.drop_null()))
    prediction = choose_classes(probabilities).astype(np.int64)
    predicted = predicted_of(rows)
    is_alike = prediction == predicted.prediction
    low, high = right_interval(is_alike, predicted.groups)
    compared = TeacherComparison.of(
        predicted,
        prediction,
        num_teachers=sum(name.startswith(TEACHER) for name in training["inputs"]),
        agreement=int(is_alike.sum()) / len(rows),
        agreement_low=low,
        agreement_high=high,
    )
    return compared, ""


def _read_answers(taught: Mapping[str, Any], split: str) -> pa.Table:
    """Read what the teachers have answered to the rows of a split; to all rows without a split.

    Raises:
        UserError: The answers are gone, or were redone.
    """
    record = followed_inputs.follow({"taught": taught}, "taught")
    if record is None:
        raise UserError("the answers of the teachers are gone or were redone")
    folder = (f"split={split}/",) if split in SPLITS[1:] else ()
    tables = [HELD_OUT.empty_table()]
    for table in lineage.read_tables(taught["uri"], record, folder, HELD_OUT.names):
        tables.append(table.cast(HELD_OUT))
    return pa.concat_tables(tables).combine_chunks()
