"""Types of settings: they check values as written in a settings file, and convert them."""

import codecs
import itertools
import zoneinfo
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

LOCATION = "location"
"""Marks a setting whose values are locations, which are made absolute."""
ADDED = "added"
"""Marks a setting that version 0.1 did not have, see :func:`decisive.dump`."""
Location = Annotated[str, LOCATION]
"""A path or a URI."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


def _as_tuple(value: Any) -> Any:
    """Make a tuple of a single string; other values are returned unchanged."""
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""Strings; a single string may be written without a list."""
Locations = Annotated[Strings, LOCATION]
"""Paths or URIs."""


def check_models(value: Any) -> Any:
    """Check one model or a list of models; a list of one model becomes that model.

    Raises:
        ValueError: The value is neither a model nor a list of models, or the list is empty or has a
            model twice.
    """
    models = [value] if isinstance(value, str) else value
    if not isinstance(models, list | tuple) or not all(isinstance(each, str) for each in models):
        raise ValueError("must be a model, or a list of models")
    if not models:
        raise ValueError("names no model")
    if len({*models}) < len(models):
        raise ValueError("names a model twice")
    return models[0] if len(models) == 1 else tuple(models)


Models = Annotated[str | tuple[str, ...], BeforeValidator(check_models)]
"""A model, or several whose probabilities are averaged."""


def _check_zone(value: str) -> str:
    """Check that a value is the name of a time zone in the IANA database."""
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("is no time zone, such as Europe/Berlin") from error
    return value


TimeZone = Annotated[str, AfterValidator(_check_zone)]
"""The name of a time zone, such as ``Europe/Berlin``."""


def _check_count(value: Any) -> int | str:
    """Check that a value is ``auto`` or a whole number of at least 1."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (is_integer and value >= 1):
        return value
    raise ValueError("must be auto, or a whole number of at least 1")


CountOrAuto = Annotated[int | str, BeforeValidator(_check_count)]


def _check_share(value: Any) -> float | str:
    """Check that a value is ``auto`` or a number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and 0 <= value <= 1):
        return value
    raise ValueError("must be auto, or a number from 0 to 1")


ShareOrAuto = Annotated[float | str, BeforeValidator(_check_share)]


_ENCODINGS = {
    "utf-8": "utf-8",
    "utf-8-sig": "utf-8",
    "ascii": "utf-8",
    "utf-16": "utf-8",
    "iso8859-1": "latin-1",
    "cp1252": "cp1252",
}
"""Value of the setting for each encoding, by Python's name of the encoding. ASCII is a subset of
UTF-8. UTF-16 is detected by its byte order mark and converted to UTF-8 when it is read."""


def _check_encoding(value: Any) -> str:
    """Convert Python's names of the supported encodings to the values of the setting.

    Raises:
        ValueError: Files in this encoding cannot be read.
    """
    try:
        return _ENCODINGS[codecs.lookup(value).name]
    except (LookupError, TypeError) as error:
        raise ValueError(
            "must be utf-8, latin-1 or cp1252; convert other files first: iconv -f ENCODING -t "
            "UTF-8 FILE"
        ) from error


Encoding = Annotated[Literal["utf-8", "latin-1", "cp1252"], BeforeValidator(_check_encoding)]


class Settings(BaseModel):
    """A section of the settings. It is frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


def _check_column(value: Any) -> int | str | None:
    """Check that a value is the name or the position of a column, or None for no column."""
    if value is None or (isinstance(value, str) and value):
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and value >= 0:
        return value
    raise ValueError("must be a name in the header, or a position counted from 0")


def check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that no name occurs twice; case does not count, as in DuckDB and Spark."""
    folded = sorted(name.lower() for name in names)
    for name, following in itertools.pairwise(folded):
        if name == following:
            raise ValueError(f"names {name} twice")
    return names


Distinct = AfterValidator(check_distinct)
Column = Annotated[int | str | None, BeforeValidator(_check_column)]
RequiredColumn = Annotated[int | str, BeforeValidator(_check_column)]


def check_patterns(patterns: dict[str, str]) -> dict[str, str]:
    """Check that each value is a regular expression of RE2, whose time is linear in the text."""
    if not patterns:
        return patterns  # without the import, which takes time
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, pattern in patterns.items():
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(
                f"{name}: {pattern!r} is not a regular expression: {reason}"
            ) from error
    return patterns


Patterns = Annotated[dict[str, str], AfterValidator(check_patterns)]


class RangeSettings(Settings):
    """A range of numbers to sample from."""

    low: int | float
    """The smallest number."""
    high: int | float
    """The largest number. If both are whole numbers, only whole numbers are sampled."""
    log: bool = False
    """Sample the logarithm uniformly."""

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are sampled."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _check_order(self) -> "RangeSettings":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("log: true needs a low above 0")
        return self


def _check_choices(value: Any) -> Any:
    """Read a list of values or a range.

    Raises:
        ValueError: The value is neither a list nor a range, or the range is wrong; only the first
            fault of the range is named.
    """
    if isinstance(value, list | tuple) and value:
        return tuple(value)
    if not isinstance(value, dict | RangeSettings):
        raise ValueError("must be a list of values, or {low: 1.0e-4, high: 1.0e-2, log: true}")
    try:
        return RangeSettings.model_validate(value)
    except ValidationError as error:
        listed = error.errors(include_url=False)
        key = listed[0]["loc"][:1]  # empty if the rule is about both ends
        of_key = [fault for fault in listed if fault["loc"][:1] == key]
        # Of low and high, the last fault is the one as a float, and holds for an int, too.
        message = of_key[-1]["msg"].removeprefix("Value error, ")
        names = [str(part) for part in key]
        raise ValueError(": ".join([*names, message])) from error


def _flatten_space(value: Any, prefix: str = "") -> Any:
    """Flatten nested sections to dotted names; of a repeated setting, the later one counts."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, choices in value.items():
        # One key of a range is enough: no section has a setting of this name, and a message about
        # an incomplete range helps more.
        is_range = isinstance(choices, dict) and bool(choices.keys() & RangeSettings.model_fields)
        if isinstance(choices, dict) and choices and not is_range:
            flat |= _flatten_space(choices, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = choices
    return flat


Choices = Annotated[tuple[Any, ...] | RangeSettings, BeforeValidator(_check_choices)]
Space = Annotated[dict[str, Choices], BeforeValidator(_flatten_space)]
"""A search space: the choices of each setting, by its dotted name."""
