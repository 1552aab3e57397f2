"""Events of the workers come in order, and their failures become one line."""

import logging
import os
import queue
import sys
import threading
import time
import types

import pytest

from sentiflow.cluster.connection import Resources
from sentiflow.errors import JobError, StorageError, UserError, WorkerError
from sentiflow.training import workers  # before Ray, which reads what it sets

# isort: split
import ray
from ray import cloudpickle
from ray.util.placement_group import placement_group, placement_group_table

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests


class RayError(Exception):
    """Stands for Ray's report of a failed training, which has the failures by rank."""

    def __init__(self, failures=None, text="all is lost"):
        super().__init__(text)
        if failures is not None:
            self.worker_failures = failures


def test_a_mistake_of_the_user_in_a_worker_stays_one():
    text = "Traceback ...\n  here\nsentiflow.errors.UserError: no row: check prepare.csv\n"
    cause = workers._find_cause(RayError({0: text}))
    assert type(cause) is UserError
    assert str(cause) == "no row: check prepare.csv"


def test_a_mistake_of_the_user_that_comes_as_it_was_raised_stays_one():
    mistake = UserError("no row", hint="check prepare.csv")
    assert workers._find_cause(RayError({0: mistake, 1: "later"})) is mistake


@pytest.mark.parametrize(
    "failure",
    [
        PermissionError(13, "Permission denied", "/data/run"),
        "Traceback ...\nsentiflow.errors.StorageError: Permission denied: '/data/run': choose "
        "another location, or make it writable",
    ],
)
def test_a_location_that_must_not_be_used_is_a_mistake_of_the_user(failure, caplog):
    cause = workers._find_cause(RayError({0: failure}))
    assert type(cause) is StorageError
    assert str(cause) == (
        "Permission denied: '/data/run': choose another location, or make it writable"
    )
    assert caplog.text == ""


@pytest.mark.parametrize("kind", [OSError, "Traceback ...\nOSError: {}".format])
def test_a_store_that_is_away_may_be_tried_again(kind, caplog):
    text = "When reading key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION during X operation: y"
    cause = workers._find_cause(RayError({0: kind(text)}))
    assert type(cause) is WorkerError
    assert str(cause).startswith(
        "training worker 0 failed: s3://b/a: the object store is unavailable (NETWORK"
    )
    assert caplog.text == ""


def test_any_other_failure_is_the_last_line_of_the_first_worker(caplog):
    cause = workers._find_cause(RayError({1: "later", 0: "Traceback ...\nOSError: disk full"}))
    assert type(cause) is WorkerError
    assert str(cause) == "training worker 0 failed: OSError: disk full"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("failures", [None, {}])
def test_a_failure_of_no_worker_is_reported_too(failures):
    cause = workers._find_cause(RayError(failures))
    assert str(cause) == "training worker 0 failed: all is lost"


def test_a_failure_without_a_text_is_named_by_its_kind():
    cause = workers._find_cause(RayError({0: MemoryError()}))
    assert str(cause) == "training worker 0 failed: MemoryError"


CAPACITY = types.SimpleNamespace(check=lambda: None)
"""There is always room for all workers."""


class LocalQueue(queue.Queue):
    """A queue in this process."""

    is_killed = False

    def shutdown(self, *, force):
        self.is_killed = force


@pytest.fixture
def events(monkeypatch):
    monkeypatch.setattr(workers, "free_cores_of_dead", lambda: None)
    return LocalQueue()


def test_all_events_are_passed_on_in_order(events):
    def fit():
        for event in ("first", "second", "third"):
            events.put(event)
        return types.SimpleNamespace(return_value="trained")

    heard = []
    trainer = types.SimpleNamespace(fit=fit)
    assert workers._fit(trainer, events, heard.append, CAPACITY) == "trained"
    assert heard == ["first", "second", "third"]
    assert events.is_killed


