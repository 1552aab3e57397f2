"""Labels, predictions and probabilities -> 95 % intervals, for few rows and accurate models too.

Every interval is that of a share of rows. A metric that is no such share counts as one of its
*effective* rows: as many as would give a share the metric's variance (E. L. Korn and B. I.
Graubard, "Confidence intervals for proportions with small expected number of positive counts",
Survey Methodology 24, 1998). Where rows show hardly a mistake their variance tells nothing, so each
variance has a *step* more: how far one more row could change the metric.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted, area_parts

MAX_RARE_FRACTION = 0.25
"""The macro F1 has no interval if more of the classes have fewer than ``FEWEST`` labelled rows."""
FEWEST = 2

Interval = tuple[float, float]


def share_interval(successes: Any, total: Any) -> tuple[Any, Any]:
    """Bound the share behind ``successes`` out of ``total`` (95 %), which is at least 1.

    The exact interval of C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
    illustrated in the case of the binomial", Biometrika 26 (1934). It holds the share in 95 % of
    samples or more, whatever the share and the number of rows. Wilson's, which is narrower, holds
    shares such as 99.7 % of 50 rows in 84 %. Takes numbers, or arrays of them.

    Example:
        >>> low, high = share_interval(8, 10)
        >>> f"{low:.4f} {high:.4f}"
        '0.4439 0.9748'
    """
    from scipy.special import betaincinv

    failures, least = np.maximum(total - successes, 0), 1e-300  # a share of 0 or 1 has one bound
    low = betaincinv(np.maximum(successes, least), failures + 1, 0.025)
    high = betaincinv(successes + 1, np.maximum(failures, least), 0.975)
    low, high = np.where(successes > 0, low, 0.0), np.where(failures > 0, high, 1.0)
    share = successes / total
    ends = np.minimum(low, share), np.maximum(high, share)
    return ends if np.ndim(share) else (ends[0].item(), ends[1].item())


@dataclass(frozen=True)
class Accuracy:
    """The share of right predictions among some rows."""

    num_rows: int
    accuracy: float
    low: float
    """Lower end of the exact 95 % interval."""
    high: float

    @classmethod
    def of(cls, num_right: int, num_rows: int, **further: Any) -> Self:
        """Measure at least one row; ``further`` are the fields of a subclass."""
        return cls(num_rows, num_right / num_rows, *share_interval(num_right, num_rows), **further)


def metric_interval(value: Any, *, variance: Any, step: Any) -> tuple[Any, Any]:
    """Bound a metric from 0 to 1 as a share of its effective rows."""
    middle = (value + step) / (1 + 2 * step)
    rows = np.maximum(1, middle * (1 - middle) / (variance + step**2))
    return share_interval(np.clip(value, 0, 1) * rows, rows)


def f1_interval(right: Any, wrong: Any) -> tuple[Any, Any]:
    """Bound the F1 of a class, given rows that have both its label and its prediction, or one.

    With J the share of the former among both, F1 = 2 J / (1 + J), which grows with J.
    """
    low, high = share_interval(right, right + wrong)
    return 2 * low / (1 + low), 2 * high / (1 + high)


@dataclass(frozen=True)
class MacroF1:
    """What the mean F1 of C classes owes to each row, by the delta method.

    Classes that have neither a label nor a prediction are left out of the mean. All of it may have
    leading axes, of several draws.
    """

    corrected: np.ndarray
    """Without the bias: from few rows, a class's F1 is too low on average."""
    of_right: np.ndarray
    """What a row of each class adds if it is right, ``(..., C)``."""
    of_wrong: np.ndarray
    """What a wrong row takes from the class of its label, and from that of its prediction."""
    step: np.ndarray
    """What a wrong row takes from the mean at most."""
    num_absent: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> "MacroF1":
        """Take rows by label and prediction.

        The variance of a class with n rows is too small by n / (n - 1), and its bias is known up to
        its share J: -2 J (1 - J) / (n (1 + J)³). A single row says nothing of J (1 - J): then that
        of the classes with more rows counts.

        Shape: confusion ``(..., C, C)``.
        """
        right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
        total = (confusion.sum(axis=-2) + confusion.sum(axis=-1)).astype(np.float64)
        occurs = total > 0
        num_classes = occurs.sum(axis=-1, keepdims=True)
        rows, total = np.where(occurs, total - right, 1), np.where(occurs, total, np.inf)
        f1, share, several = 2 * right / total, right / rows * occurs, occurs & (rows > 1)
        inflation = np.where(several, rows / np.maximum(rows - 1, 1), 2)
        spread, num_several = share * (1 - share) * inflation, several.sum(axis=-1, keepdims=True)
        usual = (spread * several).sum(axis=-1, keepdims=True) / np.maximum(num_several, 1)
        usual = np.where(num_several > 0, usual, 0.25)
        bias = np.where(several, 2 * spread / rows / (1 + share) ** 3, usual / 1.5) * occurs
        each = np.sqrt(inflation) / total / num_classes
        return cls(
            np.minimum(f1 + bias, 1).sum(axis=-1) / num_classes[..., 0],
            2 * (1 - f1) * each,
            f1 * each,
            2 / (total.min(axis=-1) * num_classes[..., 0]),
            (~occurs).sum(axis=-1),
        )

    def effects(self, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Say what rows of these labels and predictions add to the mean."""
        wrong = self.of_wrong[..., label] + self.of_wrong[..., prediction]
        return np.where(label == prediction, self.of_right[..., label], -wrong)


def macro_f1_interval(confusion: np.ndarray) -> tuple[Any, Any, Any]:
    """Bound the macro F1 of all C classes on other texts, given rows by label and prediction.

    The F1 of a class that does not occur may be anything from 0 to 1.

    Returns:
        Both bounds; and the number of classes with too few rows, see ``MAX_RARE_FRACTION``.
    """
    size, parts = confusion.shape[-1], MacroF1.of(confusion)
    effects = parts.effects(*np.indices((size, size)))
    variance = (confusion * effects**2).sum(axis=(-2, -1))
    low, high = metric_interval(parts.corrected, variance=variance, step=parts.step)
    present = 1 - parts.num_absent / size
    return low * present, 1 - (1 - high) * present, (confusion.sum(axis=-1) < FEWEST).sum(axis=-1)


def matthews_interval(confusion: np.ndarray) -> tuple[Any, Any]:
    """Bound the Matthews correlation of two classes, by the delta method.

    Derivatives are taken with a quarter row more of each label and prediction, which keeps them
    finite.

    Shape: confusion ``(..., 2, 2)``, rows by label and prediction.
    """
    counts = confusion.reshape(*confusion.shape[:-2], 4)
    num_rows, smooth, change = counts.sum(axis=-1), counts + 0.25, 1e-4
    moved = smooth[..., None, :] + change * smooth.sum(axis=-1)[..., None, None] * np.eye(4)
    slopes = (correlate(moved) - correlate(smooth)[..., None]) / change
    mean = (counts * slopes).sum(axis=-1) / num_rows
    variance = ((counts * slopes**2).sum(axis=-1) / num_rows - mean**2) / num_rows
    step = np.abs(slopes).max(axis=-1) / 2 / num_rows
    low, high = metric_interval((1 + correlate(counts)) / 2, variance=variance / 4, step=step)
    return 2 * low - 1, 2 * high - 1


def correlate(counts: np.ndarray) -> np.ndarray:
    """Correlate labels with predictions, given rows by label and prediction, ``(..., 4)``."""
    tn, fp, fn, tp = np.moveaxis(counts, -1, 0)
    root = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return np.asarray((tp * tn - fp * fn) / root)


def area_interval(predicted: Predicted) -> Interval | str:
    """Bound the area under the ROC curve of two classes, with DeLong's variance.

    The step is a row of the rarer label that ranks by chance.
    """
    if len(predicted.probabilities.T) != 2:
        return "it is the mean of several areas"
    positive = predicted.label == 1
    rarer = min(positive.sum(), (~positive).sum())
    if rarer < 2:
        return "1 text has one of the labels"
    parts = area_parts(predicted.positive, positive)
    variance = sum(part.var(ddof=1) / len(part) for part in parts)
    return metric_interval(float(parts[0].mean()), variance=variance, step=0.5 / rarer)


def average_precision_interval(predicted: Predicted) -> Interval | str:
    """Bound the average precision of positive, by the delta method.

    A row has an effect on the precision at each positive row that does not rank above it. The step
    is a positive row that ranks last.
    """
    distinct, place = np.unique(-predicted.positive, return_inverse=True)
    positive = np.bincount(place, predicted.label, len(distinct))
    reached, num_positive = np.bincount(place).cumsum(), positive.sum()
    precision = positive.cumsum() / reached
    value = (positive * precision).sum() / num_positive
    of_positive = np.cumsum((positive / reached)[::-1])[::-1]
    of_all = np.cumsum((positive * precision / reached)[::-1])[::-1]
    of_row = predicted.label * (precision - value + of_positive)[place]
    variance = np.square((of_row - of_all[place]) / num_positive).sum()
    return metric_interval(float(value), variance=float(variance), step=1 / num_positive)


def log_loss_step(predicted: Predicted) -> float:
    """Return the log loss of a row that is wrong, at the usual confidence."""
    others = (1 - predicted.confidence) / (len(predicted.classes) - 1)
    return -float(np.log(others.clip(PROBABILITY_FLOOR, 1)).mean())


def brier_step(predicted: Predicted) -> float:
    """Return the Brier score of a row that is wrong for certain: the largest there is."""
    return 1.0 if predicted.is_binary else 2.0


def mean_interval(values: np.ndarray, *, largest: float, step: float) -> Interval | str:
    """Bound the mean of N values from 0 to ``largest``, one of which may be ``step``."""
    if len(values) < 2:
        return "there is 1 text"
    low, high = metric_interval(
        float(values.mean()) / largest,
        variance=float(values.var(ddof=1)) / len(values) / largest**2,
        step=step / largest / len(values),
    )
    return low * largest, high * largest
