"""Rows by label and prediction -> the mean F1 of the classes, what each row adds to it, and bounds.

Variance, step and effective rows of an interval: see ``intervals``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sentiflow.metrics.intervals import metric_interval
from sentiflow.metrics.one_vs_rest import OneVsRest

MAX_RARE_FRACTION = 0.25
"""The macro F1 has no interval if a larger share of the classes is rare."""
MIN_CLASS_ROWS = 2
"""A class with fewer labelled rows is rare."""


def macro_f1(confusion: np.ndarray) -> float | None:
    """Average the F1 of the classes that have a label or a prediction, as scikit-learn does.

    The mean of F1s, not the F1 of mean precision and mean recall: J. Opitz and S. Burst, "Macro F1
    and Macro F1", arXiv:1911.03347 (2019).

    Args:
        confusion: Result of :func:`predicted.count_confusion`.

    Returns:
        None if no class occurs.

    Example:
        >>> round(macro_f1(np.array([[40, 10], [20, 30]])), 4)  # (0.7273 + 0.6667) / 2
        0.697
    """
    f1 = OneVsRest.of(confusion).f1
    if np.isnan(f1).all():
        return None
    return float(np.nanmean(f1))


def macro_f1_of_labelled(confusion: np.ndarray) -> float | None:
    """Average the F1 of the classes that have a label.

    A class that is only predicted has an F1 of 0 in :func:`macro_f1`, but only there: so this mean
    compares models on the same rows by the same classes.

    Args:
        confusion: Result of :func:`predicted.count_confusion`.

    Returns:
        None if no class has a label.

    Example:
        >>> counts = np.array([[40, 10, 0], [20, 28, 2], [0, 0, 0]])  # F1 0.7273, 0.6364 and 0
        >>> round(macro_f1(counts), 4), round(macro_f1_of_labelled(counts), 4)
        (0.4545, 0.6818)
    """
    rows = OneVsRest.of(confusion)
    if not rows.labelled.any():
        return None
    return float(rows.f1[rows.labelled > 0].mean())


@dataclass(frozen=True)
class MacroF1:
    """The mean F1 of C classes, and the effect of each row on it, by the delta method.

    As in K. Takahashi et al., "Confidence interval for micro-averaged F1 and macro-averaged F1
    scores", Applied Intelligence 52 (2022). Classes that have neither a label nor a prediction are
    left out of the mean. All fields may have leading axes, for several draws.

    Example:
        40 of the 50 rows of each class are right: each class has an F1 of 0.8. A wrong row takes
        0.8 / 100 / 2 from each of its two classes, times √(60 / 59) for the n - 1 of the variance.

        >>> found = MacroF1.of(np.array([[40, 10], [10, 40]]))
        >>> found.of_wrong.round(5).tolist()
        [0.00403, 0.00403]
    """

    corrected: np.ndarray
    """The mean F1, corrected for bias: with few rows, the F1 of a class is too low on average."""
    of_right: np.ndarray
    """What a row of each class adds if it is right, ``(..., C)``."""
    of_wrong: np.ndarray
    """What a wrong row takes from the mean through a class that is its label or prediction."""
    step: np.ndarray
    """What a wrong row takes from the mean at most."""
    num_absent: np.ndarray
    """Classes that have neither a label nor a prediction."""

    @classmethod
    def of(cls, confusion: np.ndarray) -> "MacroF1":
        """Compute the mean and the effects, given rows by label and prediction.

        A class has n rows with its label or prediction; J is the share of these that have both. J
        has the variance J (1 - J) / (n - 1), and the bias of F1 = 2 J / (1 + J) is
        -2 J (1 - J) / ((n - 1) (1 + J)³), by the second derivative.

        A class with n = 1 shows no variance: its effects are inflated as with n = 2. Its bias is
        -J (1 - J) / (1 + J). There J (1 - J) is the mean over the classes with more rows, or 1/4,
        and 1 + J is 1.5.

        Shape: confusion ``(..., C, C)``.
        """
        right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
        total = (confusion.sum(axis=-2) + confusion.sum(axis=-1)).astype(np.float64)
        occurs = total > 0
        num_classes = occurs.sum(axis=-1, keepdims=True)
        n = np.where(occurs, total - right, 1)
        total = np.where(occurs, total, np.inf)
        f1 = 2 * right / total
        j = right / n * occurs

        is_several = occurs & (n > 1)
        num_several = is_several.sum(axis=-1, keepdims=True)
        inflation = np.where(is_several, n / np.maximum(n - 1, 1), 2)
        spread = j * (1 - j) * inflation
        usual = (spread * is_several).sum(axis=-1, keepdims=True) / np.maximum(num_several, 1)
        usual = np.where(num_several > 0, usual, 0.25)
        bias = np.where(is_several, 2 * spread / n / (1 + j) ** 3, usual / 1.5) * occurs

        each = np.sqrt(inflation) / total / num_classes
        return cls(
            corrected=np.minimum(f1 + bias, 1).sum(axis=-1) / num_classes[..., 0],
            of_right=2 * (1 - f1) * each,
            of_wrong=f1 * each,
            step=2 / (total.min(axis=-1) * num_classes[..., 0]),
            num_absent=(~occurs).sum(axis=-1),
        )

    def effects(self, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return what rows with these labels and predictions add to the mean."""
        wrong = self.of_wrong[..., label] + self.of_wrong[..., prediction]
        return np.where(label == prediction, self.of_right[..., label], -wrong)


def macro_f1_interval(confusion: np.ndarray, *, factor: float = 1.0) -> tuple[Any, Any, Any]:
    """Bound the macro F1 of all C classes on other texts, given rows by label and prediction.

    The delta method of :class:`MacroF1`. A class that does not occur may have any F1 from 0 to 1.

    Args:
        confusion: ``(..., C, C)``.
        factor: By which dependent rows widen the variance.

    Returns:
        Both bounds; and the number of rare classes, see ``MAX_RARE_FRACTION``.

    Example:
        >>> low, high, num_rare = macro_f1_interval(np.array([[40, 10], [10, 40]]))
        >>> f"{low:.4f} {high:.4f} {num_rare}"
        '0.7067 0.8767 0'
    """
    num_classes = confusion.shape[-1]
    parts = MacroF1.of(confusion)
    label, prediction = np.indices((num_classes, num_classes))
    effects = parts.effects(label, prediction)
    variance = factor * (confusion * effects**2).sum(axis=(-2, -1))
    low, high = metric_interval(parts.corrected, variance=variance, step=parts.step)
    present = 1 - parts.num_absent / num_classes
    num_rare = (confusion.sum(axis=-1) < MIN_CLASS_ROWS).sum(axis=-1)
    return low * present, 1 - (1 - high) * present, num_rare
