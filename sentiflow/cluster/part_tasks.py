"""Work on numbered parts -> done by tasks of Ray, one core each, over the whole cluster."""

import dataclasses
import functools
import itertools
import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sentiflow.cluster import ray_internals
from sentiflow.cluster.connection import (
    LOOK_EVERY_SECONDS,
    Capacity,
)  # before Ray, as it sets what Ray reads on import
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors

# isort: split
import ray
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

log = logging.getLogger(__name__)

Result = TypeVar("Result")
"""What the work on a part returns: JSON can hold it, most often a dictionary."""

_MAX_RETRIES = 10
"""How often a task is repeated whose worker or node has died."""
_MAX_QUEUED = 1000
"""Tasks that Ray knows at a time."""


def map_parts(
    work: Callable[[int], Result],
    *,
    num_parts: int,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
) -> Iterator[Result]:
    """Do a stage's work on each of its parts with Ray Data, and yield the results.

    Each part is one task of one core; there are no actors that would keep a core. A task that is
    lost with its worker or node is repeated. The tables stay in the process that reads and writes
    them; only the small result travels.

    Args:
        work: Takes a part's number and returns its result.
        num_parts: Parts are numbered from 0.
        max_wait_seconds: How long the cluster may be without a core.
        concurrency: Tasks at the same time; None: as many as there are cores.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; or the cluster has no core left.
    """
    if num_parts == 0:
        return
    import ray.data

    _set_up_data(Capacity({"CPU": 1}, max_wait_seconds=max_wait_seconds))
    shared = ray.put(work)
    dataset = ray.data.range(num_parts, override_num_blocks=num_parts)
    with warnings.catch_warnings():  # no other way to limit the retries, which have no limit
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = dataset.map(
            lambda row: dataclasses.asdict(_run_shared([shared], row["id"])),
            concurrency=concurrency,
            max_retries=_MAX_RETRIES,
        )
    try:
        for row in done.iter_rows():
            yield _unpack(_Outcome(**row))
    except ray.exceptions.RayError as error:
        raise JobError(f"a part was lost: {_first_line(error)}") from error


def map_tasks(
    work: Callable[[int], Result],
    *,
    num_parts: int,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[Result]:
    """Do the same as :func:`map_parts` by plain tasks of Ray.

    A core waits 4 ms between two tasks, not 40, which counts where a part takes 200 ms.

    Args:
        work: As for :func:`map_parts`.
        num_parts: As there.
        max_wait_seconds: As there, for a core with its share of a GPU.
        concurrency: As there.
        num_gpus: Share of a GPU for each task.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise; a part ended its worker again and again; or no node is left
            that could do the work.
    """
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    function = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(_run_shared)
    shared, numbers = ray.put(work), iter(range(num_parts))
    queued: dict[Any, int] = {}
    try:
        while True:
            for part in itertools.islice(numbers, (concurrency or _MAX_QUEUED) - len(queued)):
                queued[function.remote([shared], part)] = part
            if not queued:
                return
            done, _ = ray.wait(list(queued), num_returns=1, timeout=LOOK_EVERY_SECONDS)
            for task in done:
                yield _unpack(_get(task, queued.pop(task)))
            if not done:
                capacity.check()
    finally:
        for task in queued:
            ray.cancel(task)


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What a task returns to the driver, as text: Ray would wrap an exception and log a page."""

    result: str = ""
    """As JSON; empty if the work failed."""
    user_error: str = ""
    """The message of a ``UserError``."""
    failure: str = ""
    """One line of any other error."""
    traceback: str = ""
    """Of an error that the package does not know."""


def _get(task: Any, part: int) -> _Outcome:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        raise JobError(f"part {part} was lost: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _unpack(outcome: _Outcome) -> Any:
    """Take the result out of a task's outcome, or raise its error."""
    if outcome.user_error:
        raise UserError(outcome.user_error)
    if outcome.failure:
        if outcome.traceback:
            log.error("%s", outcome.traceback)
        raise JobError(outcome.failure)
    return json.loads(outcome.result)


def _run_shared(shared: Sequence[Any], part: int) -> _Outcome:
    """Do the work on one part; ``shared`` is a list of one reference, which Ray does not resolve.

    The work holds a list of all parts of the corpus. To unpack it for each part would take time
    that grows with the square of their number.
    """
    try:
        return _Outcome(result=json.dumps(_fetch_work(*shared)(int(part))))
    except Exception as error:
        known = errors.explain(error) or error
        if isinstance(known, UserError):
            return _Outcome(user_error=str(known))
        if isinstance(known, JobError):
            return _Outcome(failure=str(known))
        failure = traceback.format_exception_only(error)[-1].strip()
        return _Outcome(failure=failure, traceback=traceback.format_exc())


@functools.lru_cache(maxsize=1)
def _fetch_work(shared: Any) -> Callable[[int], Any]:
    """Fetch the work once for each worker process."""
    work: Callable[[int], Any] = ray.get(shared)
    return work


def _set_up_data(capacity: Capacity) -> None:
    """Make Ray Data start at once, end where it would wait for ever, and say nothing.

    The stages report progress themselves.
    """
    import ray.data

    ray_internals.speed_up_data()
    verbose = log.isEnabledFor(logging.DEBUG)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.custom_execution_callback_classes = ray_internals.callbacks_of_data(capacity.check)
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
