"""Output directory of a stage: how a result is begun, resumed and published.

A stage writes to a staging folder in ``_work``. When the result is complete, its files are moved to
their places, and the manifest is written: this is the commit. Then files that the manifest does not
list are deleted. Before each of these steps the job checks that it is still the only writer.

Only files that this run or an earlier one has written are deleted: files that a manifest lists or
has listed, and files whose names tell (:mod:`own_files`). A user's files stay.

The names of parts are never used again, so an earlier result stays complete until its manifest is
replaced. Other files have fixed names and replace the files of an earlier result. Then the earlier
manifest is set aside first: the directory is unfinished until the new manifest is written. If the
run is killed meanwhile, the next run finds the earlier manifest in its staging folder.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sentiflow.config import ray_job
from sentiflow.data import manifest
from sentiflow.data.manifest import MANIFEST, WORK
from sentiflow.data.manifest_types import Counts, FileEntry, Manifest
from sentiflow.data.output_spec import OutputSpec, RunDescription
from sentiflow.data.output_status import (
    REPLACED,
    STARTED,
    Status,
    find_leftovers,
    find_status,
    list_paths,
)
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.progress import Progress
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import display_uri, is_local, join

log = logging.getLogger(__name__)


class Output:
    """The output of a stage, as this process writes it."""

    def __init__(
        self,
        spec: OutputSpec,
        status: Status,
        *,
        overwrite: bool = False,
        claim: str = "",
        user: str = "",
    ) -> None:
        """Decide where to write, and whether to resume.

        Args:
            spec: The output.
            status: State of the directory.
            overwrite: Replace an existing result.
            claim: URI of this job's claim to the directory; empty if no other job can write there.
            user: The person who runs the job; empty if it is unknown.

        Raises:
            UserError: There is a result of other settings, and ``overwrite`` is off.
        """
        self.spec = spec
        self.status = status
        self.claim = claim
        self.user = user
        self.mlflow_run_id = ""
        """The run of this job in MLflow; :meth:`begin` notes it, so that a later job can end it."""
        if status.problem and not overwrite:
            raise status.to_error(spec.uri)
        self.resumes = bool(status.run)
        """Whether there is an unfinished run to resume."""
        self._work = f"{WORK}/{status.run or secrets.token_hex(4)}"
        self.uri = join(spec.uri, self._work)
        """Staging folder of this run."""
        self.parts_uri = self.uri if is_local(spec.uri) else spec.uri
        """Directory for parts. In an object store this is their final place, because moving a file
        copies it there."""
        self.details: dict[str, Any] = {}
        """Further keys of the manifest that every stage gets from its caller."""

    @property
    def is_complete(self) -> bool:
        """Say whether there is nothing to do."""
        return self.status.state == "complete"

    @property
    def earlier(self) -> Manifest | None:
        """Return the manifest of the result that this run replaces or extends.

        If a killed run has set the manifest aside, it is the one that it was about to replace.
        """
        if self.status.record is None and self.status.replaced:
            return self.status.replaced.record
        return self.status.record

    @property
    def previous(self) -> Manifest | None:
        """Return the manifest of the result that this run extends."""
        return self.status.record if self.status.state == "extended" else None

    def begin(self) -> None:
        """Write the description of this run; unless it resumes another, delete all leftovers."""
        started: RunDescription = {
            "stage": self.spec.stage,
            "settings": self.spec.settings,
            "inputs": self.spec.inputs,
            "user": self.user,
            "mlflow_run_id": self.mlflow_run_id,
        }
        lease.check(self.claim)
        filesystem.write_bytes(join(self.uri, STARTED), manifest.to_json(started))
        if not self.resumes:
            if self.status.replaced:
                folder = self.status.replaced.path.rpartition("/")[0]
                self._move({MANIFEST}, join(self.spec.uri, folder), join(self.uri, REPLACED))
            self._delete(self.status.leftovers)

    def write(self, path: str, content: bytes, *, rows: int | None = None) -> FileEntry:
        """Write a file to the staging folder; :meth:`publish` moves it to the same path."""
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
        """Move the files of the result to their places, write the manifest, and return it.

        Args:
            counts: Numbers of rows and the like.
            files: All files of the result, in their places or in the staging folder.
            seconds: Duration of the stage.
            inputs: The inputs, if more is known about them than in the spec. Default: the inputs of
                the spec.
            details: Further keys of the manifest.

        Raises:
            UserError: A user's file has the name of a file of the result.
            JobError: A file is missing, an input was replaced, or another job holds the directory.
        """
        record = manifest.make(
            self.spec.stage,
            self.spec.settings,
            inputs or self.spec.inputs,
            counts=counts,
            files=files,
            seconds=seconds,
            **self.details,
            **details,
        )
        with Progress(self.spec.stage, what="publishing the result"):
            self._commit(record)
        return record

    def _commit(self, record: Manifest) -> None:
        """Move the files of a manifest to their places, and write it."""
        uri = self.spec.uri
        sizes = filesystem.sizes(uri)
        staged = {}  # sizes of the files that are still in the staging folder
        for item in record["files"]:
            size = sizes.get(f"{self._work}/{item['path']}")
            if size is not None:
                staged[item["path"]] = size
        written = self.status.written
        leftovers = find_leftovers(self.spec, list_paths(record), sizes, written)
        self._check_result(record, sizes | staged)
        self._check_places(staged.keys() & sizes.keys() - written)
        filesystem.write_bytes(join(self.uri, MANIFEST), manifest.to_json(record))
        inner_manifests = {path for path in staged if path.endswith(f"/{MANIFEST}")}
        replaces_files = bool(staged.keys() & sizes.keys())
        if replaces_files:  # from here on the earlier result is incomplete
            if MANIFEST in sizes:
                # keep it as proof of ownership, in case this job dies before the commit
                self._move({MANIFEST}, uri, join(self.uri, REPLACED))
            self._do_as_writer(filesystem.delete, [join(uri, path) for path in inner_manifests])
        # a manifest is moved after its files
        self._move(staged.keys() - inner_manifests, self.uri, uri)
        self._move(inner_manifests, self.uri, uri)
        self._move({MANIFEST}, self.uri, uri)
        self._delete(leftovers)

    def _check_result(self, record: Manifest, sizes: Mapping[str, int]) -> None:
        """Check that all files of the result exist, and that no input was replaced meanwhile.

        Raises:
            JobError: A check fails, or another job has taken over.
        """
        lease.check(self.claim)
        for item in record["files"]:
            if sizes.get(item["path"]) != item["bytes"]:
                path = join(self.spec.uri, item["path"])
                raise JobError(f"{path} is missing or damaged: run the same command again")
        if not self.claim:
            return
        for name, value in record["inputs"].items():
            is_directory = value.keys() == {"uri", "fingerprint"}
            if is_directory and not manifest.read_input(record["inputs"], name):
                raise JobError(f"{value['uri']} was replaced while it was read: run again")

    def _check_places(self, unknown: Collection[str]) -> None:
        """Check that no file of the result would replace a user's file.

        Args:
            unknown: Files in the places of the result that no earlier manifest has listed.

        Raises:
            UserError: One of them is not from this stage.
        """
        for path in sorted(unknown):
            if not self.spec.has_written(path):
                raise UserError(
                    f"{display_uri(join(self.spec.uri, path))} is not from {self.spec.stage}, and "
                    "the result has a file of this name",
                    hint="move it away, and run the same command again",
                )

    def _move(self, paths: Collection[str], source: str, target: str) -> None:
        """Move files from one directory to the same paths in another."""

        def move(path: str) -> None:
            filesystem.move(join(source, path), join(target, path))

        self._do_as_writer(move, paths)

    def _do_as_writer(self, step: Callable[[str], None], names: Iterable[str]) -> None:
        """Do a step with each name, and check before each that this job is still the writer.

        Raises:
            JobError: Another job has taken over.
        """

        def check_and_step(name: str) -> None:
            lease.check(self.claim)
            step(name)

        filesystem.map_files(check_and_step, names)

    def _delete(self, names: Collection[str]) -> None:
        """Delete leftovers, and then their folders if these are empty.

        The folders of runs are deleted last, because they prove who owns the other files. The names
        of files with a token never come back, so these files need one check for all.

        Raises:
            JobError: Another job has taken over.
        """
        lease.check(self.claim)
        uri = self.spec.uri
        runs = {name for name in names if name.startswith(f"{WORK}/")}
        unique = {name for name in names if self.spec.has_written(name)}
        named = {*names} - runs - unique
        filesystem.map_files(filesystem.delete, [join(uri, name) for name in unique])
        self._do_as_writer(filesystem.delete, [join(uri, name) for name in named])
        self._do_as_writer(_delete_run, [join(uri, name) for name in runs])
        lease.check(self.claim)
        filesystem.delete_empty_folders(join(uri, WORK))
        filesystem.delete_empty_parents(uri, names)

    def roll_back(self) -> None:
        """Delete the files of unfinished runs; an earlier result stays, and so do other files."""
        sizes = filesystem.sizes(self.spec.uri)
        status = self.status
        self._delete(find_leftovers(self.spec, status.listed, sizes, status.written))

    @contextlib.contextmanager
    def rolled_back_if_refused(
        self, *, unless: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Roll back if the block rejects the input, unless this run resumes an earlier one.

        A storage error does not reject the input: finished parts stay.

        Args:
            unless: Says whether the block has finished work that must stay.
        """
        try:
            yield
        except UserError as error:
            if not isinstance(error, StorageError) and not self.resumes and not unless():
                self.roll_back()
            raise


