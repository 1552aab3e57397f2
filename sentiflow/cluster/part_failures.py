"""Failures of a part -> the part is repeated, up to a limit; then the job ends.

Two kinds of failures are counted, each up to ``max_failures``: I/O errors, and deaths of the
worker, such as a segmentation fault or a lack of memory. A worker that was lost with its node does
not count, because clouds take nodes back.

Ray repeats a part after a loss, and tells it only the number of losses. So each repeat leaves a
note that names its node. A part that is not repeated leaves no note.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import sentiflow.cluster.connection  # noqa: F401 - before Ray: sets environment variables

# isort: split
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import join

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 1.0
"""Wait after the first I/O error of a part; each further wait is twice as long."""
_ANSWER_SECONDS = 10.0
"""A node that does not answer within this time is lost, although Ray does not know yet."""


def repeat_after_io_errors(work: Callable[[], Any], *, place: str, max_failures: int) -> Any:
    """Do some work; after an I/O error wait, and do it again.

    Args:
        work: The work.
        place: The file that it reads, for a message.
        max_failures: Number of tries; the I/O error of the last one ends the job.

    Raises:
        JobError: Each try has ended with an I/O error.
    """
    num_failures = 0
    while True:
        try:
            return work()
        except (OSError, UserError, JobError) as error:
            if not errors.is_temporary(error):
                raise
            num_failures += 1
            if num_failures == max_failures:
                line = errors.explain(error, uri=place) or error
                raise JobError(f"after {num_failures} tries: {line}") from error
            log.warning("%s: repeated after an I/O error: %s", place, error)
        seconds = _FIRST_WAIT_SECONDS * 2 ** (num_failures - 1)
        # parts that failed together should not ask the store together again
        time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311


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
