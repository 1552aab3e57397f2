"""Work on numbered parts -> done by tasks of Ray, one core each, over the whole cluster."""

import functools
import itertools
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sentiflow.cluster.connection import (
    LOOK_EVERY_SECONDS,
    Capacity,
)  # before Ray, as it sets what Ray reads on import
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors

# isort: split
import ray
import ray.exceptions

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
    num_gpus: float = 0,
) -> Iterator[Result]:
    """Do a stage's work on each of its parts, and yield the results as they come.

    Each part is one task of one core; there are no actors that would keep a core. A task that is
    lost with its worker or node is repeated. The tables stay in the process that reads and writes
    them; only the small result travels.

    Args:
        work: Takes a part's number and returns its result.
        num_parts: Parts are numbered from 0.
        max_wait_seconds: How long the cluster may be without a core, and its share of a GPU.
        concurrency: Tasks at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each task.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; a part ended its worker again
            and again; or no node is left that could do the work.
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
                yield _get(task, queued.pop(task))
            if not done:
                capacity.check()
    finally:
        for task in queued:
            ray.cancel(task)


def _get(task: Any, part: int) -> Any:
    """Give the result of a task, or raise its error without Ray's wrapping."""
    try:
        return json.loads(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        known = errors.explain(error.cause) or error.cause
        if isinstance(known, UserError | JobError):
            raise known from None
        log.error("%s", error)
        raise JobError(traceback.format_exception_only(known)[-1].strip()) from error
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise JobError(f"part {part} was lost: {reason}") from error


def _run_shared(shared: Sequence[Any], part: int) -> str:
    """Do the work on one part; ``shared`` is a list of one reference, which Ray does not resolve.

    The work holds a list of all parts of the corpus. To unpack it for each part would take time
    that grows with the square of their number.
    """
    return json.dumps(_fetch_work(*shared)(part))


@functools.lru_cache(maxsize=1)
def _fetch_work(shared: Any) -> Callable[[int], Any]:
    """Fetch the work once for each worker process."""
    work: Callable[[int], Any] = ray.get(shared)
    return work