def _delete_run(uri: str) -> None:
    """Delete the folder of a run; if a task of a killed job still writes to it, leave it.

    The next job that writes to the output deletes it.
    """
    try:
        filesystem.delete(uri)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        log.info("%s stays: a task of another job still writes to it", display_uri(uri))


@contextlib.contextmanager
def open_output(
    spec: OutputSpec,
    *,
    overwrite: bool = False,
    user: str = "",
    before: Callable[[Output], None] = lambda output: None,
    held: lease.Held | None = None,
) -> Iterator[Output]:
    """Find the state of an output; unless it is complete, lock its directory for this job.

    If a run was killed between its commit and its end, this job removes what that run left.

    Args:
        spec: The output.
        overwrite: Replace an existing result.
        user: The person who runs the job, whom other users of the directory are told.
        before: Called with an incomplete output before it is locked.
        held: The lease on the directory, if this job has it already (:func:`reserve`).

    Raises:
        UserError: There is a result of other settings and ``overwrite`` is off, or foreign files.
        JobError: Another job holds the directory.
    """
    with Progress(spec.stage, what="looking at the output directory"):
        status = find_status(spec)
    if status.problem and status.unfinished and not (overwrite or held):
        _refuse_if_in_use(spec, user=user)
    output = Output(spec, status, overwrite=overwrite, user=user)
    if output.is_complete and output.status.is_tidy:
        yield output
        return
    if not output.is_complete:
        before(output)
    locking = (
        contextlib.nullcontext(held) if held else reserve(spec.uri, stage=spec.stage, user=user)
    )
    with (
        locking as held,
        # the lock, and this job's files, may be gone if its process was paused for long
        filesystem.recording(functools.partial(lease.check, held.claim)),
    ):
        status = find_status(spec)
        if status.record != output.status.record:
            raise JobError(f"another job has just completed {spec.uri}: run the command again")
        output = Output(spec, status, overwrite=overwrite, claim=held.claim, user=user)
        if output.is_complete and not status.is_tidy:
            output.roll_back()
        yield output


