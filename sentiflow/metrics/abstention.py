"""Labels and probabilities -> accuracy of a model that answers only where it is certain."""

import math
from dataclasses import dataclass

import numpy as np

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, NEUTRAL, POSITIVE
from sentiflow.metrics.classification import (
    LabelMetrics,
    count_confusion,
    measure_labels,
    wilson_interval,
)

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
UNANSWERED_FRACTION = 0.2
"""Of the validation texts, if none is labelled neutral."""
MIN_NEUTRAL = 20
"""From this many neutral validation texts on, these decide the margin."""

_PER_UNIT = 1000
"""A margin is rounded down to this many steps, which makes it the same on every machine."""


@dataclass(frozen=True)
class CoveragePoint:
    """The accuracy of a model that answers only the texts of which it is most certain."""

    coverage: float
    """Share of the texts that are answered."""
    confidence: float
    """The lowest max(p, 1 - p) among them."""
    num_rows: int
    accuracy: float
    low: float
    """Of the 95 % Wilson interval."""
    high: float


@dataclass(frozen=True)
class ThreeClassMetrics:
    """Predictions of three labels, of which neutral stands for a probability near one half."""

    num_rows: int
    accuracy: float
    low: float
    """Of the 95 % Wilson interval."""
    high: float
    f1_macro: float
    """Mean over the labels; one with neither texts nor predictions counts as 0."""
    by_label: dict[str, LabelMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""


def accuracy_by_coverage(*, label: np.ndarray, probability: np.ndarray) -> list[CoveragePoint]:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of El-Yaniv and Wiener (JMLR 2010), with accuracy for 1 - risk. Texts
    are taken in the order of max(p, 1 - p); where that is equal they are taken together.

    Args:
        label: N labels, 0 or 1; at least one.
        probability: Of positive.

    Returns:
        A point for each of ``COVERAGES``, whose coverage is at least that.
    """
    certainty = _certainty(probability)
    order = np.argsort(-certainty, kind="stable")
    right = ((probability >= 0.5) == (label == POSITIVE))[order].cumsum()
    points = []
    for aim in COVERAGES:
        last = float(certainty[order[math.ceil(round(aim * len(label), 6)) - 1]])
        answered = int((certainty >= last).sum())
        num_right = int(right[answered - 1])
        interval = wilson_interval(num_right, answered)
        share = answered / len(label)
        points.append(CoveragePoint(share, 0.5 + last, answered, num_right / answered, *interval))
    return points


def choose_margin(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Choose the distance to one half from which a probability counts as an answer.

    If at least ``MIN_NEUTRAL`` texts are labelled neutral, and others are not, the margin with the
    highest macro F1 over the three labels is chosen. Otherwise the margin leaves
    ``UNANSWERED_FRACTION`` of the texts unanswered.

    Args:
        label: N labels, 0, 1 or 2, of texts that the model was not trained on; at least one.
        probability: Of positive.

    Returns:
        From 0 to 1/2, rounded down to three digits.
    """
    certainty = _certainty(probability)
    num_neutral = (label == NEUTRAL).sum()
    if not MIN_NEUTRAL <= num_neutral < len(label):
        return float(_round_down(np.quantile(certainty, UNANSWERED_FRACTION)))
    tried = np.unique(_round_down(np.quantile(certainty, np.linspace(0, 1, 101))))
    found = [_macro_f1(_count(label, probability, margin)) for margin in tried]
    return float(tried[int(np.argmax(found))])


def three_class_metrics(
    *, label: np.ndarray, probability: np.ndarray, margin: float
) -> ThreeClassMetrics:
    """Measure a model whose answer is neutral where it is nearer to one half than ``margin``.

    Args:
        label: N labels, 0, 1 or 2; at least one.
        probability: Of positive.
        margin: From 0 to 1/2.
    """
    counts = _count(label, probability, margin)
    num_right, num_rows = int(counts.trace()), int(counts.sum())
    return ThreeClassMetrics(
        num_rows,
        num_right / num_rows,
        *wilson_interval(num_right, num_rows),
        _macro_f1(counts),
        dict(zip(LABEL_NAMES, measure_labels(counts), strict=True)),
        {
            name: dict(zip(LABEL_NAMES, row, strict=True))
            for name, row in zip(LABEL_NAMES, counts.tolist(), strict=True)
        },
    )


def _count(label: np.ndarray, probability: np.ndarray, margin: float) -> np.ndarray:
    prediction = np.where(probability >= 0.5, POSITIVE, NEGATIVE)
    prediction = np.where(_certainty(probability) < margin, NEUTRAL, prediction)
    return count_confusion(label, prediction, num_labels=3)


def _macro_f1(counts: np.ndarray) -> float:
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return float((2 * counts.diagonal() / np.maximum(1, both)).mean())


def _round_down(margin: np.ndarray) -> np.ndarray:
    return np.floor(margin * _PER_UNIT + 1e-9) / _PER_UNIT


def _certainty(probability: np.ndarray) -> np.ndarray:
    """Give the distance of probabilities to one half."""
    return np.abs(np.asarray(probability, dtype=np.float64) - 0.5)
