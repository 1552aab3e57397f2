"""Rows of a corpus, some of them labelled -> sums by group.

Shares are estimated from the sums (``metrics.shares``); ``metrics.drawing`` draws rows to label.

**Rows.** Some labelled rows are a *sample*: drawn at random, and not seen by the model. Other
labels, such as training labels, say nothing about its errors: they are only *counted*. The sample
stands for all rows except the counted ones, the *population*. A weight w is the inverse of the
probability with which a row was drawn, or 1 if all rows have the same probability. y is 1 for rows
of the class and 0 for others, and p is the probability of the class.

**Sums.**

- ``rows``, ``population``, ``labelled`` (rows of the sample), ``clusters`` of the sample,
  ``square`` (of w²), ``w`` and ``ww`` (of w²) do not depend on the class: class 0 only.
- ``predicted``: rows with this prediction. ``counted``: rows whose label, this class, is only
  counted.
- ``p`` and ``pp`` (of p²), over the population.
- ``wy`` (of w y), ``wp``, ``wyp``, and ``wwy`` (of w² y), ``wwp``, ``wwyy``, ``wwyp``, ``wwpp``,
  over the sample.
- ``skipped`` (rows), ``skipped_w``, ``skipped_ww`` and ``skipped_wp`` (of w, w² and w p), only if
  rows were skipped.

**Values.** Ordered classes have values v from 0 to 1. Their mean has the sums of one more class,
number C: y is the value of the label, p the mean value by the probabilities, and a prediction or a
counted label counts as its value. Two sums are there only for it: ``wyy`` (of w y²; for a class it
is ``wy``), and ``wrong`` (of w, where p is nearer to another value than y). :func:`of_classes` and
:func:`of_values` take the sums apart.

**Clusters.** :func:`add_up` makes each row its own cluster, so ``clusters`` equals ``labelled``,
``ww`` equals ``square``, and ``wwyy`` equals ``wwy``. :func:`join_clusters` replaces ``clusters``,
and the sums that begin with ``ww``: they become sums over clusters.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.metrics.groupings import Grouping, group_rows

_BY_GROUP = ("rows", "population", "labelled", "clusters", "square", "w", "ww")
"""Sums that do not depend on the class."""
_BY_CLASS = (
    "predicted",
    "p",
    "pp",
    "counted",
    "wy",
    "wp",
    "wyp",
    "wwy",
    "wwp",
    "wwyy",
    "wwyp",
    "wwpp",
)
"""Sums for each class."""
_OF_VALUES = ("wyy", "wrong")
"""Sums that only the mean of values has."""
_FEW = 4
"""A part is scattered into its own groups if it has less than 1/4 as many rows as there are
groups."""


def add_up(
    keys: pd.DataFrame,
    *,
    prediction: np.ndarray,
    probabilities: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    is_skipped: np.ndarray | None = None,
    values: np.ndarray | None = None,
) -> pd.DataFrame:
    """Add up N rows by group, for C classes; :func:`merge` adds the sums of further rows.

    Args:
        keys: N rows; rows of a group have the same values.
        prediction: N positions among the C classes.
        probabilities: ``(N, C)``; 0 for classes that the model does not have.
        label: N positions among the classes; negative for none.
        weight: The weight of each labelled row; 0 if the label is only counted.
        is_skipped: Whether each row was *skipped*, bool: it was drawn and has a weight, but an
            annotator has left it out. Default: no row.
        values: The values of ordered classes, ``(C,)`` from 0 to 1. Default: no values.

    Returns:
        A row for each group, indexed by its keys. Columns are pairs of a sum, as the module names
        them, and a class.

    Example:
        >>> sums = add_up(
        ...     pd.DataFrame({"airline": ["Delta", "Delta", "United"]}),
        ...     prediction=np.array([0, 1, 1]),
        ...     probabilities=np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]),
        ...     label=np.array([0, -1, 1]),
        ...     weight=np.array([3.0, 1.0, 1.0]),
        ... )
        >>> sums["rows", 0].to_dict(), sums["p", 1].to_dict()
        ({'Delta': 2.0, 'United': 1.0}, {'Delta': 0.75, 'United': 0.875})
        >>> sums["wp", 0].to_dict()  # 3 · 0.75 and 1 · 0.125
        {'Delta': 2.25, 'United': 0.125}
    """
    of_label = np.eye(probabilities.shape[1], dtype=bool)
    if values is not None:
        of_label = np.column_stack([of_label, values])
        probabilities = np.column_stack([probabilities, probabilities @ values])
    in_population = find_population(label, weight)[:, None]
    p = np.where(in_population, probabilities, 0.0)
    parts = [_add_up_all(keys, in_population, predicted=of_label[prediction], p=p)]

    labelled = np.flatnonzero(label >= 0)
    y = of_label[label[labelled]]
    w = weight[labelled, None].astype(np.float64)
    parts.append(_add_up_labelled(keys.iloc[labelled], y=y, p=p[labelled], w=w))
    if values is not None:
        y = y[:, -1:]
        is_wrong = np.abs(y - p[labelled, -1:]) > 0.5 / (len(values) - 1)
        parts.append(_sum(keys.iloc[labelled], wyy=w * y**2, wrong=w * is_wrong))

    if is_skipped is not None and is_skipped.any():
        skipped = np.flatnonzero(is_skipped)
        w = weight[skipped, None]
        parts.append(_add_up_skipped(keys.iloc[skipped], p=p[skipped], w=w))
    return merge(parts)


def find_population(label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Find the rows that the sample stands for: all except labels that are only counted.

    Args:
        label: N positions among the classes; negative for none.
        weight: The weight of each labelled row; 0 if the label is only counted.

    Returns:
        N bools.

    Example:
        >>> find_population(np.array([0, 1, -1]), np.array([3.0, 0.0, 0.0])).tolist()
        [True, False, True]
    """
    return (label < 0) | (weight > 0)


