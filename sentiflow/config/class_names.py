"""Labels as written in the settings -> classes in their order."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from sentiflow.errors import JOINERS, UserError, few, is_printable, shorten

BINARY = ("negative", "positive")
"""The classes of a binary model: negative and positive. Two classes of other names are not
binary."""
SENTIMENT140 = (*BINARY, "neutral")
"""Classes of ``kind: sentiment140``; models learn the first two by default."""
UNLABELLED = "unlabelled"
"""Key in ``format.labels`` that lists the values meaning "no label"; it is no class.

Rows without a label are counted under it, too.
"""
MAX_CLASSES = 100
"""Maximum number of classes."""
MIN_CLASS_ROWS = 10
"""Minimum number of rows of a class that is learned."""
_MAX_NAME_LENGTH = 60
"""Maximum length of the name of a class in characters."""


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Order classes; a label is a position in this order.

    Negative, positive and neutral come first if negative and positive are both named.

    Example:
        >>> order_classes(["mixed", "neutral", "positive", "negative"])
        ('negative', 'positive', 'neutral', 'mixed')
        >>> order_classes(["spam", "neutral", "positive"])
        ('spam', 'neutral', 'positive')
    """
    given = tuple(names)
    if not set(BINARY) <= set(given):
        return given
    first = [name for name in SENTIMENT140 if name in given]
    others = [name for name in given if name not in first]
    return (*first, *others)


def set_apart(name: str) -> str:
    """Write the name of a class in running text: in quotes, unless it is one word of letters.

    Otherwise a reader takes the class 10 for a number, and *very good* for a judgment.

    Example:
        >>> set_apart("positive"), set_apart("10"), set_apart("very good")
        ('positive', '“10”', '“very good”')
    """
    return name if name.isalpha() else f"“{name}”"


def check_names(names: Sequence[str]) -> Sequence[str]:
    """Check and return the names of all classes, which become names of columns and metrics.

    Raises:
        ValueError: There are too few or too many classes, or a name cannot be used.
    """
    if not names:
        raise ValueError("a classifier needs two classes or more, and there is none")
    if len(names) == 1:
        only = shorten(names[0])
        raise ValueError(f"a classifier needs two classes or more, and there is only one: {only!r}")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"there are {len(names)} classes, and at most {MAX_CLASSES} are possible")
    spellings: dict[str, list[str]] = {}
    for name in names:
        if not _may_name_class(name):
            raise ValueError(
                f"{name[:_MAX_NAME_LENGTH]!r} is not the name of a class: it must be printable, "
                f"without blanks at its ends, of 1 to {_MAX_NAME_LENGTH} characters"
            )
        spellings.setdefault(name.casefold(), []).append(repr(name))
    for same in spellings.values():
        if len(same) > 1:
            raise ValueError(f"{' and '.join(same)} name one class: case does not count")
    return names


def _may_name_class(name: str) -> bool:
    """Say whether a class may have a name; joiners may be inside, but not at an end."""
    has_clean_ends = name == name.strip().strip(JOINERS)
    return 1 <= len(name) <= _MAX_NAME_LENGTH and has_clean_ends and is_printable(name)


def check_chosen(chosen: Sequence[str] | None, available: Sequence[str]) -> None:
    """Check that the data have the classes that ``train.classes`` names.

    Args:
        chosen: ``train.classes``; None: not set.
        available: The classes of the data.

    Raises:
        UserError: The data lack a class.
    """
    unknown = [name for name in chosen or () if name not in available]
    quoted = [set_apart(name) for name in unknown]
    if unknown:
        raise UserError(
            f"train.classes: the data have no {' or '.join(few(quoted))} to learn",
            hint=f"the classes are {', '.join(few([set_apart(name) for name in available]))}",
        )


def _read_labels(setting: Any) -> dict[str, tuple[str, ...]] | str:
    """Read the values of each class; by default only an empty value is ``unlabelled``.

    Raises:
        ValueError: A name or a value cannot be used, or a value belongs to two classes.
    """
    if setting == "auto":
        return "auto"
    if not isinstance(setting, Mapping):
        raise ValueError("must be auto, or the values of each class: {negative: n, positive: p}")
    for name in setting:
        if not _is_text_or_integer(name):
            raise ValueError(f"the name of a class is written in quotes, not as {name!r}")
    classes = [str(name) for name in setting if name != UNLABELLED]
    check_names(classes)
    labels = {str(name): _list_values(name, values) for name, values in setting.items()}
    labels.setdefault(UNLABELLED, ("",))
    for name in classes:
        if not labels[name]:
            raise ValueError(f"{name!r} has no value: give one, or leave the class out")
    owners: dict[str, str] = {}
    for name, values in labels.items():
        for value in values:
            owner = owners.get(value)
            if owner == name:
                raise ValueError(
                    f"{value!r} is listed twice for {name}: blanks at the ends do not count"
                )
            if owner is not None:
                raise ValueError(f"{value!r} is listed for {owner} and for {name}")
            owners[value] = name
    return labels


def _list_values(name: Any, value: Any) -> tuple[str, ...]:
    """List the one or more values of a class, without white space at their ends.

    Raises:
        ValueError: A value is not a text or an integer.
    """
    values = value if isinstance(value, list | tuple) else (value,)
    for item in values:
        if not _is_text_or_integer(item):
            raise ValueError(f"{name}={item!r}: write each value as it is in the CSV, in quotes")
    return tuple(str(item).strip() for item in values)


def _is_text_or_integer(value: Any) -> bool:
    """Say whether a value is a string or an integer; YAML reads ``yes`` and ``no`` as bool."""
    return isinstance(value, str | int) and not isinstance(value, bool)


Labels = Annotated[dict[str, tuple[str, ...]] | Literal["auto"], BeforeValidator(_read_labels)]
"""The values of each class, as files write them, and those of ``unlabelled``; or ``auto``."""
