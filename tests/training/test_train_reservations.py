"""A training takes over the cores of dead ones of its job, and says why it waits for others."""

import os
import sys
import time

import pytest

from sentiflow.training import train_reservations  # before Ray, which reads what it sets

# isort: split
import ray
from ray import cloudpickle
from ray.util.placement_group import placement_group, placement_group_table

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests


class Holder:
    """An actor that holds a core of its own by a placement group, as Ray Train's does."""

    def hold(self):
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return group.id.hex()

    def die(self):
        os._exit(1)


def state_of(group):
    return placement_group_table()[group]["state"]


@pytest.mark.ray
def test_only_the_cores_of_the_dead_are_freed(resources):
    make = ray.remote(num_cpus=0, max_restarts=0)(Holder)
    dead, living = make.remote(), make.remote()
    groups = [ray.get(holder.hold.remote()) for holder in (dead, living)]
    dead.die.remote()
    deadline = time.monotonic() + 60
    while state_of(groups[0]) != "REMOVED":
        assert time.monotonic() < deadline
        train_reservations.free_cores_of_dead()
        time.sleep(0.1)
    assert state_of(groups[1]) == "CREATED"
    ray.kill(living)


def test_a_training_that_waits_says_why_once(monkeypatch, said):
    now = [100.0]
    monkeypatch.setattr(train_reservations.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(train_reservations, "free_cores_of_dead", lambda: None)
    start = train_reservations.StartWatch()
    for now[0] in (101.0, 129.0):
        start.check()
    assert not said.text
    for now[0] in (131.0, 300.0):
        start.check()
    assert said.text.count("keeps those of a training that was killed, for 3 minutes at most") == 1
