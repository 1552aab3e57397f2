"""Parts -> each done by one task of Ray Data; only its small result travels to the driver.

A block is one row with a part. With GPUs the parts are done in actors, which keep what they have
loaded.
"""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sentiflow.cluster import ray_internals
from sentiflow.cluster.connection import Capacity  # before Ray: it sets variables
from sentiflow.cluster.label import Label
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.storage import errors

# isort: split
import ray
import ray.exceptions
from ray import cloudpickle
from ray.util.annotations import RayDeprecationWarning

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

Work = Callable[[Any, Label], Any]
"""Takes a part and its label, and returns what JSON can hold."""

_MAX_RETRIES = 4
"""How often a task is repeated whose worker or node has died; Ray Data's default is for ever."""
_KNOWN = {kind.__name__: kind for kind in (UserError, StorageError, JobError)}
"""Errors of a part that the driver raises again as they are, by name."""


def process(
    parts: Mapping[Label, Any],
    work: Work,
    *,
    name: str = "work",
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Any]]:
    """Do the work on each part; yield the number and the result of each as they come.

    A task that is lost with its worker or node is repeated.

    Args:
        parts: What ``work`` takes, by label.
        work: The work on one part.
        name: Its name in Ray's dashboard.
        max_wait_seconds: How long the cluster may be without a core, and its share of a GPU.
        concurrency: Parts at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each part, which is then done in an actor.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; a part ended its worker again
            and again; or no node is left that could do the work.
    """
    if not parts:
        return
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    dataset = _plan(parts, work, name, capacity, concurrency=concurrency, num_gpus=num_gpus)
    try:
        for row in dataset.iter_rows():
            if row["failure"]:
                kind, message, logged = json.loads(row["failure"])
                if kind not in _KNOWN:
                    log.error("%s", logged)
                raise _KNOWN.get(kind, JobError)(message)
            yield row["number"], json.loads(row["result"])
    except ray.exceptions.RayError as error:
        line = str(error).strip().partition("\n")[0]
        raise JobError(f"a part was lost: {line}") from error


def _plan(
    parts: Mapping[Label, Any],
    work: Work,
    name: str,
    capacity: Capacity,
    *,
    concurrency: int | None,
    num_gpus: float,
) -> Dataset:
    """Make the dataset of :func:`process`, whose rows are the results of the parts.

    It starts at once, and ends where Ray Data would wait for ever. Nothing is printed: the stages
    report progress themselves.
    """
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    ray_internals.speed_up_data()
    verbose = log.isEnabledFor(logging.DEBUG)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = verbose
    context.custom_execution_callback_classes = ray_internals.callbacks_of_data(capacity.check)
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def do(block: pa.Table) -> pa.Table:
        label, part = cloudpickle.loads(block["part"][0].as_py())
        return _attempt(work, part, label)

    do.__name__ = name
    compute, step = TaskPoolStrategy(concurrency), do
    retries = ray_internals.retries_of_data(_MAX_RETRIES)
    if num_gpus:  # actors are restarted, and have no such option
        retries = {}
        most = max(1, int(ray.cluster_resources().get("GPU", 0) / num_gpus))
        compute = ActorPoolStrategy(min_size=1, max_size=most)
        step = type(name, (), {"__call__": lambda self, block: do(block)})
    rows = [{"part": cloudpickle.dumps(item)} for item in parts.items()]
    with DataContext.current(context), warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        return dataset.map_batches(
            step,
            batch_size=1,
            batch_format="pyarrow",
            compute=compute,
            num_cpus=1,
            num_gpus=num_gpus,
            **retries,
        )


def _attempt(work: Work, part: Any, label: Label) -> pa.Table:
    """Return a block with the result, or with the error: Ray Data would log a page of it."""
    result, failure = "", ""
    try:
        result = json.dumps(work(part, label))
    except Exception as error:
        known = errors.explain(error) or error
        line = traceback.format_exception_only(known)[-1].strip()
        message = str(known) if isinstance(known, UserError | JobError) else line
        failure = json.dumps([type(known).__name__, message, traceback.format_exc()])
    return pa.table({"number": [label.number], "result": [result], "failure": [failure]})
