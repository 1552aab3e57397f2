"""Labels and probabilities of positive -> average precision, and what each row adds to it."""

from dataclasses import dataclass

import numpy as np

from sentiflow.metrics.predicted import Predicted


@dataclass(frozen=True)
class AveragePrecision:
    """The average precision of positive, and the effect of each row on it.

    The K distinct probabilities of the positive rows, in rising order, divide the rows: a negative
    row counts at the positive rows with its probability or a lower one.

    Example:
        The precision at the three positive rows is 1, 1 and 3 / 4: the mean is 0.9167.

        >>> positive = np.array([0.1, 0.6, 0.5, 0.7, 0.9])
        >>> label = np.array([0, 0, 1, 1, 1])
        >>> rows = Predicted.of_positive(label=label, probability=positive, prediction=label)
        >>> found = AveragePrecision.of(rows)
        >>> round(found.value, 4), found.effects(rows).round(4).tolist()
        (0.9167, [0.0, -0.0625, -0.0347, 0.0486, 0.0486])
    """

    value: float
    num_positive: int
    distinct: np.ndarray
    """The K probabilities."""
    precision: np.ndarray
    """The precision among the rows with at least this probability, K."""
    of_positive: np.ndarray
    """What a positive row adds to the precisions at the positive rows with its or a lower
    probability, K."""
    of_all: np.ndarray
    """What each row takes from these precisions, K."""

    @classmethod
    def of(cls, predicted: Predicted) -> "AveragePrecision":
        """Measure the rows of negative and positive; at least one is positive."""
        positive = predicted.label == 1
        negatives = np.sort(predicted.positive[~positive])
        distinct, counts = np.unique(predicted.positive[positive], return_counts=True)
        num_positive = int(counts.sum())
        true_positives = counts[::-1].cumsum()[::-1]
        reached = len(negatives) - np.searchsorted(negatives, distinct)
        reached += true_positives
        precision = true_positives / reached
        of_positive = counts / reached
        return cls(
            value=float((counts * precision).sum() / num_positive),
            num_positive=num_positive,
            distinct=distinct,
            precision=precision,
            of_positive=of_positive.cumsum(),
            of_all=(of_positive * precision).cumsum(),
        )

    def effects(self, predicted: Predicted) -> np.ndarray:
        """Return what each row adds to the average precision.

        A row adds (label - precision) / reached to the precision at each positive row from its
        place on, and a positive row adds its own precision to the sum.
        """
        place = np.searchsorted(self.distinct, predicted.positive, side="right") - 1
        is_above = place >= 0  # a negative row below all positive rows has no effect
        of_row = predicted.label * (self.precision - self.value + self.of_positive)[place]
        effects = (of_row - self.of_all[place]) / self.num_positive
        return np.where(is_above, effects, 0.0)

    def add_squares(self, predicted: Predicted) -> float:
        """Add up the squares of the effects."""
        return float(sum(np.square(self.effects(part)).sum() for _, part in predicted.parts()))
