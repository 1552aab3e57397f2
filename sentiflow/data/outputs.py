"""Output directory of a stage: its state; a result is begun, resumed, published, taken back.

A directory without a manifest is unfinished, and no job reads it.

A stage writes out of sight, into a folder of its own in ``_work``. When all is there, its files are
put in place and the manifest is written, which is the commit; then what the manifest does not list
is deleted. Before each of these steps the job makes sure that it still is the one writer.

The names of parts are never used again, so an earlier result stays whole until the manifest is
replaced. Files that keep their names replace those of an earlier result: its manifest is deleted
first, and a directory without one is unfinished.
"""

import contextlib
import functools
import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from sentiflow.config import ray_job
from sentiflow.data import manifest
from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Counts, FileEntry, Manifest
from sentiflow.data.output_spec import Description
from sentiflow.data.output_spec import OutputSpec as OutputSpec
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import display_uri, is_local, join

WORK = "_work"
"""Folder in an output for unfinished runs, each in a folder of its own."""
STARTED = "started.json"
"""Describes an unfinished run, in its folder."""
MARKERS = "receipts"
"""Folder in that of a run for completion markers, one for each finished part."""

_STARTED = re.compile(rf"{WORK}/([0-9a-f]+)/{re.escape(STARTED)}")


State = Literal["new", "complete", "extended", "other"]
"""State of the output directory of a stage.

- new: absent, empty, or with an unfinished run of these settings.
- extended: complete for the first input files; new files follow at the end.
- other: damaged, or of other settings or inputs, complete or not: ``--overwrite`` replaces it.
"""


_DESCRIPTION = TypeAdapter(Description)


@dataclass(frozen=True)
class Status:
    """State of an output directory compared with a spec."""

    state: State
    problem: str = ""
    """Why it is of another result: the settings and inputs that differ, or the damaged file."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest of the directory."""
    run: str = field(default="", compare=False)
    """Folder in ``WORK`` of an unfinished run that can be resumed; empty if there is none."""
    leftovers: tuple[str, ...] = field(default=(), compare=False)
    """Files of the stage that the manifest does not list, and folders of unfinished runs."""
    is_tidy: bool = field(default=True, compare=False)
    """Whether there are no leftovers, or only such as another command can resume."""


def find_status(spec: OutputSpec) -> Status:
    """Compare the output directory of a stage with its spec.

    Raises:
        UserError: The directory holds foreign files, or a link, which leads a writer elsewhere.
    """
    if link := filesystem.find_link(spec.uri):
        raise UserError(
            f"{display_uri(link)} is a link, and a job writes nothing outside of its output",
            hint="remove it, or choose an empty or new directory",
        )
    record, sizes = manifest.read(spec.uri), filesystem.sizes(spec.uri)
    names = {path.split("/")[0] for path in sizes} - {lease.FOLDER}
    runs = _read_runs(spec.uri, sizes)
    stages = {each["stage"] for each in (record, *runs.values()) if each}
    is_ours = WORK in names and names <= {*spec.owns, WORK}  # a task of a killed job ended last
    if stages - {spec.stage} or (names and not stages and not is_ours):
        raise UserError(
            f"{spec.uri} holds files that are not from {spec.stage}",
            hint="choose an empty or new directory",
        )
    changes = {name: spec.find_changes(started, may_grow=True) for name, started in runs.items()}
    run = next((name for name in sorted(runs) if not changes[name]), "")
    leftovers = find_leftovers(spec, record, sizes)
    state: State = "new" if record is None else "complete"
    problem = ""
    if record is None:
        has_files = any(not path.startswith(f"{WORK}/") for path in leftovers)
        begun = {path.split("/")[1] for path in sizes if f"/{MARKERS}/" in path}
        others = [found for name, found in changes.items() if has_files or name in begun]
        if others and not run:
            problem = f"holds an unfinished run of other settings ({'; '.join(others[0])})"
    elif found := spec.find_changes(record):
        state = "extended"
        if spec.find_changes(record, may_grow=True):
            problem = f"belongs to other settings ({'; '.join(found)})"
    if record and not problem and (damaged := manifest.find_damaged(spec.uri, record, sizes)):
        problem = f"is incomplete: {damaged} is missing or damaged"
    if problem:
        state = "other"
    is_tidy = not leftovers or bool(runs.keys() - {run})
    return Status(state, problem, record, run, leftovers, is_tidy)


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
    left = {
        "/".join(path.split("/")[:2]) if path.startswith(f"{WORK}/") else path
        for path in sizes
        if path.split("/")[0] in (*spec.owns, WORK) and path not in listed
    }
    return tuple(sorted(left))


