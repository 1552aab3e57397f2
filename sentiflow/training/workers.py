"""Training function -> run in this process, or by workers of Ray Train; events of both."""

import concurrent.futures
import contextlib
import logging
import os
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from sentiflow.cluster import memory
from sentiflow.cluster.capacity import Capacity  # before Ray: sets environment variables
from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError, StorageError, UserError, WorkerError
from sentiflow.storage import errors, filesystem
from sentiflow.training.leaving_nodes import LeavingNodes
from sentiflow.training.reports import Event, Failure

# isort: split
import psutil  # type: ignore[import-untyped]
import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger(__name__)

_GROW_EVERY_SECONDS = 300.0
"""How often Ray Train looks for room for missing workers. To add them it restarts all workers,
which resume from the last checkpoint."""
_CHECK_EVERY_SECONDS = 0.5
"""How often the driver looks at the cluster while it waits for events."""

J = TypeVar("J")
"""A job."""
R = TypeVar("R")
"""The result of a job."""
Worker = Callable[[J, Callable[[Event], None], Callable[[], bool]], R | Exception | None]
"""A training function, see :func:`train`."""


def train(
    worker: Worker[J, R],
    job: J,
    *,
    num_workers: int,
    min_workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: int = 0,
    resources: Resources,
    storage_path: str,
    max_failures: int = 0,
    max_wait_seconds: float = 600,
    callback: Callable[[Event], None],
) -> R:
    """Run a training function on workers of Ray Train, or in this process if one is enough.

    Args:
        worker: The training function. It takes the job; a function that reports an event; and a
            function that says once for each node which is about to go that it is. If it returns an
            error instead of raising it, workers are not restarted.
        job: Must be picklable.
        num_workers: Number of worker processes.
        min_workers: After a loss without replacement, at least this many workers resume.
        cpus_per_worker: Cores reserved for each worker.
        gpus_per_worker: GPUs for each worker.
        resources: Resources of the cluster.
        storage_path: A directory that every node can reach, for Ray's own files.
        max_failures: How many times workers are restarted after one has died or failed.
        max_wait_seconds: How long the cluster may be without room for ``min_workers``.
        callback: Called in this process with each event, in order.

    Returns:
        The result of ``worker`` on rank 0.

    Raises:
        UserError: A worker raised or returned it.
        WorkerError: A worker failed otherwise; the log has its traceback.
        JobError: The cluster has no room for the workers, or a worker returned it.
    """
    try:
        if resources.runs_in_process(num_workers, gpus=gpus_per_worker):
            result: Any = worker(job, callback, lambda: False)
        else:
            fewest = min(min_workers, num_workers)
            need = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
            result = _train_on_ray(
                worker,
                job,
                scaling=_configure_scaling(num_workers, fewest, need),
                run=_configure_run(storage_path, max_failures),
                capacity=Capacity(need, times=fewest, max_wait_seconds=max_wait_seconds),
                callback=callback,
            )
    except (UserError, JobError):
        raise
    except Exception as error:  # from Ray Train, or from the worker in this process
        raise _find_cause(error) from error
    if isinstance(result, Exception):
        raise result
    return cast(R, result)


def _train_on_ray(
    worker: Worker[J, R],
    job: J,
    *,
    scaling: ray.train.ScalingConfig,
    run: ray.train.RunConfig,
    capacity: Capacity,
    callback: Callable[[Event], None],
) -> Any:
    """Run a training function on workers of Ray Train; return the result of rank 0."""
    # The queue is on this process's node, so that both are lost together.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    run.callbacks = [_FailureNotes(events)]

    def train_loop(config: dict[str, J]) -> R | Exception | None:
        leaving = LeavingNodes()
        leaving.listen()
        return worker(config["job"], events.put, leaving.take_notice)

    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"job": job},
        torch_config=_TorchConfig(),
        scaling_config=scaling,
        run_config=run,
    )
    return _fit(trainer, events, callback, capacity)


