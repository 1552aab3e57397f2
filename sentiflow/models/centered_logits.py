"""Logits of texts -> the logit of one class of each text, from the mean of all classes."""

import numpy as np


def center(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Subtract the mean of all classes from the logit of one class in each row.

    Args:
        logits: ``(N, C)``.
        codes: The class of each row, N positions.

    Returns:
        N float64.

    Example:
        >>> center(np.array([[1.0, 3.0]]), np.array([1])).tolist()
        [1.0]
    """
    chosen = np.take_along_axis(logits, codes[:, None], axis=1)[:, 0]
    return np.asarray(chosen.astype(np.float64) - logits.mean(axis=1, dtype=np.float64))


def center_row(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Do the same as :func:`center` for N equal rows, given one of them, C logits."""
    return np.asarray((logits.astype(np.float64) - logits.mean(dtype=np.float64))[codes])
