"""Evaluated rows -> what other models reach on them: TF-IDF, teachers of a distilled model."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.arrays import one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import HELD_OUT, SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import predicted_of, spread
from sentiflow.metrics import paired
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted, count_confusion, macro_f1
from sentiflow.tracking.model_sources import TEACHER

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

MAX_TRAIN_ROWS = 100_000
"""Rows that the baseline is trained on at most, spread over all train rows."""
MAX_ROWS = 50_000
"""Rows that the baseline is measured on at most, spread over all evaluated rows."""
MIN_ROWS = 50
"""With fewer train rows there is no baseline."""

_NAME = "TF-IDF with logistic regression"
_TRAIN = ("tweets/split=train/",)
_NGRAMS = ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
"""Words and pairs of words; 2 to 5 characters of a word and the blanks around it."""
_C = (1.0, 3.0, 9.0)
"""Inverse strengths of the regularization to choose from."""
_TOLERANCE, _TOLERANCE_OF_CHOICE = 0.02, 0.1
"""Of the solver: the loosest at which the predictions are as accurate, and the choice the same."""
_NUM_FOLDS, _MAX_CHOICE_ROWS = 3, 20_000
"""Folds of the cross-validation that chooses, and train rows in it at most."""
_BLOCK = 10_000
"""Texts whose n-grams are counted at a time, which bounds the memory."""


@dataclass(frozen=True)
class ModelComparison:
    """Another model next to the model; differences are the model's metric minus the other's."""

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
        """The difference of accuracy and the bounds of its interval, in points."""
        difference = self.accuracy_difference
        return 100 * difference.value, 100 * difference.low, 100 * difference.high

    @classmethod
    def of(cls, predicted: Predicted, prediction: np.ndarray, **further: Any) -> Self:
        """Compare a model with the predictions of another one for the same rows."""
        label, size = predicted.label, len(predicted.classes)
        right = prediction == label
        return cls(
            len(label),
            float(right.mean()),
            macro_f1(count_confusion(label, prediction, num_labels=size)),
            float(predicted.right.mean()),
            macro_f1(predicted.confusion),
            paired.compare_accuracy(right, predicted.right)[0],
            paired.f1_macro_difference(
                label=label,
                first=prediction,
                second=predicted.prediction,
                num_classes=size,
                num_resamples=1000,
            ),
            **further,
        )


@dataclass(frozen=True)
class Baseline(ModelComparison):
    """A simple model next to the model."""

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
        """Say in words what it was trained on, up to which limit, and for how long."""
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
    """The mean of the teachers beside a distilled model, on rows that a teacher has answered."""

    num_teachers: int
    agreement: float
    """Share of the rows with the same prediction."""
    agreement_low: float
    """Lower end of the exact 95 % interval."""
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
        rows = rows.take(pa.array(spread(len(rows), MAX_ROWS)))
        began, chosen = time.monotonic(), spread(len(label), MAX_TRAIN_ROWS)
        prediction, c = predict(
            text.take(pa.array(chosen)), label[chosen], rows["text"].combine_chunks()
        )
    except UserError as error:
        return [], str(error)
    return [
        Baseline.of(
            predicted_of(rows),
            prediction,
            name=_NAME,
            num_train_rows=len(chosen),
            num_train_rows_in_all=len(label),
            max_train_rows=MAX_TRAIN_ROWS,
            c=c,
            seconds=time.monotonic() - began,
        )
    ], ""


def measure_folds(answers: pa.Table, measured: np.ndarray, scored: Manifest) -> list[Baseline]:
    """Train it on all folds but one and measure it on that one, for each.

    Args:
        answers: Of the models of the folds, as their training has written them.
        measured: Which of these rows are measured, bool; the others are only learned.
        scored: Manifest of the predictions.

    Returns:
        The baseline, if the texts are there and every fold leaves enough of them.
    """
    began, chosen = time.monotonic(), spread(len(answers), MAX_TRAIN_ROWS)
    rows, measured = answers.take(pa.array(chosen)), measured[chosen]
    label, fold = (rows[name].to_numpy() for name in ("label", "fold"))
    prediction, c = label.copy(), 0.0
    try:
        texts = pa.concat_tables(_read_prepared(scored, lineage.TWEETS, ["row_id", "text"])[1])
        place = pc.index_in(one_array(rows["row_id"]), value_set=one_array(texts["row_id"]))
        text = one_array(texts["text"]).take(place)
        for asked in (fold == each for each in np.unique(fold)):
            prediction[asked], c = predict(
                text.filter(pa.array(~asked)), label[~asked], text.filter(pa.array(asked))
            )
    except UserError:
        return []
    return [
        Baseline.of(
            predicted_of(rows.filter(pa.array(measured))),
            prediction[measured],
            name=f"{_NAME} over the same folds",
            num_train_rows=int((fold != fold[0]).sum()),
            num_train_rows_in_all=len(answers),
            max_train_rows=MAX_TRAIN_ROWS,
            c=c,
            seconds=time.monotonic() - began,
        )
    ]


def _read_train_rows(scored: Manifest) -> tuple[pa.Array, np.ndarray]:
    """Read the labelled train texts of the model's classes.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    prepared, tables = _read_prepared(scored, _TRAIN, ["text", "label"])
    classes, names = lineage.classes_of_model(scored), manifest.find_classes(prepared)
    code = np.array([classes.index(n) if n in classes else -1 for n in names], np.int64)
    learned = [n for n, name in enumerate(names) if name in classes]
    rows = pa.concat_tables(table.filter(pc.field("label").isin(learned)) for table in tables)
    return rows["text"].combine_chunks(), code[rows["label"].to_numpy()]


