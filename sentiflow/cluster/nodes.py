"""Function -> what it gave on each node of the cluster, or why that node gave nothing."""

import posixpath
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sentiflow.cluster.connection  # noqa: F401 - before Ray, which reads what it sets

# isort: split
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials


@dataclass(frozen=True)
class Node:
    """A node as Ray lists it."""

    id: str
    name: str
    """Its address, and a piece of its id where several nodes have one address."""
    is_alive: bool
    num_cpus: float
    num_gpus: float
    object_store_bytes: int
    session_dir: str
    """Where Ray keeps the node's logs, and spills what its object store cannot hold."""
    is_head: bool


@dataclass(frozen=True)
class NodeAnswer:
    """What a function gave on one node."""

    node: Node
    result: Any = None
    problem: str = ""
    """One line if it gave nothing: what it raised, or that the node did not answer."""
    asked: float = 0.0
    answered: float = 0.0
    """By this process's clock, in seconds since 1970: the node ran the function in between."""


def listed() -> list[Node]:
    """List all nodes that Ray knows, those that it has lost among them."""
    raw = ray.nodes()
    addresses = [node["NodeManagerAddress"] for node in raw if node["Alive"]]
    return [_to_node(node, addresses) for node in raw]


def living() -> list[Node]:
    """List the nodes that work can be given to."""
    return [node for node in listed() if node.is_alive]


def here() -> str:
    """Give the id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def name_address() -> str:
    """Give the address by which Ray knows the node that this process runs on."""
    return str(ray.util.get_node_ip_address())


def on_each(
    work: Callable[..., Any],
    *arguments: Any,
    timeout_seconds: float = 20.0,
    nodes: Sequence[Node] | None = None,
) -> list[NodeAnswer]:
    """Call a function once on every living node, on all at the same time.

    The calls take no core, so that a busy cluster answers as well, and are not tried again. A node
    that does not answer in time is not waited for any longer.

    Args:
        work: A function of a module that every node can import.
        arguments: For the function; they must be picklable, and so must its result.
        timeout_seconds: For all nodes together. The first call starts a worker on each.
        nodes: Ask these alone.

    Returns:
        An answer for each node, in the order of their names.
    """
    asked, task = time.time(), ray.remote(num_cpus=0, max_retries=0)(_call)
    waiting = {}
    for node in living() if nodes is None else nodes:
        strategy = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        waiting[task.options(scheduling_strategy=strategy).remote(work, arguments)] = node
    answers, deadline = [], time.monotonic() + timeout_seconds
    while waiting and (left := deadline - time.monotonic()) > 0:
        for done in ray.wait(list(waiting), num_returns=1, timeout=left)[0]:
            answered = time.time()
            answers.append(NodeAnswer(waiting.pop(done), *_get(done), asked, answered))
    for late, node in waiting.items():
        ray.cancel(late, force=True)
        answers.append(NodeAnswer(node, problem=f"no answer within {timeout_seconds:g} s"))
    return sorted(answers, key=lambda answer: answer.node.name)


def _to_node(raw: dict[str, Any], addresses: Sequence[str]) -> Node:
    address, resources = raw["NodeManagerAddress"], raw["Resources"]
    name = address if addresses.count(address) < 2 else f"{address} ({raw['NodeID'][:6]})"
    return Node(
        id=raw["NodeID"],
        name=name,
        is_alive=raw["Alive"],
        num_cpus=resources.get("CPU", 0),
        num_gpus=resources.get("GPU", 0),
        object_store_bytes=int(resources.get("object_store_memory", 0)),
        session_dir=posixpath.dirname(posixpath.dirname(raw["ObjectStoreSocketName"])),
        is_head="node:__internal_head__" in resources,
    )


def _call(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str]:
    """Call a function; whatever it raises is this node's answer, as one line."""
    try:
        return work(*arguments), ""
    except Exception as error:
        return None, _one_line(error)


def _get(task: Any) -> tuple[Any, str]:
    try:
        result, problem = ray.get(task)
    except ray.exceptions.TaskUnschedulableError:
        return None, "Ray has lost it meanwhile"
    except ray.exceptions.RayError as error:  # the node cannot import it, or has died
        return None, _one_line(error)
    return result, problem


def _one_line(error: BaseException) -> str:
    """Give the line of a failure that says most: Ray puts the cause last, below its traceback."""
    cause = getattr(error, "cause", None) or error
    if trouble := errors.find_store_trouble(str(cause)):
        return trouble.what
    text = traceback.format_exception_only(cause)[-1].strip()
    return without_credentials(text.splitlines()[-1])
