"""What workers post comes in order, and what stops them becomes one line."""

import threading
import types

import pytest

from sentiflow.cluster.connection import Resources
from sentiflow.errors import StorageError, UserError, WorkerError
from sentiflow.training import workers


class RayError(Exception):
    """Stands for Ray's report of a failed training, which has the failures by rank."""

    def __init__(self, failures=None, text="all is lost"):
        super().__init__(text)
        if failures is not None:
            self.worker_failures = failures


def test_a_mistake_of_the_user_in_a_worker_stays_one():
    text = "Traceback ...\n  here\nsentiflow.errors.UserError: no row: check prepare.csv\n"
    cause = workers._cause(RayError({0: text}))
    assert type(cause) is UserError
    assert str(cause) == "no row: check prepare.csv"


def test_a_mistake_of_the_user_that_comes_as_it_was_raised_stays_one():
    mistake = UserError("no row", hint="check prepare.csv")
    assert workers._cause(RayError({0: mistake, 1: "later"})) is mistake


@pytest.mark.parametrize(
    "failure",
    [
        PermissionError(13, "Permission denied", "/data/run"),
        "Traceback ...\nsentiflow.errors.StorageError: Permission denied: '/data/run': choose "
        "another place, or make it writable",
    ],
)
def test_a_place_that_must_not_be_used_is_a_mistake_of_the_user(failure, caplog):
    cause = workers._cause(RayError({0: failure}))
    assert type(cause) is StorageError
    assert str(cause) == (
        "Permission denied: '/data/run': choose another location, or make it writable"
    )
    assert caplog.text == ""


@pytest.mark.parametrize("kind", [OSError, "Traceback ...\nOSError: {}".format])
def test_a_store_that_is_away_may_be_tried_again(kind, caplog):
    text = "When reading key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION during X operation: y"
    cause = workers._cause(RayError({0: kind(text)}))
    assert type(cause) is WorkerError
    assert str(cause).startswith(
        "training worker 0 failed: s3://b/a: the object store is unavailable (NETWORK"
    )
    assert caplog.text == ""


def test_any_other_failure_is_told_by_the_first_worker_in_its_last_line(caplog):
    cause = workers._cause(RayError({1: "later", 0: "Traceback ...\nOSError: disk full"}))
    assert type(cause) is WorkerError
    assert str(cause) == "training worker 0 failed: OSError: disk full"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("failures", [None, {}])
def test_a_failure_of_no_worker_is_told_too(failures):
    cause = workers._cause(RayError(failures))
    assert str(cause) == "training worker 0 failed: all is lost"


def test_a_failure_without_a_text_is_named_by_its_kind():
    cause = workers._cause(RayError({0: MemoryError()}))
    assert str(cause) == "training worker 0 failed: MemoryError"


def test_a_board_gives_each_item_once_and_in_order():
    board = workers._Board()
    assert board.take() == []
    for item in ({"n": 1}, {"n": 2}):
        board.put(item)
    assert board.take() == [{"n": 1}, {"n": 2}]
    assert board.take() == []


ROOM = types.SimpleNamespace(check=lambda: None)
"""There is always a node for all workers."""


class LocalBoard:
    """A board that is no actor: its methods have ``remote``, which answers at once."""

    def __init__(self):
        board = workers._Board()
        self.put = types.SimpleNamespace(remote=board.put)
        self.take = types.SimpleNamespace(remote=board.take)
        self.killed = False

    def kill(self):
        self.killed = True


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr(workers.ray, "get", lambda answer: answer)
    monkeypatch.setattr(workers.ray, "kill", LocalBoard.kill)
    monkeypatch.setattr(workers.train_reservations, "free_cores_of_dead", lambda: None)
    return LocalBoard()


def test_what_is_posted_until_the_end_is_passed_on(board):
    def fit():
        for n in range(3):
            workers._post(board, {"n": n})
        return types.SimpleNamespace(return_value="trained")

    heard = []
    trainer = types.SimpleNamespace(fit=fit)
    assert workers._fit_and_listen(trainer, board, heard.append, ROOM) == "trained"
    assert heard == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_posts_are_passed_on_while_it_trains(board):
    heard = threading.Event()

    def fit():
        workers._post(board, {"n": 0})
        assert heard.wait(20)
        return types.SimpleNamespace(return_value="trained")

    trainer = types.SimpleNamespace(fit=fit)
    answer = workers._fit_and_listen(trainer, board, lambda item: heard.set(), ROOM)
    assert answer == "trained"


def test_what_fails_is_raised_after_what_was_posted_before(board):
    def fit():
        workers._post(board, {"n": 0})
        raise OSError("disk full")

    heard = []
    with pytest.raises(OSError, match="disk full"):
        workers._fit_and_listen(types.SimpleNamespace(fit=fit), board, heard.append, ROOM)
    assert heard == [{"n": 0}]


def test_if_nobody_takes_the_posts_the_workers_end(board):
    listened = threading.Event()

    def fit():
        workers._post(board, {"n": 0})
        assert listened.wait(20)

    def refuse(item):
        raise OSError("the tracking server is away")

    with pytest.raises(OSError, match="tracking server"):
        workers._fit_and_listen(types.SimpleNamespace(fit=fit), board, refuse, ROOM)
    listened.set()
    assert board.killed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_what_fails_in_a_worker_may_be_tried_again(tmp_path, resources, num_workers):
    def fail(job, post):
        raise OSError("disk full")

    with pytest.raises(WorkerError, match=r"training worker 0 failed: .*disk full"):
        run(fail, tmp_path, resources, num_workers)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_function_is_run_by_as_many_workers_and_the_first_answers(
    tmp_path, resources, num_workers
):
    def worker(job, post):
        import torch.distributed as dist

        rank = dist.get_rank() if dist.is_initialized() else 0
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        if rank == 0:
            post({"job": job})
        return {"rank": rank, "world_size": world_size}

    assert run(worker, tmp_path, resources, num_workers) == (
        {"rank": 0, "world_size": num_workers},
        [{"job": "the job"}],
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_what_a_worker_raises_is_raised_as_what_it_is(tmp_path, resources, num_workers):
    def refuse(job, post):
        raise UserError("nothing to learn from", hint="give more")

    with pytest.raises(UserError, match="nothing to learn from: give more"):
        run(refuse, tmp_path, resources, num_workers)


def run(worker, folder, resources, num_workers):
    """Train with ``worker``; returns its answer and what was posted."""
    heard = []
    place = Resources(num_cpus=max(2, resources.num_cpus), num_gpus=0, num_nodes=1, min_node_cpus=1)
    answer = workers.train(
        worker, "the job", num_workers=num_workers, resources=place,
        storage_path=str(folder / "ray"), on_post=heard.append,
    )  # fmt: skip
    return answer, heard