def _read_prepared(
    scored: Manifest, folders: tuple[str, ...], columns: list[str]
) -> tuple[Manifest, Iterator[pa.Table]]:
    """Read columns of the data of the model's training; of a refit all rows that it learned.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    training = lineage.training_of(scored["inputs"]["model"])
    prepared = manifest.read_input(training["inputs"], "prepared") if training else None
    if not training or not prepared:
        raise UserError("the texts that the model was trained on are gone")
    folders = lineage.folders_of(training) if "refit" in training else folders
    return prepared, lineage.read_tables(
        training["inputs"]["prepared"]["uri"], prepared, folders, columns
    )


def predict(text: pa.Array, label: np.ndarray, further: pa.Array) -> tuple[np.ndarray, float]:
    """Train on labelled texts, and predict the labels of further texts.

    Returns:
        The predictions, and ``C``.

    Raises:
        UserError: There are too few texts, they have one label, or no n-gram is in two of them.
    """
    if len(label) < MIN_ROWS:
        raise UserError(f"only {len(label)} texts of the train split are labelled")
    if len(np.unique(label)) < 2:
        raise UserError("the texts of the train split have one label")
    features, features_of_further = _weigh(text, further)
    c = _choose_c(features, label)
    model = _make_model(_TOLERANCE).set_params(C=c).fit(features, label)
    return model.predict(features_of_further), c


def _make_model(tolerance: float) -> "LogisticRegression":
    """Make a model that is not fitted yet, with a solver that needs no copy in float64."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="saga", tol=tolerance, max_iter=1000, random_state=0)


def _choose_c(features: "csr_matrix", label: np.ndarray) -> float:
    """Choose ``C`` by the accuracy in cross-validation on some of the train rows.

    Classes with fewer rows than folds are left out of the choice.
    """
    from sklearn.model_selection import GridSearchCV

    some = spread(len(label), _MAX_CHOICE_ROWS)
    some = some[np.bincount(label[some])[label[some]] >= _NUM_FOLDS]
    if len(np.unique(label[some])) < 2:
        return _C[1]
    search = GridSearchCV(_make_model(_TOLERANCE_OF_CHOICE), {"C": _C}, cv=_NUM_FOLDS, refit=False)
    return search.fit(features[some], label[some]).best_params_["C"]


def _weigh(text: pa.Array, further: pa.Array) -> "tuple[csr_matrix, csr_matrix]":
    """Weigh the n-grams of texts by TF-IDF, and those of further texts by the same weights.

    Words and characters are scaled each by themselves: there are ten times as many characters.

    Raises:
        UserError: No n-gram is in two of the texts.
    """
    from scipy.sparse import hstack, vstack
    from sklearn.feature_extraction.text import TfidfTransformer

    weighed, weighed_further = [], []
    for kind in _NGRAMS:
        blocks = list(_count(text, kind))
        common = np.flatnonzero(sum(block.getnnz(axis=0) for block in blocks) >= 2)
        if not len(common):
            continue
        counts = vstack([block[:, common] for block in blocks], format="csr")
        tfidf = TfidfTransformer(sublinear_tf=True).fit(counts)
        weighed.append(tfidf.transform(counts, copy=False))
        of_further = [tfidf.transform(block[:, common]) for block in _count(further, kind)]
        weighed_further.append(vstack(of_further))
    if not weighed:
        raise UserError("the texts of the train split have no word or characters in common")
    return hstack(weighed, format="csr"), hstack(weighed_further, format="csr")


def _count(text: pa.Array, kind: Mapping[str, Any]) -> "Iterator[csr_matrix]":
    """Count the n-grams of each text, by their hashes: no dictionary of all n-grams is needed."""
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
        The comparison, if the model is distilled and no average; or why there is none.
    """
    model = scored["inputs"]["model"]
    training = lineage.training_of(model)
    if training is None or "taught" not in training or "members" in model:
        return None, ""
    if not lineage.is_of_training(scored, training):
        return None, "the teachers have answered the rows of the model's own prepared data alone"
    try:
        answers = _read_answers(training["taught"], split)
    except UserError as error:
        return None, str(error)
    place = pc.index_in(one_array(rows["row_id"]), value_set=one_array(answers["row_id"]))
    rows, place = rows.filter(place.is_valid()), place.drop_null()
    if not len(rows):
        return None, "no teacher has answered one of these texts"
    teacher = one_array(answers["teacher"]).take(place).flatten().to_numpy().reshape(len(rows), -1)
    prediction = teacher.argmax(axis=1)
    if teacher.shape[1] == 2:  # as Scores.prediction
        prediction = (teacher[:, 1] >= 0.5).astype(np.int64)
    predicted = predicted_of(rows)
    num_alike = int((prediction == predicted.prediction).sum())
    low, high = share_interval(num_alike, len(rows))
    return TeacherComparison.of(
        predicted,
        prediction,
        num_teachers=sum(name.startswith(TEACHER) for name in training["inputs"]),
        agreement=num_alike / len(rows),
        agreement_low=low,
        agreement_high=high,
    ), ""


def _read_answers(taught: Mapping[str, Any], split: str) -> pa.Table:
    """Read the answers to the rows of a split.

    Raises:
        UserError: They are gone, or were redone.
    """
    record = manifest.read(taught["uri"])
    if record is None or record["fingerprint"] != taught["fingerprint"]:
        raise UserError("the answers of the teachers are gone or were redone")
    folder = (f"split={split}/",) if split in SPLITS[1:] else ()
    tables = lineage.read_tables(taught["uri"], record, folder, HELD_OUT.names)
    read = [HELD_OUT.empty_table(), *(table.cast(HELD_OUT) for table in tables)]
    return pa.concat_tables(read).combine_chunks()
