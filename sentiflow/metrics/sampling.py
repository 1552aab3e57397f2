"""Rows of a corpus, some of them labelled -> a sample to label, the sums for shares, their test.

Rows are drawn to label by hand, shares are estimated from sums by group (see :mod:`shares`), and
labelled rows are tested for being a random sample.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from sentiflow.metrics.paired import adjust

_SEED = np.uint64(0x9E3779B97F4A7C15)
NUM_STEPS = 50
"""Steps of the probability of the predicted class, from 0 to 1."""
_FEWEST = 10
"""Rows that a cell of the test is expected to have in the sample."""


def rank_rows(chance: np.ndarray, row_id: np.ndarray) -> np.ndarray:
    """Rank rows for a sample: the lowest n are drawn, each about with its chance.

    B. Rosén's Pareto sampling (Journal of Statistical Planning and Inference 62, 1997): a sample of
    exactly n rows from one pass over them. The random numbers are hashes of the row numbers, so
    that the same rows are drawn in any order.

    Args:
        chance: Of N rows, from 0 to 1; they add up to n.
        row_id: N row numbers.
    """
    uniform = (pd.util.hash_array(row_id.astype(np.uint64) + _SEED) >> np.uint64(11)) * 2.0**-53
    return np.asarray(uniform / (1 - uniform) * (1 - chance) / chance)


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


def add_up(
    keys: pd.DataFrame,
    *,
    prediction: np.ndarray,
    probabilities: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
) -> pd.DataFrame:
    """Add up N rows by group, for C classes; :func:`merge` adds the sums of further rows.

    Some labelled rows are a *sample*: drawn at random, not seen by the model. The labels of others,
    such as those that it was trained on, say nothing of its errors: they are only *counted*. The
    sample stands for all rows but these, the *population*. A weight w is the inverse of the
    probability with which a row was drawn, or 1 if all rows have the same. y is 1 for rows of the
    class and 0 for others, p their probability.

    Args:
        keys: N rows; those of a group have the same values.
        prediction: N positions among the C classes.
        probabilities: ``(N, C)``; 0 for classes that the model does not have.
        label: N positions among the classes; negative for none.
        weight: Of labelled rows: the weight in the sample, 0 if the label is only counted.

    Returns:
        A row for each group, by its keys. Columns are pairs of a sum and a class: ``rows``,
        ``population``, ``labelled`` (the size of the sample), ``square`` (of w²), ``clusters``,
        ``w`` and ``ww`` have class 0 alone. ``predicted`` are rows with this prediction,
        ``counted`` with this label outside of the population. ``p`` and ``pp`` (of p²) are over the
        population, those that begin with w over the sample. Those that begin with ww are of
        products of two values of a row; :func:`join_clusters` makes them those of a cluster.
    """
    classes = np.arange(probabilities.shape[1])
    is_counted = ((label >= 0) & (weight == 0))[:, None]
    p = np.where(is_counted, 0.0, probabilities)
    every = _sum(
        keys,
        rows=np.ones_like(is_counted),
        population=~is_counted,
        predicted=prediction[:, None] == classes,
        p=p,
        pp=p**2,
    )
    at = np.flatnonzero(label >= 0)
    w, y, p = weight[at, None].astype(np.float64), label[at, None] == classes, p[at]
    of_labels = _sum(
        keys.iloc[at],
        labelled=w > 0,
        clusters=w > 0,
        square=w**2,
        w=w,
        ww=w**2,
        counted=y & (w == 0),
        wy=w * y,
        wp=w * p,
        wyp=w * y * p,
        wwy=w**2 * y,
        wwp=w**2 * p,
        wwyy=w**2 * y,
        wwyp=w**2 * y * p,
        wwpp=w**2 * p**2,
    )
    return merge([every, of_labels])


def _sum(keys: pd.DataFrame, **values: np.ndarray) -> pd.DataFrame:
    """Sum values of N rows, ``(N, 1)`` or ``(N, C)``, by group."""
    names = [(name, number) for name, each in values.items() for number in range(each.shape[1])]
    columns = np.concatenate([*values.values()], axis=1, dtype=np.float64)
    table = pd.DataFrame(columns, keys.index, pd.MultiIndex.from_tuples(names), copy=False)
    return table.groupby([keys[name] for name in keys], dropna=False).sum()


def merge(sums: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add the sums of several parts of the rows."""
    every = pd.concat(sums)
    return every.groupby(level=list(range(every.index.nlevels)), dropna=False).sum()


def join_clusters(sums: pd.DataFrame, level: str) -> pd.DataFrame:
    """Take the rows of a cluster for one observation, such as the texts of an author.

    Where all texts of some authors are labelled, and those of others not, there are as many
    observations as authors. With the sums of an author in place of values of a row the variance of
    :func:`estimate` is that by linearization of a cluster sample (W. G. Cochran, Sampling
    Techniques, 1977, section 11.8).

    Args:
        sums: Those of clusters in groups.
        level: The key of the clusters.
    """
    w, y, p = (sums[name].to_numpy() for name in ("w", "wy", "wp"))
    products = {
        "clusters": w > 0, "ww": w * w, "wwy": w * y, "wwp": w * p, "wwyy": y * y, "wwyp": y * p,
        "wwpp": p * p,
    }  # fmt: skip
    others = [name for name in sums.columns.unique(level=0) if name not in products]
    keys = sums.index.to_frame(index=False).drop(columns=level)
    return _sum(keys, **{name: sums[name].to_numpy() for name in others} | products)
