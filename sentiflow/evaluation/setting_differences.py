"""Two runs -> the settings and inputs in which the trainings of their models differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sentiflow.config.settings import flatten
from sentiflow.data import followed_inputs, lineage
from sentiflow.data.manifest_types import Manifest
from sentiflow.evaluation.scored_runs import Pair


@dataclass(frozen=True)
class Setting:
    """A setting, or an input, of preparation or training that differs between the models."""

    key: str
    """Dotted: ``train.model.cell``."""
    first: Any
    """Its value for the first model; of an input, the location."""
    second: Any


class _Value(NamedTuple):
    """A setting or an input."""

    compared: Any
    """What decides whether two models differ: the setting, or the fingerprint of an input."""
    shown: Any
    """What the user sees: the setting, or the location of an input, or the locations of its
    files."""


_ABSENT = _Value("(absent)", "(absent)")
"""Stands for a setting that one of the models does not have, as its network is of another kind."""


def compare_settings(pair: Pair) -> tuple[list[Setting] | None, list[str]]:
    """List the settings and inputs in which two trainings, and their preparations, differ.

    Returns:
        The settings by key, None for a file of predictions or if a training's manifest is gone;
        notes on what could not be compared.
    """
    if pair[0].file or pair[1].file:
        return None, []
    models = [scored.record["inputs"]["model"] for scored in pair]
    first = lineage.training_of(models[0])
    second = lineage.training_of(models[1])
    if not first or not second:
        return None, ["settings are not compared: a training is gone or was redone"]
    notes = []
    of_first = _list_values("train", first)
    of_second = _list_values("train", second)
    prepared = followed_inputs.follow(first["inputs"], "prepared")
    other_prepared = followed_inputs.follow(second["inputs"], "prepared")
    if prepared and other_prepared:
        of_first |= _list_values("prepare", prepared)
        of_second |= _list_values("prepare", other_prepared)
    elif _fingerprint_of_data(first) != _fingerprint_of_data(second):
        notes.append("settings of prepare are not compared: prepared data are gone or were redone")
    if any("members" in model for model in models):
        notes.append("only the settings of the first averaged model are compared")
    return _list_differing(of_first, of_second), notes


def _fingerprint_of_data(training: Manifest) -> str:
    return training["inputs"]["prepared"]["fingerprint"]


def _list_values(stage: str, record: Manifest) -> dict[str, _Value]:
    """List the settings and inputs of a stage by key.

    Prepared data are left out of the inputs: their own settings and inputs are listed instead.
    """
    values = {}
    for key, value in flatten({stage: record["settings"]}).items():
        values[key] = _Value(value, value)
    for name, item in record["inputs"].items():
        if name == "prepared":
            continue
        shown = [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
        values[f"{stage}.{name}"] = _Value(item["fingerprint"], shown)
    return values


def _list_differing(
    of_first: Mapping[str, _Value], of_second: Mapping[str, _Value]
) -> list[Setting]:
    """List the settings that differ, by key."""
    differing = []
    for key in sorted({*of_first, *of_second}):
        first = of_first.get(key, _ABSENT)
        second = of_second.get(key, _ABSENT)
        if first.compared != second.compared:
            differing.append(Setting(key, first.shown, second.shown))
    return differing
