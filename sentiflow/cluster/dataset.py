"""Parts -> Arrow tables that pass through named steps, each part in one task of Ray Data.

Ray Data fuses reading, the steps and writing of a part, so that its tables stay in one process;
only the small result travels to the driver. Steps on GPUs run in actors, and the tables go there.
A block is one row with the whole table of a part as bytes: Ray Data neither splits nor mixes parts.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sentiflow.cluster import ray_internals
from sentiflow.cluster.connection import Capacity  # before Ray: it sets variables
from sentiflow.cluster.label import Label
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.storage import errors

# isort: split
import ray
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

Read = Callable[[Any], pa.Table]
Step = Callable[[pa.Table], pa.Table]


Write = Callable[[pa.Table, Label], Any]
"""Takes the last table of a part and its label, and returns what JSON can hold."""

_MAX_RETRIES = 4
"""How often a task is repeated whose worker or node has died; Ray Data's default is for ever."""
_STOP_SECONDS = 60
"""How long running parts have to end after one has failed."""
_NUMBER, _KEY, _TABLE, _RESULT, _FAILURE = "number", "key", "table", "result", "failure"
"""Columns of blocks."""
_KNOWN = {kind.__name__: kind for kind in (UserError, StorageError, JobError)}
"""Errors of a part that the driver raises again as they are, by name."""


def read_parts(parts: Sequence[Any], read: Read, *, name: str, **options: Any) -> Dataset:
    """Make a dataset of one block for each part.

    Args:
        parts: As for :class:`datasource.PartsDatasource`.
        read: As there.
        name: As there.
        options: Options of ``ray.data.read_datasource``.
    """
    import ray.data

    from sentiflow.cluster.datasource import PartsDatasource

    source = PartsDatasource(parts, read, name=name)
    return ray.data.read_datasource(source, override_num_blocks=len(parts), **options)


def process(
    parts: Mapping[Label, Any],
    read: Read,
    steps: Sequence[Step],
    write: Write,
    *,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Any]]:
    """Read each part, pass its table through the steps, write it; yield the results as they come.

    A task that is lost with its worker or node is repeated.

    Args:
        parts: What ``read`` takes, by label.
        read: Reads the table of a part.
        steps: Functions of a table, in order. Ray's dashboard shows their names.
        write: Writes the last table of a part.
        max_wait_seconds: How long the cluster may be without a core, and its share of a GPU.
        concurrency: Parts at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for the last step, which then runs in actors.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; a part ended its worker again
            and again; or no node is left that could do the work.
    """
    if not parts:
        return
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    stop = _Stop()
    with _context(capacity):
        dataset = plan(
            parts, stop.guard(read), steps, write, concurrency=concurrency, num_gpus=num_gpus
        )
    yield from _results(dataset, stop)


def plan(
    parts: Mapping[Label, Any],
    read: Read,
    steps: Sequence[Step],
    write: Write,
    *,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Dataset:
    """Make the dataset of :func:`process`, whose rows are the results of the parts."""
    retries = ray_internals.retries_of_data(_MAX_RETRIES)
    options: dict[str, Any] = {"num_cpus": 1, "concurrency": concurrency}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = read_parts(
            list(parts.items()),
            _guard_read(read),
            name=_name(read),
            **({"ray_remote_args": retries} if retries else {}),
            **options,
        )
        for number, step in enumerate(steps, 1):
            if num_gpus and number == len(steps):
                dataset = _map_on_gpus(dataset, _guard(step), num_gpus)
            else:
                dataset = _map(dataset, _guard(step), **retries, **options)
        return _map(dataset, _finish(write), **retries, **options)


def _map(dataset: Dataset, step: Step, **options: Any) -> Dataset:
    whole = {"batch_size": None, "batch_format": "pyarrow"}
    return dataset.map_batches(step, **whole | options)


def _map_on_gpus(dataset: Dataset, step: Step, share: float) -> Dataset:
    """Do a step in actors, as many as the GPUs have room for; an actor keeps what it has loaded."""
    most = max(1, int(ray.cluster_resources().get("GPU", 0) / share))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
    actor = type(_name(step), (), {"__call__": lambda self, block: step(block)})
    return _map(dataset, actor, batch_size=1, compute=pool, num_cpus=0, num_gpus=share)


def _guard_read(read: Read) -> Read:
    """Read a part, given its label and itself, as a block."""

    def apply(labelled: tuple[Label, Any]) -> pa.Table:
        label, part = labelled
        return _attempt(lambda: _to_block(label, read(part)), label)

    return apply


def _guard(step: Step) -> Step:
    """Make a step of tables a step of blocks."""
    return _on_blocks(lambda table, label: _to_block(label, step(table)), _name(step))


def _finish(write: Write) -> Step:
    """Make the last step, which returns the result of a part."""
    return _on_blocks(
        lambda table, label: _to_block(label, result=json.dumps(write(table, label))), _name(write)
    )


def _on_blocks(work: Callable[[pa.Table, Label], pa.Table], name: str) -> Step:
    """Make a step of blocks with a name; a part that has failed passes through."""

    def apply(block: pa.Table) -> pa.Table:
        if block[_FAILURE][0].as_py():
            return block
        label = Label(block[_NUMBER][0].as_py(), block[_KEY][0].as_py())
        table = pa.ipc.open_stream(block[_TABLE][0].as_buffer()).read_all()
        return _attempt(lambda: work(table, label), label)

    apply.__name__ = name
    return apply


def _name(function: Any) -> str:
    """Return the name of a function for Ray's dashboard."""
    return str(getattr(function, "func", function).__name__)


def _to_block(
    label: Label, table: pa.Table | None = None, *, result: str = "", failure: str = ""
) -> pa.Table:
    """Make a block of a part's table, of its result, or of its failure."""
    sink = pa.BufferOutputStream()
    if table is not None:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    content = sink.getvalue()
    ends = pa.py_buffer(np.array([0, content.size], np.int64))
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content])
    values = {_NUMBER: [label.number], _KEY: [label.key], _RESULT: [result], _FAILURE: [failure]}
    return pa.table({**values, _TABLE: column})


