"""What Ray keeps for trainings -> for those that live alone, and of the nodes that are there."""

import logging
import math
import time
from typing import Any

from sentiflow.cluster.connection import LOOK_EVERY_SECONDS  # first, as it sets what Ray reads

# isort: split
import ray
import ray.exceptions
from ray._private.state import state
from ray.core.generated import gcs_pb2
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.util.placement_group import PlacementGroup, remove_placement_group

log = logging.getLogger(__name__)

_TRAINS = ("TrainController", "TrainTrainable")
"""Actors that lead a training: Ray Train's, and those of its older version."""
_ANSWER_SECONDS = 5.0
"""So long Ray Train, too, waits for the same answers."""
_FIRST_ANSWER_SECONDS = 60.0
"""The actor may have to start."""


class Reservations:
    """Keeps the share of the cluster up to date from which Ray Train counts its elastic workers.

    Ray 2.60 divides the cluster among trainings in an actor that outlives them. It looks for new
    and lost nodes every 20 s, and keeps the share of a training whose driver was killed for three
    minutes: whoever begins meanwhile begins with fewer workers, or waits.

    Shares are taken from the dead only while no other job trains, and of one job's trainings only
    one may be elastic.
    """

    def __init__(self) -> None:
        """Look, before a training begins, which shares there are, and renew them."""

        def name_trainings(coordinator: Any) -> list[str]:  # in here, it travels as code
            return [name for name in coordinator._ongoing_reqs if name.startswith("train-")]

        self._coordinator = get_or_create_autoscaling_coordinator()
        names = self._coordinator.__ray_call__.remote(name_trainings)
        self._earlier = self._ask(names, _FIRST_ANSWER_SECONDS) or []
        self._nodes: set[str] = set()
        self._looked = -math.inf
        self.renew()

    def renew(self, *, has_begun: bool = False) -> None:
        """Renew the shares, every few seconds, if nodes have come or gone or it has not begun."""
        if time.monotonic() - self._looked < LOOK_EVERY_SECONDS:
            return
        nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if nodes != self._nodes or not has_begun:
            job = ray.get_runtime_context().get_job_id()
            if self._earlier and not _others_train(job):
                for name in self._earlier:
                    self._ask(self._coordinator.cancel_request.remote(name))
                self._earlier = []
            self._ask(self._coordinator.get_reserved_resources.remote("", recompute=True))
        self._nodes, self._looked = nodes, time.monotonic()

    @staticmethod
    def _ask(answer: Any, timeout_seconds: float = _ANSWER_SECONDS) -> Any:
        """Wait for an answer; without one Ray Train goes by what it knew before."""
        try:
            return ray.get(answer, timeout=timeout_seconds)
        except ray.exceptions.RayError as error:
            log.warning("Ray does not say what is free for training: %s", error)
            return None


def _others_train(job: str) -> bool:
    """Say whether trainings of other jobs than this live on this cluster."""
    actors = state.actor_table(None, None, "ALIVE").values()
    return any(
        actor["ActorClassName"].rpartition(".")[2] in _TRAINS and actor["JobID"] != job
        for actor in actors
    )


def free_cores_of_dead() -> None:
    """Give back what Ray Train has set aside for trainings of this job that have died.

    That happens to a trial of a sweep, whose process Tune ends or somebody kills. Ray keeps its
    workers' cores for as long as the job runs, and Ray Train's own cleaner needs the dashboard.
    """
    job = ray.get_runtime_context().get_job_id()
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(entry)
        is_ours = group.creator_job_id.hex() == job
        is_an_actors = not ray.ActorID(group.creator_actor_id).is_nil()
        is_there = group.state != gcs_pb2.PlacementGroupTableData.REMOVED and not group.is_detached
        if is_ours and is_an_actors and is_there and group.creator_actor_dead:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
