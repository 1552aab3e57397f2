"""Predictions of two models on the same rows -> differences, their 95 % intervals, and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import sparse

from sentiflow.data.schema import POSITIVE
from sentiflow.metrics.intervals import MacroF1
from sentiflow.metrics.predicted import area_parts, count_confusion

SURE = 0.05
"""A difference with a p-value below it counts as one."""

_MAX_NUMBERS, _MAX_DRAWN, _FEWEST = 1 << 21, 1 << 24, 1000
"""Numbers of draws that are held at once, and in all; but the fewest draws."""
Z = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard errors."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A metric of the second model minus that of the first."""

    value: float
    low: float
    high: float
    """Bounds of the 95 % interval."""
    p_value: float | None = None
    """Two-sided, of both being equal; None where the interval has no test."""


@dataclass(frozen=True)
class McNemar:
    """The rows on which exactly one of the two models is right."""

    only_first_right: int
    only_second_right: int
    p_value: float
    """Exact, two-sided."""


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two models are right equally often; gives the two-sided p-value.

    The exact form of Q. McNemar's test, Psychometrika 12 (1947): if both are right equally often,
    each row that only one model gets right belongs to either with a probability of one half. The
    test needs no minimum of rows. The p-value is 1.0 without any such row.

    Example:
        >>> f"{mcnemar(1, 7):.4f}"
        '0.0703'
    """
    from scipy.stats import binomtest

    both = only_first + only_second
    return float(binomtest(only_first, both).pvalue) if both else 1.0


def accuracy_difference(*, only_first: int, only_second: int, num_rows: int) -> Difference:
    """Bound the difference of two models' accuracies on at least one row.

    The adjusted Wald interval for paired shares of D. G. Bonett and R. M. Price, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data", Journal of
    Educational and Behavioral Statistics 37 (2012): with p and q the shares of the rows that only
    the second and only the first gets right, one row added to each and two to all,

        (p - q) ± z √((p + q - (p - q)²) / (n + 2))

    It is valid for few such rows, and has a width above 0 if there are none. The p-value is that of
    :func:`mcnemar`.
    """
    total = num_rows + 2
    p, q = (only_second + 1) / total, (only_first + 1) / total
    reach = Z * math.sqrt((p + q - (p - q) ** 2) / total)
    low, high = max(-1.0, p - q - reach), min(1.0, p - q + reach)
    value = (only_second - only_first) / num_rows
    return Difference(value, low, high, mcnemar(only_first, only_second))


def compare_accuracy(first: np.ndarray, second: np.ndarray) -> tuple[Difference, McNemar]:
    """Compare two models, given for each which of N rows it gets right; N is at least 1."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference = accuracy_difference(
        only_first=only_first, only_second=only_second, num_rows=len(first)
    )
    return difference, McNemar(only_first, only_second, mcnemar(only_first, only_second))


