"""Two trainings -> the settings and inputs in which they differ."""

from dataclasses import dataclass
from typing import Any

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.evaluation import lineage
from sentiflow.tracking.model_sources import TEACHER

_ABSENT = "(absent)"
"""Stands for a setting that does not exist in the version of sentiflow that one run used."""


@dataclass(frozen=True)
class Setting:
    """A setting of preparation or training that differs between the models."""

    key: str
    """Dotted: ``train.model.cell``."""
    first: Any
    second: Any


def compare_settings(first: Manifest, second: Manifest) -> tuple[list[Setting] | None, list[str]]:
    """List the settings in which two trainings differ, and their preparations.

    Args:
        first: Manifest of a scored directory.
        second: Manifest of the other.

    Returns:
        The settings by key, None if a training's manifest is gone; what could not be compared.
    """
    one, other = lineage.training_of(first), lineage.training_of(second)
    if not one or not other:
        return None, ["settings are not compared: a training is gone or was redone"]
    settings, notes = _compare_stage("train", one, other), []
    prepared, other_prepared = (manifest.read_input(t["inputs"], "prepared") for t in (one, other))
    if prepared and other_prepared:
        settings |= _compare_stage("prepare", prepared, other_prepared)
    elif len({t["inputs"]["prepared"]["fingerprint"] for t in (one, other)}) > 1:
        notes = ["settings of prepare are not compared: prepared data are gone or were redone"]
    if any("members" in record["inputs"]["model"] for record in (first, second)):
        notes.append("the settings are those of the first of the averaged models")
    return [settings[key] for key in sorted(settings)], notes


def _compare_stage(stage: str, first: Manifest, second: Manifest) -> dict[str, Setting]:
    """List by key the settings of a stage that differ, and inputs of different content."""
    one, other = (flatten({stage: record["settings"]}) for record in (first, second))
    teachers = {name for r in (first, second) for name in r["inputs"] if name.startswith(TEACHER)}
    for name in ("init_from", "refit", "csv", "corrections", "unlabelled", *sorted(teachers)):
        inputs = [record["inputs"].get(name) for record in (first, second)]
        if len({item and item["fingerprint"] for item in inputs}) > 1:
            one[f"{stage}.{name}"], other[f"{stage}.{name}"] = map(_name_input, inputs)
    pairs = ((key, one.get(key, _ABSENT), other.get(key, _ABSENT)) for key in one | other)
    return {key: Setting(key, before, after) for key, before, after in pairs if before != after}


def _name_input(item: Input | None) -> str | list[str] | None:
    if not item:
        return None
    return [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
