"""Settings as written -> settings with what they stand for: a preset, an inherited format."""

import functools
from importlib import resources
from typing import Any

from sentiflow.config import yaml_text


def inherit_format(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill ``score.format`` in from ``format``, if both are of one kind.

    Columns of one file say nothing about those of another, so they are given as a whole, and labels
    are inherited only for a column of labels.
    """
    base, section = raw.get("format"), raw.get("score")
    if not isinstance(base, dict) or not isinstance(section, dict):
        return raw
    scored = section.get("format")
    if not isinstance(scored, dict):
        return raw
    if scored.get("kind", base.get("kind")) != base.get("kind"):
        return raw
    inherited, columns = dict(base), scored.get("columns")
    if isinstance(columns, dict) and columns.get("label") is None:
        inherited.pop("labels", None)
    return raw | {"score": section | {"format": inherited | scored}}


@functools.cache
def read_presets() -> dict[str, dict[str, Any]]:
    """Read what each preset stands for, as the section ``train`` has it."""
    text = (resources.files("sentiflow.config") / "presets.yaml").read_text("utf-8")
    presets: dict[str, dict[str, Any]] = yaml_text.parse(text)
    return presets


def fill_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill the settings of ``train.preset`` in where ``train`` does not name its own."""
    train = raw.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("preset"), str):
        return raw
    model = train.get("model")
    if isinstance(model, dict) and model.get("kind", "rnn") != "rnn":
        return raw  # refused by TrainSettings, in its own words
    return raw | {"train": _merge(read_presets().get(train["preset"], {}), train)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings; where both name one, the second counts."""
    merged = base | changes
    for name in base.keys() & changes.keys():
        if isinstance(base[name], dict) and isinstance(changes[name], dict):
            merged[name] = _merge(base[name], changes[name])
    return merged
