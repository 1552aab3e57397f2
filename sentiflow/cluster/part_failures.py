"""Failures of a part -> the part is repeated, up to a limit; then the job ends.

Two kinds of failures are counted, each up to ``max_failures``: I/O errors
(:mod:`sentiflow.storage.retries`), and deaths of the worker, such as a segmentation fault or a lack
of memory. A worker that was lost with its node does not count, because clouds take nodes back.

Ray repeats a part after a loss, and tells it only the number of losses. So each repeat leaves a
note that names its node. A part that is not repeated leaves no note.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass

import sentiflow.cluster.connection  # noqa: F401 - before Ray: sets environment variables

# isort: split
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiflow.errors import JobError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 10.0
"""A node that does not answer within this time is lost, although Ray does not know yet."""


@dataclass(frozen=True)
class LossNotes:
    """Notes of the nodes on which parts were repeated: empty files, whose names say it all."""

    folder: str
    """A directory that every node can reach."""
    job: str
    """Hexadecimal id of the job: a resumed job counts from 0 again."""

    def check(self, part: int, num_losses: int, *, place: str, max_failures: int) -> None:
        """Check that a part may be repeated once more, and note the node that repeats it.

        Args:
            part: Number of the part.
            num_losses: How often its worker was lost, alone or with its node.
            place: The file that it reads, for a message.
            max_failures: Number of losses of the worker alone after which a part is not repeated.

        Raises:
            JobError: The worker of the part has died too often.
        """
        here = ray.get_runtime_context().get_node_id()
        is_alive = {node["NodeID"]: bool(node["Alive"]) for node in ray.nodes()}
        noted = self._list_nodes(part)
        num_deaths = num_losses - sum(not is_alive.get(node, False) for node in noted)
        # The first worker of the part left no note. If any node was lost, that worker may have been
        # on it.
        if not all(is_alive.values()):
            num_deaths -= 1
        if num_deaths >= max_failures:
            # Ray may need a minute to notice that a node is lost, so the nodes are asked.
            others = [node for node in noted if is_alive.get(node, False) and node != here]
            answering = _list_answering(set(others))
            num_deaths -= sum(node not in answering for node in others)
        if num_deaths >= max_failures:
            raise JobError(
                f"a part was lost: {place}: its worker has died {num_deaths} times, perhaps for "
                "lack of memory: set a smaller num_workers or rows_per_file; the same command "
                "resumes"
            )
        filesystem.write_bytes(join(self.folder, f"{self.job}-{part}-{num_losses}-{here}"), b"")

    def _list_nodes(self, part: int) -> list[str]:
        """List the nodes that have repeated the part, once for each repeat."""
        pattern = re.compile(rf"{self.job}-{part}-[0-9]+-([0-9a-f]+)")
        matches = [pattern.fullmatch(name) for name in filesystem.listing(self.folder)]
        return [match[1] for match in matches if match]


def _list_answering(nodes: Collection[str]) -> set[str]:
    """Choose the nodes that run a task within ``_ANSWER_SECONDS``."""
    if not nodes:
        return set()
    task = ray.remote(num_cpus=0, max_retries=0)(_find_node)
    calls = {}
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        calls[task.options(scheduling_strategy=strategy).remote()] = node
    done, late = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWER_SECONDS)
    for call in late:
        ray.cancel(call, force=True)
    answering = set()
    for call in done:
        try:
            answering.add(ray.get(call))
        except ray.exceptions.RayError:  # it was lost with its node
            log.debug("no answer from node %s", calls[call])
    return answering


def _find_node() -> str:
    """Return the id of the node that runs this task."""
    return str(ray.get_runtime_context().get_node_id())
