"""Evaluated rows -> the model compared with others on them: TF-IDF, and teachers if distilled."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import choose_evenly, predicted_of
from sentiflow.metrics import paired
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted, count_confusion, macro_f1
from sentiflow.tracking import training_rows
from sentiflow.tracking.model_sources import TEACHER

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

MAX_TRAIN_ROWS = 100_000
"""Maximum rows that the baseline is trained on, spread over all train rows."""
MAX_ROWS = 50_000
"""Maximum rows that the baseline is measured on, spread over all evaluated rows."""
MIN_ROWS = 50
"""With fewer train rows there is no baseline."""

_NAME = "TF-IDF with logistic regression"
_NGRAMS = ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
"""Words and pairs of words; 2 to 5 characters of a word with the blanks around it."""
_C = (1.0, 3.0, 9.0)
"""Inverse strengths of the regularization to choose from."""
_TOLERANCE = 0.02
"""Tolerance of the solver; the predictions are as accurate as with a smaller one."""
_TOLERANCE_OF_CHOICE = 0.1
"""Tolerance of the solver while ``C`` is chosen; the choice is the same as with a smaller one."""
_NUM_FOLDS = 3
"""Folds of the cross-validation that chooses ``C``."""
_MAX_CHOICE_ROWS = 20_000
"""Maximum train rows in that cross-validation."""
_BLOCK = 10_000
"""Texts whose n-grams are counted at a time, which bounds the memory."""
_NUM_RESAMPLES = 1000
"""Resamples in the test of macro F1."""


@dataclass(frozen=True)
class ModelComparison:
    """The model compared with another one; a difference is the model's metric minus the other's."""

    num_rows: int
    """Rows that both models are measured on."""
    accuracy: float
    f1_macro: float | None
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
        """Compare a model with the predictions of another one for the same rows.

        Args:
            predicted: Predictions of the model.
            prediction: Predictions of the other one, positions in the same classes.
            further: The fields of a subclass.
        """
        label = predicted.label
        num_classes = len(predicted.classes)
        is_right = prediction == label
        accuracy_difference, _ = paired.compare_accuracy(is_right, predicted.right)
        f1_macro_difference = paired.f1_macro_difference(
            label=label,
            first=prediction,
            second=predicted.prediction,
            num_classes=num_classes,
            num_resamples=_NUM_RESAMPLES,
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
class Baseline(ModelComparison):
    """The model compared with a simple one."""

    name: str
    num_train_rows: int
    num_train_rows_in_all: int
    max_train_rows: int
    """Limit of ``num_train_rows``."""
    c: float
    """``C`` of the logistic regression, chosen by cross-validation within the train rows."""
    seconds: float

    @property
    def training(self) -> str:
        """Say in words how many texts it was trained on, the limit, and how long it took."""
        rows = f"{self.num_train_rows:,} of {self.num_train_rows_in_all:,} train texts"
        return f"trained on {rows} (limit {self.max_train_rows:,}) in {self.seconds:.1f} s"

    @property
    def verdict(self) -> str:
        """Say in words whether the model is better."""
        points, low, high = self.points
        interval = f"95% interval of the difference {low:+.1f} to {high:+.1f}"
        if low > 0:
            return f"the model is {points:.1f} points better ({interval})"
        if high < 0:
            return f"the model is {-points:.1f} points worse ({interval})"
        return f"the model is not shown to be any better ({interval})"


@dataclass(frozen=True)
class TeacherComparison(ModelComparison):
    """A distilled model compared with the mean of its teachers, on rows that they have answered."""

    num_teachers: int
    agreement: float
    """Share of the rows with the same prediction."""
    agreement_low: float
    """Lower end of the exact 95% interval."""
    agreement_high: float

    @property
    def name(self) -> str:
        """Name the teachers."""
        return "teacher" if self.num_teachers == 1 else f"mean of {self.num_teachers} teachers"

    @property
    def verdict(self) -> str:
        """Say in words how the model compares in accuracy."""
        points, low, high = self.points
        return (
            f"accuracy {self.accuracy_of_model:.1%} against {self.accuracy:.1%}, a difference of "
            f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
        )


def measure(rows: pa.Table, scored: Manifest) -> tuple[list[Baseline], str]:
    """Train TF-IDF with logistic regression on the model's train rows, and measure it.

    The most frequent label is the other baseline, which needs no training: see
    ``Metrics.most_frequent``.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.

    Returns:
        The baseline, if there is one; otherwise why there is none.
    """
    if "text" not in rows.column_names:
        return [], "there are no texts"
    try:
        text, label = _read_train_rows(scored)
        rows = rows.take(pa.array(choose_evenly(len(rows), MAX_ROWS)))
        began = time.monotonic()
        chosen = choose_evenly(len(label), MAX_TRAIN_ROWS)
        train_text = text.take(pa.array(chosen))
        prediction, c = predict(train_text, label[chosen], rows["text"].combine_chunks())
    except UserError as error:
        return [], str(error)
    baseline = Baseline.of(
        predicted_of(rows),
        prediction,
        name=_NAME,
        num_train_rows=len(chosen),
        num_train_rows_in_all=len(label),
        max_train_rows=MAX_TRAIN_ROWS,
        c=c,
        seconds=time.monotonic() - began,
    )
    return [baseline], ""


def measure_folds(answers: pa.Table, measured: np.ndarray, scored: Manifest) -> list[Baseline]:
    """Measure the baseline by cross-validation over the folds of a training.

    Args:
        answers: Predictions of the models of the folds, as their training has written them.
        measured: Which of these rows are measured, as booleans; the others are only trained on.
        scored: Manifest of the predictions.

    Returns:
        The baseline, if the texts are there and every fold leaves enough of them.
    """
    began = time.monotonic()
    chosen = choose_evenly(len(answers), MAX_TRAIN_ROWS)
    rows = answers.take(pa.array(chosen))
    is_measured = measured[chosen]
    fold = rows["fold"].to_numpy()
    try:
        text = _read_texts(scored, one_array(rows["row_id"]))
        prediction, c = _predict_folds(text, rows["label"].to_numpy(), fold)
    except UserError:
        return []
    baseline = Baseline.of(
        predicted_of(rows.filter(pa.array(is_measured))),
        prediction[is_measured],
        name=f"{_NAME} over the same folds",
        num_train_rows=int((fold != fold[0]).sum()),  # of one fold; others are of similar size
        num_train_rows_in_all=len(answers),
        max_train_rows=MAX_TRAIN_ROWS,
        c=c,
        seconds=time.monotonic() - began,
    )
    return [baseline]


def _predict_folds(text: pa.Array, label: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, float]:
    """Predict the labels of each fold by a model that is trained on the others.

    Returns:
        The predictions, and the ``C`` of the last fold.
    """
    prediction = np.empty_like(label)
    c = 0.0
    for number in np.unique(fold):
        asked = fold == number
        train_text = text.filter(pa.array(~asked))
        prediction[asked], c = predict(train_text, label[~asked], text.filter(pa.array(asked)))
    return prediction, c


def _read_texts(scored: Manifest, row_ids: pa.Array) -> pa.Array:
    """Read the texts of rows of the training's data, in this order.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    _, tables = _read_prepared(scored, SPLITS, ["row_id", "text"])
    texts = pa.concat_tables(tables)
    place = pc.index_in(row_ids, value_set=one_array(texts["row_id"]))
    return one_array(texts["text"]).take(place)