class _FailureNotes(ray.train.UserCallback):
    """Passes on why workers have failed. Ray Train's controller calls it."""

    def __init__(self, events: Queue) -> None:
        self.events = events

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Pass on the cause, before Ray Train replaces the workers."""
        cause = _find_fault(worker_exceptions)
        if cause:
            with contextlib.suppress(ray.exceptions.RayError):  # the job has ended, and its queue
                self.events.put(Failure(cause))


def _find_fault(failures: Mapping[int, Exception]) -> str:
    """Describe the fault of a disk or an object store that has made workers fail.

    Args:
        failures: The errors by rank. When one worker ends, the others lose their connection to it,
            so errors of other kinds say little.

    Returns:
        The fault of the lowest rank; empty if there is none.
    """
    for rank in sorted(failures):
        if errors.explain(failures[rank]):
            return errors.describe(failures[rank])
    return ""


def _configure_scaling(
    num_workers: int, fewest: int, need: dict[str, int]
) -> ray.train.ScalingConfig:
    """Configure the number of workers, and the resources of each."""
    number: int | tuple[int, int] = num_workers
    if fewest < num_workers:
        number = (fewest, num_workers)  # Ray takes as many as have room
    return ray.train.ScalingConfig(
        num_workers=number,
        use_gpu=need["GPU"] > 0,
        resources_per_worker=need,
        elastic_resize_monitor_interval_s=_GROW_EVERY_SECONDS,
    )


def _configure_run(storage_path: str, max_failures: int) -> ray.train.RunConfig:
    """Configure where Ray Train keeps its files, and its restarts."""
    file_system, path = filesystem.locate(storage_path)
    return ray.train.RunConfig(
        name=f"train-{uuid.uuid4().hex[:8]}",  # Ray Train would resume a run of a known name
        storage_path=path,
        storage_filesystem=file_system,
        failure_config=ray.train.FailureConfig(max_failures=max_failures),
    )


class _Backend(ray.train.torch.TorchConfig().backend_cls):  # type: ignore[misc]
    """Makes the workers communicate through the network interface that Ray's nodes use.

    Gloo would use the interface of the host's name. On many Linux machines it is loopback, and
    workers on two hosts would never connect.
    """

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(_choose_interface)
        super().on_start(worker_group, backend_config)


class _TorchConfig(ray.train.torch.TorchConfig):
    backend_cls = _Backend


def _choose_interface() -> None:
    """Make Gloo use the network interface of this node's address, unless an interface is set."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _fit(trainer: Any, events: Queue, callback: Callable[[Event], None], capacity: Capacity) -> Any:
    """Run Ray Train in a thread, and pass the workers' events to the callback until it ends.

    If the callback raises or the cluster has no room left, the queue is killed; the workers fail
    with it.
    """
    fitted: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def fit() -> None:
        try:
            fitted.set_result(trainer.fit().return_value)
        except BaseException as error:
            fitted.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    cause = ""
    try:
        while not (fitted.done() and events.empty()):
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=_CHECK_EVERY_SECONDS)
                if isinstance(event, Failure):
                    cause = event.cause
                    continue
                if cause and event.is_start:
                    event = replace(event, cause=cause)
                    cause = ""
                callback(event)
            capacity.check()
        return fitted.result()
    finally:
        events.shutdown(force=True)


def _find_cause(error: Exception) -> Exception:
    """Turn the failure of the failed worker with the lowest rank into an error of this package."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank = min(failures)
    failure = failures[rank]
    if isinstance(failure, UserError):
        return failure
    text = str(failure).strip() or type(failure).__name__
    out_of_memory = memory.explain_out_of_memory(text)
    if out_of_memory:
        return WorkerError(f"training worker {rank} was lost: {out_of_memory}")
    last_line = text.splitlines()[-1]
    explained = errors.explain(failure) or errors.explain_text(last_line)
    if isinstance(explained, StorageError):
        return explained
    if explained is None:
        log.error("%s", text)
    return WorkerError(f"training worker {rank} failed: {explained or last_line}")
