"""What Ray has -> workers, tasks, threads."""

import importlib
import itertools
import json
import logging
import os
import re
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started. Had it been imported already, it would half
# believe the mode; left alone, it chooses the same when it starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of imports nobody waits for any more
if "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import psutil  # type: ignore[import-untyped]
import ray
import ray.exceptions

from sentiflow.errors import JobError, UserError

log = logging.getLogger(__name__)

_TASKS_ON_GPU = 4
_MAX_RETRIES = 10
"""So often a task is done again whose worker or node has died."""
_MAX_WAITING = 1000
"""Tasks that Ray is told of at a time."""


@dataclass(frozen=True)
class Resources:
    """What the cluster has."""

    num_cpus: int
    num_gpus: int
    num_nodes: int
    min_node_cpus: int
    """Cores of the smallest node that has any."""

    def train_workers(self, wanted: int | str) -> int:
        """Number of training workers; ``auto``: one for each GPU, else one for each node.

        Raises:
            UserError: More are wanted than there are cores, or GPUs if there are any; they would
                be waited for for ever.
        """
        num_workers = (self.num_gpus or self.num_nodes) if wanted == "auto" else int(wanted)
        for number, name in ((self.num_cpus, "cores"), (self.num_gpus or num_workers, "GPUs")):
            if num_workers > number:
                raise UserError(
                    f"train.num_workers={num_workers}, but Ray has {number} {name}",
                    hint="each worker needs one",
                )
        return num_workers

    def runs_in_process(self, num_workers: int) -> bool:
        """Say whether training may run in this process, which saves the start of Ray's workers."""
        return num_workers == 1 and self.num_nodes == 1

    def cpus_per_train_worker(self, num_workers: int) -> int:
        """Cores for a training worker: its share, if nodes like the smallest have room for all."""
        share = min(self.num_cpus // num_workers, self.min_node_cpus)
        while share > 1 and self.num_nodes * (self.min_node_cpus // share) < num_workers:
            share -= 1
        return max(1, share)

    def threads_per_train_worker(self, num_workers: int) -> int:
        """Threads of a training worker: its share of the cores, less one.

        A recurrent step is many small products. Where another process takes one of the cores, each
        of them waits for the slowest thread, and all becomes ten times slower; the core left free
        costs a sixth.
        """
        return max(1, self.cpus_per_train_worker(num_workers) - 1)

    def gpus_per_score_task(self) -> float:
        """Share of a GPU for a scoring task; 0 where there is none.

        Several share one: while one reads and tokenizes, another computes.
        """
        if not self.num_gpus:
            return 0
        return 1 / min(_TASKS_ON_GPU, max(1, self.num_cpus // self.num_gpus))


@contextmanager
def started(*, verbose: bool) -> Iterator[Resources]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start one on this machine, for the block."""
    with starting(verbose=verbose) as resources:
        yield resources()


@contextmanager
def starting(*, verbose: bool, modules: Sequence[str] = ()) -> Iterator[Callable[[], Resources]]:
    """Begin with :func:`started`, and let the block do something else meanwhile.

    It takes seconds, most of which are spent waiting for Ray's processes. The thread that starts
    them stays until the block ends: Linux ends them with their thread. Out of the main thread,
    Ray leaves the handling of SIGTERM as it is.

    Args:
        verbose: Show Ray's own messages.
        modules: For :func:`warm`, as soon as Ray is there.

    Yields:
        A function that waits for Ray; it raises what went wrong with it.
    """
    found: Future[Resources] = Future()
    over = threading.Event()

    def hold() -> None:
        try:
            with _connected(verbose):
                warm(modules)
                found.set_result(look())
                over.wait()
        except BaseException as error:
            if found.done():
                raise
            found.set_exception(error)

    if not verbose:
        for name in ("ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
    thread = threading.Thread(target=hold, name="ray", daemon=True)
    thread.start()
    try:
        yield found.result
    finally:
        over.set()
        thread.join()


@contextmanager
def _connected(verbose: bool) -> Iterator[None]:
    """Start or join Ray for the block, unless this process has joined one already."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        _guard_token()
    ray.init(
        address=address,
        include_dashboard=verbose if address == "local" else None,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
    )
    try:
        yield
    finally:
        _end_monitor()
        ray.shutdown()


def _end_monitor() -> None:
    """End the autoscaler's process of a cluster that this process has started.

    Ray ends it last, and waits a second in vain for an answer to SIGTERM before it kills it.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(re.search(r"/autoscaler/.*/monitor\.py$", part) for part in child.cmdline()):
                child.kill()


def warm(modules: Sequence[str]) -> None:
    """Have a worker on each core import modules, so that the first parts of a stage need not.

    Nobody waits for it, and a module that is not there is left to the part that will miss it.
    """
    if modules:
        load = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_load)
        for _ in range(look().num_cpus):
            load.remote(tuple(modules))


def _load(modules: Sequence[str]) -> None:
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)


def look() -> Resources:
    """Count what the running cluster has."""
    total = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes]
    return Resources(
        num_cpus=max(1, int(total.get("CPU", 1))),
        num_gpus=int(total.get("GPU", 0)),
        num_nodes=len(nodes),
        min_node_cpus=min((count for count in cpus if count), default=1),
    )


def map_parts(work: Callable[[int], dict[str, Any]], *, num_parts: int) -> Iterator[dict[str, Any]]:
    """Do a stage's work on each of its parts with Ray Data, and yield what each came to.

    One task for each part, one core for each task: there are no actors whose cores Ray Data could
    wait for, and a task that is lost with its worker or node is done again. The parts' tables stay
    in the process that reads and writes them; only the small result travels.

    Args:
        work: Takes a part's number; returns what JSON can hold.
        num_parts: Parts are numbered from 0.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise; its traceback is logged.
    """
    if num_parts == 0:
        return
    import ray.data

    _set_up_data()
    dataset = ray.data.range(num_parts, override_num_blocks=num_parts)
    done = dataset.map(lambda row: _do(work, row["id"]))
    yield from map(_unpack, done.iter_rows())


def map_tasks(
    work: Callable[[int], dict[str, Any]],
    *,
    num_parts: int,
    num_gpus: float = 0,
    concurrency: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Do the same as :func:`map_parts` by plain tasks of Ray.

    Between two tasks on a core pass 4 ms, not 40, which counts where a part takes 200.

    Args:
        work: As for :func:`map_parts`.
        num_parts: As there.
        num_gpus: Share of a GPU for each task.
        concurrency: At most so many tasks at the same time; None: as many as there are cores.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, or a part ended its worker again and again.
    """
    function = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(_do)
    shared, numbers = ray.put(work), iter(range(num_parts))
    waiting: dict[Any, int] = {}
    try:
        while True:
            for part in itertools.islice(numbers, (concurrency or _MAX_WAITING) - len(waiting)):
                waiting[function.remote(shared, part)] = part
            if not waiting:
                return
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield _unpack(_get(done, waiting.pop(done)))
    finally:
        for task in waiting:
            ray.cancel(task)


def _get(task: Any, part: int) -> dict[str, str]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        raise JobError(f"part {part} was lost: {str(error).splitlines()[0]}") from error


def _unpack(report: dict[str, str]) -> dict[str, Any]:
    """Take the result out of a task's report, or raise what it has met with."""
    if report["problem"]:
        raise UserError(report["problem"])
    if report["failure"]:
        if report["traceback"]:
            log.error("%s", report["traceback"])
        raise JobError(report["failure"])
    return json.loads(report["result"])


def _do(work: Callable[[int], dict[str, Any]], part: int) -> dict[str, str]:
    """Do the work on one part; a failure travels to the driver as text.

    Ray's own wrapping would lose the exception and log a page for each.
    """
    report = {"result": "", "problem": "", "failure": "", "traceback": ""}
    try:
        return report | {"result": json.dumps(work(int(part)))}
    except UserError as error:
        return report | {"problem": str(error)}
    except JobError as error:
        return report | {"failure": str(error)}
    except Exception as error:
        failure = traceback.format_exception_only(error)[-1].strip()
        return report | {"failure": failure, "traceback": traceback.format_exc()}


def _set_up_data() -> None:
    """Make Ray Data quick, and quiet: the stages report progress themselves.

    Ray Data 2.60 believes for the first second of each pass that the cluster has no core, and so
    runs one task; and it looks for finished tasks ten times a second. Both are private constants.
    """
    import ray.data
    from ray.data._internal.execution import resource_manager, streaming_executor_state

    resource_manager.ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = 0.05
    streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 0.01
    verbose = log.isEnabledFor(logging.DEBUG)
    ray.data.DataContext.get_current().enable_progress_bars = verbose
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)


def _guard_token() -> None:
    """Make sure that the token which guards a local cluster is readable by its owner alone.

    Ray would write it readable by everybody.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
