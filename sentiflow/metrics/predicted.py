"""Labelled rows and what a model predicts for them: what metrics are computed from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sentiflow.config.class_names import BINARY
from sentiflow.metrics.one_vs_rest import OneVsRest

PROBABILITY_FLOOR = 1e-7
"""The log loss clips probabilities to this distance from 0 and 1."""


@dataclass(frozen=True)
class Predicted:
    """N labelled rows, and what a model of C classes predicts for them; N is at least 1."""

    classes: tuple[str, ...]
    label: np.ndarray
    """N positions in ``classes``."""
    prediction: np.ndarray
    """N positions, taken as they are, whatever threshold made them."""
    probabilities: np.ndarray
    """``(N, C)``."""

    @classmethod
    def of_positive(
        cls, *, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray
    ) -> "Predicted":
        """Take the probability of positive, of a model of negative and positive."""
        positive = np.asarray(probability, np.float64)
        return cls(BINARY, label, prediction, np.stack([1 - positive, positive], axis=1))

    def among(self, classes: tuple[str, ...]) -> "Predicted":
        """Number the classes as in ``classes``; others than the model's get a probability of 0."""
        if classes == self.classes:
            return self
        code = np.array([classes.index(name) for name in self.classes], np.int8)
        probabilities = np.zeros((len(self.label), len(classes)), np.float32)
        probabilities[:, code] = self.probabilities
        return Predicted(classes, code[self.label], code[self.prediction], probabilities)

    @property
    def confusion(self) -> np.ndarray:
        """Count rows by label and prediction: ``(C, C)``."""
        return count_confusion(self.label, self.prediction, num_labels=len(self.classes))

    @property
    def is_binary(self) -> bool:
        """Say whether the classes are negative and positive."""
        return self.classes == BINARY

    @property
    def positive(self) -> np.ndarray:
        """Return the probability of positive, of a model of negative and positive."""
        return self.probabilities[:, 1]

    @property
    def right(self) -> np.ndarray:
        """Say which predictions are right."""
        return np.asarray(self.prediction == self.label)

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of each prediction, as float64."""
        if self.is_binary:
            return np.asarray(0.5 + np.abs(self.positive - 0.5))
        return self.probabilities[np.arange(len(self.label)), self.prediction].astype(np.float64)

    @property
    def outcome(self) -> np.ndarray:
        """Return what ``probability`` is that of: positive labels, or right predictions."""
        return self.label if self.is_binary else self.right

    @property
    def probability(self) -> np.ndarray:
        """Return the probability of positive; with other classes that of the prediction."""
        return self.positive if self.is_binary else self.confidence

    @cached_property
    def areas(self) -> list[float | None]:
        """Measure the area under the ROC curve of each class against the others.

        None where no row, or every row, has the label.
        """
        if self.is_binary:  # each has the area of the other
            return [measure_area(self.positive, self.label == 1)] * 2
        return [measure_area(p, self.label == code) for code, p in enumerate(self.probabilities.T)]

    @property
    def log_losses(self) -> np.ndarray:
        """Return -ln(probability of the label) of each row, clipped at ``PROBABILITY_FLOOR``."""
        of_label = np.float64(self.probabilities[np.arange(len(self.label)), self.label])
        return -np.log(of_label.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))

    @property
    def squared_errors(self) -> np.ndarray:
        """Return the squared difference of probability of positive and label of each row.

        With other classes it is summed over them.
        """
        if self.is_binary:
            return np.square(np.float64(self.positive) - self.label)
        squares = np.einsum("nc,nc->n", self.probabilities, self.probabilities, dtype=np.float64)
        of_label = self.probabilities[np.arange(len(self.label)), self.label]
        return np.asarray(squares - 2 * np.float64(of_label) + 1)


def count_confusion(label: np.ndarray, prediction: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Count rows by label and prediction: ``(num_labels, num_labels)``.

    scikit-learn gets these counts instead of the rows, as it takes a second for a million rows.
    """
    cells = np.int64(label) * num_labels + prediction
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def macro_f1(confusion: np.ndarray) -> float | None:
    """Average the F1 of the classes that labels or predictions have, as scikit-learn does.

    Args:
        confusion: The counts of :func:`count_confusion`.

    Returns:
        None if there is none.
    """
    f1 = OneVsRest.of(confusion).f1
    return None if np.isnan(f1).all() else float(np.nanmean(f1))


def area_parts(probability: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give, for each positive row, the share of negative rows below it, and the reverse."""
    from scipy.stats import rankdata

    rank = rankdata(probability)
    above, below = rank[positive], rank[~positive]
    of_positive = (above - rankdata(probability[positive])) / len(below)
    of_negative = 1 - (below - rankdata(probability[~positive])) / len(above)
    return of_positive, of_negative


def measure_area(probability: np.ndarray, positive: np.ndarray) -> float | None:
    """Measure the area under the ROC curve, by ranks, so that no order of the rows matters.

    scikit-learn's takes four times as long, for each class.
    """
    from scipy.stats import rankdata

    num_positive = int(positive.sum())
    pairs = num_positive * (len(positive) - num_positive)
    wins = rankdata(probability)[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / pairs) if pairs else None
