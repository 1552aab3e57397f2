"""Function -> its result on each node of the cluster, or why a node has none."""

import posixpath
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sentiflow.cluster.connection  # noqa: F401 - before Ray, which reads what it sets

# isort: split
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiflow.errors import UserError
from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials

Result = TypeVar("Result")

_MAX_NAMES = 3


@dataclass(frozen=True)
class Node:
    """A node as Ray lists it."""

    id: str
    name: str
    """Address of the node, with the first digits of its id if several nodes have the same one."""
    num_cpus: float
    num_gpus: float
    session_dir: str
    """Where Ray keeps the node's logs, and spills what its object store cannot hold."""
    is_head: bool


@dataclass(frozen=True)
class NodeAnswer(Generic[Result]):
    """The result of a function on one node."""

    node: Node
    result: Result | None = None
    problem: str = ""
    """Why there is no result, in one line: what it raised, or that the node did not answer."""


def living() -> list[Node]:
    """List the nodes that are alive."""
    raw = [node for node in ray.nodes() if node["Alive"]]
    addresses = [node["NodeManagerAddress"] for node in raw]
    return [_to_node(node, addresses) for node in raw]


def name_nodes(names: Iterable[str]) -> str:
    """Name some nodes, and say how many others there are.

    Example:
        >>> name_nodes(["10.0.0.2"]), name_nodes(["a", "b", "c", "d", "e"])
        ('node 10.0.0.2', 'nodes a, b, c and 2 more')
    """
    ordered = sorted(set(names))
    shown, num_more = ", ".join(ordered[:_MAX_NAMES]), len(ordered) - _MAX_NAMES
    text = f"{'nodes' if ordered[1:] else 'node'} {shown}"
    return f"{text} and {num_more} more" if num_more > 0 else text


def here() -> str:
    """Return the id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def this() -> Node:
    """Return the node that this process runs on."""
    return next(node for node in living() if node.id == here())


def on_each(
    work: Callable[..., Result],
    *arguments: Any,
    timeout_seconds: float = 20.0,
    nodes: Sequence[Node] | None = None,
) -> list[NodeAnswer[Result]]:
    """Call a function once on every living node, on all at the same time.

    The calls take no core, so a busy cluster answers too. They are not retried, and a node that
    does not answer in time is not waited for.

    Args:
        work: A function of a module that every node can import.
        arguments: Arguments of the function; they must be picklable, and so must its result.
        timeout_seconds: Limit for all nodes together. The first call starts a worker on each.
        nodes: Call it on these nodes only.

    Returns:
        An answer for each node, in the order of their names.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(_call)
    waiting = {}
    for node in living() if nodes is None else nodes:
        strategy = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        waiting[task.options(scheduling_strategy=strategy).remote(work, arguments)] = node
    done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=timeout_seconds)
    answers = [NodeAnswer(waiting[call], *_get(call)) for call in done]
    for call in late:
        ray.cancel(call, force=True)
        problem = f"no answer within {timeout_seconds:g} s"
        answers.append(NodeAnswer(waiting[call], problem=problem))
    return sorted(answers, key=lambda answer: answer.node.name)


def _to_node(raw: dict[str, Any], addresses: Sequence[str]) -> Node:
    address, resources = raw["NodeManagerAddress"], raw["Resources"]
    name = address if addresses.count(address) < 2 else f"{address} ({raw['NodeID'][:6]})"
    return Node(
        id=raw["NodeID"],
        name=name,
        num_cpus=resources.get("CPU", 0),
        num_gpus=resources.get("GPU", 0),
        session_dir=posixpath.dirname(posixpath.dirname(raw["ObjectStoreSocketName"])),
        is_head="node:__internal_head__" in resources,
    )


def _call(work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return work(*arguments)


def _get(task: Any) -> tuple[Any, str]:
    """Return the result of a call, or in one line why there is none."""
    try:
        return ray.get(task), ""
    except ray.exceptions.TaskUnschedulableError:
        return None, "Ray has lost the node"
    except ray.exceptions.RayError as error:  # it failed, cannot be imported there, or has died
        return None, _one_line(error)


def _one_line(error: BaseException) -> str:
    """Describe a failure in one line; Ray puts the cause last, below its traceback."""
    cause = getattr(error, "cause", None) or error
    if trouble := errors.explain_text(str(cause), names_location=False):
        return str(trouble)
    if isinstance(cause, UserError):
        return without_credentials(str(cause))
    text = traceback.format_exception_only(cause)[-1].strip()
    return without_credentials(text.splitlines()[-1])
