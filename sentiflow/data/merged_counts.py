"""Counts of parts -> counts of the whole."""

import functools
import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any


def merge_counts(counts: Sequence[Any]) -> Any:
    """Add counts of the same form: numbers, other values with ``+``, or containers of counts.

    Dictionaries are added by name; a missing name counts as 0. Tuples are added by position.
    Lists are joined.

    Example:
        >>> merge_counts([{"rows": {"train": 1, "test": 2}}, {"rows": {"train": 3}}])
        {'rows': {'train': 4, 'test': 2}}
    """
    first = counts[0]
    if isinstance(first, dict):
        merged = {}
        for name in dict.fromkeys(chain.from_iterable(counts)):
            merged[name] = merge_counts([each[name] for each in counts if name in each])
        return merged
    if isinstance(first, list):
        return list(chain.from_iterable(counts))
    if isinstance(first, tuple):
        return tuple(map(sum, zip(*counts, strict=True)))
    return functools.reduce(operator.add, counts)
