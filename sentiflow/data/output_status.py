"""Output directory of a stage -> its state, compared with what the stage would write.

A directory without a manifest is unfinished, and no job reads it. Nothing is written here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.manifest_types import InputFile, Inputs, Manifest, Settings
from sentiflow.errors import UserError, shorten
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import as_typed, join

WORK = "_work"
"""Folder in an output for unfinished runs, each in a folder of its own."""
STARTED = "started.json"
"""Describes an unfinished run, in its folder."""
MARKERS = "receipts"
"""Folder in that of a run for completion markers, one for each finished part."""

_STARTED = re.compile(rf"{WORK}/([0-9a-f]+)/{re.escape(STARTED)}")


class State(Enum):
    """State of the output directory of a stage."""

    NEW = "new"
    """Absent, empty, or with an unfinished run of these settings."""
    COMPLETE = "complete"
    EXTENDED = "extended"
    """Complete for the first input files; new files follow at the end."""
    DAMAGED = "damaged"
    """Complete, but a file is missing or is another one."""
    DIFFERENT = "different"
    """Of other settings or inputs, complete or not."""
    FOREIGN = "foreign"
    """The directory holds other files."""


class Description(TypedDict):
    """What decides the result of a run, in its manifest or while it is unfinished."""

    stage: str
    format_version: int
    settings: Settings
    inputs: Inputs
    details: NotRequired[dict[str, Any]]
    """Of an unfinished run: what else the stage needs to resume."""


_DESCRIPTION = TypeAdapter(Description)


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

    @property
    def fingerprint(self) -> str:
        """Identify the result: a hash of the stage, its settings and its inputs' fingerprints."""
        return manifest.identify(self.stage, self.settings, self.inputs)

    def find_changes(self, there: Description | Manifest, *, may_grow: bool = False) -> list[str]:
        """List the settings and inputs in which an existing run differs, in words.

        Args:
            there: The run, complete or not.
            may_grow: Whether files may have been added at the end of the growing input.
        """
        if there["format_version"] != manifest.FORMAT_VERSION:
            return ["another version of sentiflow"]
        old, new = flatten(there["settings"]), flatten(json.loads(json.dumps(self.settings)))
        changes = [
            "{}: {} there, {} here".format(
                key, *(shorten(json.dumps(each.get(key)), 60) for each in (old, new))
            )
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        for name in sorted(there["inputs"].keys() | self.inputs.keys()):
            before, now = there["inputs"].get(name, {}), self.inputs.get(name, {})
            files = before.get("files", ()), now.get("files", ())
            is_same = before.get("fingerprint") == now.get("fingerprint")
            if not is_same and not _has_same_files(
                *files, may_grow=may_grow and name == self.grows
            ):
                changes.append(f"another {name}{_explain_files(*files)}")
        return changes


@dataclass(frozen=True)
class Status:
    """State of an output directory compared with a spec."""

    state: State
    differences: tuple[str, ...] = ()
    """Settings and inputs that differ from the existing result; for a damaged one, the file."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest that was found."""
    run: str = field(default="", compare=False)
    """Folder in ``WORK`` of an unfinished run that can be resumed; empty if there is none."""
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What that run has noted."""
    leftovers: tuple[str, ...] = field(default=(), compare=False)
    """Files of the stage that the manifest does not list, and folders of unfinished runs."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether there are no leftovers, or only such as another command can resume."""


def find_status(spec: OutputSpec) -> Status:
    """Compare the output directory of a stage with its spec.

    Raises:
        UserError: The directory holds a link, which would lead a writer elsewhere.
    """
    if link := filesystem.find_link(spec.uri):
        raise UserError(
            f"{as_typed(link)} is a link, and a job writes nothing outside of its output",
            hint="remove it, or choose an empty or new directory",
        )
    record, sizes = manifest.read(spec.uri), filesystem.sizes(spec.uri)
    names = {path.split("/")[0] for path in sizes} - {lease.FOLDER}
    runs = _read_runs(spec.uri, sizes)
    if {each["stage"] for each in (record, *runs.values()) if each} - {spec.stage}:
        return Status(State.FOREIGN)
    is_ours = WORK in names and names <= {*spec.owns, WORK}  # a task of a killed job ended last
    if record is None and names and not runs and not is_ours:
        return Status(State.FOREIGN)
    changes = {name: spec.find_changes(started, may_grow=True) for name, started in runs.items()}
    run = next((name for name in sorted(runs) if not changes[name]), "")
    details = runs[run].get("details", {}) if run else {}
    leftovers = find_leftovers(spec, record, sizes)
    if record is None:
        has_files = any(not path.startswith(f"{WORK}/") for path in leftovers)
        begun = {path.split("/")[1] for path in sizes if f"/{MARKERS}/" in path}
        others = [found for name, found in changes.items() if has_files or name in begun]
        if others and not run:
            return Status(State.DIFFERENT, tuple(others[0]), leftovers=leftovers)
        return Status(State.NEW, (), None, run, details, leftovers)
    found, state = spec.find_changes(record), State.COMPLETE
    if found and not spec.find_changes(record, may_grow=True):
        found, state = [], State.EXTENDED
    if found:
        state = State.DIFFERENT
    elif damaged := manifest.find_damaged(spec.uri, record, sizes):
        found, state = [damaged], State.DAMAGED
    is_tidy = not leftovers or bool(runs.keys() - {run})
    return Status(state, tuple(found), record, run, details, leftovers, is_tidy)


def find_leftovers(
    spec: OutputSpec, record: Manifest | None, sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """List what the stage owns in its directory, but the manifest does not list.

    Unfinished runs are listed as whole folders.

    Args:
        spec: The output.
        record: The manifest, if there is one.
        sizes: All files of the directory.
    """
    listed = {item["path"] for item in record["files"]} if record else set()
    owned = (path for path in sizes if path.split("/")[0] in (*spec.owns, WORK))
    left = {
        "/".join(path.split("/")[:2]) if path.startswith(f"{WORK}/") else path
        for path in owned
        if path not in listed
    }
    return tuple(sorted(left))


def _read_runs(uri: str, sizes: Mapping[str, int]) -> dict[str, Description]:
    """Read the descriptions of unfinished runs by folder; damaged ones are left out."""
    found = {}
    for match in filter(None, map(_STARTED.fullmatch, sizes)):
        try:
            content = filesystem.read_bytes(join(uri, match[0]))
            found[match[1]] = _DESCRIPTION.validate_json(content, strict=True)
        except (FileNotFoundError, ValidationError):
            continue  # nothing of it is kept
    return found


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


def check_location(stage: str, uri: str) -> None:
    """Check that ``uri`` is empty, or an output of ``stage``, complete or not.

    Raises:
        UserError: It contains other files.
    """
    status = find_status(OutputSpec(stage, uri, {}, {}))
    check(status, uri=uri, stage=stage, overwrite=True)


def check(status: Status, *, uri: str, stage: str, overwrite: bool) -> None:
    """Check that a stage may write to a directory.

    Raises:
        UserError: It contains a result of other settings and ``overwrite`` is off, or other files.
    """
    if status.state is State.FOREIGN:
        raise UserError(
            f"{uri} holds files that are not from {stage}",
            hint="choose an empty or new directory",
        )
    if status.state is State.DIFFERENT and not overwrite:
        what = "belongs to" if status.record else "holds an unfinished run of"
        raise UserError(
            f"{uri} {what} other settings ({'; '.join(status.differences)})",
            hint="choose another output_uri, or replace it with --overwrite",
        )
    if status.state is State.DAMAGED and not overwrite:
        raise UserError(
            f"{join(uri, status.differences[0])} is missing or damaged",
            hint="create the whole output again with --overwrite",
        )
