"""Search space -> the settings of each trial, the same for the same space."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from sentiflow.config import settings
from sentiflow.config.locations import resolve_locations
from sentiflow.config.sections import Config
from sentiflow.config.types import Choices, RangeSettings
from sentiflow.errors import UserError

_SOURCE = "sweep.space"
_NOT_SWEPT = (
    "train.prepared_uri",
    "train.output_uri",
    "train.num_workers",
    "train.max_failures",
    "train.checkpoints",
    "train.selection.metric",
    "train.refit",
)
"""Settings that do not change the model, or leave trials without a common metric."""
_SAMPLES_PER_TRIAL = 100
"""Limit of the samples drawn for each trial. Beyond it the space counts as exhausted."""
_DIGITS = 4
"""Significant digits of a sampled number, unless it is whole."""

Values = dict[str, Any]
"""Values of settings, by dotted name."""


class Combination(NamedTuple):
    """The settings of one trial."""

    values: Values
    """The values that the trial has from the space."""
    config: Config
    """The config with these values."""


def expand(config: Config) -> list[Combination]:
    """List the settings of all trials.

    They follow from the space and the number of trials alone; the order of the settings has no
    effect.

    Raises:
        UserError: The space is empty, or a setting or a value in it is wrong; a line for each.
    """
    sweep = config.sweep
    if not sweep.space:
        raise UserError(
            "sweep.space is empty",
            hint="name settings and values, such as {train.model.hidden_size: [50, 100]}",
        )
    space = _check(config)
    if sweep.num_trials is None:
        products = itertools.product(*space.values())
        sampled = [dict(zip(space, values, strict=True)) for values in products]
    else:
        sampled = _sample(space, sweep.num_trials)
    return [Combination(values, _apply(config, values)) for values in sampled]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten dotted settings to their last part where that is unique.

    Example:
        >>> short_names(["train.seed", "train.model.cell"])
        {'train.seed': 'seed', 'train.model.cell': 'cell'}
    """
    last = [key.split(".")[-1] for key in keys]
    short = {}
    for key, name in zip(keys, last, strict=True):
        short[key] = name if last.count(name) == 1 else key
    return short


def _check(config: Config) -> dict[str, Choices]:
    """Validate every value of the space as a value of its setting; return the parsed space."""
    space: dict[str, Choices] = {}
    problems: list[str] = []
    for key, choices in sorted(config.sweep.space.items()):
        values: Sequence[Any]
        if isinstance(choices, RangeSettings):
            is_range = True
            values = (choices.low, choices.high)
        else:
            is_range = False
            values = choices
        parsed = []
        for value in values:
            try:
                _check_setting(config, key, is_range=is_range)
                applied = _apply(config, {key: value}).model_dump(mode="json")
                parsed.append(settings.flatten(applied)[key])
            except UserError as error:
                problems += str(error).splitlines()
        twice = [value for value in parsed if parsed.count(value) > 1]
        if twice:
            problems.append(f"{_SOURCE}: {key} has {twice[0]!r} twice")
        space[key] = choices if is_range else tuple(parsed)
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return space


def _check_setting(config: Config, key: str, *, is_range: bool) -> None:
    """Check that a setting can be swept.

    Raises:
        UserError: It cannot.
    """

    def refuse(problem: str, hint: str) -> NoReturn:
        raise UserError(f"{_SOURCE}: {key} {problem}", hint=hint)

    every_setting = settings.flatten(config.model_dump())
    if not key.startswith("train."):
        refuse("is not below train", "a sweep repeats only the training")
    is_excluded = any(key == name or key.startswith(f"{name}.") for name in _NOT_SWEPT)
    if is_excluded:
        refuse("cannot be swept", "it does not make another model")
    decides_answers = key == "train.classes" and config.train.distill.teachers
    if key == "train.distill.teachers" or decides_answers:
        refuse("cannot be swept", "all trials learn the answers of the same teachers")
    if key == "train.preset":
        refuse("cannot be swept", "name the settings that it stands for")
    if any(name.startswith(f"{key}.") for name in every_setting):
        refuse("is a section", "name the settings in it")
    if is_range and config.sweep.num_trials is None:
        refuse("is a range", "a grid needs lists; or give sweep.num_trials")


def _apply(config: Config, values: Values) -> Config:
    """Set some values in a config, and check it."""
    raw = config.model_dump(mode="json", exclude={"sweep"})
    for key, value in values.items():
        settings.put(raw, key, value)
    return resolve_locations(settings.validate(raw, source=_SOURCE))


def _sample(space: dict[str, Choices], num_trials: int) -> list[Values]:
    """Sample distinct combinations; fewer than wanted if the space has no more."""
    random = np.random.default_rng(0)  # a fixed seed: the same sweep has the same trials
    sampled: list[Values] = []
    for _ in range(_SAMPLES_PER_TRIAL * num_trials):
        values = {key: _draw(choices, random) for key, choices in space.items()}
        if values not in sampled:
            sampled.append(values)
        if len(sampled) == num_trials:
            break
    return sampled


def _draw(choices: Choices, random: np.random.Generator) -> Any:
    """Draw one of several values, or a number from a range, with ``_DIGITS`` digits or whole."""
    if not isinstance(choices, RangeSettings):
        return choices[random.integers(len(choices))]
    low = choices.low
    high = choices.high
    if choices.log:
        value = math.exp(random.uniform(math.log(low), math.log(high)))
    elif choices.is_whole:
        value = random.uniform(low, high + 1)
    else:
        value = random.uniform(low, high)
    rounded = math.floor(value) if choices.is_whole else float(f"{value:.{_DIGITS}g}")
    return min(max(rounded, low), high)
