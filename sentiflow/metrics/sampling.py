"""Probabilities -> which rows to label by hand: their chances, and a sample of known size."""

import numpy as np

_TYPICAL_SPREAD = 0.5
"""Standard deviation of the label of a row that is certain with 85 %, in :func:`choose_weights`."""


def choose_weights(probabilities: np.ndarray) -> np.ndarray:
    """Say how much a label of each row would teach: its chance to be drawn, up to a factor.

    Half of it is the same for all rows, so that no row of a wrong but sure model is left out, half
    is the standard deviation of the label by the model's own probabilities, which Neyman's
    allocation takes: sqrt(1 - sum p²).

    Args:
        probabilities: ``(N, C)``.
    """
    spread = np.sqrt(np.maximum(1 - np.square(probabilities, dtype=np.float64).sum(axis=1), 0))
    return np.asarray(0.5 * _TYPICAL_SPREAD + 0.5 * spread)


def rank_rows(chance: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Rank rows for a sample: the lowest n are drawn, each about with its chance.

    B. Rosén's Pareto sampling (Journal of Statistical Planning and Inference 62, 1997): a sample of
    exactly n rows from one pass over them.

    Args:
        chance: Of N rows, from 0 to 1; they add up to n.
        uniform: N random numbers from 0 to 1.
    """
    return np.asarray(uniform / (1 - uniform) * (1 - chance) / chance)
