"""Shares of classes in groups -> tests that a group differs from others."""

import numpy as np
from scipy import special

from sentiflow.metrics.paired import adjust
from sentiflow.metrics.shares import Shares


def compare_with_others(shares: Shares) -> np.ndarray:
    """Test each group against all others together: ``(G, C)`` p-values, adjusted by Holm.

    The z-test of the difference of two independent estimates: the group's share, and the mean of
    the other shares weighted by rows. NaN if there is no other group, or a share is NaN.

    Example:
        Shares of 60%, 50% and 52% of groups of the same size. The first differs from the mean of
        the others, 51%, by 9 points; the standard error is √(3² + (4² + 4²) / 4) = 4.12 points:
        p = 0.029, times 3.

        >>> from sentiflow.metrics.shares import CORRECTED
        >>> of_class = np.array([[0.6], [0.5], [0.52]])
        >>> found = compare_with_others(
        ...     Shares(
        ...         rows=np.full(3, 100), labelled=np.full(3, 50), method=np.full(3, CORRECTED),
        ...         predicted=of_class, share=of_class, low=of_class, high=of_class,
        ...         error=np.array([[0.03], [0.04], [0.04]]),
        ...     )
        ... )
        >>> found[:, 0].round(3).tolist()
        [0.087, 0.407, 0.525]
    """
    rows = shares.rows[:, None]
    weighted = rows * shares.share
    variance = (rows * shares.error) ** 2
    num_others = rows.sum() - rows
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = (weighted.sum(axis=0) - weighted) / num_others
        rest_variance = (variance.sum(axis=0) - variance) / num_others**2
        error = np.sqrt(shares.error**2 + rest_variance)
        p_values = _test(shares.share - rest, error)
    adjusted = np.array([adjust(of_class) for of_class in p_values.T]).T
    return np.where(np.isnan(p_values), np.nan, adjusted)


def compare_with(share: np.ndarray, error: np.ndarray, one: int) -> np.ndarray:
    """Test a group against each of the other groups: G p-values, NaN for the group itself.

    The z-test of the difference of two independent estimates. If the group's share is the highest
    and all p-values are below 0.05, it is significantly the highest. No adjustment is needed: the
    largest of these p-values is the p-value of that statement (K. Hung and W. Fithian, "Rank
    verification for exponential families", Annals of Statistics 47, 2019).

    Args:
        share: The share of a class in each of G groups.
        error: The standard error of each share, see :class:`Shares`.
        one: The position of the group among the G groups.

    Example:
        Shares of 60% and 50% with standard errors of 3 and 4 points differ by two of their
        standard errors, √(3² + 4²) = 5.

        >>> compare_with(np.array([0.6, 0.5]), np.array([0.03, 0.04]), 0).round(4).tolist()
        [nan, 0.0455]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = _test(share[one] - share, np.hypot(error[one], error))
    p_values[one] = np.nan
    return p_values


def _test(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the two-sided p-value of the normal test, given differences and standard errors."""
    return np.asarray(2 * special.ndtr(-np.abs(difference) / error))
