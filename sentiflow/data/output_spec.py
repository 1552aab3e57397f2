"""What decides the result of a stage: settings, inputs, and how another run differs from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from typing_extensions import TypedDict

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.manifest_types import InputFile, Inputs, Manifest, Settings
from sentiflow.errors import shorten


class Description(TypedDict):
    """What decides the result of a run, in its manifest or while it is unfinished."""

    stage: str
    settings: Settings
    inputs: Inputs


@dataclass(frozen=True)
class OutputSpec:
    """Description of the output of a stage: where it goes, and what decides its content."""

    stage: str
    uri: str
    settings: Settings
    """Settings that decide the result, and no others."""
    inputs: dict[str, Any]
    """An ``Input`` for each name; a stage may add further keys to it."""
    owns: tuple[str, ...] = ()
    """Names in the directory that the stage writes, and deletes when it starts over."""
    grows: str = ""
    """Name of an input of files. If files were added at its end, the result is extended."""
    follows: str = ""
    """Beginning of the URIs of models that may follow each other: ``models:/name/``, by an alias.
    What other versions of the same classes have scored stays; empty: one model makes the result."""

    @property
    def fingerprint(self) -> str:
        """Identify the result: a hash of the stage, its settings and its inputs' fingerprints."""
        return manifest.identify(self.stage, self.settings, self.inputs)

    def find_changes(self, run: Description | Manifest, *, may_grow: bool = False) -> list[str]:
        """List the settings and inputs in which an existing run differs, in words.

        Args:
            run: The run, complete or not.
            may_grow: Whether files may have been added at the end of the growing input.
        """
        old, new = flatten(run["settings"]), flatten(json.loads(json.dumps(self.settings)))
        changes = [
            "{}: {} there, {} here".format(
                key, *(shorten(json.dumps(each.get(key)), 60) for each in (old, new))
            )
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        for name in sorted(run["inputs"].keys() | self.inputs.keys()):
            before, now = run["inputs"].get(name, {}), self.inputs.get(name, {})
            if name == "model":
                models = run.get("models", {"": before}).values()  # type: ignore[attr-defined]
                if others := [each for each in models if not self._may_stay(each)]:
                    there, here = (
                        f"{each.get('uri', 'none')} of {shorten(_list_classes(each), 60)}"
                        for each in (others[0], now)
                    )
                    changes.append(
                        f"another model: {there} there, {here} here by {self.stage}.model_uri"
                    )
                continue
            if before.get("fingerprint") == now.get("fingerprint"):
                continue
            old_files, files = before.get("files", []), now.get("files", [])
            if may_grow and name == self.grows:
                files = files[: len(old_files)]
            pairs = list(zip_longest(old_files, files))
            others = [other or one for one, other in pairs if not _is_same_file(one, other)]
            if others or not pairs:
                changes.append(": ".join([f"another {name}", *(f["uri"] for f in others[:1])]))
        return changes

    def _may_stay(self, model: Mapping[str, Any]) -> bool:
        """Say whether what a model has made is part of the result."""
        now = self.inputs.get("model", {})
        is_version = bool(self.follows) and str(model.get("uri")).startswith(self.follows)
        is_same = model.get("fingerprint") == now.get("fingerprint")
        return is_same or (is_version and _list_classes(model) == _list_classes(now))


def _list_classes(model: Mapping[str, Any]) -> str:
    return ", ".join((model.get("settings") or {}).get("classes", ()))


def _is_same_file(one: InputFile | None, other: InputFile | None) -> bool:
    """Compare files by content, where both were read, otherwise by URI, size and time."""
    if one is None or other is None:
        return False
    if one["tree_sha256"] and other["tree_sha256"]:
        return manifest.identify_file(one) == manifest.identify_file(other)
    return all(one[key] == other[key] for key in ("uri", "bytes", "modified_ns"))
