"""The settings and inputs that decide the result of a stage, and how another run differs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sentiflow.config.settings import flatten
from sentiflow.data import manifest, own_files, partitions
from sentiflow.data.manifest_types import InputFile, Inputs, Manifest, Settings
from sentiflow.errors import shorten


class RunDescription(TypedDict):
    """The settings and inputs of a run, from its manifest or from its folder while unfinished."""

    stage: str
    settings: Settings
    inputs: Inputs
    user: NotRequired[str]
    """Only of an unfinished run: the person who ran it."""
    mlflow_run_id: NotRequired[str]
    """Only of an unfinished run: its run in MLflow."""


@dataclass(frozen=True)
class OutputSpec:
    """The output of a stage: its directory, and the settings and inputs that decide its content."""

    stage: str
    uri: str
    settings: Settings
    """Only settings that decide the result."""
    inputs: dict[str, Any]
    """An ``Input`` for each name; a stage may add further keys to it."""
    owns: tuple[str, ...] = ()
    """Files that the stage writes to their places before they are in a manifest: regular
    expressions of their paths, see :mod:`own_files`. Other files are known by the manifests that
    list them."""
    keeps: tuple[str, ...] = ()
    """Folders whose files the next result may keep. They outlive a run that was killed while it
    replaced the result."""
    grows: str = ""
    """Name of an input of files in the order of their arrival. The result is extended when there
    are new files, which are at the end of it."""
    follows: str = ""
    """If an alias names the model: prefix of the URIs of all versions, ``models:/name/``. Then
    predictions by other versions with the same classes stay valid. Empty: only one model counts."""
    gone: tuple[str, ...] = ()
    """URIs of files of ``grows`` that are gone; their rows stay in the result."""
    way_out_if_gone: str = ""
    """What to do if a file of ``grows`` is gone and its rows do not stay."""
    notes: tuple[str, ...] = ()
    """What the user is told when the stage continues or extends an earlier result."""

    def to_replace(self) -> "OutputSpec":
        """Return the spec of a result that nothing of an earlier one can stay in.

        Predictions by other models count as a difference, and so do files that are gone.
        """
        if not self.gone:
            return replace(self, follows="")
        from sentiflow.data import input_files  # rarely needed, and it imports more

        described = self.inputs[self.grows]
        files = [item for item in described["files"] if item["uri"] not in self.gone]
        inputs = self.inputs | {self.grows: input_files.combine(files)}
        return replace(self, follows="", inputs=inputs, gone=(), notes=())

    def has_written(self, path: str) -> bool:
        """Say whether a file of the directory is from this stage, by its name alone."""
        return own_files.matches(path, self.owns)

    @property
    def fingerprint(self) -> str:
        """Identify the result: a hash of the stage, its settings and its inputs' fingerprints."""
        return manifest.identify(self.stage, self.settings, self.inputs)

    def find_changes(self, run: RunDescription | Manifest, *, may_grow: bool = False) -> list[str]:
        """List the settings and inputs in which an existing run differs, one phrase each.

        Args:
            run: The run, complete or not.
            may_grow: Whether new files of the input ``grows`` are no difference.
        """
        changes = _compare_settings(run["settings"], self.settings)
        for name in sorted(run["inputs"].keys() | self.inputs.keys()):
            there = run["inputs"].get(name, {})  # the input of the existing run
            here = self.inputs.get(name, {})
            if name == "model":
                models = run.get("models", {"": there})
                changes += self._compare_models(models.values())  # type: ignore[attr-defined]
            elif there.get("fingerprint") != here.get("fingerprint"):
                grows = name == self.grows
                old_files = there.get("files", [])
                files = here.get("files", [])
                if grows and may_grow:
                    files = files[: len(old_files)]
                way_out = self.way_out_if_gone if grows else ""
                changes += _compare_files(name, old_files, files, grows=grows, way_out=way_out)
        return changes

    def find_new(self, run: RunDescription | Manifest) -> list[str]:
        """List the URIs of the files of the input ``grows`` that an existing run has not read."""
        num_old = len(run["inputs"][self.grows].get("files", []))
        files = self.inputs[self.grows].get("files", [])
        return [item["uri"] for item in files[num_old:]]

    def _compare_models(self, models: Iterable[Mapping[str, Any]]) -> list[str]:
        """Name the first model of an existing run whose predictions cannot stay in the result."""
        here = self.inputs.get("model", {})
        for there in models:
            if not self._may_stay(there):
                return [
                    f"another model: {_name_model(there)} there, {_name_model(here)} here by "
                    f"{self.stage}.model_uri"
                ]
        return []

    def _may_stay(self, model: Mapping[str, Any]) -> bool:
        """Say whether predictions by this model can stay in the result."""
        here = self.inputs.get("model", {})
        if model.get("fingerprint") == here.get("fingerprint"):
            return True
        is_version = bool(self.follows) and str(model.get("uri")).startswith(self.follows)
        if not is_version or _list_classes(model) != _list_classes(here):
            return False
        return _find_values(model) == _find_values(here)


