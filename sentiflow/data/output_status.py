"""Output directory of a stage -> its state: whether there is a result, and a run to resume.

A directory without a manifest is unfinished, and no job reads it.
"""

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sentiflow.data import manifest, other_versions
from sentiflow.data.manifest import WORK
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.other_versions import OtherFormat, OtherFormatError
from sentiflow.data.output_spec import OutputSpec, RunDescription
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import display_uri, join

STARTED = "started.json"
"""File in a staging folder with the description of the run."""
MARKERS = "receipts"
"""Folder in a staging folder with a completion marker for each finished part."""
REPLACED = "replaced"
"""Folder in a staging folder with the manifest of the result that the run replaces."""
State = Literal["new", "complete", "extended", "other"]
"""State of the output directory of a stage.

- new: absent, empty, or with an unfinished run of these settings.
- extended: complete for the input files that are not new.
- other: a damaged result, a complete or unfinished result of other settings or inputs, or a result
  in the format of an earlier version; ``--overwrite`` replaces it.
"""
_STARTED = re.compile(rf"{WORK}/([0-9a-f]+)/{re.escape(STARTED)}")
"""Path of the description of a run. Its group is the folder of the run."""
_REPLACED = re.compile(rf"{WORK}/[0-9a-f]+/{REPLACED}/{re.escape(manifest.MANIFEST)}")
"""Path of the manifest of the result that a run replaces."""
_PLANNED = re.compile(rf"{WORK}/[0-9a-f]+/{re.escape(manifest.MANIFEST)}")
"""Path of the manifest that a run writes before it moves its files to their places."""
_RUN = re.compile(rf"({WORK}/[0-9a-f]+)/.*", re.DOTALL)
"""Path of any file of a run. Its group is the folder of the run."""
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
    """Why the state is ``other``: the settings and inputs that differ, the damaged file, or the
    version that made the result."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest of the directory."""
    earlier_format: OtherFormat | None = field(default=None, compare=False)
    """The result of the directory, if it is in the format of an earlier version."""
    replaced: Replaced | None = field(default=None, compare=False)
    """If there is no manifest: the result that was being replaced."""
    run: str = field(default="", compare=False)
    """Folder in ``WORK`` of an unfinished run that can be resumed; empty if there is none."""
    written: frozenset[str] = field(default=frozenset(), compare=False)
    """Files that a result or an unfinished run of this directory has listed."""
    unfinished: tuple[UnfinishedRun, ...] = field(default=(), compare=False)
    """All unfinished runs, in the order of their folders."""
    leftovers: tuple[str, ...] = field(default=(), compare=False)
    """Files of the stage that the manifest does not list, and folders of unfinished runs; without
    the files that the next result may keep (``OutputSpec.keeps``)."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether a complete result is left alone: no run was killed, or another command may resume the
    killed one."""

    @property
    def listed(self) -> frozenset[str]:
        """The files of the result, in any format."""
        if self.earlier_format:
            return self.earlier_format.paths
        return list_paths(self.record)

    @property
    def outdated(self) -> list[UnfinishedRun]:
        """The unfinished runs whose work is of no use, as their settings differ."""
        return [run for run in self.unfinished if run.changes]

    def to_error(self, uri: str) -> UserError:
        """Make the error for the ``problem`` of the directory ``uri``."""
        return UserError(
            f"{uri} {self.problem}",
            hint="choose another output_uri, or replace it with --overwrite",
        )


def list_paths(record: Manifest | None) -> frozenset[str]:
    """List the files of a result; none without a manifest."""
    return frozenset(item["path"] for item in record["files"]) if record else frozenset()


def read_result(uri: str) -> Manifest | None:
    """Read the manifest in the output directory of a stage.

    Returns:
        The manifest. None if there is none, or if it is in the format of an earlier version, which
        :func:`find_status` tells.

    Raises:
        UserError: There is a manifest of a later version in another format, or of another program.
    """
    found = _read_any_format(uri)
    return None if isinstance(found, OtherFormat) else found


def _read_any_format(uri: str) -> Manifest | OtherFormat | None:
    """Read a manifest, also in the format of an earlier version; None if there is none."""
    try:
        return manifest.read(uri)
    except OtherFormatError as error:
        if error.found.is_earlier:
            return error.found
        raise


