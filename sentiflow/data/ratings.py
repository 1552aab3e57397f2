"""Probabilities of ordered classes -> the rating of each text, as a mean or as a median."""

from collections.abc import Sequence

import numpy as np


def average_values(probabilities: np.ndarray, class_values: Sequence[float]) -> np.ndarray:
    """Average the numbers of ordered classes by the probabilities of each text: (N,) float64.

    The mean is the guess with the least squared error.

    Args:
        probabilities: ``(N, C)``.
        class_values: The numbers of the C classes.
    """
    exact = probabilities.astype(np.float64)
    return np.asarray(exact @ np.asarray(class_values, np.float64) / exact.sum(axis=1))


def find_medians(probabilities: np.ndarray) -> np.ndarray:
    """Find the median class of each text, as a position among the ordered classes: (N,) int8.

    It is the first class at which the sum of the probabilities reaches one half: the guess with the
    least absolute error.

    Args:
        probabilities: ``(N, C)``.

    Example:
        >>> find_medians(np.array([[0.4, 0.0, 0.3, 0.3], [0.5, 0.5, 0.0, 0.0]])).tolist()
        [2, 0]
    """
    sums = probabilities.astype(np.float64).cumsum(axis=1)
    return (sums >= sums[:, -1:] / 2).argmax(axis=1).astype(np.int8)
