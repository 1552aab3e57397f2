"""Search space as written in the settings -> the choices of each setting."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, model_validator

from sentiflow.config.types import Settings


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
    """Parse a list of values or a range; an error names the first problem of a range."""
    if isinstance(value, list | tuple) and value:
        return tuple(value)
    if not isinstance(value, dict | RangeSettings):
        raise ValueError("must be a list of values, or {low: 1.0e-4, high: 1.0e-2, log: true}")
    try:
        return RangeSettings.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        message = fault["msg"].removeprefix("Value error, ")
        raise ValueError(": ".join([*map(str, fault["loc"]), message])) from error


def _flatten_space(value: Any, prefix: str = "") -> Any:
    """Flatten sections to dotted names. If both name a setting, the later one counts."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, choices in value.items():
        is_section = isinstance(choices, dict) and not choices.keys() & RangeSettings.model_fields
        inner = _flatten_space(choices, f"{prefix}{key}.") if is_section else {}
        flat |= inner or {f"{prefix}{key}": choices}
    return flat


Choices = Annotated[tuple[Any, ...] | RangeSettings, BeforeValidator(_check_choices)]
Space = Annotated[dict[str, Choices], BeforeValidator(_flatten_space)]
