"""Counts of parts -> their sum."""

import functools
import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any


def add_up(counts: Sequence[Any]) -> Any:
    """Add counts of one form: numbers, whatever else has a sum, or containers of them.

    Lists are joined; tuples have equally many numbers. A name that some dictionaries lack counts
    as 0 there.

    Example:
        >>> add_up([{"rows": {"train": 1, "test": 2}}, {"rows": {"train": 3}}])
        {'rows': {'train': 4, 'test': 2}}
    """
    first = counts[0]
    if isinstance(first, dict):
        names = dict.fromkeys(chain.from_iterable(counts))
        return {name: add_up([each[name] for each in counts if name in each]) for name in names}
    if isinstance(first, list):
        return list(chain.from_iterable(counts))
    if isinstance(first, tuple):
        return tuple(map(sum, zip(*counts, strict=True)))
    return functools.reduce(operator.add, counts)
