"""Address -> a connection to Ray, or Ray started on this machine; what it has; room for work."""

import importlib
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started. Had it been imported already, it would half
# believe the mode; left alone, it chooses the same when it starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# When a node is lost, Ray Train believes for a while that it is there, and waits for it so long.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
os.environ.setdefault("RAY_task_oom_retries", "10")  # for ever, a part too large for memory
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of imports nobody waits for any more
if "ray" not in sys.modules and (
    not os.environ.get("RAY_ADDRESS") or (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import psutil  # type: ignore[import-untyped]
import ray
from ray._private import ray_constants
from ray._private.state import state
from ray.exceptions import AuthenticationError
from ray.util.placement_group import placement_group, remove_placement_group

from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

_ADDRESS = re.compile(r"\[?([^/@]+?)\]?:(\d{1,5})")
_CONNECT_SECONDS = 5.0
LOOK_EVERY_SECONDS = 2.0


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
        A function that waits for Ray, and counts what it has at that moment; it raises what went
        wrong with it.
    """
    found: Future[None] = Future()
    over = threading.Event()

    def hold() -> None:
        try:
            with _connected(verbose):
                warm(modules)
                found.set_result(None)
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

    def wait_and_look() -> Resources:
        found.result()
        return look()

    try:
        yield wait_and_look
    finally:
        over.set()
        thread.join()


@contextmanager
def _connected(verbose: bool) -> Iterator[None]:
    """Start or join Ray for the block, unless this process has joined one already."""
    if ray.is_initialized():
        yield
        return
    address = name_address()
    if address == "local":
        _guard_token()
    elif silence := find_silence(address):
        raise _not_joined(address, silence)
    with _on_loopback() if address == "local" else nullcontext():
        try:
            ray.init(
                address=address,
                include_dashboard=verbose if address == "local" else None,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
            )
        except (ConnectionError, AuthenticationError) as error:
            if address == "local":
                raise
            raise _not_joined(address, str(error).strip().partition("\n")[0]) from error
    try:
        yield
    finally:
        _end_monitor()
        ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have the Ray that starts in the block listen on loopback alone, on Linux as elsewhere.

    Its processes listen on every interface unless the node's address is 127.0.0.1, and Ray
    replaces that, too, by one that others can reach, except where it has no clusters: on macOS
    and Windows. The constant says where that is. Training workers, which inherit the variable,
    would send each other gradients through the interface that the host's name leads to.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def name_address() -> str:
    """Read which cluster is meant: ``local``, ``auto`` or ``host:port``.

    Raises:
        UserError: It is the address of something else.
    """
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address in ("local", "auto") or _ADDRESS.fullmatch(address):
        return address
    hint = "write HOST:6379, or unset it to use this machine"
    if "://" in address:
        hint = "from outside of the cluster use `sentiflow submit`; on one of its nodes, HOST:6379"
    raise UserError(f"RAY_ADDRESS={address} is no address that a job can join", hint=hint)


def find_silence(address: str) -> str:
    """Say why nothing listens at an address of Ray; it would itself try for minutes."""
    place = _ADDRESS.fullmatch(address)
    if not place:
        return ""
    try:
        socket.create_connection((place[1], int(place[2])), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    return ""


def _not_joined(address: str, problem: str) -> UserError:
    return UserError(
        f"RAY_ADDRESS={address}: no Ray cluster can be joined there ({problem})",
        hint="start it, give its token, or unset RAY_ADDRESS to use this machine",
    )


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
    """Count what the running cluster has, and what an autoscaler may make of it."""
    nodes = _living_nodes()
    working = [cpus for node in nodes if (cpus := int(node["Resources"].get("CPU", 0)))]
    most = state.get_max_resources_from_cluster_config() or {}
    return Resources(
        num_cpus=max(1, sum(working)),
        num_gpus=sum(int(node["Resources"].get("GPU", 0)) for node in nodes),
        num_nodes=len(working),
        min_node_cpus=min(working, default=1),
        is_one_machine=len(nodes) == 1,
        may_grow=name_address() != "local",
        max_cpus=int(most.get("CPU", 0)),
        max_gpus=int(most.get("GPU", 0)),
    )


def _living_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


class Capacity:
    """A place for some work: a node that has what it needs, or several.

    Ray lets work wait for it for ever, though the last such node may be gone; here that ends.
    """

    def __init__(
        self, need: Mapping[str, float], *, times: int = 1, max_wait_seconds: float
    ) -> None:
        """Begin.

        Args:
            need: Of each resource of Ray, how much: ``{"CPU": 1, "GPU": 0.25}``.
            times: So often it is needed, on one node or on several.
            max_wait_seconds: So long it may not be there.
        """
        self.times = times
        self.need = {name: number for name, number in need.items() if number}
        self.max_wait_seconds = max_wait_seconds
        self._looked = 0.0
        self._missed: float | None = None

    def is_there(self) -> bool:
        """Say whether it is there, busy or not."""
        return sum(self._count(node["Resources"]) for node in _living_nodes()) >= self.times

    def wait_for_nodes(self) -> Resources:
        """Wait until it is there, or for as long as may be; an autoscaler is asked for the nodes.

        Ray Data and Ray Train tell the autoscaler again and again what they need, each in place of
        what was said before; a placement group that is waiting counts beside that.

        Returns:
            What the cluster has then.
        """
        if not self.is_there():
            say("ray", f"waiting for nodes with {self}, {self.max_wait_seconds:g} s at most")
            wanted = placement_group([self.need] * self.times)
            wanted.wait(self.max_wait_seconds)
            remove_placement_group(wanted)
        return look()

    def check(self) -> None:
        """Look, every few seconds, whether it is there, and begin or end to wait.

        Raises:
            JobError: There has been none for too long.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_SECONDS:
            return
        self._looked = now
        if self.is_there():
            self._missed = None
            return
        if self._missed is None:
            self._missed = now
            say("ray", f"no node with {self}: waiting for one, {self.max_wait_seconds:g} s at most")
        if now - self._missed >= self.max_wait_seconds:
            raise JobError(
                f"the cluster has had no node with {self} for {self.max_wait_seconds:g} s "
                "(cluster.max_wait_minutes): add one, and the same command goes on"
            )

    def _count(self, has: Mapping[str, float]) -> int:
        return int(min(has.get(name, 0) // number for name, number in self.need.items()))

    def __str__(self) -> str:
        names = {"CPU": "core", "GPU": "GPU"}
        one = " and ".join(
            f"{number:g} {names[name]}{'s' if number > 1 else ''}"
            for name, number in self.need.items()
        )
        return f"{one} for {self.times} workers" if self.times > 1 else one


def _guard_token() -> None:
    """Make sure that the token which guards a local cluster is readable by its owner alone.

    Ray would write it readable by everybody.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        own = path.with_name(f"auth_token.{secrets.token_hex(4)}")
        descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another process was quicker
            os.link(own, path)
        own.unlink()
    path.chmod(0o600)
