"""Ray's private interfaces -> what the package needs of them; no other module uses any.

A later Ray may rename or remove each of them. Its function then does what "Without" says.
"""

import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)


def _find(name: str) -> Any:
    """Import what a full name stands for; None if Ray no longer has it."""
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return None


@contextmanager
def loopback_only() -> Iterator[None]:
    """Make a Ray that starts in the block listen on loopback only.

    Why: security. On Linux, Ray replaces the address 127.0.0.1 by one that other machines reach.
    On macOS and Windows, where it supports no clusters, it does not; the constant decides that.
    Without: it listens on every interface, guarded by its token alone, and a warning says so.
    """
    constants = _find("ray._private.ray_constants")
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if before is None:
        log.warning("this version of Ray listens on every interface, guarded by its token")
        yield
        return
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def max_resources() -> Mapping[str, float]:
    """Return the most that an autoscaler may provide, by resource; empty if it does not say.

    Why: a training that needs more than there can ever be is refused at once.
    Without: empty, and such a training waits for nodes that never come.
    """
    ask = _find("ray._private.state.state.get_max_resources_from_cluster_config")
    return (ask and ask()) or {}


def speed_up_data() -> None:
    """Let Ray Data start its tasks at once.

    Why: for the first second of each dataset it believes that the cluster has no core, and runs
    one task; and it looks for finished tasks only ten times a second.
    Without: each stage over a corpus takes about a second longer.
    """
    execution = "ray.data._internal.execution"
    for owner, constant, seconds in (
        (f"{execution}.resource_manager.ResourceManager", "GLOBAL_LIMITS_UPDATE_INTERVAL_S", 0.05),
        (f"{execution}.streaming_executor_state", "WAIT_FOR_TASK_COMPLETION_TIMEOUT_S", 0.01),
    ):
        if hasattr(found := _find(owner), constant):
            setattr(found, constant, seconds)


def retries_of_data(number: int) -> dict[str, Any]:
    """Make the options that limit how often Ray Data repeats a task that was lost with its worker.

    Why: it repeats a part that ends its worker for ever. The options are public, but deprecated.
    Without: it does.
    """
    read = _find("ray.data.read_datasource")
    takes = bool(read) and "ray_remote_args" in inspect.signature(read).parameters
    return {"max_retries": number} if takes else {}


def callbacks_of_data(check: Callable[[], None]) -> list[type]:
    """Make the callbacks by which Ray Data calls a function again and again while it works.

    Why: Ray Data waits for ever for a core that no node has any more. An error of ``check`` ends
    that. The setting that takes callbacks is public, their base class is not.
    Without: none, and Ray Data waits for ever.
    """
    base = _find("ray.data._internal.execution.execution_callback.ExecutionCallback")
    step = {"on_execution_step": lambda callback, executor: check()}
    return [type("Check", (base,), step)] if base else []


def connect_to_jobs(address: str, headers: dict[str, str], timeout: tuple[float, float]) -> Any:
    """Connect Ray's client for jobs, and limit the time of each of its requests.

    Why: it would wait for ever for a server that does not answer.
    Without: it does.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, timeout=timeout, **options)

    return Client(address, headers=headers)
