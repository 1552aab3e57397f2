"""Training function -> run by Ray Train's workers, its posts passed on."""

import concurrent.futures
import functools
import logging
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

from sentiflow.cluster.connection import Capacity  # before Ray, as it sets what Ray reads
from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError, StorageError, UserError, WorkerError
from sentiflow.storage import errors
from sentiflow.training import train_reservations

# isort: split
import psutil  # type: ignore[import-untyped]
import ray
import ray.train
import ray.train.torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger(__name__)

_GROW_EVERY_SECONDS = 300.0
"""So often Ray Train looks whether there is room for workers that are missing. To take them in, all
workers start again from the last checkpoint."""


def train(
    worker: Callable[[Any, Callable[[dict[str, Any]], None]], Any],
    job: Any,
    *,
    num_workers: int,
    min_workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: int = 0,
    resources: Resources,
    storage_path: str,
    max_failures: int = 0,
    max_wait_seconds: float = 600,
    on_post: Callable[[dict[str, Any]], None],
) -> Any:
    """Run a training function on workers of Ray Train; in this process if one is all there is.

    Args:
        worker: Takes the job, and a function that posts a dictionary to the driver.
        job: Picklable.
        num_workers: Processes that train in step.
        min_workers: So many go on when there is no room for more after a loss.
        cpus_per_worker: Cores set aside for each.
        gpus_per_worker: GPUs for each.
        resources: Of the cluster.
        storage_path: A directory that every node can reach, for Ray's own records.
        max_failures: So many times workers are started again after one has died, or failed.
        max_wait_seconds: So long the cluster may be without room for any worker.
        on_post: Told, in this process, what the workers post.

    Returns:
        What ``worker`` returned on rank 0.

    Raises:
        UserError: A worker raised it.
        WorkerError: A worker failed otherwise; what is known of it is logged.
        JobError: There is no node left with room for a worker.
    """
    in_process = resources.runs_in_process(num_workers, gpus=gpus_per_worker)
    board = None if in_process else _put_up_board()
    post = on_post if board is None else functools.partial(_post, board)
    fewest, need = min(min_workers, num_workers), {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
    room = Capacity(need, times=fewest, max_wait_seconds=max_wait_seconds)
    trainer = ray.train.torch.TorchTrainer(
        lambda config: worker(config["job"], post),
        train_loop_config={"job": job},
        torch_config=_TorchConfig(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=0 if in_process else _elastic(fewest, num_workers),
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=need,
            elastic_resize_monitor_interval_s=_GROW_EVERY_SECONDS,
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{uuid.uuid4().hex[:8]}",  # Ray would believe to know a name again
            storage_path=storage_path,
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        if board is None:
            return trainer.fit().return_value
        return _fit_and_listen(trainer, board, on_post, room)
    except (UserError, JobError):
        raise
    except Exception as error:  # from Ray Train, or from the worker in this process
        raise _cause(error) from error


class _Backend(ray.train.torch.TorchConfig().backend_cls):  # type: ignore[misc]
    """Has the workers talk through the interface by which Ray's nodes talk.

    Gloo would take that to which the host's name leads, and many a Linux leads its own name to
    loopback, so that workers of two hosts would never meet.
    """

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(_choose_interface)
        super().on_start(worker_group, backend_config)


class _TorchConfig(ray.train.torch.TorchConfig):
    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _choose_interface() -> None:
    """Name the interface of this node's address to Gloo, unless the environment names one."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _elastic(fewest: int, most: int) -> int | tuple[int, int]:
    """Say to Ray Train how many workers may train."""
    return most if fewest == most else (fewest, most)


class _Board:
    """Holds what workers post until the driver takes it."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def put(self, item: dict[str, Any]) -> None:
        self.items.append(item)

    def take(self) -> list[dict[str, Any]]:
        items, self.items = self.items, []
        return items


def _put_up_board() -> Any:
    """Start a board on this process's own node, with which alone it may end."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()


def _post(board: Any, item: dict[str, Any]) -> None:
    ray.get(board.put.remote(item))


def _fit_and_listen(
    trainer: Any,
    board: Any,
    on_post: Callable[[dict[str, Any]], None],
    room: Capacity,
) -> Any:
    """Fit in a thread, which an interrupt does not wait for, and pass on what is posted.

    If nobody can take the posts, or there is no room to train in, the board goes, and with it the
    workers.
    """
    fitted: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def fit() -> None:
        try:
            fitted.set_result(trainer.fit())
        except BaseException as error:
            fitted.set_exception(error)

    has_begun = False
    try:
        start = train_reservations.StartWatch()
        threading.Thread(target=fit, daemon=True).start()
        while True:
            finished = concurrent.futures.wait([fitted], timeout=0.5).done
            for item in ray.get(board.take.remote()):
                has_begun = True
                on_post(item)
            room.check()
            if not has_begun:
                start.check()
            if finished:
                return fitted.result().return_value
    finally:
        ray.kill(board)


def _cause(error: Exception) -> Exception:
    """Make the first worker's failure an error of ours, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, failure = min(failures.items())
    if isinstance(failure, UserError):
        return failure
    text = str(failure).strip()
    last = text.splitlines()[-1] if text else type(failure).__name__
    for kind in (UserError, StorageError):
        _, is_problem, problem = last.partition(f"{kind.__name__}: ")
        if is_problem:
            return kind(problem)
    known = errors.explain(failure) or errors.explain_text(last)
    if isinstance(known, StorageError):
        return known
    if known is None:
        log.error("%s", text)
    return WorkerError(f"training worker {rank} failed: {known or last}")