def test_events_are_passed_on_while_it_trains(events):
    heard = threading.Event()

    def fit():
        events.put("first")
        assert heard.wait(20)
        return types.SimpleNamespace(return_value="trained")

    trainer = types.SimpleNamespace(fit=fit)
    answer = workers._fit(trainer, events, lambda event: heard.set(), CAPACITY)
    assert answer == "trained"


def test_a_failure_is_raised_after_the_events_before_it(events):
    def fit():
        events.put("first")
        raise OSError("disk full")

    heard = []
    with pytest.raises(OSError, match="disk full"):
        workers._fit(types.SimpleNamespace(fit=fit), events, heard.append, CAPACITY)
    assert heard == ["first"]


def test_a_callback_that_fails_ends_the_workers(events):
    is_over = threading.Event()

    def fit():
        events.put("first")
        assert is_over.wait(20)

    def refuse(event):
        raise OSError("the tracking server is away")

    with pytest.raises(OSError, match="tracking server"):
        workers._fit(types.SimpleNamespace(fit=fit), events, refuse, CAPACITY)
    is_over.set()
    assert events.is_killed


def test_a_cluster_without_room_ends_the_training_while_no_event_comes(events, monkeypatch):
    monkeypatch.setattr(workers, "_CHECK_EVERY_SECONDS", 0.01)
    is_over = threading.Event()

    def refuse():
        raise JobError("no node has room")

    trainer = types.SimpleNamespace(fit=is_over.wait)
    with pytest.raises(JobError, match="no node has room"):
        workers._fit(trainer, events, print, types.SimpleNamespace(check=refuse))
    is_over.set()
    assert events.is_killed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_failure_of_a_worker_may_be_tried_again(tmp_path, resources, num_workers):
    def fail(job, report):
        raise OSError("disk full")

    with pytest.raises(WorkerError, match=r"training worker 0 failed: .*disk full"):
        run(fail, tmp_path, resources, num_workers)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_function_is_run_by_all_workers_and_rank_0_returns(
    tmp_path, resources, num_workers, monkeypatch
):
    if num_workers == 1:  # it trains in this process, and no queue is started
        monkeypatch.setattr(workers, "_start_queue", None)

    def worker(job, report):
        import torch.distributed as dist

        rank = dist.get_rank() if dist.is_initialized() else 0
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        if rank == 0:
            report({"job": job})
        return {"rank": rank, "world_size": world_size}

    assert run(worker, tmp_path, resources, num_workers) == (
        {"rank": 0, "world_size": num_workers},
        [{"job": "the job"}],
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_users_mistake_in_a_worker_keeps_its_type(tmp_path, resources, num_workers):
    def refuse(job, report):
        raise UserError("nothing to learn from", hint="give more")

    with pytest.raises(UserError, match="nothing to learn from: give more"):
        run(refuse, tmp_path, resources, num_workers)


def run(worker, folder, resources, num_workers):
    """Train with ``worker``; returns its result and the events."""
    heard = []
    place = Resources(num_cpus=max(2, resources.num_cpus), num_gpus=0, num_nodes=1, min_node_cpus=1)
    answer = workers.train(
        worker, "the job", num_workers=num_workers, resources=place,
        storage_path=str(folder / "ray"), callback=heard.append,
    )  # fmt: skip
    return answer, heard


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
        workers.free_cores_of_dead()
        time.sleep(0.1)
    assert state_of(groups[1]) == "CREATED"
    ray.kill(living)


def test_a_training_that_waits_says_why_once(events, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(workers, "_CHECK_EVERY_SECONDS", 0.001)
    checks = []

    def fit():
        while len(checks) < 5:
            time.sleep(0.001)
        return types.SimpleNamespace(return_value="trained")

    capacity = types.SimpleNamespace(check=lambda: checks.append(1))
    workers._fit(types.SimpleNamespace(fit=fit), events, print, capacity)
    assert caplog.text.count("keeps those of a training that was killed, for 3 minutes") == 1
