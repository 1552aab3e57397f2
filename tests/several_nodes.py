"""A real Ray cluster of several nodes on this machine, whose nodes tests kill."""

import contextlib
import socket
from typing import Any

import psutil

from sentiflow.cluster import connection, token_file  # noqa: F401 - sets variables of Ray

IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}
"""Settings of Ray's head: it notices a dead node after two seconds, and gives a slow node time."""


def own_address() -> str:
    """Find the address at which other machines reach this one, without sending anything.

    If this process has started a Ray on loopback, nodes without an address would listen there, too,
    and drivers would not find them.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:  # no network
            return "127.0.0.1"
        return str(sock.getsockname()[0])


class Nodes:
    """A head without cores, where the driver runs, and nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        token_file.make_private()
        self.address_of_all = own_address()
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "node_ip_address": self.address_of_all},
        )
        self.living: list[Any] = []

    @property
    def address(self) -> str:
        """The value for ``RAY_ADDRESS``."""
        return self.cluster.address

    def add(self) -> None:
        """Start a node."""
        node = self.cluster.add_node(num_cpus=1, node_ip_address=self.address_of_all)
        self.living.append(node)

    def kill(self) -> None:
        """Kill the oldest node and all of its processes, as if its machine were lost."""
        self._kill(self.living.pop(0))

    def kill_id(self, node_id: str) -> None:
        """Kill the node with this id of Ray."""
        (node,) = [each for each in self.living if each.node_id == node_id]
        self.living.remove(node)
        self._kill(node)

    def _kill(self, node: Any) -> None:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                process.kill()

    def have(self, number: int) -> None:
        """Start or kill nodes until there are this many."""
        while len(self.living) < number:
            self.add()
        while len(self.living) > number:
            self.kill()

    def stop(self) -> None:
        """End all nodes."""
        self.cluster.shutdown()