def _read_runs(uri: str, sizes: Mapping[str, int]) -> dict[str, Description]:
    """Read the descriptions of unfinished runs by folder; damaged ones are left out."""
    runs = {}
    for match in filter(None, map(_STARTED.fullmatch, sizes)):
        with contextlib.suppress(FileNotFoundError, ValidationError):  # nothing of it is kept
            content = filesystem.read_bytes(join(uri, match[0]))
            runs[match[1]] = _DESCRIPTION.validate_json(content, strict=True)
    return runs


class Output:
    """The output of a stage, as this process writes it."""

    def __init__(
        self, spec: OutputSpec, status: Status, *, overwrite: bool = False, claim: str = ""
    ) -> None:
        """Decide where to write, and whether to resume.

        Args:
            spec: The output.
            status: What was found there.
            overwrite: Replace what is there.
            claim: The claim of this job to the directory; empty if nobody else can write there.

        Raises:
            UserError: There is a result of other settings, and ``overwrite`` is off.
        """
        self.spec, self.status, self.claim = spec, status, claim
        if status.problem and not overwrite:
            raise UserError(
                f"{spec.uri} {status.problem}",
                hint="choose another output_uri, or replace it with --overwrite",
            )
        self.resumes = bool(status.run)
        """Whether there is an unfinished run to resume."""
        self._work = f"{WORK}/{status.run or secrets.token_hex(4)}"
        self.uri = join(spec.uri, self._work)
        """Where the stage writes what is not for others to see yet."""
        self.parts_uri = self.uri if is_local(spec.uri) else spec.uri
        """Where it writes parts: an object store would have to copy them to their place."""

    @property
    def is_complete(self) -> bool:
        """Say whether there is nothing to do."""
        return self.status.state == "complete"

    @property
    def previous(self) -> Manifest | None:
        """Return the manifest of the result that this run extends."""
        return self.status.record if self.status.state == "extended" else None

    def begin(self) -> None:
        """Note that this run began, and remove unfinished ones that are not resumed."""
        started: Description = {
            "stage": self.spec.stage,
            "settings": self.spec.settings,
            "inputs": self.spec.inputs,
        }
        lease.check(self.claim)
        filesystem.write_bytes(join(self.uri, STARTED), manifest.to_json(started))
        if not self.resumes:
            self._delete(self.status.leftovers)

    def write(self, path: str, content: bytes, *, rows: int | None = None) -> FileEntry:
        """Write a file that keeps its name; it is put in place by :meth:`publish`."""
        return filesystem.write_file(self.uri, path, content, rows=rows)

    def publish(
        self,
        *,
        counts: Counts,
        files: Sequence[FileEntry],
        seconds: float,
        inputs: dict[str, Any] | None = None,
        **details: Any,
    ) -> Manifest:
        """Put the files of the result in place, write the manifest, and return it.

        Args:
            counts: Numbers of rows and the like.
            files: All files of the result, in place or in the folder of this run.
            seconds: Duration of the stage.
            inputs: The inputs, where more is known of them than in the spec.
            details: Further keys of the manifest.

        Raises:
            JobError: A file is missing, an input was replaced, or another job holds the directory.
        """
        spec, uri = self.spec, self.spec.uri
        record = manifest.describe(
            spec.stage, spec.settings, inputs or spec.inputs, counts=counts, files=files,
            seconds=seconds, **details,
        )  # fmt: skip
        sizes = filesystem.sizes(uri)
        staged = {item["path"]: sizes.get(f"{self._work}/{item['path']}") for item in files}
        written = {path for path, size in staged.items() if size is not None}
        leftovers = find_leftovers(spec, record, sizes)
        self._check(record, sizes | {path: staged[path] for path in written})
        filesystem.write_bytes(join(self.uri, MANIFEST), manifest.to_json(record))
        inner = {path for path in written if path.endswith(f"/{MANIFEST}")}
        if written & sizes.keys():  # an earlier result ends here; its manifest shows who owns it
            self._move({MANIFEST} & sizes.keys(), uri, join(self.uri, "replaced"))
            self._change(filesystem.delete, [join(uri, path) for path in inner])
        for paths in (written - inner, inner, {MANIFEST}):  # a manifest comes after its files
            self._move(paths, self.uri, uri)
        self._delete(leftovers)
        return record

    def _check(self, record: Manifest, sizes: Mapping[str, int | None]) -> None:
        """Check that the result is whole, and made from inputs that are still there."""
        lease.check(self.claim)
        for item in record["files"]:
            if sizes.get(item["path"]) != item["bytes"]:
                path = join(self.spec.uri, item["path"])
                raise JobError(f"{path} is missing or damaged: run the same command again")
        for name, value in record["inputs"].items():
            is_output = self.claim and value.keys() == {"uri", "fingerprint"}
            if is_output and not manifest.read_input(record["inputs"], name):
                raise JobError(f"{value['uri']} was replaced while it was read: run again")

    def _move(self, paths: Collection[str], place: str, to: str) -> None:
        self._change(lambda path: filesystem.move(join(place, path), join(to, path)), paths)

    def _change(self, step: Callable[[str], None], names: Iterable[str]) -> None:
        """Make a step that others can see with each name, as long as this job is the writer.

        Raises:
            JobError: It is not any more.
        """

        def make(name: str) -> None:
            lease.check(self.claim)
            step(name)

        filesystem.map_files(make, names)

    def _delete(self, names: Collection[str]) -> None:
        """Delete leftovers; runs come last, as they show whose the other files are."""
        runs = {name for name in names if name.startswith(f"{WORK}/")}
        for some in ({*names} - runs, runs):
            self._change(filesystem.delete, [join(self.spec.uri, name) for name in some])
        lease.check(self.claim)
        filesystem.delete_empty_folders(self.spec.uri)

    def roll_back(self) -> None:
        """Remove the files of runs that were killed or cannot succeed; an earlier result stays."""
        self._delete(find_leftovers(self.spec, self.status.record, filesystem.sizes(self.spec.uri)))

    @contextlib.contextmanager
    def rolled_back_if_refused(
        self, *, unless: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Roll back if the block refuses the input, unless an earlier run has finished parts.

        A location that fails is no verdict on the input: what is finished stays.

        Args:
            unless: Whether the block itself has made what must stay.
        """
        try:
            yield
        except UserError as error:
            if not isinstance(error, StorageError) and not self.resumes and not unless():
                self.roll_back()
            raise


@contextlib.contextmanager
def open_output(
    spec: OutputSpec, *, overwrite: bool = False, before: Callable[[], None] = lambda: None
) -> Iterator[Output]:
    """Look at the output of a stage; unless it is complete, hold its directory in the context.

    What a killed run left in a complete one is removed.

    Args:
        spec: The output.
        overwrite: Replace what is there.
        before: Called before the directory of an incomplete output is held.

    Raises:
        UserError: There is a result of other settings and ``overwrite`` is off, or foreign files.
        JobError: Another job holds the directory.
    """
    output = Output(spec, find_status(spec), overwrite=overwrite)
    if output.is_complete and output.status.is_tidy:
        yield output
        return
    if not output.is_complete:
        before()
    job = ", ".join(filter(None, [spec.stage, ray_job.submission_id()]))
    try:
        with (
            lease.hold(spec.uri, job=job) as held,
            # a job that was stopped may have lost its claim, and then its files
            filesystem.recording(functools.partial(lease.check, held.claim)),
        ):
            status = find_status(spec)
            if status.record != output.status.record:
                raise JobError(f"another job has just completed {spec.uri}: run the command again")
            output = Output(spec, status, overwrite=overwrite, claim=held.claim)
            if output.is_complete and not status.is_tidy:
                output.roll_back()
            yield output
    finally:
        filesystem.delete_empty(spec.uri)


def list_result(uri: str, record: Manifest, *, path: str) -> list[FileEntry]:
    """List the files of a result within another one, and its manifest, for that of the other.

    Args:
        uri: The directory of the result.
        record: Its manifest.
        path: Its place in the other.
    """
    content = filesystem.read_bytes(join(uri, MANIFEST))
    manifest_entry: FileEntry = {
        "path": join(path, MANIFEST), "rows": None, "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    listed: list[FileEntry] = [
        {**item, "path": join(path, item["path"])} for item in record["files"]
    ]
    return [*listed, manifest_entry]
