"""Value as written in a settings file -> checked value."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Strings = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]


def _check_count(value: Any) -> int | str:
    if value == "auto" or (isinstance(value, int) and value >= 1 and value is not True):
        return value
    raise ValueError("must be auto, or a whole number of at least 1")


def _check_share(value: Any) -> float | str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and 0 <= value <= 1):
        return value
    raise ValueError("must be auto, or a number from 0 to 1")


CountOrAuto = Annotated[int | str, BeforeValidator(_check_count)]
ShareOrAuto = Annotated[float | str, BeforeValidator(_check_share)]


class Settings(BaseModel):
    """A section of the settings. It is frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Section = TypeVar("Section", bound=Settings)


def _as_written(value: Any) -> Any:
    """Accept one value or a list, as they are written in a CSV: strings and whole numbers."""
    values = value if isinstance(value, list | tuple) else (value,)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError("write each value as it is in the CSV, in quotes")
    return tuple(str(item) for item in values)


Written = Annotated[tuple[str, ...], BeforeValidator(_as_written)]


def _check_column(value: Any) -> int | str | None:
    if value is None or (isinstance(value, int) and value is not True and value >= 0):
        return value
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be a name in the header, or a position counted from 0")


Column = Annotated[int | str | None, BeforeValidator(_check_column)]
RequiredColumn = Annotated[int | str, BeforeValidator(_check_column)]


def check_patterns(patterns: dict[str, str]) -> dict[str, str]:
    """Check that each value is a regular expression of RE2, whose time is linear in the text."""
    for name, pattern in patterns.items():
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(
                f"{name}: {pattern!r} is not a regular expression: {reason}"
            ) from error
    return patterns


Patterns = Annotated[dict[str, str], AfterValidator(check_patterns)]
