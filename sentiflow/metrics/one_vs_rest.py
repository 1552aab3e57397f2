"""Confusion matrix -> precision, recall and F1 of each class against all others."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True)
class OneVsRest:
    """Counts of each of C classes against all others; each field is an array of C entries.

    Precision, recall and F1: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.

    Example:
        >>> rows = OneVsRest.of(np.array([[40, 10], [20, 30]]))
        >>> rows.precision.round(4).tolist(), rows.recall.tolist(), rows.f1.round(4).tolist()
        ([0.6667, 0.75], [0.8, 0.6], [0.7273, 0.6667])
    """

    num_rows: np.ndarray
    """Rows of all classes."""
    labelled: np.ndarray
    """Rows that have the label."""
    predicted: np.ndarray
    """Rows that have the prediction."""
    right: np.ndarray
    """Rows that have both the label and the prediction."""
    area: np.ndarray
    """Area under the ROC curve of the class against the others; NaN where it is undefined."""

    @classmethod
    def of(cls, confusion: np.ndarray, area: np.ndarray | None = None) -> Self:
        """Count the rows of each class, given a confusion matrix ``(C, C)``.

        Args:
            confusion: Rows by label and prediction.
            area: The area of each class. Default: all are undefined.
        """
        labelled = confusion.sum(axis=1)
        return cls(
            num_rows=np.full_like(labelled, confusion.sum()),
            labelled=labelled,
            predicted=confusion.sum(axis=0),
            right=np.diagonal(confusion),
            area=np.full(len(confusion), np.nan) if area is None else area,
        )

    def divide_by(self, factor: np.ndarray) -> "OneVsRest":
        """Divide the counts of each class by a factor: dependent rows count as fewer rows."""
        return replace(
            self,
            labelled=self.labelled / factor,
            predicted=self.predicted / factor,
            right=self.right / factor,
        )

    @property
    def precision(self) -> np.ndarray:
        """The share of the rows with the prediction that have the label."""
        return divide(self.right, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """The share of the rows with the label that have the prediction."""
        return divide(self.right, self.labelled)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall."""
        return divide(2 * self.right, self.predicted + self.labelled)


def divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide counts; the result is NaN where both are 0."""
    with np.errstate(invalid="ignore"):
        return part / whole