def _add_up_all(
    keys: pd.DataFrame, in_population: np.ndarray, *, predicted: np.ndarray, p: np.ndarray
) -> pd.DataFrame:
    """Add up all rows by group.

    Shape: (N rows, C classes)
        - in_population: ``(N, 1)``, bool.
        - predicted: ``(N, C)``, y of the predicted class.
        - p: ``(N, C)``, 0 for rows outside the population.
    """
    return _sum(
        keys,
        rows=np.ones_like(in_population),
        population=in_population,
        predicted=predicted,
        p=p,
        pp=p**2,
    )


def _add_up_labelled(
    keys: pd.DataFrame, *, y: np.ndarray, p: np.ndarray, w: np.ndarray
) -> pd.DataFrame:
    """Add up labelled rows by group; each row is a cluster.

    Shape: (N rows, C classes)
        - y, p: ``(N, C)``.
        - w: ``(N, 1)``, 0 for labels that are only counted.
    """
    return _sum(
        keys,
        labelled=w > 0,
        clusters=w > 0,
        square=w**2,
        w=w,
        ww=w**2,
        counted=y * (w == 0),
        wy=w * y,
        wp=w * p,
        wyp=w * y * p,
        wwy=w**2 * y,
        wwp=w**2 * p,
        wwyy=w**2 * y**2,
        wwyp=w**2 * y * p,
        wwpp=w**2 * p**2,
    )


def _add_up_skipped(keys: pd.DataFrame, *, p: np.ndarray, w: np.ndarray) -> pd.DataFrame:
    """Add up skipped rows by group.

    Shape: (N rows, C classes)
        - p: ``(N, C)``.
        - w: ``(N, 1)``.
    """
    return _sum(keys, skipped=w > 0, skipped_w=w, skipped_ww=w**2, skipped_wp=w * p)


def _sum(keys: pd.DataFrame, **values: np.ndarray) -> pd.DataFrame:
    """Sum values of N rows, ``(N, 1)`` or ``(N, C)``, by group."""
    names = []
    for name, each in values.items():
        names += [(name, number) for number in range(each.shape[1])]
    columns = np.concatenate(list(values.values()), axis=1, dtype=np.float64)
    table = pd.DataFrame(columns, keys.index, pd.MultiIndex.from_tuples(names), copy=False)
    return table.groupby([keys[name] for name in keys], dropna=False).sum()