def roc_auc_difference(
    *, label: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Difference | None:
    """Compare two models' areas under the ROC curve.

    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988), in the form of
    X. Sun and W. Xu, IEEE Signal Processing Letters 21 (2014), which takes O(n log n). The
    contribution of a row to the area follows from its rank among all rows and its rank within its
    class. Tied rows have the mean of their ranks, which counts a tied pair as one half.

    The variance has that of one row more of the rarer label, which ranks by chance: see
    ``intervals``.

    Args:
        label: N labels, 0 or 1.
        first: N probabilities of positive, of the first model.
        second: Likewise for the second model.

    Returns:
        None with fewer than two rows of a class.
    """
    positive = label == POSITIVE
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if min(num_positive, num_negative) < 2:
        return None
    of_first, of_second = (area_parts(np.asarray(p), positive) for p in (first, second))
    of_positive, of_negative = (b - a for a, b in zip(of_first, of_second, strict=True))
    variance = of_positive.var(ddof=1) / num_positive + of_negative.var(ddof=1) / num_negative
    step = 0.5 / min(num_positive, num_negative)
    bounded = _normal(float(of_positive.mean()), math.hypot(math.sqrt(variance), step))
    return Difference(
        bounded.value, max(-1.0, bounded.low), min(1.0, bounded.high), bounded.p_value
    )


def mean_difference(differences: np.ndarray, *, step: float) -> Difference | None:
    """Bound the mean of N rows' differences by ± z standard errors, with the normal test.

    The variance has that of one row more that differs by ``step``: see ``intervals``. None with
    fewer than two rows.
    """
    if len(differences) < 2:
        return None
    error = math.hypot(float(differences.std(ddof=1)), step / math.sqrt(len(differences)))
    return _normal(float(differences.mean()), error / math.sqrt(len(differences)))


def f1_macro_difference(
    *,
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    num_classes: int = 2,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference | None:
    """Bound the difference of two models' macro F1, and test it.

    The interval is difference ± z standard errors by the delta method, without the bias of few
    rows; a class that does not occur is left out. The variance has that of one wrong row more (see
    ``intervals``), so it is above 0 for models that do not differ on these rows.

    The test is approximate randomization (A. Yeh, "More accurate tests for the statistical
    significance of result differences", COLING 2000): if the models do not differ, each row's two
    predictions may be exchanged. The p-value is the share of such exchanges with at least this
    difference.

    Args:
        label: N labels, from 0 to C - 1; at least one.
        first: N predictions, of the first model.
        second: Likewise for the second model.
        num_classes: C.
        num_resamples: How often predictions are exchanged; less often, but a thousand times or
            more, where there are thousands of cells.
        seed: The same seed gives the same p-value.

    Returns:
        None where F1 is undefined for the rows.
    """
    triples, counts = np.unique(np.stack([label, first, second]), axis=1, return_counts=True)
    value = float(_subtract_f1(triples, counts[None], num_classes)[0])
    if math.isnan(value):
        return None
    middle, effects, steps = 0.0, np.zeros(len(counts)), list[float]()
    for sign, prediction in ((-1, first), (1, second)):
        of_model = MacroF1.of(count_confusion(label, prediction, num_labels=num_classes))
        middle += sign * float(of_model.corrected)
        effects += sign * of_model.effects(triples[0], triples[1 if sign < 0 else 2])
        steps.append(float(of_model.step))
    reach = Z * math.sqrt((counts * effects**2).sum() + max(steps) ** 2)
    rng, exchanged = np.random.default_rng(seed), []
    num_resamples = min(num_resamples, max(_FEWEST, _MAX_DRAWN // len(counts)))
    size = max(1, _MAX_NUMBERS // len(counts))
    both_ways = np.concatenate([triples, triples[[0, 2, 1]]], axis=1)
    for start in range(0, num_resamples, size):
        shape = (min(size, num_resamples - start), len(counts))
        kept = rng.binomial(counts, 0.5, size=shape)
        draws = np.concatenate([kept, counts - kept], axis=1)
        exchanged.append(_subtract_f1(both_ways, draws, num_classes))
    num_reached = int((~(np.abs(np.concatenate(exchanged)) < abs(value) - _ROUNDING)).sum())
    low, high = min(middle - reach, value), max(middle + reach, value)
    p_value = (num_reached + 1) / (num_resamples + 1)
    return Difference(value, max(-1.0, low), min(1.0, high), p_value)


def adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests by the step-down method of S. Holm (1979).

    Scandinavian Journal of Statistics 6. With a probability of at least 95 %, no adjusted value
    below 0.05 is due to chance. This holds for dependent tests too, such as those of slices that
    share rows. The method of Benjamini and Hochberg finds more and guarantees less.

    Example:
        >>> adjust([0.02, 0.01, 0.5])
        [0.04, 0.03, 0.5]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def write_p(p_value: float) -> str:
    """Write a p-value with as many digits as a reader needs.

    Example:
        >>> write_p(0.2134), write_p(0.0312), write_p(1e-9), write_p(1.0)
        ('p = 0.21', 'p = 0.031', 'p < 0.001', 'p = 1')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _normal(value: float, error: float) -> Difference:
    """Bound and test a difference, given its standard error."""
    p_value = math.erfc(abs(value) / error / math.sqrt(2))
    return Difference(value, value - Z * error, value + Z * error, p_value)


def _subtract_f1(triples: np.ndarray, counts: np.ndarray, num_classes: int) -> np.ndarray:
    """Subtract the macro F1 of the first model from that of the second; NaN where it is undefined.

    Shape: (K cells, R draws)
        - triples: ``(3, K)``: the label and the two predictions of each cell.
        - counts: ``(R, K)``, the rows in each cell.
        - returns: ``(R,)``.
    """
    ones, cells = np.ones(triples.shape[1]), np.arange(triples.shape[1])
    of_class = [
        sparse.csr_array((ones, (cells, codes)), (len(cells), num_classes)) for codes in triples
    ]
    labelled, *predicted = (np.asarray(counts @ each) for each in of_class)
    right = [np.asarray((counts * (triples[0] == codes)) @ of_class[0]) for codes in triples[1:]]
    with np.errstate(invalid="ignore"):
        first, second = (2 * right[i] / (labelled + predicted[i]) for i in (0, 1))
    return np.asarray(np.nanmean(second, axis=1) - np.nanmean(first, axis=1))
