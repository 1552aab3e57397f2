"""The cluster is divided so that nothing waits for ever, and settings override rules."""

import pytest

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError


def train(num_workers="auto", *, cpus="auto", gpus="auto"):
    """Make the settings of a training."""
    return TrainSettings(num_workers=num_workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("place", "num_workers", "cores"),
    [
        ((2, 0, 1, 2), 2, 1),
        ((16, 0, 1, 16), 3, 5),
        ((4, 0, 1, 16), 2, 2),
        ((10, 0, 2, 5), 3, 2),
        ((16, 0, 2, 8), 5, 2),
        ((17, 0, 2, 1), 8, 1),
    ],
)
def test_all_training_workers_find_their_cores(place, num_workers, cores):
    resources = Resources(*place)
    assert resources.train_workers(train(num_workers)) == num_workers
    assert resources.cpus_per_train_worker(num_workers) == cores
    assert resources.threads_per_train_worker(num_workers) == max(1, cores - 1)


def test_settings_override_rules():
    resources = Resources(16, 2, 2, 8)
    assert resources.cpus_per_train_worker(2, 3) == 3
    assert resources.threads_per_train_worker(2, 3) == 2
    assert resources.gpus_per_train_worker() == 1
    assert resources.gpus_per_train_worker(0) == 0
    assert resources.divide(train(2, cpus=3, gpus=0), 2) == (3, 0, 2)
    assert resources.train_workers(train("auto", gpus=0)) == 2
    assert resources.gpus_per_score_task() == 1 / 4
    assert resources.gpus_per_score_task(0.5) == 0.5
    assert resources.gpus_per_score_task(0) == 0


def test_nodes_of_an_autoscaler_count_only_if_a_number_is_set():
    scaled_to_zero = Resources(1, 0, 0, 1, False, may_grow=True, max_cpus=64, max_gpus=4)
    assert scaled_to_zero.train_workers(train("auto")) == 1
    assert scaled_to_zero.gpus_per_train_worker() == 1
    assert scaled_to_zero.train_workers(train(4)) == 4
    with pytest.raises(UserError, match=r"train\.num_workers=5, but Ray has 4 GPUs"):
        scaled_to_zero.train_workers(train(5))
    assert scaled_to_zero.train_workers(train(8, gpus=0)) == 8
    silent = Resources(2, 0, 1, 2, False, may_grow=True)
    assert silent.train_workers(train(8)) == 8


def test_a_training_runs_in_this_process_only_if_the_cores_are_here():
    assert Resources(2, 0, 1, 2).runs_in_process(1)
    assert not Resources(2, 0, 1, 2).runs_in_process(2)
    head_without_cores = Resources(2, 0, 1, 2, is_one_machine=False)
    assert not head_without_cores.runs_in_process(1)


def test_several_scoring_tasks_share_a_gpu_but_not_more_than_it_has_cores():
    assert Resources(8, 1, 1, 8).gpus_per_score_task() == 1 / 4
    assert Resources(4, 2, 1, 4).gpus_per_score_task() == 1 / 2
    assert Resources(1, 2, 1, 1).gpus_per_score_task() == 1
    assert Resources(8, 0, 1, 8).gpus_per_score_task() == 0


def test_resources_that_can_never_be_there_are_refused_at_once():
    place = Resources(2, 0, 1, 2)
    with pytest.raises(UserError, match=r"num_workers=2, but Ray has 2 cores: each worker needs 2"):
        place.train_workers(train(2, cpus=2))
    with pytest.raises(UserError, match=r"num_workers=auto, but Ray has 0 GPUs"):
        place.train_workers(train("auto", gpus=1))
    with pytest.raises(UserError, match=r"score\.gpus_per_worker=0\.5, but Ray has no GPU"):
        place.gpus_per_score_task(0.5)
    assert Resources(2, 0, 1, 2, may_grow=True).gpus_per_score_task(0.5) == 0.5
    assert not place.runs_in_process(1, gpus=1)