def _attempt(work: Callable[[], pa.Table], label: Label) -> pa.Table:
    """Return a block, or one that holds the error: Ray Data would log a page of it."""
    try:
        return work()
    except Exception as error:
        known = errors.explain(error) or error
        line = traceback.format_exception_only(known)[-1].strip()
        message = str(known) if isinstance(known, UserError | JobError) else line
        failure = [type(known).__name__, message, traceback.format_exc()]
        return _to_block(label, failure=json.dumps(failure))


class _Stop:
    """A sign to the tasks of a dataset that they need not begin.

    Ray Data cannot be stopped: it would kill the processes of running tasks, which Ray takes for
    lost and repeats, or fails on. The sign is the name of an actor, which is made if it is needed.
    """

    def __init__(self) -> None:
        """Choose a name."""
        self.name = f"stop-{uuid.uuid4().hex}"

    def guard(self, read: Read) -> Read:
        """Raise an error in place of reading, once there is the sign."""
        name = self.name

        @functools.wraps(getattr(read, "func", read))
        def apply(part: Any) -> pa.Table:
            with suppress(ValueError):
                ray.get_actor(name)
                raise JobError("another part has failed")
            return read(part)

        return apply

    def give(self) -> Any:
        """Give the sign, as long as what is returned is kept."""
        actor = type("Stop", (), {})
        return ray.remote(num_cpus=0)(actor).options(name=self.name).remote()


def _results(dataset: Dataset, stop: _Stop) -> Iterator[tuple[int, Any]]:
    """Run a dataset, and yield number and result of each part; raise the first failure.

    After a failure the running tasks end as they would, for ``_STOP_SECONDS`` at most.
    """
    failure: tuple[str, str, str] | None = None
    sign, until = None, math.inf
    try:
        for row in dataset.iter_rows():
            if not failure and row[_FAILURE]:
                failure = json.loads(row[_FAILURE])
                sign, until = stop.give(), time.monotonic() + _STOP_SECONDS
            elif not failure:
                yield row[_NUMBER], json.loads(row[_RESULT])
            elif time.monotonic() > until:
                break
    except ray.exceptions.RayError as error:
        line = str(error).strip().partition("\n")[0]
        raise JobError(f"a part was lost: {line}") from error
    if failure:
        del sign
        kind, message, logged = failure
        if kind not in _KNOWN:
            log.error("%s", logged)
        raise _KNOWN.get(kind, JobError)(message)


@contextmanager
def _context(capacity: Capacity) -> Iterator[None]:
    """Make datasets start at once in the block, and end where Ray Data would wait for ever.

    A block is never split, and nothing is printed: the stages report progress themselves.
    """
    from ray.data import DataContext

    ray_internals.speed_up_data()
    verbose = log.isEnabledFor(logging.DEBUG)
    context = DataContext.get_current().copy()
    context.target_max_block_size = None
    context.enable_progress_bars = verbose
    context.custom_execution_callback_classes = ray_internals.callbacks_of_data(capacity.check)
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(context):
        yield
