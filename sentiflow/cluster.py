"""What Ray has -> workers, tasks, threads."""

import concurrent.futures
import functools
import json
import logging
import os
import secrets
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
if "RAY_ADDRESS" not in os.environ:
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
import ray.data
import ray.train
import ray.train.torch

from sentiflow.errors import JobError, UserError

log = logging.getLogger(__name__)


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
            UserError: More are wanted than there are cores; they would be waited for for ever.
        """
        num_workers = (self.num_gpus or self.num_nodes) if wanted == "auto" else int(wanted)
        if num_workers > self.num_cpus:
            raise UserError(
                f"train.num_workers={num_workers}, but Ray has {self.num_cpus} cores",
                hint="each worker needs one",
            )
        return num_workers

    def runs_in_process(self, num_workers: int) -> bool:
        """Say whether training may run in this process, which saves the start of Ray's workers."""
        return num_workers == 1 and self.num_nodes == 1

    def cpus_per_train_worker(self, num_workers: int) -> int:
        """Cores for a training worker: its share, if every node can give as much."""
        return max(1, min(self.num_cpus // num_workers, self.min_node_cpus))

    def threads_per_train_worker(self, num_workers: int) -> int:
        """Threads of a training worker: its share of the cores, less one.

        A recurrent step is many small products. Where another process takes one of the cores, each
        of them waits for the slowest thread, and all becomes ten times slower; the core left free
        costs a sixth.
        """
        return max(1, self.cpus_per_train_worker(num_workers) - 1)


@contextmanager
def started(*, verbose: bool) -> Iterator[Resources]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start one on this machine, for the block."""
    owner = not ray.is_initialized()
    if owner:
        address = os.environ.get("RAY_ADDRESS", "local")
        if address == "local":
            _guard_token()
        ray.init(
            address=address,
            include_dashboard=verbose if address == "local" else None,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
        )
    _set_up_data(verbose)
    try:
        yield look()
    finally:
        if owner:
            ray.shutdown()


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


def map_parts(
    work: Callable[[int], dict[str, Any]], *, num_parts: int, num_gpus: float = 0
) -> Iterator[dict[str, Any]]:
    """Do a stage's work on each of its parts with Ray Data, and yield what each came to.

    One task for each part, one core for each task: there are no actors whose cores Ray Data could
    wait for, and a task that is lost with its worker or node is done again. The parts' tables stay
    in the process that reads and writes them; only the small result travels.

    Args:
        work: Takes a part's number; returns what JSON can hold.
        num_parts: Parts are numbered from 0.
        num_gpus: Share of a GPU for each task.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise; its traceback is logged.
    """
    if num_parts == 0:
        return
    dataset = ray.data.range(num_parts, override_num_blocks=num_parts)
    for row in dataset.map(lambda row: _do(work, row["id"]), num_gpus=num_gpus or None).iter_rows():
        if row["problem"]:
            raise UserError(row["problem"])
        if row["failure"]:
            log.error("%s", row["failure"])
            raise JobError(row["failure"].strip().splitlines()[-1])
        yield json.loads(row["result"])


def _do(work: Callable[[int], dict[str, Any]], part: int) -> dict[str, str]:
    """Do the work on one part; a failure travels to the driver as text.

    Ray's own wrapping would lose the exception and log a page for each.
    """
    try:
        return {"result": json.dumps(work(int(part))), "problem": "", "failure": ""}
    except UserError as error:
        return {"result": "", "problem": str(error), "failure": ""}
    except Exception:
        return {"result": "", "problem": "", "failure": traceback.format_exc()}


def train(
    worker: Callable[[Any, Callable[[dict[str, Any]], None]], Any],
    job: Any,
    *,
    num_workers: int,
    resources: Resources,
    storage_path: str,
    on_post: Callable[[dict[str, Any]], None],
) -> Any:
    """Run a training function on workers of Ray Train; in this process if one is all there is.

    Args:
        worker: Takes the job, and a function that posts a dictionary to the driver.
        job: Picklable.
        num_workers: Processes that train in step.
        resources: Of the cluster.
        storage_path: A directory that every node can reach, for Ray's own records.
        on_post: Told, in this process, what the workers post.

    Returns:
        What ``worker`` returned on rank 0.

    Raises:
        UserError: A worker raised it.
        JobError: A worker failed otherwise; what is known of it is logged.
    """
    in_process = resources.runs_in_process(num_workers)
    board = None if in_process else ray.remote(num_cpus=0)(_Board).remote()
    post = on_post if board is None else functools.partial(_post, board)
    trainer = ray.train.torch.TorchTrainer(
        lambda config: worker(config["job"], post),
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=0 if in_process else num_workers,
            use_gpu=resources.num_gpus > 0,
            resources_per_worker={"CPU": resources.cpus_per_train_worker(num_workers)},
        ),
        run_config=ray.train.RunConfig(name="ray-train", storage_path=storage_path),
    )
    try:
        if board is None:
            return trainer.fit().return_value
        return _fit_and_listen(trainer, board, on_post)
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error


class _Board:
    """Holds what workers post until the driver takes it."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def put(self, item: dict[str, Any]) -> None:
        self.items.append(item)

    def take(self) -> list[dict[str, Any]]:
        items, self.items = self.items, []
        return items


def _post(board: Any, item: dict[str, Any]) -> None:
    ray.get(board.put.remote(item))


def _fit_and_listen(trainer: Any, board: Any, on_post: Callable[[dict[str, Any]], None]) -> Any:
    """Fit in a thread, which an interrupt does not wait for, and pass on what is posted."""
    fitted: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def fit() -> None:
        try:
            fitted.set_result(trainer.fit())
        except BaseException as error:
            fitted.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    while True:
        finished = concurrent.futures.wait([fitted], timeout=0.5).done
        for item in ray.get(board.take.remote()):
            on_post(item)
        if finished:
            return fitted.result().return_value


def _cause(error: ray.train.TrainingFailedError) -> Exception:
    """Make the first worker's failure an error of ours, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, failure = min(failures.items())
    text = str(failure).strip()
    last = text.splitlines()[-1] if text else type(failure).__name__
    _, is_problem, problem = last.partition(f"{UserError.__name__}: ")
    if is_problem:
        return UserError(problem)
    log.error("%s", text)
    return JobError(f"training worker {rank} failed: {last}")


def _set_up_data(verbose: bool) -> None:
    """Make Ray Data quiet: the stages report progress themselves."""
    ray.data.DataContext.get_current().enable_progress_bars = verbose
    if not verbose:
        for name in ("ray.data", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _guard_token() -> None:
    """Make sure that the token which guards a local cluster is readable by its owner alone.

    Ray would write it readable by everybody.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
