"""Labels as the settings write them -> classes in their order."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from sentiflow.errors import UserError, few, shorten

BINARY = ("negative", "positive")
SENTIMENT140 = (*BINARY, "neutral")
"""Classes of ``kind: sentiment140``; models learn the first two by default."""
UNLABELLED = "unlabelled"
"""Reserved name: values that mean no label, rows without one."""
MAX_CLASSES = 100
MIN_CLASS_ROWS = 10
"""Rows that a class must have to be learned."""
_MAX_NAME = 60


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Order classes; a label is a position in this order.

    Negative, positive and neutral come first if negative and positive are both named.

    Example:
        >>> order_classes(["mixed", "neutral", "positive", "negative"])
        ('negative', 'positive', 'neutral', 'mixed')
        >>> order_classes(["spam", "neutral", "positive"])
        ('spam', 'neutral', 'positive')
    """
    ordered = tuple(names)
    if not set(BINARY) <= set(ordered):
        return ordered
    first = tuple(name for name in SENTIMENT140 if name in ordered)
    return (*first, *(name for name in ordered if name not in first))


def check_names(names: Sequence[str]) -> Sequence[str]:
    """Check the names of all classes, which become names of columns and metrics; return them.

    Raises:
        ValueError: There are too few or too many, or one cannot be used.
    """
    if len(names) < 2:
        shown = f"only one: {shorten(names[0])!r}" if names else "none"
        raise ValueError(f"a classifier needs two classes or more, and there is {shown}")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"there are {len(names)} classes, and at most {MAX_CLASSES} are possible")
    for name in names:
        if not name or name != name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
            raise ValueError(
                f"{name[:_MAX_NAME]!r} is not the name of a class: it must be printable, without "
                f"blanks at its ends, of 1 to {_MAX_NAME} characters"
            )
    folded = [name.casefold() for name in names]
    if twice := [name for name in names if folded.count(name.casefold()) > 1]:
        same = [repr(name) for name in names if name.casefold() == twice[0].casefold()]
        raise ValueError(f"{' and '.join(same)} name one class: case does not count")
    return names


def check_learned(learned: Sequence[str] | None, learnable: Sequence[str]) -> None:
    """Check that the data have the classes that ``train.classes`` names.

    Raises:
        UserError: They do not.
    """
    if unknown := [name for name in learned or () if name not in learnable]:
        raise UserError(
            f"train.classes: the data have no {' or '.join(few(unknown))} to learn",
            hint=f"the classes are {', '.join(few(learnable))}",
        )


def _check_labels(value: Any) -> dict[str, tuple[str, ...]] | str:
    """Check the values of each class; those of ``unlabelled`` are an empty one by default."""
    if value == "auto":
        return "auto"
    if not isinstance(value, Mapping):
        raise ValueError("must be auto, or the values of each class: {negative: n, positive: p}")
    for name in value:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise ValueError(f"the name of a class is written in quotes, not as {name!r}")
    classes = [str(name) for name in value if name != UNLABELLED]
    check_names(classes)
    labels = {str(name): _as_written(name, values) for name, values in value.items()}
    labels.setdefault(UNLABELLED, ("",))
    if without := [name for name in classes if not labels[name]]:
        raise ValueError(f"{without[0]!r} has no value: give one, or leave the class out")
    owners: dict[str, str] = {}
    for name, values in labels.items():
        for written in values:
            if written in owners:
                raise ValueError(f"{written!r} is listed for {owners[written]} and for {name}")
            owners[written] = name
    return labels


def _as_written(name: Any, value: Any) -> tuple[str, ...]:
    """Accept one value or a list, as they are written in a CSV: strings and whole numbers."""
    values = value if isinstance(value, list | tuple) else (value,)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"{name}={item!r}: write each value as it is in the CSV, in quotes")
    return tuple(str(item).strip() for item in values)


Labels = Annotated[dict[str, tuple[str, ...]] | Literal["auto"], BeforeValidator(_check_labels)]
"""The written values of each class and of ``unlabelled``; or ``auto``."""
