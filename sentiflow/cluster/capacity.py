"""Work -> the resources that it needs, and a wait until the cluster has them."""

import time
from collections.abc import Mapping

from sentiflow.cluster import connection  # before Ray: sets environment variables
from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError
from sentiflow.progress import say

# isort: split
from ray.util.placement_group import placement_group, remove_placement_group

POLL_SECONDS = 2.0
"""Minimum time between two checks of the living nodes."""


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
        for node in connection.list_node_resources():
            times_by_resource = [node.get(name, 0) // each for name, each in self.need.items()]
            total += min(times_by_resource)
        return total >= self.times

    def wait_for_nodes(self) -> Resources:
        """Ask the autoscaler for the nodes, and wait for them, ``max_wait_seconds`` at most.

        The request is a placement group, because each request through Ray Data or Ray Train
        replaces the one before.

        Returns:
            The resources of the cluster after that.
        """
        if not self.is_met():
            say("ray", f"waiting for nodes with {self}, {self.max_wait_seconds:g} s at most")
            group = placement_group([self.need] * self.times)
            group.wait(self.max_wait_seconds)
            remove_placement_group(group)
        return connection.count_resources()

    def check(self) -> None:
        """Check the living nodes, at most once in ``POLL_SECONDS``.

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
