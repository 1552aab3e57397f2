"""Predictions of all rows and of a sample -> whether the sample may be random.

A random sample has about as many rows of each predicted class, and of each probability, as its
population; and about the same part of each group. Labels are not compared, as the population has
none.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from sentiflow.metrics.paired import adjust

NUM_BINS = 50
"""Bins of equal width, from 0 to 1, of the highest probability of a row."""
_MIN_EXPECTED = 10
"""Minimum expected rows of the sample in a pool of the chi-square test, and in a group whose part
is compared."""
_MIN_ROWS = 30
"""Minimum rows of a group whose part is compared."""
_MIN_RATIO = 2
"""Parts are uneven if the larger one is at least this many times the smaller one."""
_LEVEL = 0.001
"""The level at which parts are uneven, for all pairs of groups together."""


class UnevenParts(NamedTuple):
    """Two groups of which a sample has very different parts."""

    most: int
    """Position of the group of which the sample has most, by its number of rows."""
    least: int
    """Position of the group of which the sample has least."""
    part_of_most: float
    part_of_least: float


def count_bins(prediction: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Add up the weights of N rows by predicted class and bin of the highest probability.

    Returns:
        ``(C, NUM_BINS)``, for C classes.

    Example:
        Rows with a probability of 0.9 are in bin 45, counted from 0.

        >>> probabilities = np.array([[0.9, 0.1], [0.25, 0.75], [0.9, 0.1]])
        >>> bins = count_bins(np.array([0, 1, 0]), probabilities, np.array([1.0, 1.0, 2.0]))
        >>> bins[[0, 1], [45, 37]].tolist(), float(bins.sum())
        ([3.0, 1.0], 4.0)
    """
    num_classes = probabilities.shape[1]
    position = probabilities.max(axis=1) * NUM_BINS
    bins = np.minimum(position, NUM_BINS - 1).astype(np.int64)
    shape = (num_classes, NUM_BINS)
    cells = np.ravel_multi_index((prediction, bins), shape)
    return np.bincount(cells, weight, minlength=num_classes * NUM_BINS).reshape(shape)


def check_randomness(population: np.ndarray, sample: np.ndarray, size: float) -> np.ndarray:
    """Test whether the predictions in a sample are distributed as in its population.

    Two chi-square tests compare shares in the sample and in the population (K. Pearson,
    Philosophical Magazine 50, 1900). The effective size takes the place of the number of rows
    (J. N. K. Rao and A. J. Scott, Journal of the American Statistical Association 76, 1981), with
    the correction for a finite population.

    Args:
        population: Result of :func:`count_bins` for all rows.
        sample: Result of :func:`count_bins` for the sample, with its weights.
        size: The effective size of the sample.

    Returns:
        The p-values of the predicted classes and of the probabilities, adjusted by Holm.

    Example:
        Half of 1,000,000 rows are predicted 0, and 60 of the 100 rows of a sample. Chi-square is
        100 · (0.1² / 0.5 + 0.1² / 0.5) = 4 with one degree of freedom: p = 0.0455, times 2.

        >>> population = np.zeros((2, NUM_BINS))
        >>> population[:, 40] = 500_000
        >>> sample = np.zeros((2, NUM_BINS))
        >>> sample[:, 40] = 60, 40
        >>> check_randomness(population, sample, 100).round(3).tolist()
        [0.091, 1.0]
    """
    num_rows = population.sum()
    # At least 1 / size, so that chi-square does not divide by 0 if all rows are in the sample.
    finite_correction = max(1 - size / num_rows, 1 / size)
    expected = population.sum(axis=1) / num_rows
    observed = sample.sum(axis=1) / sample.sum()
    largest_first = np.argsort(-expected, kind="stable")  # rare classes are neighbors, and pooled
    of_classes = _test_shares(
        expected[largest_first], observed[largest_first], size, finite_correction
    )
    expected = population.sum(axis=0) / num_rows
    observed = sample.sum(axis=0) / sample.sum()
    of_bins = _test_shares(expected, observed, size, finite_correction)
    return np.array(adjust([of_classes, of_bins]))


def find_uneven_parts(
    population: np.ndarray, sample: np.ndarray, *, design_effect: float = 1.0
) -> UnevenParts | None:
    """Find two groups of which a sample has very different parts; None if there are none.

    Only groups count that have 30 rows, and 10 expected rows of the sample. Of these, the two
    groups that are furthest beyond the expected number, above and below it, are compared by a
    chi-square test of their two parts (K. Pearson 1900). Its p-value is multiplied by the number of
    pairs of groups (Bonferroni), and must be below 0.001. One part must be twice the other.

    Args:
        population: ``(G,)``, the rows of each group.
        sample: ``(G,)``, how many of them are in the sample, with equal chances.
        design_effect: By how much the variance of the sample is larger than that of a simple one,
            because authors were drawn: chi-square is divided by it (Rao and Scott 1981).

    Example:
        >>> find_uneven_parts(np.array([400, 400, 20]), np.array([300, 48, 20]))
        UnevenParts(most=0, least=1, part_of_most=0.75, part_of_least=0.12)
        >>> find_uneven_parts(np.array([400, 400]), np.array([60, 48])) is None
        True
    """
    of_all = sample.sum() / population.sum()
    is_compared = (population >= _MIN_ROWS) & (population * of_all >= _MIN_EXPECTED)
    groups = np.flatnonzero(is_compared)
    if len(groups) < 2 or of_all >= 1:
        return None
    rows = population[groups]
    excess = (sample[groups] - of_all * rows) / np.sqrt(rows)
    most = int(groups[excess.argmax()])
    least = int(groups[excess.argmin()])
    pair = [most, least]
    parts = sample[pair] / population[pair]
    of_pair = sample[pair].sum() / population[pair].sum()
    if of_pair in (0, 1) or parts[0] < _MIN_RATIO * parts[1]:
        return None
    variance = of_pair * (1 - of_pair) * (1 / population[pair]).sum() * design_effect
    chi_square = (parts[0] - parts[1]) ** 2 / variance
    num_pairs = len(groups) * (len(groups) - 1) / 2
    if special.chdtrc(1, chi_square) * num_pairs >= _LEVEL:
        return None
    return UnevenParts(most, least, float(parts[0]), float(parts[1]))


def _test_shares(
    expected: np.ndarray, observed: np.ndarray, size: float, finite_correction: float
) -> float:
    """Test shares in a sample against shares in its population; return the p-value.

    Neighboring categories are pooled: a new pool begins at every ``_MIN_EXPECTED`` expected rows,
    and the last pool takes the rest.

    Args:
        expected: The shares of K categories in the population.
        observed: Their shares in the sample.
        size: The effective size of the sample.
        finite_correction: The fraction of the population that is not in the sample, above 0.
    """
    rows_before = np.concatenate([[0.0], size * expected.cumsum()[:-1]])  # each category
    last_pool = max(size // _MIN_EXPECTED - 1, 0)
    pool = np.minimum(rows_before // _MIN_EXPECTED, last_pool).astype(np.int64)
    expected = np.bincount(pool, expected)
    observed = np.bincount(pool, observed)
    is_used = expected > 0
    gaps = (observed - expected)[is_used]
    chi_square = (size / finite_correction * gaps**2 / expected[is_used]).sum()
    degrees_of_freedom = max(is_used.sum() - 1, 1)
    return float(special.chdtrc(degrees_of_freedom, chi_square))
