"""An existing run and what is wanted -> the settings and inputs that differ, in words."""

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.manifest_types import InputFile, Settings


class Description(TypedDict):
    """What decides the result of a run, in its manifest or while it is unfinished."""

    stage: str
    format_version: int
    settings: Settings
    inputs: dict[str, Any]


def find_changes(
    there: Description, settings: Settings, inputs: Mapping[str, Any], *, grows: str = ""
) -> list[str]:
    """List the settings and inputs in which an existing run differs from those that are wanted.

    Args:
        there: The existing run, complete or not.
        settings: The settings that are wanted.
        inputs: The inputs that are wanted.
        grows: Name of an input of files at whose end others may have been added.
    """
    if there["format_version"] != manifest.FORMAT_VERSION:
        return ["written by another version of sentiflow"]
    old, new = flatten(there["settings"]), flatten(json.loads(json.dumps(settings)))
    changes = [
        f"{key}: {_brief(old.get(key))} there, {_brief(new.get(key))} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    for name in sorted(there["inputs"].keys() | inputs.keys()):
        before, now = there["inputs"].get(name, {}), inputs.get(name, {})
        files = before.get("files", ()), now.get("files", ())
        is_same = before.get("fingerprint") == now.get("fingerprint")
        if not is_same and not _has_same_files(*files, may_grow=name == grows):
            changes.append(f"another {name}{_explain_files(*files)}")
    return changes


def _has_same_files(old: list[InputFile], new: list[InputFile], *, may_grow: bool) -> bool:
    """Say whether two inputs are the same files, or such to which others were added at the end."""
    has_all = len(new) >= len(old) > 0 if may_grow else len(new) == len(old) > 0
    return has_all and all(map(_is_same_file, old, new))


def _is_same_file(one: InputFile, other: InputFile) -> bool:
    """Compare files by content, where both were read, otherwise by URI, size and time."""
    if one["tree_sha256"] and other["tree_sha256"]:
        return manifest.identify_file(one) == manifest.identify_file(other)
    return all(one[key] == other[key] for key in ("uri", "bytes", "modified_ns"))


def _explain_files(old: list[InputFile], new: list[InputFile]) -> str:
    """Describe the first difference between two inputs of files."""
    differs = [i for i, pair in enumerate(zip(old, new, strict=False)) if not _is_same_file(*pair)]
    if not old or not new or not (differs or len(old) > len(new)):
        return ""
    if len(old) == len(new) == 1 and old[0]["uri"] != new[0]["uri"]:
        return f": {old[0]['uri']} there, {new[0]['uri']} here"
    first = differs[0] if differs else len(new)
    if differs and any(_is_same_file(old[first], item) for item in new):
        return f", {new[first]['uri']} is not at the end"
    is_there = old[first]["uri"] in [item["uri"] for item in new]
    return f", {old[first]['uri']} {'was changed' if is_there else 'is gone'}"


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
