"""Output directory of a stage -> its state, compared with what the stage would write.

A directory without a manifest is unfinished, and no job reads it. Nothing is written here, except
that an interrupted exchange of results is finished.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from sentiflow.config.settings import flatten
from sentiflow.data import manifest
from sentiflow.data.exchange import NEXT, STARTED
from sentiflow.data.manifest_types import InputFile, Manifest, Settings
from sentiflow.errors import UserError, shorten
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import join

WORK = "_work"
"""Subdirectory for files that are needed until a stage is complete."""
MARKERS = f"{WORK}/receipts"
"""Subdirectory for completion markers, one for each finished part."""

_HALF_STARTED = re.compile(rf"{re.escape(STARTED)}\.[0-9a-f]+\.tmp")
"""Left by a run that was killed before it wrote anything else."""


class State(Enum):
    """State of the output directory of a stage."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"
    EXTENDED = "extended"
    """Complete for the first input files; new files follow at the end."""
    DAMAGED = "damaged"
    """Complete, but a file is missing or has another size."""
    DIFFERENT = "different"
    """Of other settings or inputs, complete or not."""
    NOT_OURS = "not ours"
    """The directory contains other files."""


class Description(TypedDict):
    """What decides the result of a run, in its manifest or while it is unfinished."""

    stage: str
    format_version: int
    settings: Settings
    inputs: dict[str, Any]


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

    def find_changes(self, there: Description, *, may_grow: bool = False) -> list[str]:
        """List the settings and inputs in which an existing run differs, in words.

        Args:
            there: The run, complete or not.
            may_grow: Whether files may have been added at the end of the growing input.
        """
        if there["format_version"] != manifest.FORMAT_VERSION:
            return ["written by another version of sentiflow"]
        old, new = flatten(there["settings"]), flatten(json.loads(json.dumps(self.settings)))
        changes = [
            f"{key}: {_brief(old.get(key))} there, {_brief(new.get(key))} here"
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


class Started(Description):
    """The content of ``started.json``: an unfinished run."""

    owns: list[str]
    """As in the run's :class:`OutputSpec`."""
    overwrite: bool
    """Whether the run was begun with ``--overwrite``."""
    details: dict[str, Any]
    """What else the stage needs to resume."""


@dataclass(frozen=True)
class Status:
    """State of an output directory compared with a spec."""

    state: State
    differences: tuple[str, ...] = ()
    """Settings and inputs that differ from the existing result; for a damaged one, the file."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest that was found."""
    started: Started | None = field(default=None, compare=False)
    """The unfinished run that was found in the directory, complete or not."""
    next_started: Started | None = field(default=None, compare=False)
    """The unfinished run that was found in ``_next``."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether nothing was found of a killed run, or only what another command can resume."""


def find_status(spec: OutputSpec, *, uri: str = "") -> Status:
    """Compare the output directory of a stage with its spec.

    Args:
        spec: The output.
        uri: The directory, where it is not that of the spec.
    """
    uri = uri or spec.uri
    record = manifest.read(uri)
    sizes = filesystem.sizes(uri)
    names = {name.split("/")[0] for name in sizes} - {lease.FOLDER}
    half = {name for name in names if _HALF_STARTED.fullmatch(name)}
    started = _read_started(uri) if STARTED in names else None
    if (record or started or {"stage": spec.stage})["stage"] != spec.stage:
        return Status(State.NOT_OURS)
    if record is not None:
        state, differences = _compare(spec, record, sizes)
        there = _read_started(join(uri, NEXT)) if NEXT in names else None
        may_resume = there is not None and bool(spec.find_changes(there))
        is_tidy = not half and STARTED not in names and (NEXT not in names or may_resume)
        return Status(state, differences, record, started, there, is_tidy)
    is_left = WORK in names and names - half <= set(spec.owns)  # by a task that ended last
    if STARTED not in names and not is_left:
        return Status(State.NOT_OURS if names - half else State.ABSENT)
    differences = tuple(spec.find_changes(started, may_grow=True)) if started else ()
    results = {*spec.owns} - {WORK}
    is_begun = any(p.startswith(MARKERS) or p.split("/")[0] in results for p in sizes)
    state = State.DIFFERENT if differences and is_begun else State.UNFINISHED
    return Status(state, differences, started=started, is_tidy=False)


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
    return shorten(json.dumps(value), 60)


def _read_started(uri: str) -> Started | None:
    """Read the description of an unfinished run; None if nothing of it may be kept."""
    try:
        started = json.loads(filesystem.read_bytes(join(uri, STARTED)))
    except (FileNotFoundError, ValueError):
        return None
    return started if started and "stage" in started else None


def _compare(
    spec: OutputSpec, record: Manifest, sizes: Mapping[str, int]
) -> tuple[State, tuple[str, ...]]:
    """Compare a complete result with the spec."""
    changes = spec.find_changes(record)
    has_grown = bool(changes) and not spec.find_changes(record, may_grow=True)
    if changes and not has_grown:
        return State.DIFFERENT, tuple(changes)
    if damaged := manifest.find_damaged(record, sizes):
        return State.DAMAGED, (damaged,)
    return (State.EXTENDED if has_grown else State.COMPLETE), ()


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
    if status.state is State.NOT_OURS:
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
