"""Functions that use Ray's private interfaces; no other module uses any.

A later Ray may rename or remove each of them, so pyproject.toml bounds the version of Ray.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


@contextmanager
def loopback_only() -> Iterator[None]:
    """Make a Ray that starts in the block listen on loopback only.

    Why: security. On Linux, Ray replaces the address 127.0.0.1 by one that other machines reach.
    On macOS and Windows, where Ray supports no clusters, it keeps 127.0.0.1. The constant, which
    says whether Ray supports clusters, decides that.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def max_resources() -> Mapping[str, float]:
    """Return the maximum that an autoscaler may provide, by resource; empty if it does not say.

    Why: a training that needs more than the maximum is refused at once.
    """
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config() or {}


def connect_to_jobs(
    address: str, headers: dict[str, str], timeout: tuple[float, float]
) -> "JobSubmissionClient":
    """Connect Ray's client for jobs, and limit the time of each of its requests.

    Why: without the limit, it waits forever for a server that does not answer.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, timeout=timeout, **options)

    return Client(address, headers=headers)


def count_retries() -> int:
    """Count how often the task in this process was started before, and lost with its worker.

    Why: Ray Data repeats such a task without limit, and Ray 2.64 removes its option for a limit.
    """
    from ray._private.worker import global_worker

    return int(global_worker.core_worker.get_current_task_attempt_number())


def speed_up_data() -> None:
    """Let Ray Data start its tasks at once.

    Why: for the first second of each dataset, Ray Data believes that the cluster has no core, and
    runs only one task. It looks for finished tasks only ten times a second. Sixteen parts of
    0.3 s take 4.1 s on two cores, and 2.7 s with these constants.
    """
    from ray.data._internal.execution import resource_manager, streaming_executor_state

    resource_manager.ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = 0.05
    streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 0.01


def make_data_callbacks(check: Callable[[], None]) -> list[type]:
    """Make callbacks that let Ray Data call a function again and again while it works.

    Why: Ray Data waits without limit for a core that no node has any more. An error of ``check``
    ends the wait. The setting that takes callbacks is public, their base class is not.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    step = {"on_execution_step": lambda callback, executor: check()}
    return [type("Check", (ExecutionCallback,), step)]
