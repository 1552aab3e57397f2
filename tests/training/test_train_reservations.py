"""A training begins with all the room there is, whatever trainings were before it."""

import math
import time

import pytest

from sentiflow.cluster import connection
from sentiflow.training import train_reservations  # before Ray, which reads what cluster sets
from sentiflow.training.train_reservations import Reservations, _others_train

# isort: split
import ray
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import (
    ResourceRequestPriority,
)
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def coordinator(resources):
    """Ask the actor that divides the cluster, as Ray Train does."""
    assert isinstance(resources, connection.Resources)
    actor = get_or_create_autoscaling_coordinator()
    yield actor
    for name in ("train-earlier", "train-new"):
        ray.get(actor.cancel_request.remote(name))


def ask_for(coordinator, name, number):
    """Ask for so many cores for a training."""
    ray.get(
        coordinator.request_resources.remote(
            requester_id=name,
            resources=[{"CPU": 1}] * number,
            label_selectors=[{}] * number,
            expire_after_s=180,
            priority=ResourceRequestPriority.HIGH,
        )
    )


def share_of(coordinator, name):
    shares = ray.get(coordinator.get_reserved_resources.remote(name)).values()
    return sum(share.get("CPU", 0) for share in shares)


def test_a_training_that_is_dead_has_no_share(coordinator, resources):
    number = resources.num_cpus
    ask_for(coordinator, "train-earlier", number)
    Reservations()
    ask_for(coordinator, "train-new", number)
    assert share_of(coordinator, "train-earlier") == 0
    assert share_of(coordinator, "train-new") == number


def test_a_training_of_another_job_keeps_its_share_until_it_dies(
    coordinator, resources, monkeypatch
):
    number = resources.num_cpus
    monkeypatch.setattr(train_reservations, "_others_train", lambda job: True)
    ask_for(coordinator, "train-earlier", number)
    reservations = Reservations()
    ask_for(coordinator, "train-new", number)
    assert share_of(coordinator, "train-new") == 0
    monkeypatch.setattr(train_reservations, "_others_train", lambda job: False)
    reservations._looked = -math.inf
    reservations.renew()
    assert share_of(coordinator, "train-new") == number


def test_trainings_of_others_are_told_from_those_of_this_job(resources):
    class TrainController:  # as far as Ray's lists tell
        def answer(self):
            return ray.get_runtime_context().get_job_id()

    controller = ray.remote(num_cpus=0)(TrainController).remote()
    job = ray.get(controller.answer.remote())
    assert not _others_train(job)
    assert _others_train("of another")
    ray.kill(controller)
    while _others_train("of another"):  # until Ray has noticed
        time.sleep(0.1)


def test_what_this_training_asks_for_itself_stays(coordinator):
    reservations = Reservations()
    ask_for(coordinator, "train-new", 1)
    for has_begun in (False, True):
        reservations._looked = -math.inf
        reservations.renew(has_begun=has_begun)
        assert share_of(coordinator, "train-new") == 1
