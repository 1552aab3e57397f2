"""Two scored directories -> settings in which what made their models differs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.evaluation import evaluated_rows

_ABSENT = "(absent)"
"""Stands for a setting that the one's version of sentiflow did not have."""


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
    """Find the settings in which both trainings, and what they were trained on, differ.

    Args:
        first: Manifest of a scored directory.
        second: Of the other.
    """
    trainings = [evaluated_rows.training_of(scored) for scored in (first, second)]
    if not all(trainings):
        return Changed(None, ["settings are not compared: a training is gone or made anew"])
    one, other = (_under("train", training["settings"]) for training in trainings)
    _add_inputs(one, other, "train", trainings)
    prepared, notes = (
        [manifest.read_input(training["inputs"], "prepared") for training in trainings],
        [],
    )
    if all(prepared):
        one |= _under("prepare", prepared[0]["settings"])
        other |= _under("prepare", prepared[1]["settings"])
        _add_inputs(one, other, "prepare", prepared)
    elif len({training["inputs"]["prepared"]["fingerprint"] for training in trainings}) > 1:
        notes = ["settings of prepare are not compared: prepared data are gone or made anew"]
    keys = [key for key in sorted(one | other) if one.get(key, _ABSENT) != other.get(key, _ABSENT)]
    found = [Setting(key, one.get(key, _ABSENT), other.get(key, _ABSENT)) for key in keys]
    return Changed(found, notes)


def _under(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({stage: settings})


def _add_inputs(
    one: dict[str, Any], other: dict[str, Any], stage: str, records: list[dict[str, Any]]
) -> None:
    """Add the inputs that are other ones; of equal content they may lie in two places."""
    inputs = [record["inputs"] for record in records]
    for name in ("init_from", "csv"):
        found = [item.get(name) for item in inputs]
        if len({(item or {}).get("fingerprint") for item in found}) < 2:
            continue
        for settings, item in zip((one, other), found, strict=True):
            settings[f"{stage}.{name}"] = _name_input(item) if item else None


def _name_input(item: dict[str, Any]) -> Any:
    return [file["uri"] for file in item["files"]] if "files" in item else item["uri"]
