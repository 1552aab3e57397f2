"""Function -> its result on each node of the cluster, or why a node has none."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sentiflow.cluster.connection  # noqa: F401 - before Ray: sets environment variables

# isort: split
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import is_local, join, without_credentials

Result = TypeVar("Result")

_ANSWER_SECONDS = 40.0
"""Limit for all nodes: the first call starts a worker, and a cold disk loads torch slowly."""


@dataclass(frozen=True)
class NodeAnswer(Generic[Result]):
    """The result of a function on one node."""

    node: str
    """Address of the node."""
    resources: Mapping[str, float]
    """Resources that Ray counts there."""
    result: Result | None = None
    problem: str = ""
    """Why there is no result, in one line: the error, or that the node did not answer."""


def find_dashboard() -> str:
    """Return host and port of the dashboard of the Ray that this process has joined.

    Returns:
        ``host:port``; "" if there is no dashboard.
    """
    # Ray says it only in what init returns. In a process that has joined Ray, init changes nothing.
    context = ray.init(ignore_reinit_error=True, logging_level="ERROR")
    return str(context.dashboard_url or "")


def on_each(work: Callable[..., Result], *arguments: Any) -> list[NodeAnswer[Result]]:
    """Call a function once on every living node, on all at the same time.

    The calls take no core, so a busy cluster answers too. They are not retried, and a node that
    does not answer in time is not waited for.

    Args:
        work: A function of a module that every node can import.
        arguments: Arguments of the function; they must be picklable, and so must its result.

    Returns:
        An answer for each node, in the order of their addresses.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(work)
    nodes = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            call = task.options(scheduling_strategy=strategy).remote(*arguments)
            nodes[call] = node
    done, late = ray.wait(list(nodes), num_returns=len(nodes), timeout=_ANSWER_SECONDS)
    answers = [_get(call, nodes[call]) for call in done]
    for call in late:
        ray.cancel(call, force=True)
        answers.append(_answer(nodes[call], problem=f"no answer within {_ANSWER_SECONDS:g} s"))
    return sorted(answers, key=lambda answer: answer.node)


def _get(call: Any, node: Mapping[str, Any]) -> NodeAnswer[Any]:
    """Get the result of a call, or the reason why there is none, in one line."""
    try:
        return _answer(node, result=ray.get(call))
    except ray.exceptions.RayError as error:  # it failed, cannot be imported there, or has died
        cause = getattr(error, "cause", None) or error
        text = str(errors.explain(cause) or cause)
        line = text.strip().rpartition("\n")[2]  # Ray puts the cause last, below its traceback
        return _answer(node, problem=without_credentials(line or type(cause).__name__))


def _answer(node: Mapping[str, Any], *, result: Any = None, problem: str = "") -> NodeAnswer[Any]:
    return NodeAnswer(
        node=node["NodeManagerAddress"],
        resources=node["Resources"],
        result=result,
        problem=problem,
    )


def check_shared(setting: str, uri: str) -> str:
    """Check that each node can read a small file of this node, and write one in the same directory.

    If a local directory does not exist, the nearest one above is used; an object store has no
    directories.

    Args:
        setting: Name of the setting, for the message.
        uri: The directory, which is not created.

    Returns:
        A line for the user.

    Raises:
        UserError: A node cannot read the file, or cannot write there.
    """
    folder = filesystem.find_existing(uri) if is_local(uri) else uri
    file = join(folder, f".sentiflow-{secrets.token_hex(6)}")
    filesystem.write_bytes(file, b"")
    try:
        answers = on_each(_read_and_write, file)
    finally:
        filesystem.delete(file)
    bad = [f"{answer.node} ({answer.problem})" for answer in answers if answer.problem]
    if bad:
        raise UserError(
            f"{setting}={without_credentials(uri)} is not shared with node {', '.join(bad)}",
            hint="set a location that all nodes can read and write, such as NFS or s3://bucket/run",
        )
    return f"{uri} can be read and written by {len(answers)} nodes"


def _read_and_write(file: str) -> None:
    filesystem.read_bytes(file)
    another = f"{file}-{secrets.token_hex(6)}"
    filesystem.write_bytes(another, b"")
    filesystem.delete(another)
