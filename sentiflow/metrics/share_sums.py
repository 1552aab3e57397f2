"""Predictions of all rows, labels of some -> the sums by group from which shares are estimated."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
