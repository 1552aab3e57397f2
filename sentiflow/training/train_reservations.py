"""Cores that Ray keeps for dead trainings -> freed within this job, else a line says so."""

import time

import sentiflow.cluster.connection  # noqa: F401 - before Ray, which reads what it sets
from sentiflow.cluster import ray_internals
from sentiflow.progress import say

# isort: split
import ray
from ray.util.placement_group import remove_placement_group

_PATIENCE_SECONDS = 30.0
"""Workers that have their cores start in less."""


class StartWatch:
    """Watches a training whose workers have not started yet."""

    def __init__(self) -> None:
        """Begin to wait."""
        self._began, self._has_said = time.monotonic(), False

    def check(self) -> None:
        """Free the cores of dead trainings of this job; say once why it may have to wait for more.

        Ray Train keeps the share of a training whose driver was killed for three minutes.
        """
        free_cores_of_dead()
        if not self._has_said and time.monotonic() - self._began > _PATIENCE_SECONDS:
            self._has_said = True
            say(
                "train",
                "waiting for workers: others use the cores, or Ray still keeps those of a training "
                "that was killed, for 3 minutes at most",
            )


def free_cores_of_dead() -> None:
    """Give back the cores of trainings of this job that have died.

    In a sweep, Ray Tune or somebody else may kill the process of a trial. Ray keeps the cores of
    its workers until the job ends. Ray Train has a cleaner, but it needs the dashboard.
    """
    job = ray.get_runtime_context().get_job_id()
    for group in ray_internals.groups_of_dead_actors(job):
        remove_placement_group(group)