def merge(sums: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add the sums of several parts of the rows, by all keys.

    Sums are added in their order, and a sum that a part lacks is 0 there. Rows without a value of a
    key stay, in groups of their own.

    Args:
        sums: Sums of each part by the same keys.

    Example:
        >>> one = pd.DataFrame({"rows": [2.0, 1.0]}, pd.Index(["Delta", "United"], name="airline"))
        >>> merge([one, one.loc[["United"]]])["rows"].to_dict()
        {'Delta': 2.0, 'United': 2.0}
    """
    grouping = group_rows([each.index for each in sums])
    return _add_parts(sums, grouping, columns=())


def merge_by(
    sums: Sequence[pd.DataFrame],
    levels: Sequence[str],
    *,
    columns: Sequence[tuple[str, int]] = (),
) -> pd.DataFrame:
    """Add the sums of several parts of the rows, by some of their keys.

    Rows without a value of one of these keys are left out.

    Args:
        sums: Sums of each part by the same keys.
        levels: The keys of the result.
        columns: Columns that the result has even if no part has them.

    Example:
        >>> keys = pd.DataFrame({"airline": ["Delta", None], "week": [1, 1]})
        >>> one = pd.DataFrame({"rows": [2.0, 1.0]}, pd.MultiIndex.from_frame(keys))
        >>> merge_by([one, one], ["airline"])["rows"].tolist()
        [4.0]
    """
    grouping = group_rows([each.index for each in sums], levels)
    merged = _add_parts(sums, grouping, columns)
    assert isinstance(grouping.keys, pd.MultiIndex)
    is_whole = (np.stack(grouping.keys.codes) >= 0).all(axis=0)
    return merged if is_whole.all() else merged.iloc[np.flatnonzero(is_whole)]


def _add_parts(
    sums: Sequence[pd.DataFrame], grouping: Grouping, columns: Sequence[tuple[str, int]]
) -> pd.DataFrame:
    """Add the sums of several parts by group.

    Args:
        sums: Sums of each part.
        grouping: The groups of the rows of all parts.
        columns: Columns that the result has even if no part has them.
    """
    names: dict[Any, None] = dict.fromkeys(columns)
    for each in sums:
        names |= dict.fromkeys(each.columns.tolist())
    place = {name: number for number, name in enumerate(names)}
    # The sums of a column are side by side in memory, as estimates take column after column.
    total = np.zeros((len(names), len(grouping.keys)))
    start = 0
    for each in sums:
        stop = start + len(each)
        number = grouping.number[start:stop]
        groups: np.ndarray | slice = slice(None)
        num_groups = len(grouping.keys)
        if _FEW * len(each) < num_groups:
            groups, number = np.unique(number, return_inverse=True)
            num_groups = len(groups)
        for name, values in zip(each.columns.tolist(), each.to_numpy().T, strict=True):
            total[place[name], groups] += np.bincount(number, values, num_groups)
        start = stop
    return pd.DataFrame(total.T, grouping.keys, pd.Index(list(names)), copy=False)


def leave_out_zeros(sums: pd.DataFrame) -> pd.DataFrame:
    """Leave out the sums that are 0 in all groups, such as sums of labels where there are none."""
    is_used = {name: bool(values.any()) for name, values in by_name(sums).items()}
    names = sums.columns.get_level_values(0).tolist()
    places = [place for place, name in enumerate(names) if is_used[name]]
    return sums.iloc[:, places]


def list_columns(num_classes: int, *, has_values: bool = False) -> list[tuple[str, int]]:
    """List the columns of :func:`add_up` that are there for any rows."""
    columns = [(name, 0) for name in _BY_GROUP]
    for name in _BY_CLASS:
        columns += [(name, number) for number in range(num_classes + has_values)]
    if has_values:
        columns += [(name, 0) for name in _OF_VALUES]
    return columns


def _list_names(sums: pd.DataFrame) -> list[tuple[str, int]]:
    """List the columns of sums."""
    names = sums.columns.get_level_values(0).tolist()
    numbers = sums.columns.get_level_values(1).tolist()
    return list(zip(names, numbers, strict=True))


def of_classes(sums: pd.DataFrame, num_classes: int) -> pd.DataFrame:
    """Leave out the sums of the values of classes.

    Args:
        sums: Result of :func:`add_up` with values.
        num_classes: C.
    """
    is_kept = []
    for name, number in _list_names(sums):
        is_kept.append(name not in _OF_VALUES and number < num_classes)
    return sums.loc[:, is_kept]


def of_values(sums: pd.DataFrame, num_classes: int) -> pd.DataFrame:
    """Take the sums of the values of classes, as the sums of one class, number 0.

    Args:
        sums: Result of :func:`add_up` with values.
        num_classes: C.

    Example:
        Labels of 1 and 3 stars, of 1 to 3.

        >>> sums = add_up(
        ...     pd.DataFrame({"shop": ["one", "one"]}),
        ...     prediction=np.array([0, 1]),
        ...     probabilities=np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]),
        ...     label=np.array([0, 2]),
        ...     weight=np.ones(2),
        ...     values=np.array([0.0, 0.5, 1.0]),
        ... )
        >>> [float(of_values(sums, 3)[name, 0].iloc[0]) for name in ("wy", "p", "predicted")]
        [1.0, 0.75, 0.5]
    """
    columns = _list_names(sums)
    by_class = {name for name, number in columns if number == num_classes}
    taken = {}
    for name, number in columns:
        if number == num_classes or (number == 0 and name not in by_class):
            taken[name, 0] = sums[name, number]
    return pd.DataFrame(taken)


def by_name(sums: pd.DataFrame) -> dict[str, np.ndarray]:
    """List the sums of G groups by name: ``(G, 1)``, or ``(G, C)`` for C classes.

    The arrays are views. A selection by pandas takes a hundred times as long for each name.

    Args:
        sums: Result of :func:`add_up`, :func:`merge` or :func:`merge_by`.

    Example:
        >>> columns = pd.MultiIndex.from_tuples([("rows", 0), ("p", 0), ("p", 1)])
        >>> of = by_name(pd.DataFrame([[2.0, 0.5, 1.5]], columns=columns))
        >>> of["rows"].tolist(), of["p"].tolist()
        ([[2.0]], [[0.5, 1.5]])
    """
    values = sums.to_numpy()
    names = sums.columns.get_level_values(0).tolist()
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    of = {}
    for name, of_name in places.items():
        start = of_name[0]
        stop = of_name[-1] + 1
        assert stop - start == len(of_name), "columns of a name are side by side"
        of[name] = values[:, start:stop]
    return of


def join_clusters(sums: pd.DataFrame, level: str) -> pd.DataFrame:
    """Make one observation of the rows of a cluster, such as the texts of an author.

    If all texts of some authors are labelled, and no texts of others, there are only as many
    observations as authors. The sums of an author take the place of the values of a row. So the
    variance in ``metrics.shares.estimate`` is the variance of a ratio of cluster sums, by
    linearization (W. G. Cochran, Sampling Techniques, 1977, section 11.8).

    Args:
        sums: Result of :func:`add_up`, by group and cluster.
        level: The key of the clusters.

    Returns:
        The sums by group, without this key.

    Example:
        Two labelled texts of an author are one observation of weight 2: 2² + 1² = 5.

        >>> keys = pd.DataFrame({"airline": ["Delta"] * 3, "author": ["ann", "ann", "bob"]})
        >>> label, probabilities = np.array([0, 1, 1]), np.full((3, 2), 0.5)
        >>> by_author = add_up(
        ...     keys, prediction=label, probabilities=probabilities, label=label, weight=np.ones(3)
        ... )
        >>> sums = join_clusters(by_author, "author")
        >>> [float(sums[name, 0].iloc[0]) for name in ("labelled", "clusters", "w", "ww")]
        [3.0, 2.0, 3.0, 5.0]
    """
    of = by_name(sums)
    w = of["w"]
    y = of["wy"]
    p = of["wp"]
    products = {
        "clusters": w > 0,
        "ww": w * w,
        "wwy": w * y,
        "wwp": w * p,
        "wwyy": y * y,
        "wwyp": y * p,
        "wwpp": p * p,
    }
    values = {}
    for name, of_name in of.items():
        if name not in products:
            values[name] = of_name
    keys = sums.index.to_frame(index=False).drop(columns=level)
    return _sum(keys, **values, **products)
