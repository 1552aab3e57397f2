"""Two scored directories -> the settings of preparation and training in which they differ."""

from dataclasses import dataclass
from typing import Any

from sentiflow.config.settings import flatten
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Input, Manifest

_ABSENT = "(absent)"
"""Stands for a setting that does not exist in the version of sentiflow that one run used."""


@dataclass(frozen=True)
class Setting:
    """A setting of preparation or training that is not the same for both models."""

    key: str
    """Dotted: ``train.model.cell``."""
    first: Any
    second: Any


@dataclass(frozen=True)
class Changed:
    """What is known of the settings that made two models."""

    settings: list[Setting] | None
    """By key; None if a training's manifest is gone."""
    notes: list[str]
    """What could not be compared, and why."""


def find(first: Manifest, second: Manifest) -> Changed:
    """Find the settings in which two trainings differ, and their preparations.

    Args:
        first: Manifest of a scored directory.
        second: Of the other.
    """
    one, other = lineage.training_of(first), lineage.training_of(second)
    if not one or not other:
        return Changed(None, ["settings are not compared: a training is gone or was redone"])
    settings, notes = _compare("train", one, other), []
    prepared, other_prepared = (manifest.read_input(t["inputs"], "prepared") for t in (one, other))
    if prepared and other_prepared:
        settings |= _compare("prepare", prepared, other_prepared)
    elif len({t["inputs"]["prepared"]["fingerprint"] for t in (one, other)}) > 1:
        notes = ["settings of prepare are not compared: prepared data are gone or were redone"]
    return Changed([settings[key] for key in sorted(settings)], notes)


def _compare(stage: str, first: Manifest, second: Manifest) -> dict[str, Setting]:
    """List by key the settings of a stage that differ, and inputs of different content."""
    one, other = (flatten({stage: record["settings"]}) for record in (first, second))
    for name in ("init_from", "csv"):
        inputs = [record["inputs"].get(name) for record in (first, second)]
        if len({item and item["fingerprint"] for item in inputs}) > 1:
            one[f"{stage}.{name}"], other[f"{stage}.{name}"] = map(_name_input, inputs)
    pairs = ((key, one.get(key, _ABSENT), other.get(key, _ABSENT)) for key in one | other)
    return {key: Setting(key, before, after) for key, before, after in pairs if before != after}


def _name_input(item: Input | None) -> str | list[str] | None:
    if not item:
        return None
    return [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
