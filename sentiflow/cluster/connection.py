"""Address -> a connection to Ray, or a Ray on this machine; its resources; capacity for work."""

import atexit
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

# Ray reads these variables when it is imported or started.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# For a while Ray Train does not know that a node is lost. It waits this long for workers there.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
os.environ.setdefault("RAY_task_oom_retries", "4")  # Ray's default: no limit
# At SIGTERM, Ray's own handler prints a trace, and aborts the process three seconds later.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
# Where Ray has been imported before, the token mode is not set: it would take effect only in part.
# Ray itself chooses the same mode when it starts.
if "ray" not in sys.modules and (
    not os.environ.get("RAY_ADDRESS") or (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray.exceptions import AuthenticationError
from ray.util.placement_group import placement_group, remove_placement_group

from sentiflow.cluster import local_ray, ray_internals
from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

_ADDRESS = re.compile(r"\[?([^/@]+?)\]?:(\d{1,5})")
POLL_SECONDS = 2.0
"""How often a waiting job checks which nodes are alive."""


@contextmanager
def starting(*, verbose: bool) -> Iterator[Callable[[], Resources]]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start one on this machine, for the block.

    A thread does this while the block does other work: it takes seconds, most of them spent waiting
    for Ray's processes. The thread lives until the block ends, because Linux ends a thread's
    processes with the thread. Outside of the main thread Ray does not change the handling of
    SIGTERM.

    Args:
        verbose: Show Ray's own messages.

    Yields:
        A function that waits for Ray and counts its resources. If Ray failed, it raises the error.

    Raises:
        UserError: Other users of this machine could reach a Ray that is started here.
    """
    if not verbose:
        for name in ("ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
    connection = ExitStack()
    executor = ThreadPoolExecutor(1, "ray")
    max_wait_seconds = None  # at the end of the block: as long as Ray takes
    is_over = threading.Event()
    threading.Thread(target=local_ray.end_with_ray, args=(is_over,), daemon=True).start()
    connected = executor.submit(connection.enter_context, _connected(verbose))

    def wait_and_count() -> Resources:
        connected.result()
        return count_resources()

    try:
        yield wait_and_count
    except BaseException:
        max_wait_seconds = local_ray.END_SECONDS  # nothing can interrupt a start of Ray
        raise
    finally:
        closed = executor.submit(connection.close)
        wait([closed], max_wait_seconds)
        is_over.set()
        executor.shutdown(wait=closed.done())
        if closed.done():
            closed.result()


def start_until_exit() -> None:
    """Connect or start as :func:`starting` does, until the process ends."""
    connection = ExitStack()
    connection.enter_context(_connected(verbose=False))
    atexit.register(connection.close)


@contextmanager
def _connected(verbose: bool) -> Iterator[None]:
    """Start or join Ray for the block, unless this process has joined one already."""
    if ray.is_initialized():
        yield
        return
    address = name_address()
    if address == "local":
        _start(verbose)
    else:
        _join(address, verbose)
    try:
        yield
    finally:
        local_ray.leave()


def _start(verbose: bool) -> None:
    """Start Ray on this machine."""
    local_ray.prepare_folder()
    guard_token()
    if sys.platform == "linux":
        # Training workers inherit it. Without it they would exchange gradients through the
        # interface to which the host's name resolves.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with ray_internals.loopback_only():
        local_ray.start(address="local", include_dashboard=verbose, **_log_options(verbose))


def _join(address: str, verbose: bool) -> None:
    """Join a running Ray.

    Raises:
        UserError: There is none, or it refuses the token.
    """
    try:
        listener = _ADDRESS.fullmatch(address)
        if listener:
            # Where nobody listens, Ray would try for minutes.
            host, port = listener.groups()
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, include_dashboard=None, **_log_options(verbose))
    except (OSError, UnicodeError, AuthenticationError) as error:
        problem = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster can be joined there ({problem})",
            hint="start it, give its token, or unset RAY_ADDRESS to use this machine",
        ) from error


def _log_options(verbose: bool) -> dict[str, Any]:
    """Choose which of Ray's own messages are shown."""
    return {
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
    }


def name_address() -> str:
    """Read the cluster's address from ``RAY_ADDRESS``: ``local``, ``auto`` or ``host:port``.

    Raises:
        UserError: It is not an address of a cluster.
    """
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address in ("local", "auto") or _ADDRESS.fullmatch(address):
        return address
    hint = "write HOST:6379, or unset it to use this machine"
    if "://" in address:
        hint = "from outside of the cluster use `sentiflow submit`; on one of its nodes, HOST:6379"
    raise UserError(f"RAY_ADDRESS={address} is not an address that a job can join", hint=hint)


def count_resources() -> Resources:
    """Count the resources of the running cluster, and those that an autoscaler may add."""
    nodes = _node_resources()
    all_cpus = [int(node.get("CPU", 0)) for node in nodes]
    cpus_by_node = [cpus for cpus in all_cpus if cpus]  # a head node may have none
    most = ray_internals.max_resources()
    return Resources(
        num_cpus=max(1, sum(cpus_by_node)),
        num_gpus=sum(int(node.get("GPU", 0)) for node in nodes),
        num_nodes=len(cpus_by_node),
        min_node_cpus=min(cpus_by_node, default=1),
        is_one_machine=len(nodes) == 1,
        may_grow=name_address() != "local",
        max_cpus=int(most.get("CPU", 0)),
        max_gpus=int(most.get("GPU", 0)),
    )


def _node_resources() -> list[Mapping[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class Capacity:
    """Resources that some work needs, on one node or on several, and how long to wait for them.

    Ray itself waits without limit, even if the last node that has them is gone.
    """

    def __init__(
        self, need: Mapping[str, float], *, times: int = 1, max_wait_seconds: float
    ) -> None:
        """Describe the need.

        Args:
            need: Amount by resource of Ray, all on one node: ``{"CPU": 1, "GPU": 0.25}``.
            times: How many times the need occurs, on one node or on several.
            max_wait_seconds: How long the cluster may lack these resources.
        """
        self.times = times
        self.need = {name: number for name, number in need.items() if number}
        self.max_wait_seconds = max_wait_seconds
        self._checked_at = 0.0
        self._missing_since: float | None = None

    def is_met(self) -> bool:
        """Say whether the living nodes have these resources, busy or not."""
        total = 0.0
        for node in _node_resources():
            times_by_resource = [node.get(name, 0) // each for name, each in self.need.items()]
            total += min(times_by_resource)
        return total >= self.times

    def wait_for_nodes(self) -> Resources:
        """Ask the autoscaler for the nodes, and wait for them, ``max_wait_seconds`` at most.

        The request is a placement group. Requests through Ray Data and Ray Train would not do, as
        each replaces the one before.

        Returns:
            The resources of the cluster after that.
        """
        if not self.is_met():
            say("ray", f"waiting for nodes with {self}, {self.max_wait_seconds:g} s at most")
            group = placement_group([self.need] * self.times)
            group.wait(self.max_wait_seconds)
            remove_placement_group(group)
        return count_resources()

    def check(self) -> None:
        """Check the living nodes, at most every two seconds.

        Raises:
            JobError: The cluster has lacked these resources for ``max_wait_seconds``.
        """
        now = time.monotonic()
        if now - self._checked_at < POLL_SECONDS:
            return
        self._checked_at = now
        if self.is_met():
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now
            say("ray", f"no node with {self}: waiting for one, {self.max_wait_seconds:g} s at most")
        if now - self._missing_since >= self.max_wait_seconds:
            raise JobError(
                f"the cluster has had no node with {self} for {self.max_wait_seconds:g} s "
                "(cluster.max_wait_minutes): add one and run the same command again: it resumes"
            )

    def __str__(self) -> str:
        one = " and ".join(f"{number:g} {name}" for name, number in self.need.items())
        return f"{one} for {self.times} workers" if self.times > 1 else one


def guard_token() -> None:
    """Make the token of a local cluster; only its owner can read it.

    Ray would make a token that everybody can read. A token that exists is restricted, too.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        suppress(FileExistsError),
        open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
    ):
        file.write(secrets.token_hex(32))
    path.chmod(0o600)
