"""Address -> a connection to Ray, or a Ray on this machine, and the resources of its nodes."""

import atexit
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any

from sentiflow.cluster import token_file

# Ray reads these variables when it is imported or started.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# Seconds that Ray Train waits for workers to start. It also waits for workers on a lost node, until
# it notices the loss.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
os.environ.setdefault("RAY_task_oom_retries", "4")  # Ray's default: no limit
# At SIGTERM, Ray's own handler prints a trace, and aborts the process three seconds later.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
# Use a token for a Ray that is started here, and to join a cluster if this user has a token. Not if
# Ray is imported already: setting it now would take effect only in part, and Ray chooses this mode
# itself when it starts, or finds a token.
if "ray" not in sys.modules and (not os.environ.get("RAY_ADDRESS") or token_file.find().is_file()):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray.exceptions import AuthenticationError

from sentiflow.cluster import local_ray, ray_internals
from sentiflow.cluster.address import HOST_AND_PORT, find_address
from sentiflow.cluster.resources import Resources
from sentiflow.errors import UnavailableError, UserError

PRELOADED = "RAY_preload_python_modules"
"""Variable by which Ray is told what its workers import when they start."""
_DATA = "ray.data"


@contextmanager
def starting(*, verbose: bool, preloads_data: bool = False) -> Iterator[Callable[[], Resources]]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start one on this machine, for the block.

    A thread does this while the block does other work: it takes seconds, most of them spent waiting
    for Ray's processes. The thread lives until the block ends, because Ray asks Linux to end Ray's
    processes with the thread that started them (PR_SET_PDEATHSIG). A second reason for the thread:
    in the main thread, Ray would replace this process's handler of SIGTERM.

    Args:
        verbose: Show Ray's own messages.
        preloads_data: The workers of a Ray that is started here import Ray Data at once, while
            Ray starts. Each would do so before its first part. Workers of a training do not need
            it.

    Yields:
        A function that waits for Ray and counts its resources. It raises the error if Ray cannot be
        started or joined, or if other users of this machine could reach a Ray that is started here.
    """
    if not verbose:
        for name in ("ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
    connection = ExitStack()
    executor = ThreadPoolExecutor(1, "ray")
    max_wait_seconds = None  # for the end of Ray, after the block; None: no limit
    is_over = threading.Event()
    threading.Thread(target=local_ray.end_with_ray, args=(is_over,), daemon=True).start()
    connected = executor.submit(connection.enter_context, _connected(verbose, preloads_data))

    def wait_and_count() -> Resources:
        connected.result()
        return count_resources()

    try:
        yield wait_and_count
    except BaseException:
        max_wait_seconds = local_ray.END_SECONDS  # nothing can interrupt a start of Ray
        raise
    finally:
        # The executor has one thread, so this runs after the start of Ray, which may still be going
        # on. After max_wait_seconds a start that has not ended is left behind.
        closed = executor.submit(connection.close)
        wait([closed], max_wait_seconds)
        is_over.set()
        executor.shutdown(wait=closed.done())
        if closed.done():
            closed.result()


def start_until_exit() -> None:
    """Connect or start as :func:`starting` does, until the process ends."""
    connection = ExitStack()
    connection.enter_context(_connected(verbose=False, preloads_data=False))
    atexit.register(connection.close)


@contextmanager
def _connected(verbose: bool, preloads_data: bool) -> Iterator[None]:
    """Start or join Ray for the block, unless this process has joined one already."""
    if ray.is_initialized():
        yield
        return
    address = find_address()
    if address == "local":
        _start(verbose, preloads_data)
    else:
        _join(address, verbose)
    try:
        yield
    finally:
        local_ray.leave()


def _start(verbose: bool, preloads_data: bool) -> None:
    """Start Ray on this machine."""
    local_ray.prepare_folder()
    token_file.make_private()
    if sys.platform == "linux":
        # Training workers inherit it. Without it they would exchange gradients through the
        # interface to which the host's name resolves.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    _choose_preloaded(preloads_data)
    with ray_internals.loopback_only():
        local_ray.start(address="local", include_dashboard=verbose, **_log_options(verbose))


def _choose_preloaded(preloads_data: bool) -> None:
    """Tell Ray what its workers import when they start, unless the user has told it."""
    if os.environ.get(PRELOADED, "") in ("", _DATA):
        # Not deleted but emptied: another thread may be reading all variables.
        os.environ[PRELOADED] = _DATA if preloads_data else ""


def _join(address: str, verbose: bool) -> None:
    """Join a running Ray.

    Raises:
        UserError: It refuses the token, or the address has no valid form.
        UnavailableError: There is none.
    """
    try:
        listener = HOST_AND_PORT.fullmatch(address)
        if listener:
            # Where nobody listens, Ray would try for minutes.
            host, port = listener.groups()
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, include_dashboard=None, **_log_options(verbose))
    except (OSError, UnicodeError, AuthenticationError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        problem = f"RAY_ADDRESS={address}: no Ray cluster can be joined there ({reason})"
        hint = "start it, give its token, or unset RAY_ADDRESS to use this machine"
        if isinstance(error, OSError):  # it may be starting
            raise UnavailableError(f"{problem}: {hint}") from error
        raise UserError(problem, hint=hint) from error


def _log_options(verbose: bool) -> dict[str, Any]:
    """Choose which of Ray's own messages are shown."""
    return {
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
    }


def count_resources() -> Resources:
    """Count the resources of the running cluster, and those that an autoscaler may add."""
    nodes = list_node_resources()
    all_cpus = [int(node.get("CPU", 0)) for node in nodes]
    cpus_by_node = [cpus for cpus in all_cpus if cpus]  # a head node may have none
    most = ray_internals.max_resources()
    return Resources(
        num_cpus=max(1, sum(cpus_by_node)),
        num_gpus=sum(int(node.get("GPU", 0)) for node in nodes),
        num_nodes=len(cpus_by_node),
        min_node_cpus=min(cpus_by_node, default=1),
        is_one_machine=len(nodes) == 1,
        may_grow=find_address() != "local",
        max_cpus=int(most.get("CPU", 0)),
        max_gpus=int(most.get("GPU", 0)),
    )


def list_node_resources() -> list[Mapping[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
