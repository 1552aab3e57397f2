"""The predictions for some texts, and a summary of them.

This module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data.ratings import average_values, find_medians
from sentiflow.data.schema import BINARY
from sentiflow.models.profile import LENGTH_EDGES, NUM_PROBABILITY_BINS, Profile

_POSITIVE = BINARY[1]


@dataclass(frozen=True)
class Scores:
    """The predictions for N texts by a model of C classes."""

    probabilities: np.ndarray
    """Probability of each class, (N, C) float32; each row sums to 1."""
    classes: tuple[str, ...]
    """Names of the C classes."""
    num_tokens: np.ndarray
    """Known words of each text, int32; at least 1 if a linear model knows some of the characters. A
    text without a known word (0) gets the class priors."""
    lengths: np.ndarray
    """Tokens of each text, known or not, int64."""
    num_unknown: np.ndarray
    """Tokens out of the vocabulary, int32."""
    class_values: tuple[float, ...] | None = None
    """The numbers of ordered classes; None: the classes have no order."""
    threshold: float | None = None
    """The confidence up to which a prediction is unsure; None: no prediction is unsure."""

    @property
    def unsure(self) -> np.ndarray | None:
        """Which texts are left to people, (N,) bool; texts without a known word always are."""
        if self.threshold is None:
            return None
        return (self.confidence <= self.threshold) | (self.num_tokens == 0)

    @property
    def prediction(self) -> np.ndarray:
        """The most probable class of each text, see :func:`choose_classes`."""
        return choose_classes(self.probabilities)

    @property
    def expected_rating(self) -> np.ndarray | None:
        """The mean of the numbers of the classes, weighed by their probabilities, (N,) float32.

        None if the classes have no order.
        """
        if self.class_values is None:
            return None
        return average_values(self.probabilities, self.class_values).astype(np.float32)

    @property
    def median(self) -> np.ndarray:
        """The median class of each text, see :func:`find_medians`."""
        return find_medians(self.probabilities)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the prediction, (N,) float32."""
        return self.probabilities[np.arange(len(self.prediction)), self.prediction]

    @property
    def probability(self) -> np.ndarray | None:
        """Probability of positive, (N,) float32; None if the model has no such class."""
        if _POSITIVE not in self.classes:
            return None
        return np.ascontiguousarray(self.probabilities[:, self.classes.index(_POSITIVE)])

    @property
    def predicted(self) -> dict[str, int]:
        """Number of texts predicted to be of each class."""
        numbers = np.bincount(self.prediction, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, numbers, strict=True))

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a table of predictions, without columns of the corpus, in order."""
        columns: dict[str, Any] = {
            "predicted_label": self._name_classes(self.prediction),
            "confidence": self.confidence,
        }
        if self.probability is not None:
            columns["probability"] = self.probability
        for number, name in enumerate(self.classes):
            columns[f"probability_{name}"] = self.probabilities[:, number]
        return columns | self._last_columns

    def top(self, number: int) -> dict[str, Any]:
        """The columns of predictions with the ``number`` most probable classes of each text."""
        rows = np.arange(len(self.probabilities))
        ranked = self.probabilities.copy()
        ranked[rows, self.prediction] = np.inf  # first even if another class is as probable
        order = np.argsort(-ranked, axis=1, kind="stable")
        columns: dict[str, Any] = {}
        for place in range(min(number, len(self.classes))):
            label = "predicted_label"
            confidence = "confidence"
            if place > 0:
                label = f"label_{place + 1}"
                confidence = f"confidence_{place + 1}"
            codes = order[:, place]
            columns[label] = self._name_classes(codes)
            columns[confidence] = self.probabilities[rows, codes]
        return columns | self._last_columns

    def _name_classes(self, codes: np.ndarray) -> pa.Array:
        """Return the names of the classes at these positions."""
        return pa.array(self.classes, pa.string()).take(pa.array(codes))

    @property
    def _last_columns(self) -> dict[str, Any]:
        """The columns after the classes; they do not depend on how many classes are named."""
        columns: dict[str, Any] = {}
        if self.class_values is not None:
            columns["expected_rating"] = self.expected_rating
            columns["median_label"] = self._name_classes(self.median)
        columns["num_tokens"] = self.num_tokens
        if self.unsure is not None:
            columns["unsure"] = self.unsure
        return columns

    def profile(self, label: np.ndarray | None = None, names: Sequence[str] = ()) -> Profile:
        """Count the texts by length, by probability, by prediction and by label, for drift.

        Args:
            label: N positions in ``names``; other numbers stand for no label. None: no
                text has a label.
            names: Names of the labels: the C classes, and then labels that the model does not know.
        """
        is_binary = self.classes == BINARY
        if len(self.classes) == 2:
            probability = self.probabilities[:, 1]
        else:
            probability = self.probabilities.max(axis=1)
        length_bin = np.searchsorted(LENGTH_EDGES, self.lengths, side="right") - 1
        probability_bin = np.minimum(probability * NUM_PROBABILITY_BINS, NUM_PROBABILITY_BINS - 1)
        return Profile(
            rows=len(self.lengths),
            tokens=int(self.lengths.sum()),
            unknown_tokens=int(self.num_unknown.sum()),
            positive=self.predicted[_POSITIVE] if is_binary else 0,
            lengths=_count_bins(length_bin, len(LENGTH_EDGES)),
            probabilities=_count_bins(probability_bin.astype(np.int64), NUM_PROBABILITY_BINS),
            predicted={} if is_binary else self.predicted,
            confusion={} if label is None else _count_confusion(label, self.prediction, names),
        )

    @classmethod
    def join(cls, scores: Sequence["Scores"]) -> "Scores":
        """Concatenate the predictions of one model for several lists of texts."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in scores]) for name in _COLUMNS
        }
        first = scores[0]
        return cls(
            classes=first.classes,
            class_values=first.class_values,
            threshold=first.threshold,
            **columns,
        )

    def take(self, chosen: np.ndarray | slice) -> "Scores":
        """Choose the predictions of some texts."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})


_COLUMNS = ("probabilities", "num_tokens", "lengths", "num_unknown")
"""Fields of :class:`Scores` with a value for each text."""


def _count_bins(bins: np.ndarray, number: int) -> tuple[int, ...]:
    """Count the rows in each bin, given the bin of each row."""
    return tuple(np.bincount(bins, minlength=number).tolist())


def _count_confusion(
    label: np.ndarray, prediction: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count the labelled rows by label, then by prediction; only pairs that occur."""
    is_labelled = (label >= 0) & (label < len(names))
    pairs, counts = np.unique(
        np.stack([label[is_labelled], prediction[is_labelled]]), axis=1, return_counts=True
    )
    confusion: dict[str, dict[str, int]] = {}
    for (of_label, of_prediction), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        by_prediction = confusion.setdefault(names[of_label], {})
        by_prediction[names[of_prediction]] = count
    return confusion


def choose_classes(probabilities: np.ndarray) -> np.ndarray:
    """Choose the most probable class of each text, as a position among the classes: (N,) int8.

    If both of two classes have a probability of one half, it is the second, such as positive.

    Args:
        probabilities: ``(N, C)``.
    """
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= 0.5).astype(np.int8)
    return probabilities.argmax(axis=1).astype(np.int8)