def _refuse_if_in_use(spec: OutputSpec, *, user: str) -> None:
    """Refuse a directory in which another job works: then its run is not an unfinished one.

    Raises:
        JobError: Another job holds the directory.
    """
    with (
        contextlib.suppress(OSError),  # without a lease nobody can tell; the run counts as ended
        reserve(spec.uri, stage=spec.stage, user=user),
    ):
        pass


@contextlib.contextmanager
def reserve(uri: str, *, stage: str, user: str = "") -> Iterator[lease.Held]:
    """Lock the output directory of a stage for this job; at the end an empty one is deleted.

    Raises:
        JobError: Another job holds the directory.
    """
    job = stage
    submission_id = ray_job.submission_id()
    if submission_id:
        job += f", {submission_id}"
    try:
        with lease.hold(uri, job=job, user=user) as held:
            yield held
    finally:
        filesystem.delete_empty(uri)


def list_result(uri: str, record: Manifest, *, path: str) -> list[FileEntry]:
    """List the files and the manifest of an inner result, for the manifest of the outer result.

    Args:
        uri: The directory of the inner result.
        record: Its manifest.
        path: Its place in the outer result.
    """
    files: list[FileEntry] = []
    for item in record["files"]:
        files.append({**item, "path": join(path, item["path"])})
    content = filesystem.read_bytes(join(uri, MANIFEST))
    files.append(
        {
            "path": join(path, MANIFEST),
            "rows": None,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    )
    return files
