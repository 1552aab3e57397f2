"""Work on numbered parts -> done by tasks of Ray, of one core each, over the whole cluster."""

import functools
import itertools
import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentiflow.cluster.connection import (
    LOOK_EVERY_SECONDS,
    Capacity,
)  # sets what Ray reads on import
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors

# isort: split
import ray
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

log = logging.getLogger(__name__)

_MAX_RETRIES = 10
"""So often a task is done again whose worker or node has died."""
_MAX_WAITING = 1000
"""Tasks that Ray is told of at a time."""


def map_parts(
    work: Callable[[int], dict[str, Any]],
    *,
    num_parts: int,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Do a stage's work on each of its parts with Ray Data, and yield what each came to.

    One task for each part, one core for each task: there are no actors whose cores Ray Data could
    wait for, and a task that is lost with its worker or node is done again. The parts' tables stay
    in the process that reads and writes them; only the small result travels.

    Args:
        work: Takes a part's number; returns what JSON can hold.
        num_parts: Parts are numbered from 0.
        max_wait_seconds: So long the cluster may be without a core.
        concurrency: At most so many tasks at the same time; None: as many as there are cores.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, its traceback is logged; or the cluster has no core left.
    """
    if num_parts == 0:
        return
    import ray.data

    _set_up_data(Capacity({"CPU": 1}, max_wait_seconds=max_wait_seconds))
    shared = ray.put(work)
    dataset = ray.data.range(num_parts, override_num_blocks=num_parts)
    with warnings.catch_warnings():  # 2.60 has no other way to say how often, and would for ever
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = dataset.map(
            lambda row: _do_shared([shared], row["id"]),
            concurrency=concurrency,
            max_retries=_MAX_RETRIES,
        )
    try:
        yield from map(_unpack, done.iter_rows())
    except ray.exceptions.RayError as error:
        raise JobError(f"a part was lost: {_first_line(error)}") from error


def map_tasks(
    work: Callable[[int], dict[str, Any]],
    *,
    num_parts: int,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[dict[str, Any]]:
    """Do the same as :func:`map_parts` by plain tasks of Ray.

    Between two tasks on a core pass 4 ms, not 40, which counts where a part takes 200.

    Args:
        work: As for :func:`map_parts`.
        num_parts: As there.
        max_wait_seconds: As there; of a core with its share of a GPU.
        concurrency: As there.
        num_gpus: Share of a GPU for each task.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, a part ended its worker again and again, or there is no node
            left that could do it.
    """
    room = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    function = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(_do_shared)
    shared, numbers = ray.put(work), iter(range(num_parts))
    waiting: dict[Any, int] = {}
    try:
        while True:
            for part in itertools.islice(numbers, (concurrency or _MAX_WAITING) - len(waiting)):
                waiting[function.remote([shared], part)] = part
            if not waiting:
                return
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_EVERY_SECONDS)
            for task in done:
                yield _unpack(_get(task, waiting.pop(task)))
            if not done:
                room.check()
    finally:
        for task in waiting:
            ray.cancel(task)


def _get(task: Any, part: int) -> dict[str, str]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        raise JobError(f"part {part} was lost: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _unpack(report: dict[str, str]) -> dict[str, Any]:
    """Take the result out of a task's report, or raise what it has met with."""
    if report["problem"]:
        raise UserError(report["problem"])
    if report["failure"]:
        if report["traceback"]:
            log.error("%s", report["traceback"])
        raise JobError(report["failure"])
    return json.loads(report["result"])


def _do_shared(shared: Sequence[Any], part: int) -> dict[str, str]:
    """Do the work on one part; ``shared`` holds the reference to it alone.

    In a list Ray leaves the reference as it is. The work knows all parts of the corpus, and to
    unpack it for each of them would take time that grows with the square of their number.
    """
    return _do(lambda number: _unpack_work(*shared)(number), part)


@functools.lru_cache(maxsize=1)
def _unpack_work(shared: Any) -> Callable[[int], dict[str, Any]]:
    """Fetch the work once for each worker process."""
    work: Callable[[int], dict[str, Any]] = ray.get(shared)
    return work


def _do(work: Callable[[int], dict[str, Any]], part: int) -> dict[str, str]:
    """Do the work on one part; a failure travels to the driver as text.

    Ray's own wrapping would lose the exception and log a page for each.
    """
    report = {"result": "", "problem": "", "failure": "", "traceback": ""}
    try:
        return report | {"result": json.dumps(work(int(part)))}
    except Exception as error:
        known = errors.explain(error) or error
        if isinstance(known, UserError):
            return report | {"problem": str(known)}
        if isinstance(known, JobError):
            return report | {"failure": str(known)}
        failure = traceback.format_exception_only(error)[-1].strip()
        return report | {"failure": failure, "traceback": traceback.format_exc()}


def _set_up_data(room: Capacity) -> None:
    """Make Ray Data quick, quiet as the stages report progress themselves, and not too patient.

    Ray Data 2.60 believes for the first second of each pass that the cluster has no core, and so
    runs one task; and it looks for finished tasks ten times a second. Both are private constants.
    """
    import ray.data
    from ray.data._internal.execution import resource_manager, streaming_executor_state
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Watch(ExecutionCallback):
        def on_execution_step(self, executor: object) -> None:
            room.check()

    resource_manager.ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = 0.05
    streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 0.01
    verbose = log.isEnabledFor(logging.DEBUG)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.custom_execution_callback_classes = [Watch]
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
