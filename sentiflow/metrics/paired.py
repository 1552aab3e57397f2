"""Predictions of two models on the same rows -> differences, their 95% intervals, and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from sentiflow.data.schema import POSITIVE
from sentiflow.metrics.dependence import RowGroups, Z
from sentiflow.metrics.macro_f1 import MacroF1
from sentiflow.metrics.predicted import count_confusion
from sentiflow.metrics.roc_area import area_effects, area_parts

SIGNIFICANCE = 0.05
"""A difference with a p-value below this is significant."""

_MAX_HELD = 1 << 21
"""Random numbers of the randomization test held at once: one for each cell and exchange."""
_MAX_DRAWN = 1 << 24
"""Random numbers in all, unless there would be fewer exchanges than ``_MIN_RESAMPLES``."""
_MIN_RESAMPLES = 1000
"""Minimum number of exchanges, however many cells there are."""
_ROUNDING = 1e-12
"""Differences of metrics count as equal up to this rounding error."""


@dataclass(frozen=True)
class Difference:
    """A metric of the second model minus the metric of the first."""

    value: float
    low: float
    high: float
    """Bounds of the 95% interval."""
    p_value: float | None = None
    """Two-sided, for the hypothesis that both are equal; None where the interval has no test."""


@dataclass(frozen=True)
class McNemar:
    """The rows on which exactly one of the two models is right."""

    only_first_right: int
    only_second_right: int
    p_value: float
    """Exact, two-sided."""


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two models are right equally often; return the two-sided p-value.

    The exact form of Q. McNemar's test, Psychometrika 12 (1947): if both models are right equally
    often, a row that only one of them gets right belongs to either with a probability of one half.
    The test is valid for any number of rows. If there is no such row, the p-value is 1.

    Example:
        2 · (1 + 8) / 2⁸

        >>> f"{mcnemar(1, 7):.4f}"
        '0.0703'
    """
    from scipy.stats import binomtest

    num_rows = only_first + only_second
    if num_rows == 0:
        return 1.0
    return float(binomtest(only_first, num_rows).pvalue)


def accuracy_difference(*, only_first: int, only_second: int, num_rows: int) -> Difference:
    """Bound the difference of two models' accuracies on at least one row.

    The adjusted Wald interval for paired shares of D. G. Bonett and R. M. Price, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data", Journal of
    Educational and Behavioral Statistics 37 (2012): with p and q the shares of the rows that only
    the second and only the first gets right, one row added to each and two to all,

        (p - q) ± z √((p + q - (p - q)²) / (n + 2))

    The interval is usable with few such rows, and has a width above 0 if there are none. The
    p-value comes from :func:`mcnemar`.

    Example:
        p = 0.08, q = 0.02: 0.06 ± 1.96 · √((0.1 - 0.0036) / 100)

        >>> found = accuracy_difference(only_first=1, only_second=7, num_rows=98)
        >>> f"{found.value:.4f} {found.low:.4f} {found.high:.4f}"
        '0.0612 -0.0009 0.1209'
    """
    total = num_rows + 2
    p = (only_second + 1) / total
    q = (only_first + 1) / total
    reach = Z * math.sqrt((p + q - (p - q) ** 2) / total)
    return Difference(
        value=(only_second - only_first) / num_rows,
        low=max(-1.0, p - q - reach),
        high=min(1.0, p - q + reach),
        p_value=mcnemar(only_first, only_second),
    )


