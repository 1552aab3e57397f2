"""Labelled rows and a model's predictions for them: the input of all metrics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sentiflow.config.class_names import BINARY
from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.roc_area import measure_area
from sentiflow.metrics.row_ranges import row_ranges

PROBABILITY_FLOOR = 1e-7
"""The log loss clips probabilities to this distance from 0 and 1."""


@dataclass(frozen=True)
class Columns:
    """Probabilities of N rows as a column for each of C classes; they are joined part by part."""

    of_class: Sequence[np.ndarray]
    """C arrays of N probabilities."""

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Join the columns of some rows, ``(rows, C)``."""
        return np.stack([column[rows] for column in self.of_class], axis=1)


@dataclass(frozen=True)
class Predicted:
    """N labelled rows and the predictions of a model of C classes for them; N is at least 1.

    Example:
        >>> rows = Predicted(
        ...     classes=("a", "b", "c"),
        ...     label=np.array([0, 1, 2]),
        ...     prediction=np.array([0, 1, 1]),
        ...     probabilities=np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.0, 0.6, 0.4]]),
        ... )
        >>> rows.confusion.tolist(), rows.right.tolist(), rows.confidence.tolist()
        ([[1, 0, 0], [0, 1, 0], [0, 1, 0]], [True, True, False], [0.8, 0.5, 0.6])
        >>> rows.log_losses.round(4).tolist()  # -ln 0.8, -ln 0.5, -ln 0.4
        [0.2231, 0.6931, 0.9163]
        >>> rows.squared_errors.round(4).tolist()  # 0.2² + 0.1² + 0.1², and so on
        [0.06, 0.38, 0.72]
    """

    classes: tuple[str, ...]
    label: np.ndarray
    """N positions in ``classes``."""
    prediction: np.ndarray
    """N positions in ``classes``; they need not be the most probable classes."""
    probabilities: np.ndarray | Columns
    """``(N, C)``; or ``(N, 1)``, the probability of positive, for negative and positive. A part of
    the rows, see :meth:`parts`, always has an array."""
    groups: RowGroups | None = None
    """Groups of rows that depend on each other: intervals and tests are by group. None: the rows
    are independent."""
    class_values: tuple[float, ...] | None = None
    """The numbers of ordered classes, NaN where one is unknown; None: they have no order."""

    @classmethod
    def of_positive(
        cls,
        *,
        label: np.ndarray,
        probability: np.ndarray,
        prediction: np.ndarray,
        groups: RowGroups | None = None,
    ) -> "Predicted":
        """Make the rows of a model of negative and positive from its probability of positive."""
        return cls(BINARY, label, prediction, np.asarray(probability)[:, None], groups)

    def parts(self) -> Iterator[tuple[slice, "Predicted"]]:
        """Divide the rows into parts, without groups, to save memory for temporary arrays.

        Yields:
            The range of the rows, and the part.
        """
        for rows in row_ranges(len(self.label), num_columns=len(self.classes)):
            part = Predicted(
                self.classes,
                self.label[rows],
                self.prediction[rows],
                self.probabilities[rows],
                class_values=self.class_values,
            )
            yield rows, part

    def take(self, rows: np.ndarray) -> "Predicted":
        """Return a few of the rows, given by positions, without groups."""
        columns = [column[rows] for column in self._columns]
        return Predicted(
            self.classes,
            self.label[rows],
            self.prediction[rows],
            np.stack(columns, axis=1),
            class_values=self.class_values,
        )

    @property
    def _columns(self) -> Sequence[np.ndarray]:
        """List the columns of the probabilities."""
        if isinstance(self.probabilities, Columns):
            return self.probabilities.of_class
        return list(self.probabilities.T)

    def column(self, code: int) -> np.ndarray:
        """Return the probability of a class, given its position in ``classes``."""
        columns = self._columns
        if len(columns) == len(self.classes):
            return columns[code]
        return columns[0] if code else 1 - columns[0].astype(np.float64)

    @property
    def matrix(self) -> np.ndarray:
        """Return the probabilities of all classes of a part, ``(N, C)``."""
        columns = [self.column(code) for code in range(len(self.classes))]
        return np.stack(columns, axis=1)

    def _choose(self, codes: np.ndarray) -> np.ndarray:
        """Return the probability of one class of each row of a part, as float64.

        Args:
            codes: The position of the class of each row.
        """
        assert isinstance(self.probabilities, np.ndarray), "these are the rows of a part"
        if self.probabilities.shape[1] == len(self.classes):
            return self.probabilities[np.arange(len(codes)), codes].astype(np.float64)
        positive = self.probabilities[:, 0].astype(np.float64)
        return np.where(codes == 1, positive, 1 - positive)

    def compute(self, values: Callable[["Predicted"], np.ndarray]) -> np.ndarray:
        """Compute a float64 of each row, part by part."""
        computed = np.empty(len(self.label))
        for rows, part in self.parts():
            computed[rows] = values(part)
        return computed

    @property
    def no_interval(self) -> str:
        """Say why the rows give no interval; empty if they give one."""
        return self.groups.no_interval if self.groups else ""

    def factor(self, effects: Callable[[], np.ndarray], rows: np.ndarray | None = None) -> float:
        """Return the factor by which the groups widen the variance of a metric; 1 without groups.

        Args:
            effects: Returns what each row adds to the metric. It is not called without groups.
            rows: The rows that the effects belong to. Default: all.
        """
        if self.groups is None:
            return 1.0
        groups = self.groups if rows is None else self.groups.take(rows)
        return groups.factor(effects())

    def among(self, classes: tuple[str, ...]) -> "Predicted":
        """Return the rows as positions in ``classes``: the model's classes, and possibly more.

        The order of the classes may be another one, so they have no numbers any more.
        """
        if classes == self.classes:
            return self
        code = np.array([classes.index(name) for name in self.classes], np.int8)
        probabilities = np.zeros((len(self.label), len(classes)), np.float32)
        for column in range(len(code)):
            probabilities[:, code[column]] = self.column(column)
        return Predicted(
            classes, code[self.label], code[self.prediction], probabilities, self.groups
        )

    @property
    def confusion(self) -> np.ndarray:
        """Count rows by label and prediction: ``(C, C)``."""
        return count_confusion(self.label, self.prediction, num_labels=len(self.classes))

    @property
    def is_binary(self) -> bool:
        """Whether the classes are negative and positive."""
        return self.classes == BINARY

    @property
    def positive(self) -> np.ndarray:
        """Return the probability of positive, of a model of negative and positive."""
        return self._columns[-1]

    @property
    def right(self) -> np.ndarray:
        """Whether each prediction is right."""
        return np.asarray(self.prediction == self.label)

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of each prediction, see :attr:`of_prediction`.

        With negative and positive it is the larger of the two probabilities, whatever the threshold
        predicts.
        """
        if self.is_binary:
            return self.compute(lambda part: 0.5 + np.abs(np.float64(part.positive) - 0.5))
        return self.of_prediction

    @property
    def of_prediction(self) -> np.ndarray:
        """Return the probability of each prediction; another class may be more probable."""
        return self.compute(lambda part: part._choose(part.prediction))

    @property
    def of_label(self) -> np.ndarray:
        """Return the probability of each label."""
        return self.compute(lambda part: part._choose(part.label))

    @property
    def outcome(self) -> np.ndarray:
        """Return what :attr:`probability` is about: positive labels, or right predictions."""
        return self.label if self.is_binary else self.right

    @property
    def probability(self) -> np.ndarray:
        """Return the probability of positive; with other classes, of each prediction."""
        return self.positive if self.is_binary else self.confidence

    @cached_property
    def areas(self) -> list[float | None]:
        """Measure the area under the ROC curve of each class against the others.

        See :func:`roc_area.measure_area`. None where no row, or every row, has the label.
        """
        if self.is_binary:  # both classes have the same area
            return [measure_area(self.positive, self.label == 1)] * 2
        return [measure_area(p, self.label == code) for code, p in enumerate(self._columns)]

    @property
    def log_losses(self) -> np.ndarray:
        """Return -ln(probability of the label) of each row, clipped at ``PROBABILITY_FLOOR``.

        The logarithmic score of I. J. Good, "Rational decisions", Journal of the Royal Statistical
        Society B 14 (1952).
        """
        return self.compute(
            lambda part: (
                -np.log(part._choose(part.label).clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
            )
        )

    @property
    def squared_errors(self) -> np.ndarray:
        """Return (probability of positive - label)² of each row.

        With other classes, the sum of the squares over all classes, as in G. W. Brier,
        "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
        (1950). With p the probabilities and q the probability of the label, it is Σ p² - 2 q + 1.
        """
        if self.is_binary:
            return self.compute(lambda part: np.square(np.float64(part.positive) - part.label))

        def add_squares(part: Predicted) -> np.ndarray:
            p = part.matrix
            squares = np.einsum("nc,nc->n", p, p, dtype=np.float64)
            return np.asarray(squares - 2 * part._choose(part.label) + 1)

        return self.compute(add_squares)


def count_confusion(label: np.ndarray, prediction: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Count rows by label and prediction: ``(num_labels, num_labels)``.

    scikit-learn's function takes a second for a million rows.

    Example:
        >>> count_confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), num_labels=2).tolist()
        [[1, 1], [0, 1]]
    """
    counts = np.zeros(num_labels**2, np.int64)
    for rows in row_ranges(len(label)):
        cells = np.int64(label[rows]) * num_labels + prediction[rows]
        counts += np.bincount(cells, minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels)
