"""A stage's result -> its output directory: begun, resumed, published, or taken back.

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
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sentiflow.config import ray_job
from sentiflow.data import manifest
from sentiflow.data.manifest import MANIFEST
from sentiflow.data.manifest_types import Counts, FileEntry, Manifest
from sentiflow.data.output_status import (
    STARTED,
    WORK,
    Description,
    OutputSpec,
    State,
    Status,
    check,
    find_leftovers,
    find_status,
)
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import is_local, join


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
            UserError: There is a result of other settings and ``overwrite`` is off, or other files.
        """
        self.spec, self.status, self.claim = spec, status, claim
        check(status, uri=spec.uri, stage=spec.stage, overwrite=overwrite)
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
        return self.status.state is State.COMPLETE

    @property
    def previous(self) -> Manifest | None:
        """Return the manifest of the result that this run extends."""
        return self.status.record if self.status.state is State.EXTENDED else None

    def begin(self, **details: Any) -> None:
        """Note that this run began, and remove unfinished ones that are not resumed.

        Args:
            details: What else the stage needs to resume, as JSON.
        """
        started: Description = {
            "stage": self.spec.stage,
            "format_version": manifest.FORMAT_VERSION,
            "settings": self.spec.settings,
            "inputs": self.spec.inputs,
            "details": details,
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
        found = filesystem.sizes(uri)
        staged = {item["path"]: found.get(f"{self._work}/{item['path']}") for item in files}
        written = {path for path, size in staged.items() if size is not None}
        leftovers = find_leftovers(spec, record, found)
        self._check(record, found | {path: staged[path] for path in written})
        filesystem.write_bytes(join(self.uri, MANIFEST), manifest.to_json(record))
        inner = {path for path in written if path.endswith(f"/{MANIFEST}")}
        if written & found.keys():  # an earlier result ends here; its manifest shows who owns it
            self._move({MANIFEST} & found.keys(), uri, join(self.uri, "replaced"))
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
        sizes = filesystem.sizes(self.spec.uri)
        self._delete(find_leftovers(self.spec, self.status.record, sizes))

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

    What a killed run left in a complete one is removed, where that can be written.

    Args:
        spec: The output.
        overwrite: Replace what is there.
        before: Called before the directory of an incomplete output is held.

    Raises:
        UserError: There is a result of other settings and ``overwrite`` is off, or other files.
        JobError: Another job holds the directory.
    """
    output = Output(spec, find_status(spec), overwrite=overwrite)
    can_write = not is_local(spec.uri) or os.access(spec.uri, os.W_OK)
    if output.is_complete and (output.status.is_tidy or not can_write):
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
    own: FileEntry = {
        "path": join(path, MANIFEST), "rows": None, "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    listed = [item.copy() for item in record["files"]]
    for item in listed:
        item["path"] = join(path, item["path"])
    return [*listed, own]
