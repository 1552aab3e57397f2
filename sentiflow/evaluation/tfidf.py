"""Labelled texts and other texts -> labels of the others, by logistic regression on TF-IDF."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.data.ratings import find_medians
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import choose_evenly

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

MIN_ROWS = 50
"""Fewer labelled texts are too few to train on."""
_NGRAMS = ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
"""What is counted, as options of ``HashingVectorizer``: words and pairs of words; and 2 to 5
neighboring characters of a word, which has a blank before and after it."""
_NUM_HASHES = 1 << 22
"""Number of columns into which n-grams are hashed. With fewer, the accuracy was lower
(benchmarks/LOG.md, 2026-11-29, a stronger baseline)."""
C_VALUES = (1.0, 3.0, 9.0)
"""Inverse strengths of the regularization (``C`` of the logistic regression) to choose from."""
_DEFAULT_C = C_VALUES[1]
"""``C`` where there are too few rows to choose it."""
_TOLERANCE = 0.02
"""Tolerance of the solver. Tolerances of 0.01 and 0.05 gave about the same accuracy on two corpora,
0.1 a lower one (same entry of benchmarks/LOG.md)."""
_TOLERANCE_OF_CHOICE = 0.1
"""Tolerance of the solver while ``C`` is chosen: only the order of the accuracies matters, and the
solver takes a fraction of the time."""
_NUM_FOLDS = 3
"""Folds of the cross-validation that chooses ``C``."""
_MAX_CHOICE_ROWS = 20_000
"""Maximum number of train rows in the cross-validation that chooses ``C``."""
_BLOCK_SIZE = 10_000
"""Number of texts whose n-grams are counted at a time; it bounds the memory."""


class TfidfAnswers(NamedTuple):
    """The labels of N texts, as positions among the classes."""

    prediction: np.ndarray
    """The most probable class of each text."""
    c: float
    """The ``C`` that was chosen."""
    median: np.ndarray | None
    """The median class of each text; None if the classes have no order."""


def predict(
    train_text: pa.Array,
    train_label: np.ndarray,
    test_text: pa.Array,
    *,
    class_values: Sequence[float] | None = None,
) -> TfidfAnswers:
    """Train on labelled texts, and predict the labels of other texts.

    Args:
        train_text: The labelled texts.
        train_label: Their labels, as positions among the classes.
        test_text: The other texts.
        class_values: The numbers of ordered classes, if they are ordered.

    Raises:
        UserError: There are fewer train texts than ``MIN_ROWS``, they all have the same label, or
            no n-gram is in two of them.
    """
    if len(train_label) < MIN_ROWS:
        raise UserError(
            f"only {len(train_label)} texts of the train split are labelled, fewer than {MIN_ROWS}"
        )
    if len(np.unique(train_label)) < 2:
        raise UserError("the texts of the train split have one label")
    train_features, test_features = _weigh(train_text, test_text)
    chosen_c = _choose_c(train_features, train_label)
    model = _make_model(_TOLERANCE).set_params(C=chosen_c).fit(train_features, train_label)
    median = None
    if class_values is not None:
        order = np.argsort(np.asarray(class_values)[model.classes_], kind="stable")
        places = find_medians(model.predict_proba(test_features)[:, order])
        median = model.classes_[order[places]]
    return TfidfAnswers(prediction=model.predict(test_features), c=chosen_c, median=median)


def _make_model(tolerance: float) -> "LogisticRegression":
    """Make an untrained logistic regression.

    Its solver, SAGA, does not copy the features to float64.
    """
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="saga", tol=tolerance, max_iter=1000, random_state=0)


def _choose_c(features: "csr_matrix", label: np.ndarray) -> float:
    """Choose ``C`` by the accuracy in cross-validation on some of the train rows.

    Classes with fewer rows than folds are left out, because each fold needs a row of each class. If
    fewer than two classes remain, ``C`` is ``_DEFAULT_C``.
    """
    from sklearn.model_selection import GridSearchCV

    rows = choose_evenly(len(label), _MAX_CHOICE_ROWS)
    num_rows_of_class = np.bincount(label[rows])
    rows = rows[num_rows_of_class[label[rows]] >= _NUM_FOLDS]
    if len(np.unique(label[rows])) < 2:
        return _DEFAULT_C
    model = _make_model(_TOLERANCE_OF_CHOICE)
    search = GridSearchCV(model, {"C": C_VALUES}, cv=_NUM_FOLDS, refit=False)
    search.fit(features[rows], label[rows])
    return search.best_params_["C"]


def _weigh(train_text: pa.Array, test_text: pa.Array) -> "tuple[csr_matrix, csr_matrix]":
    """Weigh n-grams by TF-IDF; n-grams that are in only one of the train texts are left out.

    The weights come from the train texts, also for the test texts.

    Words and characters are scaled separately: otherwise the n-grams of characters, which are ten
    times as many, would outweigh the words.

    Returns:
        The features of the train texts and of the test texts, a row for each text.

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
        train_features.append(tfidf.transform(counts, copy=False))  # in place, to save memory
        test_blocks = [tfidf.transform(block[:, common]) for block in _count(test_text, kind)]
        test_features.append(vstack(test_blocks))
    if not train_features:
        raise UserError("the texts of the train split have no word or characters in common")
    return hstack(train_features, format="csr"), hstack(test_features, format="csr")


def _count(text: pa.Array, kind: Mapping[str, Any]) -> "Iterator[csr_matrix]":
    """Count the n-grams of each text, block by block of texts.

    The column of an n-gram is its hash, which needs no dictionary of all n-grams.

    Args:
        text: N texts.
        kind: One of ``_NGRAMS``.

    Yields:
        The counts of ``_BLOCK_SIZE`` texts, a row for each text.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    counter = HashingVectorizer(
        n_features=_NUM_HASHES, alternate_sign=False, norm=None, dtype=np.float32, **kind
    )
    for start in range(0, len(text), _BLOCK_SIZE):
        yield counter.transform(text[start : start + _BLOCK_SIZE].to_pylist())
