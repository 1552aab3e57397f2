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
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.other_versions import OtherFormat, OtherFormatError
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
- other: a damaged result, a complete or unfinished result of other settings or inputs, or a result
  in the format of an earlier version; ``--overwrite`` replaces it.
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
    leftovers: tuple[str, ...] = field(default=(), compare=False)
    """Files of the stage that the manifest does not list, and folders of unfinished runs; without
    the files that the next result may keep (``OutputSpec.keeps``)."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether there is nothing to delete: no leftovers, or another command may resume them."""

    @property
    def listed(self) -> frozenset[str]:
        """The files of the result, in any format."""
        if self.earlier_format:
            return self.earlier_format.paths
        return list_paths(self.record)

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
    _check_files_are_ours(spec, _name_stage(result), runs, sizes)
    changes_of_runs = {name: spec.find_changes(run, may_grow=True) for name, run in runs.items()}
    resumable = next((name for name in sorted(runs) if not changes_of_runs[name]), "")
    replaced = _find_replaced(spec, sizes) if result is None else None
    kept = _list_kept(spec, replaced.record) if replaced else set()
    listed = earlier_format.paths if earlier_format else list_paths(record)
    leftovers = tuple(path for path in find_leftovers(spec, listed, sizes) if path not in kept)
    state: State = "new"
    problem = ""
    if earlier_format is not None:
        problem = earlier_format.problem
    elif record is not None:
        state, problem = _compare_result(spec, record, sizes)
    elif not resumable:
        problem = _find_unfinished(changes_of_runs, leftovers, sizes)
    if problem:
        state = "other"
    has_other_runs = bool(runs.keys() - {resumable})
    return Status(
        state=state,
        problem=problem,
        record=record,
        earlier_format=earlier_format,
        replaced=replaced,
        run=resumable,
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
) -> None:
    """Check that the manifest and the unfinished runs of a directory belong to this stage.

    A directory with neither is accepted if it is empty, or if it has a work folder and otherwise
    only files of the stage: a task of a killed job may have written last.

    Args:
        spec: The output.
        stage: The stage of the result; empty if there is none.
        runs: The unfinished runs.
        sizes: All files of the directory.

    Raises:
        UserError: There are files of another stage or program.
    """
    stages = {run["stage"] for run in runs.values()}
    if stage:
        stages.add(stage)
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
    changes_of_runs: Mapping[str, Sequence[str]],
    leftovers: Collection[str],
    sizes: Mapping[str, int],
) -> str:
    """Describe an unfinished run of other settings that has written files; empty if there is none.

    Args:
        changes_of_runs: How each unfinished run differs, by its folder.
        leftovers: Files of the stage, and folders of unfinished runs.
        sizes: All files of the directory.
    """
    has_files = any(not path.startswith(f"{WORK}/") for path in leftovers)
    # a completion marker is WORK/<run>/MARKERS/<part>
    with_parts = {path.split("/")[1] for path in sizes if f"/{MARKERS}/" in path}
    for name, changes in changes_of_runs.items():
        if has_files or name in with_parts:
            return f"holds an unfinished run of other settings ({'; '.join(changes)})"
    return ""


def find_leftovers(
    spec: OutputSpec, listed: Collection[str], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """List the files of the stage that do not belong to its result.

    Unfinished runs are listed as whole folders.

    Args:
        spec: The output.
        listed: The files of the result.
        sizes: All files of the directory.
    """
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