def find_status(spec: OutputSpec) -> Status:
    """Compare the output directory of a stage with its spec.

    Raises:
        UserError: The directory holds foreign files, a result of a later version in another format,
            or a link, which leads a writer elsewhere.
    """
    link = filesystem.find_link(spec.uri)
    if link:
        raise UserError(
            f"{display_uri(link)} is a link, and a job writes nothing outside of its output",
            hint="remove it, or choose an empty or new directory",
        )
    result = _read_any_format(spec.uri)
    earlier_format = result if isinstance(result, OtherFormat) else None
    record = None if isinstance(result, OtherFormat) else result
    sizes = filesystem.sizes(spec.uri)
    runs = _read_runs(spec.uri, sizes)
    listed = earlier_format.paths if earlier_format else list_paths(record)
    written = listed | _list_files_of_runs(spec, sizes)
    _check_files_are_ours(spec, _name_stage(result), runs, sizes, written)
    unfinished = []
    for folder in sorted(runs):
        changes = spec.find_changes(runs[folder], may_grow=True)
        unfinished.append(UnfinishedRun(folder, runs[folder], tuple(changes)))
    resumable = next((run.folder for run in unfinished if not run.changes), "")
    replaced = _find_replaced(spec, sizes) if result is None else None
    kept = _list_kept(spec, replaced.record) if replaced else set()
    leftovers = tuple(
        path for path in find_leftovers(spec, listed, sizes, written) if path not in kept
    )
    state: State = "new"
    problem = ""
    if earlier_format is not None:
        problem = earlier_format.problem
    elif record is not None:
        state, problem = _compare_result(spec, record, sizes)
    elif not resumable:
        problem = _find_unfinished(unfinished, leftovers, sizes)
    if problem:
        state = "other"
    has_killed_runs = any(path.startswith(f"{WORK}/") for path in leftovers)
    has_other_runs = bool(runs.keys() - {resumable})
    return Status(
        state=state,
        problem=problem,
        record=record,
        earlier_format=earlier_format,
        replaced=replaced,
        run=resumable,
        written=written,
        unfinished=tuple(unfinished),
        leftovers=leftovers,
        is_tidy=not has_killed_runs or has_other_runs,
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
            problem = f"belongs to other settings ({'; '.join(changes)})"
            maker = other_versions.compare(record)
            return state, f"{problem}, {maker}" if maker else problem
    damaged = manifest.find_damaged(spec.uri, record, sizes)
    if damaged:
        return state, f"is incomplete: {damaged} is missing or damaged"
    return state, ""


def _name_stage(result: Manifest | OtherFormat | None) -> str:
    """Name the stage of a result; empty if there is none."""
    if isinstance(result, OtherFormat):
        return result.stage
    return result["stage"] if result else ""


def _check_files_are_ours(
    spec: OutputSpec,
    stage: str,
    runs: Mapping[str, RunDescription],
    sizes: Mapping[str, int],
    written: Collection[str],
) -> None:
    """Check that the manifest and the unfinished runs of a directory belong to this stage.

    A directory with neither is accepted if it is empty, or if it has a work folder and otherwise
    only files of the stage: a task of a killed job may have written last.

    Args:
        spec: The output.
        stage: The stage of the result; empty if there is none.
        runs: The unfinished runs.
        sizes: All files of the directory.
        written: Files that manifests list.

    Raises:
        UserError: There are files of another stage or program.
    """
    stages = {run["stage"] for run in runs.values()}
    if stage:
        stages.add(stage)
    names = {path.split("/")[0] for path in sizes} - {lease.FOLDER}
    has_other_stage = bool(stages - {spec.stage})
    is_known = bool(stages) or not names
    others = [path for path in sizes if path.split("/")[0] not in (WORK, lease.FOLDER)]
    are_ours = all(path in written or spec.has_written(path) for path in others)
    is_of_killed_job = WORK in names and are_ours
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
    runs_with_parts = {path.split("/")[1] for path in sizes if f"/{MARKERS}/" in path}
    for run in unfinished:
        if has_files or run.folder in runs_with_parts:
            return f"holds {run}"
    return ""


def find_leftovers(
    spec: OutputSpec,
    listed: Collection[str],
    sizes: Mapping[str, int],
    written: Collection[str] = (),
) -> tuple[str, ...]:
    """List the files of the stage that do not belong to its result; files of others are left out.

    Unfinished runs are listed as whole folders.

    Args:
        spec: The output.
        listed: The files of the result.
        sizes: All files of the directory.
        written: Files that other manifests have listed.
    """
    leftovers = set()
    for path in sizes:
        run = _RUN.fullmatch(path)
        if run:
            leftovers.add(run[1])
        elif path == manifest.MANIFEST or path.startswith(f"{lease.FOLDER}/"):
            continue  # a manifest that was changed by hand may list them, but no result has them
        elif path not in listed and (path in written or spec.has_written(path)):
            leftovers.add(path)
    return tuple(sorted(leftovers))


def _list_files_of_runs(spec: OutputSpec, sizes: Mapping[str, int]) -> frozenset[str]:
    """List the files that the manifests in the folders of unfinished runs list."""
    paths: set[str] = set()
    for path in sizes:
        if _PLANNED.fullmatch(path) or _REPLACED.fullmatch(path):
            paths |= list_paths(_read_aside(spec, path))
    return frozenset(paths)


def _read_aside(spec: OutputSpec, path: str) -> Manifest | None:
    """Read a manifest in the folder of a run; None if it is damaged or gone."""
    with contextlib.suppress(UserError):
        return manifest.read(join(spec.uri, path.rpartition("/")[0]), stage=spec.stage)
    return None


def _find_replaced(spec: OutputSpec, sizes: Mapping[str, int]) -> Replaced | None:
    """Find the result that a killed run was about to replace; None if there is none."""
    for path in sorted(sizes):
        if _REPLACED.fullmatch(path):
            record = _read_aside(spec, path)
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
