"""Work and parts -> the results of the parts: Ray Data runs the work on each part in a task.

Only the result of a part travels to the driver. With GPUs, actors run the work: they keep the
models that they have loaded.
"""

import json
import logging
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa

from sentiflow.cluster import memory, ray_internals
from sentiflow.cluster.capacity import Capacity  # before Ray: sets environment variables
from sentiflow.cluster.part_failures import LossNotes
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors, retries

# isort: split
from ray import cloudpickle

log = logging.getLogger(__name__)
_MAX_FAILURES = retries.MAX_FAILURES
"""I/O errors of one part that end the job; also deaths of its worker that do."""


class PartId(NamedTuple):
    """Number and key of a part, which a task gets with the part."""

    number: int
    """Position of the part in the list of parts."""
    key: str = ""
    """Hash of the part's settings and input."""

    def name_file(self, *, first: int = 0) -> str:
        """Name a file of the part; each call returns another name.

        Args:
            first: Number of the job's first part in file names. Files of earlier jobs have smaller
                numbers.
        """
        return f"part-{first + self.number:05d}-{self.key}-{secrets.token_hex(4)}.parquet"


class Done(NamedTuple):
    """A part that was done."""

    number: int
    """Position of the part."""
    result: Any
    """The result of the work on it."""


class Fault(NamedTuple):
    """The error of a part, as it travels from the task to the driver."""

    known: Exception | None
    """The error, if its type can be unpickled: ``UserError``, ``JobError`` or ``OSError``."""
    line: str
    """The error in one line."""
    traceback: str


class PartError(Exception):
    """The error that a task raises if its part fails.

    The first argument is the :class:`Fault`. Ray Data adds further arguments.
    """


def process(
    parts: Mapping[PartId, Any],
    work: Callable[[Any, PartId], Any],
    *,
    notes_uri: str,
    name: str = "work",
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[Done]:
    """Do the work on each part; yield the results as they come.

    A part is repeated if its worker or node is lost, or after an I/O error; up to a limit
    (:mod:`part_failures`). Nothing is printed: the stages report progress themselves.

    Args:
        parts: The arguments of ``work``, by id.
        work: Takes a part and its id, and returns a value of JSON.
        notes_uri: A directory that every node can reach, for notes about lost workers.
        name: Name of the work in Ray's dashboard.
        max_wait_seconds: How long the cluster may have no node with a core and the share of a GPU.
        concurrency: Parts at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each part; with a share, actors run the work.

    Raises:
        UserError: The work on a part raised it.
        JobError: The work failed in another way, and its traceback is logged. Or a part had too
            many I/O errors, or its worker died too often, or no node is left for the work.
    """
    if not parts:
        return
    import ray.data

    ray_internals.speed_up_data()
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    notes = LossNotes(notes_uri, job=secrets.token_hex(4))
    mapper, strategy = _make_mapper(work, name, notes, concurrency=concurrency, num_gpus=num_gpus)
    rows = [{"part": cloudpickle.dumps(item)} for item in parts.items()]
    with _silence_data():
        with ray.data.DataContext.current(_make_context(capacity)):
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                mapper,
                batch_size=1,
                batch_format="pyarrow",
                compute=strategy,
                num_cpus=1,
                num_gpus=num_gpus,
            )
        try:
            for row in dataset.iter_rows():
                yield Done(row["number"], json.loads(row["result"]))
        except ray.exceptions.RayTaskError as error:
            raise _find_cause(error) from None
        except ray.exceptions.RayError as error:
            first_line = str(error).strip().partition("\n")[0]
            reason = memory.explain_out_of_memory(str(error)) or first_line
            raise JobError(f"a part was lost: {reason}") from error


@contextmanager
def _silence_data() -> Iterator[None]:
    """Keep Ray Data from logging, unless the user wants all messages."""
    ray_log = logging.getLogger("ray.data")
    level = ray_log.level
    if not log.isEnabledFor(logging.DEBUG):
        ray_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray_log.setLevel(level)


def _make_context(capacity: Capacity) -> Any:
    """Make the settings of Ray Data, so that it checks the capacity while tasks run."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = log.isEnabledFor(logging.DEBUG)
    context.raise_original_map_exception = True
    context.custom_execution_callback_classes = ray_internals.make_data_callbacks(capacity.check)
    return context


def _make_mapper(
    work: Callable[[Any, PartId], Any],
    name: str,
    notes: LossNotes,
    *,
    concurrency: int | None,
    num_gpus: float,
) -> tuple[Any, Any]:
    """Make what Ray Data maps over parts: a function for tasks or a class for actors; its strategy.

    Each block has one row with one pickled part. Ray's dashboard shows the given name.
    """
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    def process_block(block: pa.Table) -> pa.Table:
        part_id, part = cloudpickle.loads(block["part"][0].as_py())
        place = getattr(part, "place", "") or f"part {part_id.number} of {name}"

        def try_once() -> str:
            num_losses = ray_internals.count_retries()
            if num_losses:
                notes.check(part_id.number, num_losses, place=place, max_failures=_MAX_FAILURES)
            return json.dumps(work(part, part_id))

        try:
            result = retries.repeat_after_io_errors(
                try_once, place=place, max_failures=_MAX_FAILURES
            )
        except Exception as error:
            known = error if isinstance(error, UserError | JobError | OSError) else None
            line = f"{type(error).__name__}: {error}"
            raise PartError(Fault(known, line, traceback.format_exc())) from None
        return pa.table({"number": [part_id.number], "result": [result]})

    process_block.__name__ = name
    if not num_gpus:
        return process_block, TaskPoolStrategy(size=concurrency)
    num_actors = max(1, int(ray.cluster_resources().get("GPU", 0) / num_gpus))
    actor = type(name, (), {"__call__": lambda self, block: process_block(block)})
    return actor, ActorPoolStrategy(min_size=1, max_size=num_actors)


def _find_cause(error: Any) -> Exception:
    """Find the error of a part in the error of its task; log it unless its type is known."""
    cause = error.cause
    line = f"{type(cause).__name__}: {cause}"
    text = str(error)
    if isinstance(cause, PartError):
        fault: Fault = cause.args[0]
        cause = fault.known
        line = fault.line
        text = fault.traceback
    if cause:
        cause = errors.explain(cause) or cause
    if isinstance(cause, UserError | JobError):
        return cause
    log.error("%s", text)
    return JobError(line)
