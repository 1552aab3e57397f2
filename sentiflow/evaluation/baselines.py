"""Train texts and evaluated rows -> what simple models reach on the same rows."""

import time
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import predicted_of, spread
from sentiflow.metrics import paired
from sentiflow.metrics.classification import macro_f1
from sentiflow.metrics.predicted import Predicted

MAX_ROWS = 50_000
"""Rows that the baseline is trained on, and measured on, at most: spread over all rows."""
MIN_ROWS = 50
"""With fewer train rows there is no baseline."""

_TRAIN = ("tweets/split=train/",)


TFIDF = "TF-IDF with logistic regression"


@dataclass(frozen=True)
class Beside:
    """Another model beside the model; differences are the model's metric minus the other's."""

    num_rows: int
    """Rows that both models are measured on."""
    accuracy: float
    f1_macro: float | None
    accuracy_of_model: float
    f1_macro_of_model: float | None
    accuracy_difference: paired.Difference
    f1_macro_difference: paired.Difference | None

    @classmethod
    def of(cls, predicted: Predicted, prediction: np.ndarray, **further: Any) -> Self:
        """Compare a model with the predictions of another one for the same rows."""
        label, size = predicted.label, len(predicted.classes)
        right = prediction == label
        return cls(
            len(label),
            float(right.mean()),
            macro_f1(label, prediction, num_labels=size),
            float(predicted.right.mean()),
            macro_f1(label, predicted.prediction, num_labels=size),
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
class Baseline(Beside):
    """A simple model beside the model."""

    name: str
    num_train_rows: int
    num_train_rows_in_all: int
    seconds: float

    @property
    def verdict(self) -> str:
        """Say in words whether the model is better."""
        points = abs(100 * self.accuracy_difference.value)
        low, high = (100 * end for end in (self.accuracy_difference.low,
                                           self.accuracy_difference.high))  # fmt: skip
        interval = f"95% interval of the difference {low:+.1f} to {high:+.1f}"
        if low > 0:
            return f"the model is {points:.1f} points better ({interval})"
        if high < 0:
            return f"the model is {points:.1f} points worse ({interval})"
        return f"the model is not shown to be any better ({interval})"


def measure(rows: pa.Table, scored: Manifest) -> tuple[list[Baseline], str]:
    """Train TF-IDF with logistic regression on the model's train rows, and measure it.

    Words and pairs of words, as scikit-learn takes them from a text; the most frequent label is the
    other baseline, which needs no training: see ``Metrics.most_frequent``.

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
        return [_train(text, label, rows.take(pa.array(spread(len(rows), MAX_ROWS))))], ""
    except UserError as error:
        return [], str(error)


def _read_train_rows(scored: Manifest) -> tuple[pa.Array, np.ndarray]:
    """Read the labelled train texts of the model's classes.

    Raises:
        UserError: They are gone, or a file is damaged.
    """
    training = lineage.training_of(scored)
    prepared = manifest.read_input(training["inputs"], "prepared") if training else None
    if not training or not prepared:
        raise UserError("the texts that the model was trained on are gone")
    tables = lineage.read_tables(
        training["inputs"]["prepared"]["uri"],
        prepared,
        lineage.folders_of(training) if "refit" in training else _TRAIN,
        columns=["text", "label"],
        hint="prepare again with sentiflow prepare CONFIG --overwrite",
    )
    classes, names = lineage.classes_of_model(scored), manifest.find_classes(prepared)
    code = np.array([classes.index(n) if n in classes else -1 for n in names], np.int64)
    known = [n for n, name in enumerate(names) if name in classes]
    chosen = (table.filter(pc.field("label").isin(known)) for table in tables)
    rows = pa.concat_tables(chosen).combine_chunks()
    return rows["text"].combine_chunks(), code[rows["label"].to_numpy()]


def _train(text: pa.Array, label: np.ndarray, rows: pa.Table) -> Baseline:
    """Train and measure.

    Raises:
        UserError: There are too few texts, they have one label, or no word is in two of them.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if len(label) < MIN_ROWS:
        raise UserError(f"only {len(label)} texts of the train split are labelled")
    if len(np.unique(label)) < 2:
        raise UserError("the texts of the train split have one label")
    began, chosen = time.monotonic(), spread(len(label), MAX_ROWS)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    try:
        features = vectorizer.fit_transform(text.take(pa.array(chosen)).to_pylist())
    except ValueError as error:
        raise UserError("the texts of the train split have no word in common") from error
    # a stochastic solver at a low tolerance: as accurate as the default one, in a tenth of the time
    model = LogisticRegression(C=5, solver="saga", tol=1e-2, random_state=0)
    model.fit(features, label[chosen])
    prediction = model.predict(vectorizer.transform(rows["text"].to_pylist()))
    return Baseline.of(
        predicted_of(rows),
        prediction,
        name=TFIDF,
        num_train_rows=len(chosen),
        num_train_rows_in_all=len(label),
        seconds=time.monotonic() - began,
    )
