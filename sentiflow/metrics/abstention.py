"""Confidence of predictions -> the accuracy of a model that leaves uncertain texts to people.

The threshold of the confidence comes with a promise about the errors on the texts that the model
answers.
"""

import math
from dataclasses import dataclass

import numpy as np

from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.intervals import Accuracy

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
"""Shares of answered texts at which :func:`accuracy_by_coverage` measures."""
_SIGNIFICANCE = 0.05
"""Chance that a threshold lets more errors through than was promised."""
_NUM_QUANTILES = 50
"""Number of quantiles of the confidence that may become the threshold."""


@dataclass(frozen=True)
class CoveragePoint(Accuracy):
    """The accuracy of a model that answers only the texts of which it is most certain."""

    coverage: float
    """Share of the texts that are answered."""
    confidence: float
    """The lowest probability of a prediction among the answered texts."""


def accuracy_by_coverage(
    *, right: np.ndarray, confidence: np.ndarray, groups: RowGroups | None = None
) -> list[CoveragePoint]:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of R. El-Yaniv and Y. Wiener, "On the foundations of noise-free
    selective classification", JMLR 11 (2010); the accuracy is 1 - risk. The most certain texts are
    answered first, and texts of equal confidence together.

    Args:
        right: Which of N predictions are right; at least one.
        confidence: Probability of each prediction.
        groups: Groups of texts that depend on each other. None: the texts are independent.

    Returns:
        For each of ``COVERAGES`` a point with at least this coverage.

    Example:
        The two texts above 0.7 are right, the other two are not.

        >>> right = np.array([True, True, False, False])
        >>> curve = accuracy_by_coverage(right=right, confidence=np.array([0.9, 0.8, 0.6, 0.6]))
        >>> [(curve[at].coverage, curve[at].accuracy, curve[at].confidence) for at in (0, 10)]
        [(1.0, 0.5, 0.6), (0.5, 1.0, 0.8)]
    """
    points = []
    for lowest in _find_lowest(confidence):
        is_answered = confidence >= lowest
        answered = right[is_answered]
        point = CoveragePoint.of_rows(
            answered,
            groups.take(is_answered) if groups else None,
            coverage=len(answered) / len(right),
            confidence=lowest,
        )
        points.append(point)
    return points


def _find_lowest(confidence: np.ndarray) -> list[float]:
    """Find the lowest confidence that is answered at each of ``COVERAGES``."""
    rising = np.sort(confidence)
    lowest = []
    for coverage in COVERAGES:
        # 0.55 · 100 is 55.00000000000001
        num_answered = math.ceil(round(coverage * len(confidence), 6))
        lowest.append(float(rising[-num_answered]))
    return lowest


def count_least(max_error: float) -> int:
    """Return how many rows without an error :func:`choose_threshold` needs to answer any text.

    The "rule of three" (J. A. Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all
    right?", JAMA 249, 1983) in its exact form: the least n with (1 - max_error)ⁿ ≤ 0.05.

    Example:
        0.95⁵⁸ = 0.0510, 0.95⁵⁹ = 0.0485

        >>> count_least(0.05)
        59
    """
    return math.ceil(math.log(_SIGNIFICANCE) / math.log1p(-max_error))


def choose_threshold(*, right: np.ndarray, confidence: np.ndarray, max_error: float) -> float:
    """Choose the confidence above which predictions are given, so that few of these are wrong.

    Fixed-sequence testing, as in Angelopoulos et al., "Learn then Test: Calibrating predictive
    algorithms to achieve risk control", Annals of Applied Statistics 19 (2025). The thresholds are
    quantiles of the confidence, so they do not depend on the errors. They are tested in turn, the
    strictest first. A threshold fails if the exact upper bound of Clopper and Pearson (95%,
    one-sided) for the error above it is not below ``max_error``. The last threshold before the
    first failure is chosen. In at most 1 of 20 samples of rows, its error on other texts of the
    same kind is larger than ``max_error``.

    The first threshold is the strictest quantile above which there are a quarter of the rows, or
    three times :func:`count_least` rows if that is less. With fewer rows, one or two errors would
    end the sequence. Texts of equal confidence are answered together, so there may be fewer rows
    above a quantile: a threshold that leaves fewer than :func:`count_least` cannot pass, and is not
    tested. Such are the quantiles of a model that is 100% sure of many texts.

    Args:
        right: Which of N predictions are right, for texts that the model was not trained on.
        confidence: Probability of each prediction; 0 for a prediction that is never given.
        max_error: Limit of the share of wrong predictions above the threshold.

    Returns:
        From 0 to 1, rounded down to 4 digits; 1 answers nothing.

    Example:
        100 of 200 rows have a confidence above 0.75 and are right; half of the others are. With an
        error of 10%, the chance of at most 4 errors in 108 rows is 0.0135, and of at most 6 in 112
        rows 0.0609, which is too large.

        >>> confidence = np.linspace(1, 0.5, 201)[:-1]
        >>> right = (np.arange(200) < 100) | (np.arange(200) % 2 == 0)
        >>> threshold = choose_threshold(right=right, confidence=confidence, max_error=0.1)
        >>> threshold, int((confidence > threshold).sum())
        (0.73, 108)
    """
    from scipy import special

    size = len(right)
    least = count_least(max_error)
    strictest = np.clip(size / 4, least, 3 * least)
    sizes = np.ceil(np.linspace(0, size, _NUM_QUANTILES, endpoint=False)).astype(np.int64)
    tested = sizes[(sizes >= strictest) & (sizes < size)]
    falling = np.sort(confidence)[::-1]
    thresholds = np.floor(1e4 * falling[tested].astype(np.float64)) / 1e4
    chosen = 1.0
    for threshold in [*thresholds.tolist(), 0.0]:
        answered = right[confidence > threshold]
        if len(answered) < least:
            continue
        num_errors = len(answered) - int(answered.sum())
        if special.bdtr(num_errors, len(answered), max_error) >= _SIGNIFICANCE:
            break
        chosen = threshold
    return chosen