def compare_accuracy(
    first: np.ndarray, second: np.ndarray, groups: RowGroups | None = None
) -> tuple[Difference, McNemar]:
    """Compare two models, given for each which of N rows it gets right; N is at least 1.

    See :func:`accuracy_difference` for the interval, and :func:`mcnemar` for the test. With groups
    of rows that depend on each other, the interval is widened, and the p-value is that of a normal
    test with the interval's standard error.

    Example:
        >>> first = np.repeat([True, True, False], [90, 1, 7])
        >>> second = np.repeat([True, False, True], [90, 1, 7])
        >>> difference, counts = compare_accuracy(first, second)
        >>> f"{difference.value:.4f} {counts.p_value:.4f}"
        '0.0612 0.0703'
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    difference = accuracy_difference(
        only_first=only_first, only_second=only_second, num_rows=len(first)
    )
    if groups is not None:
        signs = second.astype(np.int64) - first
        difference = _widen(difference, groups.factor(signs - signs.mean()))
    assert difference.p_value is not None, "a difference of accuracy has a test"
    return difference, McNemar(
        only_first_right=only_first,
        only_second_right=only_second,
        p_value=difference.p_value,
    )


def _widen(difference: Difference, factor: float) -> Difference:
    """Widen an interval by the factor of its variance, and test by it; 1 changes nothing."""
    if factor == 1:
        return difference
    middle = (difference.low + difference.high) / 2
    reach = math.sqrt(factor) * (difference.high - difference.low) / 2
    p_value = math.erfc(abs(middle) * Z / reach / math.sqrt(2)) if reach else 1.0
    return replace(
        difference,
        low=max(-1.0, min(middle - reach, difference.value)),
        high=min(1.0, max(middle + reach, difference.value)),
        p_value=p_value,
    )


def roc_auc_difference(
    *,
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: RowGroups | None = None,
) -> Difference | None:
    """Compare two models' areas under the ROC curve.

    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988), in the form of
    X. Sun and W. Xu, IEEE Signal Processing Letters 21 (2014), which takes O(n log n), see
    :func:`roc_area.area_parts`. The variance of one more row of the rarer label, which ranks at
    random, is added: see ``intervals``.

    Args:
        label: N labels, 0 or 1.
        first: N probabilities of positive, of the first model.
        second: N probabilities of positive, of the second model.
        groups: Groups of rows that depend on each other. None: the rows are independent.

    Returns:
        The difference with interval and normal test; None with fewer than two rows of a class.

    Example:
        The first model ranks 5 of 6 pairs correctly, the second model all 6.

        >>> label = np.array([0, 0, 1, 1, 1])
        >>> first, second = np.array([0.1, 0.6, 0.5, 0.7, 0.9]), np.array([0.1, 0.2, 0.5, 0.7, 0.9])
        >>> found = roc_auc_difference(label=label, first=first, second=second)
        >>> f"{found.value:.4f} {found.low:.4f} {found.high:.4f} {found.p_value:.4f}"
        '0.1667 -0.5068 0.8401 0.6276'
    """
    positive = label == POSITIVE
    num_positive = int(positive.sum())
    num_negative = int((~positive).sum())
    rarer = min(num_positive, num_negative)
    if rarer < 2:
        return None
    first_of_positive, first_of_negative = area_parts(np.asarray(first), positive)
    second_of_positive, second_of_negative = area_parts(np.asarray(second), positive)
    of_positive = second_of_positive - first_of_positive
    of_negative = second_of_negative - first_of_negative
    variance = of_positive.var(ddof=1) / num_positive + of_negative.var(ddof=1) / num_negative
    if groups is not None:
        variance *= groups.factor(area_effects(positive, of_positive, of_negative))
    step = 0.5 / rarer
    bounded = _bound_normal(float(of_positive.mean()), math.hypot(math.sqrt(variance), step))
    return replace(bounded, low=max(-1.0, bounded.low), high=min(1.0, bounded.high))


def mean_difference(
    differences: np.ndarray, *, step: float, groups: RowGroups | None = None
) -> Difference | None:
    """Bound and test the mean of N rows' differences; None with fewer than two rows.

    The z-test for pairs; the interval is ± z standard errors. The variance of one more row that
    differs by ``step`` is added: see ``intervals``. Groups of rows that depend on each other widen
    the variance.

    Example:
        A mean of 0.2, with a variance of 0.02 / 4, and the step adds (0.2 / 4)².

        >>> found = mean_difference(np.array([0.1, 0.1, 0.2, 0.4]), step=0.2)
        >>> f"{found.value:.4f} {found.low:.4f} {found.high:.4f} {found.p_value:.4f}"
        '0.2000 0.0303 0.3697 0.0209'
    """
    if len(differences) < 2:
        return None
    root = math.sqrt(len(differences))
    deviation = float(differences.std(ddof=1))
    if groups is not None:
        deviation *= math.sqrt(groups.factor(differences - differences.mean()))
    spread = math.hypot(deviation, step / root)
    return _bound_normal(float(differences.mean()), spread / root)


def f1_macro_difference(
    *,
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    num_classes: int = 2,
    num_resamples: int = 10_000,
    seed: int = 0,
    groups: RowGroups | None = None,
) -> Difference | None:
    """Bound the difference of two models' macro F1, and test it.

    The interval is ± z standard errors by the delta method (see ``macro_f1.MacroF1``) around the
    difference without the bias of few rows. It is widened if it leaves out the measured difference.
    A class that does not occur is left out. The variance of one more wrong row is added, so the
    interval has a width above 0 if the models do not differ on these rows.

    The test is approximate randomization (A. Yeh, "More accurate tests for the statistical
    significance of result differences", COLING 2000): if the models do not differ, each row's two
    predictions may be exchanged. The p-value is the share of exchanges with at least this
    difference, in either direction; the observed predictions count as one more exchange. With
    groups of rows that depend on each other, the interval is widened, and the test is normal.

    Args:
        label: N labels, from 0 to C - 1; at least one.
        first: N predictions, of the first model.
        second: N predictions, of the second model.
        num_classes: C.
        num_resamples: How often predictions are exchanged; less often, but at least 1,000 times,
            if there are thousands of distinct triples of label and predictions.
        seed: The same seed gives the same p-value.
        groups: Groups of rows that depend on each other. None: the rows are independent.

    Returns:
        None where F1 is undefined for the rows.

    Example:
        The first model has an F1 of 0.7 for both classes, the second of 0.8.

        >>> label = np.repeat([0, 1], 50)
        >>> first = np.tile(np.repeat([0, 1], [35, 15]), 2) ^ label
        >>> second = np.tile(np.repeat([0, 1], [40, 10]), 2) ^ label
        >>> found = f1_macro_difference(label=label, first=first, second=second)
        >>> f"{found.value:.4f} {found.low:.4f} {found.high:.4f} {found.p_value:.4f}"
        '0.1000 0.0371 0.1619 0.0017'
    """
    rows = np.stack([label, first, second])
    triples, counts = np.unique(rows, axis=1, return_counts=True)
    value = float(_subtract_f1(triples, counts[None], num_classes)[0])
    if math.isnan(value):
        return None
    of_first = MacroF1.of(count_confusion(label, first, num_labels=num_classes))
    of_second = MacroF1.of(count_confusion(label, second, num_labels=num_classes))
    middle = float(of_second.corrected) - float(of_first.corrected)
    labels, firsts, seconds = triples
    effects = of_second.effects(labels, seconds) - of_first.effects(labels, firsts)
    step = max(float(of_first.step), float(of_second.step))
    variance = (counts * effects**2).sum()
    if groups is not None:
        of_rows = of_second.effects(label, second) - of_first.effects(label, first)
        variance *= groups.factor(of_rows)
    reach = Z * math.sqrt(variance + step**2)
    low = max(-1.0, min(middle - reach, value))
    high = min(1.0, max(middle + reach, value))
    if groups is not None:
        p_value = math.erfc(abs(middle) * Z / reach / math.sqrt(2))
        return Difference(value, low=low, high=high, p_value=p_value)
    exchanged = _exchange(triples, counts, num_classes, num_resamples=num_resamples, seed=seed)
    is_reached = ~(np.abs(exchanged) < abs(value) - _ROUNDING)  # NaN counts as reached
    p_value = (int(is_reached.sum()) + 1) / (len(exchanged) + 1)
    return Difference(value, low=low, high=high, p_value=p_value)


def _exchange(
    triples: np.ndarray, counts: np.ndarray, num_classes: int, *, num_resamples: int, seed: int
) -> np.ndarray:
    """Exchange the two predictions of rows at random; return the differences of macro F1.

    Args:
        triples: ``(3, K)``: the label and the two predictions of each of K cells.
        counts: K numbers of rows.
        num_classes: C.
        num_resamples: How often, unless there are too many cells, see ``_MAX_DRAWN``.
        seed: The same seed gives the same differences.
    """
    num_cells = len(counts)
    rng = np.random.default_rng(seed)
    num_resamples = min(num_resamples, max(_MIN_RESAMPLES, _MAX_DRAWN // num_cells))
    size = max(1, _MAX_HELD // num_cells)
    # Each cell, and then each cell with its predictions exchanged.
    both_ways = np.concatenate([triples, triples[[0, 2, 1]]], axis=1)
    differences = []
    for start in range(0, num_resamples, size):
        num_draws = min(size, num_resamples - start)
        kept = rng.binomial(counts, 0.5, size=(num_draws, num_cells))
        draws = np.concatenate([kept, counts - kept], axis=1)
        differences.append(_subtract_f1(both_ways, draws, num_classes))
    return np.concatenate(differences)


def adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests by the step-down method of S. Holm (1979).

    Scandinavian Journal of Statistics 6. With a probability of at least 95%, no adjusted value
    below 0.05 is due to chance. This also holds for dependent tests, such as tests of slices that
    share rows. The method of Benjamini and Hochberg finds more and guarantees less.

    Example:
        The lowest times 3, the next times 2, the highest times 1; in this order they never fall.

        >>> adjust([0.02, 0.01, 0.5])
        [0.04, 0.03, 0.5]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    num_left = np.arange(len(p), 0, -1)
    steps = np.maximum.accumulate(p[order] * num_left)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def write_p(p_value: float) -> str:
    """Write a p-value with as many digits as a reader needs.

    Example:
        >>> write_p(0.2134), write_p(0.0312), write_p(1e-9), write_p(1.0)
        ('p = 0.21', 'p = 0.031', 'p < 0.001', 'p = 1')
    """
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.2g}"


def _bound_normal(value: float, error: float) -> Difference:
    """Bound and test a difference, given its standard error."""
    p_value = math.erfc(abs(value) / error / math.sqrt(2))
    reach = Z * error
    return Difference(value, low=value - reach, high=value + reach, p_value=p_value)


def _subtract_f1(triples: np.ndarray, counts: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the macro F1 of the second model minus the first's; NaN where it is undefined.

    Shape: (K cells, R draws)
        - triples: ``(3, K)``: the label and the two predictions of each cell.
        - counts: ``(R, K)``, the rows in each cell.
        - returns: ``(R,)``.
    """
    label, first, second = triples
    num_cells = triples.shape[1]
    ones = np.ones(num_cells)
    cells = np.arange(num_cells)

    def build_sums(codes: np.ndarray) -> sparse.csr_array:
        """Build the matrix ``(K, C)`` that adds up cells by class, given the class of each."""
        return sparse.csr_array((ones, (cells, codes)), (num_cells, num_classes))

    by_label = build_sums(label)
    labelled = np.asarray(counts @ by_label)
    macro_f1 = []
    for prediction in (first, second):
        predicted = np.asarray(counts @ build_sums(prediction))
        right = np.asarray((counts * (label == prediction)) @ by_label)
        with np.errstate(invalid="ignore"):
            f1 = 2 * right / (labelled + predicted)
        macro_f1.append(np.nanmean(f1, axis=1))
    return np.asarray(macro_f1[1] - macro_f1[0])
