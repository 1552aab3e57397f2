"""Events of the workers come in order, and their failures become one line."""

import queue
import sys
import threading
import types

import pytest

from sentiflow.cluster.connection import Resources
from sentiflow.errors import JobError, StorageError, UserError, WorkerError
from sentiflow.training import workers  # before Ray, which reads what it sets
from sentiflow.training.reports import Event, Failure

# isort: split
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests


class RayError(Exception):
    """Stands for Ray's report of a failed training, which has the failures by rank."""

    def __init__(self, failures=None, text="all is lost"):
        super().__init__(text)
        if failures is not None:
            self.worker_failures = failures


STORE = "When reading key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION during X operation: y"


@pytest.mark.parametrize(
    ("failures", "kind", "line"),
    [
        ({0: UserError("no row", hint="check x"), 1: "later"}, UserError, "no row: check x"),
        (
            {0: PermissionError(13, "Permission denied", "/a")},
            StorageError,
            "Permission denied: '/a'",
        ),
        (
            {0: OSError(STORE)},
            WorkerError,
            "training worker 0 failed: s3://b/a: the object store is",
        ),
        (
            {0: f"Trace ...\nOSError: {STORE}"},
            WorkerError,
            "training worker 0 failed: s3://b/a: the",
        ),
        (
            {1: "later", 0: "Trace ...\nOSError: full"},
            WorkerError,
            "worker 0 failed: OSError: full",
        ),
        ({0: MemoryError()}, WorkerError, "training worker 0 failed: MemoryError"),
        (None, WorkerError, "training worker 0 failed: all is lost"),
        ({}, WorkerError, "training worker 0 failed: all is lost"),
    ],
)
def test_a_failure_of_the_workers_is_one_line_of_the_first_of_them(failures, kind, line, caplog):
    cause = workers._find_cause(RayError(failures))
    assert type(cause) is kind
    assert line in str(cause)
    assert ("Trace" in caplog.text) == ("full" in line)


def test_the_fault_of_a_storage_is_named_and_lost_connections_are_not():
    lost = RuntimeError("[gloo] Connection closed by peer")
    assert workers._find_fault({0: lost, 1: OSError(STORE)}) == (
        "s3://b/a: the object store is unavailable (NETWORK_CONNECTION)"
    )
    assert workers._find_fault({0: OSError(28, "No space left on device", "/a")}).startswith(
        "No space left on device"
    )
    assert workers._find_fault({0: lost, 1: ValueError("wrong")}) == ""


def test_the_next_start_of_workers_has_the_fault_of_those_before(events):
    def fit():
        for event in (make_event(), Failure("no store"), make_event(), make_event()):
            events.put(event)
        return types.SimpleNamespace(return_value="trained")

    heard = []
    workers._fit(types.SimpleNamespace(fit=fit), events, heard.append, CAPACITY)
    assert [event.cause for event in heard] == ["", "no store", ""]


def make_event():
    return Event("train", 0, 1, 2, 3, 1, is_start=True)


CAPACITY = types.SimpleNamespace(check=lambda: None)
"""There is always room for all workers."""


class LocalQueue(queue.Queue):
    """A queue in this process."""

    is_killed = False

    def shutdown(self, *, force):
        self.is_killed = force


@pytest.fixture
def events():
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
@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (OSError("disk full"), WorkerError, "training worker 0 failed: .*disk full"),
        (UserError("nothing to learn from", hint="give more"), UserError, "nothing .*: give more"),
    ],
)
def test_a_failure_of_a_worker_may_be_tried_again_and_a_mistake_keeps_its_type(
    tmp_path, resources, num_workers, error, kind, line
):
    def fail(job, report, is_leaving):
        raise error

    with pytest.raises(kind, match=line):
        run(fail, tmp_path, resources, num_workers)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_function_is_run_by_all_workers_and_rank_0_returns(
    tmp_path, resources, num_workers, monkeypatch
):
    if num_workers == 1:  # it trains in this process, and no queue is started
        monkeypatch.setattr(workers, "Queue", None)

    def worker(job, report, is_leaving):
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


def run(worker, folder, resources, num_workers, **options):
    """Train with ``worker``; returns its result and the events."""
    heard = []
    place = Resources(num_cpus=max(2, resources.num_cpus), num_gpus=0, num_nodes=1, min_node_cpus=1)
    answer = workers.train(
        worker, "the job", num_workers=num_workers, resources=place,
        storage_path=str(folder / "ray"), callback=heard.append, **options,
    )  # fmt: skip
    return answer, heard


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_workers_that_a_fault_of_the_storage_ends_are_replaced_and_the_fault_is_named(
    tmp_path, resources
):
    flag = tmp_path / "failed"

    def worker(job, report, is_leaving):
        import torch.distributed as dist

        from sentiflow.training.reports import Event

        if dist.get_rank() == 0:
            report(Event("train", 0, 1, 2, 3, 2, is_start=True))
        if not flag.exists():
            flag.touch()
            raise OSError(STORE)
        return "trained"

    answer, heard = run(worker, tmp_path, resources, 2, max_failures=1)
    assert answer == "trained"
    assert [event.cause for event in heard][-1] == (
        "s3://b/a: the object store is unavailable (NETWORK_CONNECTION)"
    )
