"""The predictions for some texts, and a summary of them; torch is not imported."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data.schema import BINARY
from sentiflow.models.drift import LENGTH_EDGES, NUM_PROBABILITY_BINS, Profile

_POSITIVE = BINARY[1]


@dataclass(frozen=True)
class Scores:
    """The predictions for N texts by a model of C classes."""

    probabilities: np.ndarray
    """Probability of each class, (N, C) float32; each row sums to 1."""
    classes: tuple[str, ...]
    """Names of the C classes."""
    num_tokens: np.ndarray
    """Known words of each text, int32; a text with 0 gets the class priors. It is at least 1 if a
    linear model knows some of the characters."""
    lengths: np.ndarray
    """Tokens of each text, known or not, int64."""
    num_unknown: np.ndarray
    """Tokens out of the vocabulary, int32."""
    threshold: float | None = None
    """The confidence up to which a prediction is unsure; None: the model promises nothing."""

    @property
    def unsure(self) -> np.ndarray | None:
        """Which texts are left to people, (N,) bool: also those without a known word."""
        if self.threshold is None:
            return None
        return (self.confidence <= self.threshold) | (self.num_tokens == 0)

    @property
    def prediction(self) -> np.ndarray:
        """The most probable class, a position in ``classes``, (N,) int8.

        Of two classes with a probability of one half it is the second, such as positive.
        """
        if len(self.classes) == 2:
            return (self.probabilities[:, 1] >= 0.5).astype(np.int8)
        return self.probabilities.argmax(axis=1).astype(np.int8)

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
        """The columns of predictions that depend on the texts alone, as arrays, in order."""
        labels = pa.array(self.classes, pa.string()).take(pa.array(self.prediction))
        probability = {} if self.probability is None else {"probability": self.probability}
        by_class = {
            f"probability_{name}": self.probabilities[:, number]
            for number, name in enumerate(self.classes)
        }
        confidence = {"predicted_label": labels, "confidence": self.confidence}
        return {**confidence, **probability, **by_class, **self._last_columns}

    def top(self, number: int) -> dict[str, Any]:
        """The columns of the most probable classes of each text, at most ``number`` of them."""
        ranked = self.probabilities.copy()
        ranked[np.arange(len(ranked)), self.prediction] = np.inf  # also before an equal one
        order = np.argsort(-ranked, axis=1, kind="stable")
        columns: dict[str, Any] = {}
        for place in range(min(number, len(self.classes))):
            codes, end = order[:, place], f"_{place + 1}" if place else ""
            names = pa.array(self.classes, pa.string()).take(pa.array(codes))
            columns[f"label{end}" if place else "predicted_label"] = names
            columns[f"confidence{end}"] = self.probabilities[np.arange(len(codes)), codes]
        return columns | self._last_columns

    @property
    def _last_columns(self) -> dict[str, Any]:
        unsure = {} if self.unsure is None else {"unsure": self.unsure}
        return {"num_tokens": self.num_tokens, **unsure}

    def profile(self, label: np.ndarray | None = None, names: Sequence[str] = ()) -> Profile:
        """Count the texts as the model sees them.

        Args:
            label: N positions in ``names``; others stand for no label.
            names: Names of the labels, first those of the C classes.
        """
        is_two, predicted = len(self.classes) == 2, self.predicted
        probability = self.probabilities[:, 1] if is_two else self.probabilities.max(axis=1)
        by_length = np.searchsorted(LENGTH_EDGES, self.lengths, side="right") - 1
        by_tenth = np.minimum(probability * NUM_PROBABILITY_BINS, NUM_PROBABILITY_BINS - 1)
        return Profile(
            rows=len(self.lengths),
            tokens=int(self.lengths.sum()),
            unknown_tokens=int(self.num_unknown.sum()),
            positive=predicted[_POSITIVE] if self.classes == BINARY else 0,
            lengths=tuple(np.bincount(by_length, minlength=len(LENGTH_EDGES)).tolist()),
            probabilities=tuple(
                np.bincount(by_tenth.astype(np.int64), minlength=NUM_PROBABILITY_BINS).tolist()
            ),
            predicted={} if self.classes == BINARY else predicted,
            confusion={} if label is None else _cross(label, self.prediction, names),
        )

    @classmethod
    def join(cls, scores: Sequence["Scores"]) -> "Scores":
        """Concatenate the predictions of one model for several lists of texts."""
        columns = {n: np.concatenate([getattr(part, n) for part in scores]) for n in _COLUMNS}
        return cls(classes=scores[0].classes, threshold=scores[0].threshold, **columns)

    def take(self, chosen: np.ndarray | slice) -> "Scores":
        """Choose the predictions of some texts."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})


_COLUMNS = tuple(f.name for f in fields(Scores) if f.name not in ("classes", "threshold"))


def _cross(
    label: np.ndarray, prediction: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, int]]:
    is_labelled = (label >= 0) & (label < len(names))
    pairs, counts = np.unique(
        np.stack([label[is_labelled], prediction[is_labelled]]), axis=1, return_counts=True
    )
    confusion: dict[str, dict[str, int]] = {}
    for (one, other), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        confusion.setdefault(names[one], {})[names[other]] = count
    return confusion
