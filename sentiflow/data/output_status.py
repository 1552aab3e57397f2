"""Output directory of a stage -> its state: whether there is a result, and a run to resume.

A directory without a manifest is unfinished, and no job reads it.
"""

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec, RunDescription
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import display_uri, join

WORK = "_work"
"""Folder in an output that has a staging folder for each unfinished run."""
STARTED = "started.json"
"""File in a staging folder with the description of the run."""
MARKERS = "receipts"
"""Folder in a staging folder with a completion marker for each finished part."""
REPLACED = "replaced"
"""Folder in a staging folder with the manifest of the result that the run replaces."""
_STARTED = re.compile(rf"{WORK}/([0-9a-f]+)/{re.escape(STARTED)}")
"""Path of the description of a run. Its group is the folder of the run."""
State = Literal["new", "complete", "extended", "other"]
"""State of the output directory of a stage.

- new: absent, empty, or with an unfinished run of these settings.
- extended: complete for the input files that are not new.
- other: a damaged result, or a complete or unfinished result of other settings or inputs;
  ``--overwrite`` replaces it.
"""
_REPLACED = re.compile(rf"{WORK}/[0-9a-f]+/{REPLACED}/{re.escape(manifest.MANIFEST)}")
"""Path of such a manifest."""
_DESCRIPTION = TypeAdapter(RunDescription)
"""Validates the content of ``STARTED``."""


@dataclass(frozen=True)
class Replaced:
    """A result whose manifest is set aside, as a run was killed while it replaced the files."""

    path: str
    """The manifest, in the folder of the run."""
    record: Manifest


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that was killed or has failed before its result was complete."""

    folder: str
    """Its folder in ``WORK``."""
    description: RunDescription
    changes: tuple[str, ...]
    """The settings and inputs in which it differs from the spec. Empty: it can be resumed."""

    def __str__(self) -> str:
        user = self.description.get("user")
        by = f" by {user}" if user else ""
        return f"an unfinished run of other settings{by} ({'; '.join(self.changes)})"


@dataclass(frozen=True)
class Status:
    """State of an output directory compared with a spec."""

    state: State
    problem: str = ""
    """Why the state is ``other``: the settings and inputs that differ, or the damaged file."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest of the directory."""
    replaced: Replaced | None = field(default=None, compare=False)
    """If there is no manifest: the result that was being replaced."""
    run: str = field(default="", compare=False)
    """Folder in ``WORK`` of an unfinished run that can be resumed; empty if there is none."""
    unfinished: tuple[UnfinishedRun, ...] = field(default=(), compare=False)
    """All unfinished runs, in the order of their folders."""
    leftovers: tuple[str, ...] = field(default=(), compare=False)
    """Files of the stage that the manifest does not list, and folders of unfinished runs; without
    the files that the next result may keep (``OutputSpec.keeps``)."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether there is nothing to delete: no leftovers, or another command may resume them."""


def find_status(spec: OutputSpec) -> Status:
    """Compare the output directory of a stage with its spec.

    Raises:
        UserError: The directory holds foreign files, or a link, which leads a writer elsewhere.
    """
    link = filesystem.find_link(spec.uri)
    if link:
        raise UserError(
            f"{display_uri(link)} is a link, and a job writes nothing outside of its output",
            hint="remove it, or choose an empty or new directory",
        )
    record = manifest.read(spec.uri)
    sizes = filesystem.sizes(spec.uri)
    runs = _read_runs(spec.uri, sizes)
    _check_files_are_ours(spec, record, runs, sizes)
    unfinished = []
    for folder in sorted(runs):
        changes = spec.find_changes(runs[folder], may_grow=True)
        unfinished.append(UnfinishedRun(folder, runs[folder], tuple(changes)))
    resumable = next((run.folder for run in unfinished if not run.changes), "")
    replaced = _find_replaced(spec, sizes) if record is None else None
    kept = _list_kept(spec, replaced.record) if replaced else set()
    leftovers = tuple(path for path in find_leftovers(spec, record, sizes) if path not in kept)
    state: State = "new"
    problem = ""
    if record is not None:
        state, problem = _compare_result(spec, record, sizes)
    elif not resumable:
        problem = _find_unfinished(unfinished, leftovers, sizes)
    if problem:
        state = "other"
    has_other_runs = bool(runs.keys() - {resumable})
    return Status(
        state=state,
        problem=problem,
        record=record,
        replaced=replaced,
        run=resumable,
        unfinished=tuple(unfinished),
        leftovers=leftovers,
        is_tidy=not leftovers or has_other_runs,
    )


