"""Rows of a corpus -> which to label by hand; labelled rows -> whether they are a random sample."""

import numpy as np
import pandas as pd
from scipy import special

from sentiflow.metrics.paired import adjust

_SEED = np.uint64(0x9E3779B97F4A7C15)


def rank_rows(chance: np.ndarray, row_id: np.ndarray) -> np.ndarray:
    """Rank rows for a sample: the lowest n are drawn, each about with its chance.

    B. Rosén's Pareto sampling (Journal of Statistical Planning and Inference 62, 1997): a sample of
    exactly n rows from one pass over them. The random numbers are hashes of the row numbers, so
    that the same rows are drawn in any order.

    Args:
        chance: Of N rows, from 0 to 1; they add up to n.
        row_id: N row numbers.
    """
    mixed = pd.util.hash_array(row_id.astype(np.uint64) + _SEED)
    uniform = (mixed >> np.uint64(11)) * 2.0**-53
    return np.asarray(uniform / (1 - uniform) * (1 - chance) / chance)


NUM_STEPS = 50
"""Steps of the probability of the predicted class, from 0 to 1."""
_FEWEST = 10
"""Rows that a cell of the test is expected to have in the sample."""


def count_cells(
    prediction: np.ndarray, probabilities: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Add up the weights of N rows by predicted class and its probability, for C classes.

    Returns:
        ``(C, NUM_STEPS)``.
    """
    step = np.minimum(probabilities.max(axis=1) * NUM_STEPS, NUM_STEPS - 1).astype(np.int64)
    shape = (probabilities.shape[1], NUM_STEPS)
    cells = np.ravel_multi_index((prediction, step), shape)
    return np.bincount(cells, weight, minlength=shape[0] * NUM_STEPS).reshape(shape)


def check_randomness(population: np.ndarray, sample: np.ndarray, size: float) -> np.ndarray:
    """Test whether a sample has the predictions of its population: two chi-square tests.

    Args:
        population: The rows of :func:`count_cells`.
        sample: Those of the sample, by their weights.
        size: Its effective size.

    Returns:
        The p-values of the predicted classes and of the probabilities, adjusted by Holm.
    """
    p_values = []
    for axis in (1, 0):
        expected, observed = (cells.sum(axis=axis) / cells.sum() for cells in (population, sample))
        order = np.argsort(-expected, kind="stable") if axis == 1 else np.arange(NUM_STEPS)
        # Neighbours are one cell, so that each is expected to have enough rows.
        start = np.concatenate([[0.0], size * expected[order].cumsum()[:-1]])
        cell = np.minimum(start // _FEWEST, max(size // _FEWEST - 1, 0)).astype(np.int64)
        e, f = (np.bincount(cell, part[order]) for part in (expected, observed))
        is_used = e > 0
        left = max(1 - size / population.sum(), 1 / size)
        squares = (size / left * (f - e)[is_used] ** 2 / e[is_used]).sum()
        p_values.append(float(special.chdtrc(max(is_used.sum() - 1, 1), squares)))
    return np.array(adjust(p_values))