def _compare_settings(there: Settings, here: Settings) -> list[str]:
    """List the settings that differ, with both values."""
    old = flatten(there)
    new = flatten(json.loads(json.dumps(here)))  # as JSON, in which a tuple is a list
    changes = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            before = shorten(json.dumps(old.get(key)), 60)
            now = shorten(json.dumps(new.get(key)), 60)
            changes.append(f"{key}: {before} there, {now} here")
    return changes


def _compare_files(
    name: str,
    there: Sequence[InputFile],
    here: Sequence[InputFile],
    *,
    grows: bool,
    way_out: str,
) -> list[str]:
    """Name the first file of an input that differs, and say how.

    An input without files is named itself. In the order of arrival a file that is gone differs.
    Otherwise the file in its place does.

    Args:
        name: The input.
        there: Its files in the existing run.
        here: Its files now.
        grows: Whether they are in the order of arrival.
        way_out: What to do if one is gone.
    """
    if not there and not here:
        return [f"another {name}"]
    uris_there = {item["uri"] for item in there}
    uris_here = {item["uri"] for item in here}
    for old, new in zip_longest(there, here):
        if old and new and _is_same_file(old, new):
            continue
        is_gone = old is not None and old["uri"] not in uris_here
        is_new = new is not None and new["uri"] not in uris_there
        if old and is_gone and (grows or not is_new):
            hint = f" ({way_out})" if way_out else ""
            return [f"another {name}: it lacks {old['uri']}{hint}"]
        if new and is_new:
            return [f"another {name}: {new['uri']} is new"]
        if old and new and old["uri"] == new["uri"]:
            return [f"another {name}: {new['uri']} was changed"]
        file = new or old
        assert file, "one of two lists goes on"
        return [f"another {name}: {file['uri']} has another place in the order"]
    return []


def _name_model(model: Mapping[str, Any]) -> str:
    """Name a model by its location and its classes."""
    return f"{model.get('uri', 'none')} of {shorten(_list_classes(model), 60)}"


def _list_classes(model: Mapping[str, Any]) -> str:
    """List the classes of a model as text."""
    settings = model.get("settings") or {}
    return ", ".join(settings.get("classes", ()))


def _find_values(model: Mapping[str, Any]) -> list[float] | None:
    """Find the numbers of the classes of a model, which decide the columns of predictions."""
    values = (model.get("settings") or {}).get("class_values")
    return None if values is None else list(values)


def _is_same_file(one: InputFile, other: InputFile) -> bool:
    """Compare files by content if both were read, otherwise by URI, size and time."""
    if one["tree_sha256"] and other["tree_sha256"]:
        return partitions.identify(one) == partitions.identify(other)
    return all(one[key] == other[key] for key in ("uri", "bytes", "modified_ns"))