def _compare_result(
    spec: OutputSpec, record: Manifest, sizes: Mapping[str, int]
) -> tuple[State, str]:
    """Compare a result that has a manifest with the spec.

    Returns:
        ``complete`` or ``extended``; and a problem, which makes the state ``other``, or an empty
        text.
    """
    state: State = "complete"
    changes = spec.find_changes(record)
    if changes:
        state = "extended"
        if spec.find_changes(record, may_grow=True):
            return state, f"belongs to other settings ({'; '.join(changes)})"
    damaged = manifest.find_damaged(spec.uri, record, sizes)
    if damaged:
        return state, f"is incomplete: {damaged} is missing or damaged"
    return state, ""


def _check_files_are_ours(
    spec: OutputSpec,
    record: Manifest | None,
    runs: Mapping[str, RunDescription],
    sizes: Mapping[str, int],
) -> None:
    """Check that the manifest and the unfinished runs of a directory belong to this stage.

    A directory with neither is accepted if it is empty, or if it has a work folder and otherwise
    only files of the stage: a task of a killed job may have written last.

    Raises:
        UserError: There are files of another stage or program.
    """
    stages = {run["stage"] for run in runs.values()}
    if record is not None:
        stages.add(record["stage"])
    names = {path.split("/")[0] for path in sizes} - {lease.FOLDER}
    has_other_stage = bool(stages - {spec.stage})
    is_known = bool(stages) or not names
    is_of_killed_job = WORK in names and names <= {*spec.owns, WORK}
    if has_other_stage or not (is_known or is_of_killed_job):
        raise UserError(
            f"{spec.uri} holds files that are not from {spec.stage}",
            hint="choose an empty or new directory",
        )


def _find_unfinished(
    unfinished: Sequence[UnfinishedRun], leftovers: Collection[str], sizes: Mapping[str, int]
) -> str:
    """Describe an unfinished run of other settings that has written files; empty if there is none.

    Args:
        unfinished: The unfinished runs; all are of other settings.
        leftovers: Files of the stage, and folders of unfinished runs.
        sizes: All files of the directory.
    """
    has_files = any(not path.startswith(f"{WORK}/") for path in leftovers)
    # a completion marker is WORK/<run>/MARKERS/<part>
    with_parts = {path.split("/")[1] for path in sizes if f"/{MARKERS}/" in path}
    for run in unfinished:
        if has_files or run.folder in with_parts:
            return f"holds {run}"
    return ""


def find_leftovers(
    spec: OutputSpec, record: Manifest | None, sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """List the files of the stage that its manifest does not list.

    Unfinished runs are listed as whole folders.

    Args:
        spec: The output.
        record: The manifest, if there is one.
        sizes: All files of the directory.
    """
    listed = {item["path"] for item in record["files"]} if record else set()
    leftovers = set()
    for path in sizes:
        folder, *inner = path.split("/")
        if folder not in (*spec.owns, WORK) or path in listed:
            continue
        if folder == WORK and inner:
            leftovers.add(join(WORK, inner[0]))
        else:
            leftovers.add(path)
    return tuple(sorted(leftovers))


def _find_replaced(spec: OutputSpec, sizes: Mapping[str, int]) -> Replaced | None:
    """Find the result that a killed run was about to replace; None if there is none."""
    for path in sorted(sizes):
        if _REPLACED.fullmatch(path):
            with contextlib.suppress(UserError):  # a damaged one tells nothing
                record = manifest.read(join(spec.uri, path.rpartition("/")[0]), stage=spec.stage)
                if record is not None:
                    return Replaced(path, record)
    return None


def _list_kept(spec: OutputSpec, record: Manifest) -> set[str]:
    """List the files of a result that the next one may keep."""
    paths = [item["path"] for item in record["files"]]
    return {path for path in paths if path.partition("/")[0] in spec.keeps}


def read_runs(uri: str) -> list[RunDescription]:
    """Read the descriptions of unfinished runs, in the order of their folders."""
    work = filesystem.sizes(join(uri, WORK))
    runs = _read_runs(uri, {join(WORK, path): size for path, size in work.items()})
    return [runs[folder] for folder in sorted(runs)]


def _read_runs(uri: str, sizes: Mapping[str, int]) -> dict[str, RunDescription]:
    """Read the descriptions of unfinished runs by folder; damaged descriptions are left out."""
    runs = {}
    for path in sizes:
        match = _STARTED.fullmatch(path)
        if not match:
            continue
        with contextlib.suppress(FileNotFoundError, ValidationError):  # such a run is not resumed
            content = filesystem.read_bytes(join(uri, path))
            runs[match[1]] = _DESCRIPTION.validate_json(content, strict=True)
    return runs
