"""Classes with an order, such as 1 to 5 stars -> the number of each class."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from sentiflow.config.class_names import set_apart
from sentiflow.errors import few, shorten

_NUMBER = re.compile(r"([+-]?\d+(?:[.,]\d+)?)(?:\s*[^\W\d_]+)?")
"""A number, alone or before one word: ``3``, ``0.5``, ``3 stars``, ``3점``."""
_STARS = re.compile(r"([★⭐])(?:\ufe0f?\1)*\ufe0f?☆*")
"""Full stars, and then empty stars: ``★★★☆☆``."""


def read_value(name: str) -> float | None:
    """Read the number in the name of a class; None if it has none.

    Example:
        >>> [read_value(name) for name in ("3", "0.5", "3 stars", "★★☆", "good")]
        [3.0, 0.5, 3.0, 2.0, None]
    """
    number = _NUMBER.fullmatch(name)
    if number:
        return float(number[1].replace(",", "."))
    if _STARS.fullmatch(name):
        return float(name.count(name[0]))
    return None


def advise_on_decimals(labels: Iterable[str], classes: Iterable[str]) -> str:
    """Say what to do with ratings between the classes, such as 7.53; empty if there are none.

    Args:
        labels: Written labels.
        classes: The classes.

    Example:
        >>> advise_on_decimals(["7", "7.53"], ["7", "8"])[:48]
        'ratings with decimals are no classes: round them'
        >>> advise_on_decimals(["0.5", "none"], ["0.5", "1"])
        ''
    """
    values = [read_value(label) for label in set(labels).difference(classes)]
    if not any(value is not None and value % 1 for value in values):
        return ""
    return (
        "ratings with decimals are no classes: round them to a class; or, to keep their mean, "
        "write them as probabilities of two classes, such as 7.53 as probability_7 of 0.47 and "
        "probability_8 of 0.53"
    )


def find_values(names: Sequence[str], given: Mapping[str, float] | None) -> tuple[float, ...]:
    """Find the value of each class: a given one, or else the number in its name.

    Args:
        names: The classes in their order.
        given: ``format.values``.

    Raises:
        ValueError: A class has no value, ``given`` names no class, or the values neither rise nor
            fall from class to class.
    """
    given = given or {}
    unknown = [set_apart(name) for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"values names {' and '.join(few(unknown))}, but the classes are "
            f"{', '.join(few([set_apart(name) for name in names]))}"
        )
    by_class = _read_values(names, given)
    missing = [name for name, value in by_class.items() if value is None]
    if missing:
        listed = ", ".join(few([set_apart(name) for name in missing]))
        raise ValueError(
            f"ordered: no number in the name of the class {listed}: give the number of each class "
            "in format.values, such as {bad: 1, good: 5}"
        )
    values = tuple(value for value in by_class.values() if value is not None)
    steps = [later - earlier for earlier, later in itertools.pairwise(values)]
    if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        listed = ", ".join(few([f"{set_apart(name)} = {by_class[name]:g}" for name in names]))
        raise ValueError(
            f"ordered: the numbers of the classes neither rise nor fall from class to class "
            f"({listed}): list format.labels in the order of the classes"
        )
    return values


def sort_by_value(names: Iterable[str], given: Mapping[str, float] | None) -> tuple[str, ...]:
    """Sort classes by their values, for ``labels: auto``; classes without a value come last."""
    by_class = _read_values(names, given or {})

    def find_key(name: str) -> float:
        value = by_class[name]
        return math.inf if value is None else value

    return tuple(sorted(by_class, key=find_key))


def _read_values(names: Iterable[str], given: Mapping[str, float]) -> dict[str, float | None]:
    """Return the value of each class; None if it has none."""
    return {name: given[name] if name in given else read_value(name) for name in names}


def _check_values(setting: Any) -> Any:
    """Check the values of classes as written; a name may be an integer.

    Raises:
        ValueError: A name is not a text, or a value is not a number.
    """
    if setting is None:
        return None
    if not isinstance(setting, Mapping):
        raise ValueError("must be the number of each class: {bad: 1, good: 5}")
    values = {}
    for name, value in setting.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise ValueError(f"the name of a class is written in quotes, not as {name!r}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise ValueError(f"{name}={shorten(repr(value))}: must be a number")
        values[str(name)] = float(value)
    return values


ClassValues = Annotated[dict[str, float], BeforeValidator(_check_values)]
"""The number of each class by its name."""