def _read_train_rows(scored: Manifest) -> tuple[pa.Array, np.ndarray]:
    """Read the labelled train texts of the model's classes.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    prepared, tables = _read_prepared(scored, SPLITS[:1], ["text", "label"])
    classes = lineage.classes_of_model(scored)
    names = manifest.find_classes(prepared)
    learned = [code for code, name in enumerate(names) if name in classes]
    code_of_model = np.full(len(names), -1, np.int64)
    for code in learned:
        code_of_model[code] = classes.index(names[code])
    rows = pa.concat_tables(table.filter(pc.field("label").isin(learned)) for table in tables)
    return rows["text"].combine_chunks(), code_of_model[rows["label"].to_numpy()]


def _read_prepared(
    scored: Manifest, splits: Sequence[str], columns: list[str]
) -> tuple[Manifest, Iterator[pa.Table]]:
    """Read columns of some splits of the training's data; of a refit, all splits that it learned.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    training = lineage.training_of(scored["inputs"]["model"])
    prepared = manifest.read_input(training["inputs"], "prepared") if training else None
    if not training or not prepared:
        raise UserError("the texts that the model was trained on are gone")
    folders = lineage.name_folders(splits)
    if "refit" in training:
        folders = training_rows.name_learned_folders(training)
    uri = training["inputs"]["prepared"]["uri"]
    return prepared, lineage.read_tables(uri, prepared, folders, columns)


def predict(
    train_text: pa.Array, label: np.ndarray, test_text: pa.Array
) -> tuple[np.ndarray, float]:
    """Train on labelled texts, and predict the labels of other texts.

    Returns:
        The predictions for ``test_text``, and the ``C`` that was chosen.

    Raises:
        UserError: There are too few texts, they have one label, or no n-gram is in two of them.
    """
    if len(label) < MIN_ROWS:
        raise UserError(f"only {len(label)} texts of the train split are labelled")
    if len(np.unique(label)) < 2:
        raise UserError("the texts of the train split have one label")
    train_features, test_features = _weigh(train_text, test_text)
    c = _choose_c(train_features, label)
    model = _make_model(_TOLERANCE).set_params(C=c).fit(train_features, label)
    return model.predict(test_features), c


