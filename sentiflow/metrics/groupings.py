"""Keys of rows of sums -> the number of the group of each row, without a comparison of texts.

An index of pandas has each value of a key once, and a code for each row. So only values are sorted,
and rows are grouped by integers: a year of a corpus has half a million groups by film and week.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

_MAX_COMBINED = 1 << 62
"""Maximum number of combinations of keys that integers tell apart."""
_DENSE = 16
"""With at most so many combinations for each row, the groups are found by a table of all
combinations. With more, rows are sorted."""


class Grouping(NamedTuple):
    """The groups of N rows."""

    number: np.ndarray
    """The number of the group of each row, N integers."""
    keys: pd.Index
    """The keys of each group. Groups are sorted; a missing key comes last."""


class _TableKey(NamedTuple):
    """A key of the rows of one table, as pandas codes it."""

    code: np.ndarray
    """The place of the value of each row among the values; -1 if it is missing."""
    values: pd.Index


class _Key(NamedTuple):
    """A key of N rows, with V values."""

    code: np.ndarray
    """The place of the value of each row among the values; V if it is missing."""
    values: pd.Index
    """V values, sorted."""


def group_rows(indexes: Sequence[pd.Index], levels: Sequence[Hashable] | None = None) -> Grouping:
    """Number the groups of the rows of several tables, one table after the other.

    Args:
        indexes: The index of each table. All have these keys.
        levels: The keys that make the groups. Default: all keys of the first table.

    Example:
        >>> number, keys = group_rows([pd.Index(["United", "Delta"]), pd.Index(["United"])])
        >>> number.tolist(), keys.tolist()
        ([1, 0, 1], ['Delta', 'United'])
    """
    names = list(indexes[0].names) if levels is None else list(levels)
    keys = [_join_key(indexes, name) for name in names]
    number, places = _number(keys)
    values: list[Any] = [key.values for key in keys]
    codes: list[Any] = []
    for key in keys:
        code = key.code[places]
        codes.append(np.where(code == len(key.values), -1, code))
    index = pd.MultiIndex(values, codes, names=names, verify_integrity=False)
    if levels is None and not isinstance(indexes[0], pd.MultiIndex):
        return Grouping(number, index.get_level_values(0))
    return Grouping(number, index)


def _join_key(indexes: Sequence[pd.Index], name: Hashable) -> _Key:
    """Number the values of a key in several tables."""
    of_tables: list[_TableKey] = []
    for index in indexes:
        if not len(index):
            continue
        if isinstance(index, pd.MultiIndex):
            place = index.names.index(name)
            of_tables.append(_TableKey(np.asarray(index.codes[place]), index.levels[place]))
        else:
            code, values = pd.factorize(index)
            of_tables.append(_TableKey(code, values))
    if not of_tables:
        place = indexes[0].names.index(name)
        return _Key(np.zeros(0, np.int64), indexes[0].get_level_values(place)[:0])
    every = of_tables[0].values.append([table.values for table in of_tables[1:]])
    number_of_value, values = pd.factorize(every, sort=True)
    codes = []
    start = 0
    for table in of_tables:
        stop = start + len(table.values)
        # A missing value has the code -1, and so takes the last place.
        known = np.append(number_of_value[start:stop], -1)
        codes.append(known[table.code])
        start = stop
    code = np.concatenate(codes).astype(np.int64)
    return _Key(np.where(code < 0, len(values), code), values)


def _number(keys: Sequence[_Key]) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of the keys of N rows in their order.

    Returns:
        The number of the combination of each row, and a row of each of G combinations.
    """
    combined = np.zeros(len(keys[0].code), np.int64)
    size = 1
    for key in keys:
        num_values = len(key.values) + 1
        if size * num_values > _MAX_COMBINED:
            found, combined = np.unique(combined, return_inverse=True)
            size = len(found)
        combined = combined * num_values + key.code
        size *= num_values
    if size > _DENSE * len(combined):
        _, places, number = np.unique(combined, return_index=True, return_inverse=True)
        return number, places
    # The last row of a combination stands for it; any row would do, as all have the same keys.
    row = np.full(size, -1)
    row[combined] = np.arange(len(combined))
    occurring = np.flatnonzero(row >= 0)
    number_of = np.zeros(size, np.int64)
    number_of[occurring] = np.arange(len(occurring))
    return number_of[combined], row[occurring]
