"""A stage's result -> its output directory: begun, resumed, published, or taken back.

A stage writes into its directory in place, unless that has a complete result to replace: then it
writes into ``_next``, and :mod:`exchange` moves the files when all are there. So the earlier result
stays whole until the new one is complete.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.data import exchange, manifest
from sentiflow.data.exchange import MANIFEST, NEXT, STARTED
from sentiflow.data.manifest_types import Counts, FileEntry, Manifest, RunRecord
from sentiflow.data.output_status import OutputSpec, Started, State, Status, check, find_status
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import join

LIBRARIES = ("ray", "torch", "pyarrow", "numpy", "pandas", "mlflow")


class Output:
    """The output of a stage, as this process writes it."""

    def __init__(
        self,
        spec: OutputSpec,
        status: Status,
        *,
        overwrite: bool = False,
        uri: str = "",
        claim: str = "",
    ) -> None:
        """Decide where to write, and whether to resume.

        Args:
            spec: The output.
            status: What was found there.
            overwrite: Replace what is there.
            uri: The directory, where it is not that of the spec.
            claim: The claim of this job to the directory; empty if nobody else can write there.

        Raises:
            UserError: There is a result of other settings and ``overwrite`` is off, or other files.
        """
        self.spec, self.status, self.overwrite = spec, status, overwrite
        self.claim = claim
        """URI that exists while this job may write, for :func:`lease.check`."""
        self.directory = uri or spec.uri
        check(status, uri=self.directory, stage=spec.stage, overwrite=overwrite)
        self.replaces = status.record is not None and status.state in (
            State.DIFFERENT,
            State.DAMAGED,
        )
        self.uri = join(self.directory, NEXT) if self.replaces else self.directory
        """Where the stage writes."""
        started = status.next_started if self.replaces else status.started
        self.resumes = bool(
            started
            and not spec.find_changes(started, may_grow=True)
            and (started["overwrite"] or not overwrite)
        )
        """Whether there is an unfinished run to resume."""
        self.saved: dict[str, Any] = started["details"] if started and self.resumes else {}
        """Details of the run to resume, as given to :meth:`begin`."""

    @property
    def is_complete(self) -> bool:
        """Say whether there is nothing to do."""
        return self.status.state is State.COMPLETE

    @property
    def previous(self) -> Manifest | None:
        """Return the manifest of the result that this run extends."""
        return self.status.record if self.status.state is State.EXTENDED else None

    def begin(self, **details: Any) -> None:
        """Remove the files of an unfinished run that is not resumed, and note that this one began.

        Args:
            details: What else the stage needs to resume, as JSON.
        """
        lease.check(self.claim)
        if not self.resumes and self.replaces:
            filesystem.delete(self.uri)
        elif not self.resumes:
            kept = [item["path"] for item in self.previous["files"]] if self.previous else []
            filesystem.write_bytes(join(self.uri, STARTED), b"{}")  # a killed run is not resumed
            exchange.delete_owned(self.uri, self.spec.owns, keep=kept)
        started: Started = {
            "stage": self.spec.stage,
            "format_version": manifest.FORMAT_VERSION,
            "settings": self.spec.settings,
            "inputs": self.spec.inputs,
            "owns": list(self.spec.owns),
            "overwrite": self.overwrite,
            "details": details,
        }
        filesystem.write_bytes(join(self.uri, STARTED), _to_json(started))

    def publish(
        self,
        *,
        counts: Counts,
        files: Sequence[FileEntry],
        seconds: float,
        inputs: dict[str, Any] | None = None,
        run: RunRecord | None = None,
        **details: Any,
    ) -> Manifest:
        """Write the manifest, which makes the directory complete, and return it.

        Other files of the stage are removed afterwards, as a resumed run may need them until then.

        Args:
            counts: Numbers of rows and the like.
            files: All files of the result.
            seconds: Duration of the stage.
            inputs: The inputs, where more is known of them than in the spec.
            run: The stage's MLflow run, to rebuild it from the manifest.
            details: Further keys of the manifest.

        Raises:
            JobError: A file is missing, an input was replaced, or another job holds the directory.
        """
        inputs = inputs or self.spec.inputs
        keys: dict[str, object] = {
            "stage": self.spec.stage,
            "format_version": manifest.FORMAT_VERSION,
            "fingerprint": manifest.identify(self.spec.stage, self.spec.settings, inputs),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "settings": self.spec.settings,
            "inputs": inputs,
            "counts": counts,
            **details,
            "files": sorted(files, key=lambda item: item["path"]),
            "versions": {"sentiflow": __version__} | {name: version(name) for name in LIBRARIES},
        }
        record = cast(Manifest, keys | ({"run": run} if run else {}))
        self._check(record)
        filesystem.write_bytes(join(self.uri, MANIFEST), _to_json(record))
        if self.replaces:
            exchange.exchange(self.directory)
        else:
            self._tidy(record)
        return record

    def _check(self, record: Manifest) -> None:
        """Check that the result is whole, and made from inputs that are still there."""
        lease.check(self.claim)
        if damaged := manifest.find_damaged(record, filesystem.sizes(self.uri)):
            raise JobError(
                f"{join(self.uri, damaged)} is missing or damaged: run the same command again"
            )
        for name, value in record["inputs"].items():
            is_output = self.claim and value.keys() == {"uri", "fingerprint"}
            if is_output and not manifest.read_input(record["inputs"], name):
                raise JobError(f"{value['uri']} was replaced while it was read: run again")
        lease.check(self.claim)

    def clean_up(self) -> None:
        """Remove files that a killed run left in a complete directory."""
        if not self.status.is_tidy and self.status.record:
            self._tidy(self.status.record)

    def roll_back(self) -> None:
        """Remove the files of a run that cannot succeed; an earlier result stays as it was."""
        lease.check(self.claim)
        if self.replaces:
            filesystem.delete(self.uri)
        elif self.previous:
            self._tidy(self.previous)
        else:
            filesystem.write_bytes(join(self.uri, STARTED), b"{}")
            exchange.tidy(self.uri, self.spec.owns, keep=())
            filesystem.delete_empty(self.uri)

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
        except StorageError:
            raise
        except UserError:
            if not self.resumes and not unless():
                self.roll_back()
            raise

    def _tidy(self, record: Manifest) -> None:
        keep = [item["path"] for item in record["files"]]
        exchange.tidy(self.directory, self.spec.owns, keep=keep)


@contextlib.contextmanager
def open_output(
    spec: OutputSpec, *, overwrite: bool = False, before: Callable[[], None] = lambda: None
) -> Iterator[Output]:
    """Look at the output of a stage; unless it is complete, hold its directory in the context.

    Args:
        spec: The output.
        overwrite: Replace what is there.
        before: Called before the directory of an incomplete output is held.

    Raises:
        UserError: There is a result of other settings and ``overwrite`` is off, or other files.
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
            # a job that was stopped may have lost its claim
            filesystem.recording(functools.partial(lease.check, held.claim)),
        ):
            status = find_status(spec)
            if status.record != output.status.record:
                raise JobError(f"another job has just completed {spec.uri}: run the command again")
            yield Output(spec, status, overwrite=overwrite, claim=held.claim)
    finally:
        filesystem.delete_empty(spec.uri)


def list_files(uri: str, name: str) -> list[FileEntry]:
    """List the files of the subdirectory ``name``, for a manifest."""
    sizes = sorted(filesystem.sizes(join(uri, name)).items())
    return [{"path": join(name, path), "rows": None, "bytes": size} for path, size in sizes]


def _to_json(record: Manifest | Started) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