def _make_model(tolerance: float) -> "LogisticRegression":
    """Make a model to fit, with a solver that does not copy the features to float64."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="saga", tol=tolerance, max_iter=1000, random_state=0)


def _choose_c(features: "csr_matrix", label: np.ndarray) -> float:
    """Choose ``C`` by the accuracy in cross-validation on some of the train rows.

    Classes with fewer rows than folds are left out of the choice.
    """
    from sklearn.model_selection import GridSearchCV

    rows = choose_evenly(len(label), _MAX_CHOICE_ROWS)
    num_rows_of_class = np.bincount(label[rows])
    rows = rows[num_rows_of_class[label[rows]] >= _NUM_FOLDS]
    if len(np.unique(label[rows])) < 2:
        return _C[1]  # too few rows to choose: the middle one
    model = _make_model(_TOLERANCE_OF_CHOICE)
    search = GridSearchCV(model, {"C": _C}, cv=_NUM_FOLDS, refit=False)
    search.fit(features[rows], label[rows])
    return search.best_params_["C"]


def _weigh(train_text: pa.Array, test_text: pa.Array) -> "tuple[csr_matrix, csr_matrix]":
    """Weigh the n-grams of train texts by TF-IDF, and of test texts with the same weights.

    Words and characters are scaled separately: there are ten times as many characters.

    Raises:
        UserError: No n-gram is in two of the train texts.
    """
    from scipy.sparse import hstack, vstack
    from sklearn.feature_extraction.text import TfidfTransformer

    train_features = []
    test_features = []
    for kind in _NGRAMS:
        blocks = list(_count(train_text, kind))
        num_texts = sum(block.getnnz(axis=0) for block in blocks)
        common = np.flatnonzero(num_texts >= 2)
        if not len(common):
            continue
        counts = vstack([block[:, common] for block in blocks], format="csr")
        tfidf = TfidfTransformer(sublinear_tf=True).fit(counts)
        train_features.append(tfidf.transform(counts, copy=False))
        test_blocks = [tfidf.transform(block[:, common]) for block in _count(test_text, kind)]
        test_features.append(vstack(test_blocks))
    if not train_features:
        raise UserError("the texts of the train split have no word or characters in common")
    return hstack(train_features, format="csr"), hstack(test_features, format="csr")


def _count(text: pa.Array, kind: Mapping[str, Any]) -> "Iterator[csr_matrix]":
    """Count the n-grams of each text by their hashes, without a dictionary of all n-grams."""
    from sklearn.feature_extraction.text import HashingVectorizer

    counter = HashingVectorizer(
        n_features=2**22, alternate_sign=False, norm=None, dtype=np.float32, **kind
    )
    for start in range(0, len(text), _BLOCK):
        yield counter.transform(text[start : start + _BLOCK].to_pylist())


def compare_teachers(
    rows: pa.Table, scored: Manifest, *, split: str
) -> tuple[TeacherComparison | None, str]:
    """Compare a distilled model with its teachers.

    Args:
        rows: Evaluated rows of one split, as ``evaluated_rows.read`` returns them.
        scored: Manifest of the predictions.
        split: The split.

    Returns:
        The comparison, if there is one; otherwise why there is none: empty if the model is not
        distilled, or is an average.
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
    probabilities = _to_matrix(one_array(answers["teacher"]).take(place.drop_null()))
    prediction = _predict_by(probabilities)
    predicted = predicted_of(rows)
    num_alike = int((prediction == predicted.prediction).sum())
    low, high = share_interval(num_alike, len(rows))
    compared = TeacherComparison.of(
        predicted,
        prediction,
        num_teachers=sum(name.startswith(TEACHER) for name in training["inputs"]),
        agreement=num_alike / len(rows),
        agreement_low=low,
        agreement_high=high,
    )
    return compared, ""


def _to_matrix(lists: pa.Array) -> np.ndarray:
    """Turn N lists of C numbers into an array ``(N, C)``."""
    return np.asarray(lists.flatten().to_numpy()).reshape(len(lists), -1)


def _predict_by(probabilities: np.ndarray) -> np.ndarray:
    """Choose the class of each row; of two classes as ``Scores.prediction`` does."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= 0.5).astype(np.int64)
    return probabilities.argmax(axis=1)


def _read_answers(taught: Mapping[str, Any], split: str) -> pa.Table:
    """Read the answers to the rows of a split.

    Raises:
        UserError: They are gone, or were redone.
    """
    record = manifest.read(taught["uri"])
    if record is None or record["fingerprint"] != taught["fingerprint"]:
        raise UserError("the answers of the teachers are gone or were redone")
    folder = (f"split={split}/",) if split in SPLITS[1:] else ()
    tables = [HELD_OUT.empty_table()]
    for table in lineage.read_tables(taught["uri"], record, folder, HELD_OUT.names):
        tables.append(table.cast(HELD_OUT))
    return pa.concat_tables(tables).combine_chunks()
