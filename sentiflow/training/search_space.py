"""Search space -> the settings of each trial, the same for the same seed."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentiflow.config import settings
from sentiflow.config.sections import Config, SweepSettings
from sentiflow.config.sweep_space import RangeSettings
from sentiflow.errors import UserError

_SOURCE = "sweep.space"
_NOT_SWEPT = ("train.prepared_uri", "train.output_uri", "train.num_workers", "train.max_failures",
              "train.checkpoints", "train.selection.metric")  # fmt: skip
"""They do not change the model, or leave the trials without a common measure."""
_DRAWS_PER_TRIAL = 100
_DIGITS = 4
"""Of a drawn number that is not whole."""


@dataclass(frozen=True)
class Trial:
    """One combination of values."""

    number: int
    """Counted from 1."""
    values: dict[str, Any]
    """By dotted setting."""
    config: Config
    """With the values applied."""


def expand(config: Config) -> list[Trial]:
    """Determine the trials of a sweep, from its space and seed alone.

    The order in which the space names its settings does not matter.

    Raises:
        UserError: The space is empty, or a setting or a value in it is wrong: a line for each.
    """
    sweep = config.sweep
    if not sweep.space:
        raise UserError(
            "sweep.space is empty",
            hint="name settings and values, such as {train.model.hidden_size: [50, 100]}",
        )
    space = _check(config)
    combinations = _grid(space) if sweep.search == "grid" else _draw(space, sweep)
    return [
        Trial(number, values, _apply(config, values))
        for number, values in enumerate(combinations, start=1)
    ]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Name dotted settings by their last part, where that is no other's too.

    Example:
        >>> short_names(["train.seed", "train.model.cell"])
        {'train.seed': 'seed', 'train.model.cell': 'cell'}
    """
    last = [key.split(".")[-1] for key in keys]
    return {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }


def _check(config: Config) -> dict[str, Any]:
    """Validate each value as if it stood in the settings; returns them as they were understood."""
    space, problems = {}, []
    for key, choices in sorted(config.sweep.space.items()):
        try:
            space[key] = _check_setting(config, key, choices)
        except UserError as error:
            problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return space


def _check_setting(config: Config, key: str, choices: Any) -> Any:
    known = settings.flatten(config.model_dump())
    if not key.startswith("train."):
        raise UserError(f"{_SOURCE}: {key} is not below train", hint="only a training is repeated")
    if any(key == name or key.startswith(f"{name}.") for name in _NOT_SWEPT):
        raise UserError(f"{_SOURCE}: {key} cannot be swept", hint="it does not make another model")
    if any(name.startswith(f"{key}.") for name in known):
        raise UserError(f"{_SOURCE}: {key} is a section", hint="name the settings in it")
    is_range = isinstance(choices, RangeSettings)
    if is_range and config.sweep.search == "grid":
        raise UserError(
            f"{_SOURCE}: {key} is a range", hint="a grid needs lists; or give sweep.search: random"
        )
    values, problems = [], []
    for value in (choices.low, choices.high) if is_range else choices:
        try:
            applied = _apply(config, {key: value})
            values.append(settings.flatten(applied.model_dump(mode="json"))[key])
        except UserError as error:
            problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(problems))
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{_SOURCE}: {key} has {value!r} twice")
    return choices if is_range else values


def _apply(config: Config, values: dict[str, Any]) -> Config:
    raw = config.model_dump(mode="json", exclude={"sweep"})
    for key, value in values.items():
        settings.put(raw, key, value)
    return settings.resolve(settings.validate(raw, source=_SOURCE))


def _grid(space: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def _draw(space: dict[str, Any], sweep: SweepSettings) -> list[dict[str, Any]]:
    """Draw combinations, no two alike; fewer than wanted where the space has no more."""
    random = np.random.default_rng(sweep.seed)
    drawn: list[dict[str, Any]] = []
    for _ in range(_DRAWS_PER_TRIAL * sweep.num_trials):
        values = {key: _draw_one(choices, random) for key, choices in space.items()}
        if values not in drawn:
            drawn.append(values)
        if len(drawn) == sweep.num_trials:
            break
    return drawn


def _draw_one(choices: Any, random: np.random.Generator) -> Any:
    if not isinstance(choices, RangeSettings):
        return choices[int(random.integers(len(choices)))]
    low, high = choices.low, choices.high
    are_whole = isinstance(low, int) and isinstance(high, int)
    if choices.log:
        value = math.exp(random.uniform(math.log(low), math.log(high)))
    elif are_whole:
        value = int(random.integers(int(low), int(high) + 1))
    else:
        value = random.uniform(low, high)
    rounded = round(value) if are_whole else float(f"{value:.{_DIGITS}g}")
    return min(max(rounded, low), high)
