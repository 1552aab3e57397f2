"""Labels and probabilities -> how far a model's certainty can be trusted.

A temperature calibrates the probabilities. A calibrated model can leave uncertain texts unanswered,
or call them neutral.
"""

import math
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, NEUTRAL, POSITIVE
from sentiflow.metrics.classification import (
    LabelMetrics,
    macro_f1,
    measure_labels,
    measure_probabilities,
)
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted, count_confusion

MIN_ROWS = 100
"""With fewer labelled rows the temperature is 1."""
LOWEST, HIGHEST = 0.25, 10.0

_DIGITS = 3
"""Of a temperature: far below its standard error, and the same on every machine."""

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
UNANSWERED_FRACTION = 0.2
"""Of the validation texts, if none is labelled neutral."""
MIN_NEUTRAL = 20
"""From this many neutral validation texts on, these decide the margin."""

_PER_UNIT = 1000
"""A margin is rounded down to this many steps, which makes it the same on every machine."""


class CalibrationEffect(TypedDict):
    """What a temperature changes, as manifests and ``metrics.json`` hold it."""

    temperature: float
    num_rows: int
    before: dict[str, float]
    """A ``ProbabilityMetrics`` at temperature 1."""
    after: dict[str, float]
    """The same at the model's temperature."""


@dataclass(frozen=True)
class CoveragePoint:
    """The accuracy of a model that answers only the texts of which it is most certain."""

    coverage: float
    """Share of the texts that are answered."""
    confidence: float
    """The lowest probability of a prediction among them."""
    num_rows: int
    accuracy: float
    low: float
    """Lower end of the exact 95 % interval."""
    high: float


@dataclass(frozen=True)
class ThreeClassMetrics:
    """Predictions of three labels, of which neutral stands for a probability near one half."""

    num_rows: int
    accuracy: float
    low: float
    """Lower end of the exact 95 % interval."""
    high: float
    f1_macro: float | None
    """Mean of the F1 of the labels that texts or predictions have."""
    by_label: dict[str, LabelMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""


def rescale(probabilities: np.ndarray, *, temperature: float) -> np.ndarray:
    """Divide the logits behind the probabilities of C classes by a temperature; 1 / T undoes it.

    A softmax does not change if a number is added to all logits, so log p stands for them.
    Probabilities are taken to be at least ``PROBABILITY_FLOOR``. No prediction changes.

    Shape: (N rows, C classes)
        - probabilities: ``(N, C)``.
        - returns: ``(N, C)`` float64.

    Example:
        >>> rescale(np.array([[0.5, 0.5], [0.1, 0.9]]), temperature=2.0).round(2).tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    from scipy.special import softmax

    return np.asarray(softmax(_log(probabilities) / temperature, axis=1))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(probabilities, dtype=np.float64).clip(PROBABILITY_FLOOR))


def fit_temperature(*, label: np.ndarray, probabilities: np.ndarray) -> float:
    """Find the temperature that makes the labels most probable.

    Temperature scaling after Guo et al., "On calibration of modern neural networks" (ICML 2017):
    the one parameter T that minimizes the log loss of softmax(log p / T), which is convex in 1 / T.
    It corrects how sure a model is, and leaves its predictions as they are. Rounded to 3 digits.

    Args:
        label: N positions among the classes; rows with another number are left out.
        probabilities: (N, C) at temperature 1.

    Returns:
        Within ``LOWEST`` and ``HIGHEST``; 1 where there are fewer than ``MIN_ROWS`` rows, or one
        label only.
    """
    from scipy.optimize import minimize_scalar

    is_known = (label >= 0) & (label < probabilities.shape[1])
    chosen, logs = label[is_known], _log(probabilities[is_known])
    if len(chosen) < MIN_ROWS or len(np.unique(chosen)) < 2:
        return 1.0
    margins = logs - logs[np.arange(len(chosen)), chosen][:, None]

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp.reduce(margins / math.exp(log_temperature), axis=1).mean())

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return round(math.exp(found.x), _DIGITS)


def describe(temperature: float, before: Predicted, after: Predicted) -> CalibrationEffect:
    """Measure what a temperature changes."""
    return {
        "temperature": temperature,
        "num_rows": len(after.label),
        "before": asdict(measure_probabilities(before)),
        "after": asdict(measure_probabilities(after)),
    }


def accuracy_by_coverage(*, right: np.ndarray, confidence: np.ndarray) -> list[CoveragePoint]:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of El-Yaniv and Wiener (JMLR 2010), with accuracy for 1 - risk. Texts
    are taken in the order of their confidence; where that is equal they are taken together.

    Args:
        right: Which of N predictions are right; at least one.
        confidence: Probability of each prediction.

    Returns:
        A point for each of ``COVERAGES``, whose coverage is at least that.
    """
    order = np.argsort(-confidence, kind="stable")
    num_right = right[order].cumsum()
    points = []
    for aim in COVERAGES:
        last = float(confidence[order[math.ceil(round(aim * len(right), 6)) - 1]])
        answered = int((confidence >= last).sum())
        found = int(num_right[answered - 1])
        interval = share_interval(found, answered)
        points.append(
            CoveragePoint(answered / len(right), last, answered, found / answered, *interval)
        )
    return points


def choose_margin(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Choose the distance to one half from which a probability counts as an answer.

    If at least ``MIN_NEUTRAL`` texts are labelled neutral, and others are not, the margin with the
    highest macro F1 over the three labels is chosen. Otherwise the margin leaves
    ``UNANSWERED_FRACTION`` of the texts unanswered.

    Args:
        label: N labels, 0, 1 or 2, of texts that the model was not trained on; at least one.
        probability: Probability of positive.

    Returns:
        From 0 to 1/2, rounded down to three digits.
    """
    certainty = _certainty(probability)
    num_neutral = (label == NEUTRAL).sum()
    if not MIN_NEUTRAL <= num_neutral < len(label):
        return float(_round_down(np.quantile(certainty, UNANSWERED_FRACTION)))
    tried = np.unique(_round_down(np.quantile(certainty, np.linspace(0, 1, 101))))
    found = [macro_f1(_count(label, probability, margin)) or 0 for margin in tried]
    return float(tried[int(np.argmax(found))])


def three_class_metrics(
    *, label: np.ndarray, probability: np.ndarray, margin: float
) -> ThreeClassMetrics:
    """Measure a model whose answer is neutral where it is nearer to one half than ``margin``.

    Args:
        label: N labels, 0, 1 or 2; at least one.
        probability: Probability of positive.
        margin: From 0 to 1/2.
    """
    counts = _count(label, probability, margin)
    num_right, num_rows = int(counts.trace()), int(counts.sum())
    return ThreeClassMetrics(
        num_rows,
        num_right / num_rows,
        *share_interval(num_right, num_rows),
        macro_f1(counts),
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


def _round_down(margin: np.ndarray) -> np.ndarray:
    return np.floor(margin * _PER_UNIT + 1e-9) / _PER_UNIT


def _certainty(probability: np.ndarray) -> np.ndarray:
    """Return the distance of probabilities to one half."""
    return np.abs(np.asarray(probability, dtype=np.float64) - 0.5)
