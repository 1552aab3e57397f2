"""Each part is worked on once, by as many tasks as are wanted; a failure is reported in a line."""

import functools
import os
import signal
import sys
import time

import pytest

from sentiflow.cluster import map_stages
from sentiflow.errors import JobError, UserError

# isort: split
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

pytestmark = pytest.mark.ray


@pytest.fixture(params=["map_parts", "map_dataset"])
def run(request):
    """Do the work on all parts; returns the results in the order of the parts."""
    engine = getattr(map_stages, request.param)
    return lambda work, *, num_parts, **options: [
        result for _, result in sorted(engine(work, range(num_parts), **options))
    ]


def square(part):
    return {"part": part, "square": part * part}


def fail(part, *, kind):
    raise kind(f"part {part} is wrong")


def note(part, *, folder):
    """Count the parts that are worked on at this moment."""
    mark = folder / str(part)
    mark.touch()
    time.sleep(0.2)
    busy = len(list(folder.iterdir()))
    mark.unlink()
    return {"busy": busy}


def die_once(part, *, folder):
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"part": part}


def test_each_part_gives_its_result(run, resources):
    found = sorted(run(square, num_parts=5), key=lambda result: result["part"])
    assert found == [square(part) for part in range(5)]
    assert list(run(square, num_parts=0)) == []


@pytest.mark.parametrize(("kind", "raised"), [(UserError, UserError), (JobError, JobError)])
def test_an_error_of_a_part_is_raised_in_the_driver(run, resources, kind, raised):
    with pytest.raises(raised, match=r"^part 0 is wrong$"):
        list(run(functools.partial(fail, kind=kind), num_parts=1))


def refuse(part):
    raise PermissionError(13, "Permission denied", "/data/run")


def test_a_location_without_permission_is_a_user_error(run, resources, caplog):
    with pytest.raises(UserError, match=r"^Permission denied: '/data/run': choose another"):
        list(run(refuse, num_parts=1))
    assert not caplog.records


def test_an_unknown_failure_is_one_line_and_its_traceback_is_logged(run, resources, caplog):
    with pytest.raises(JobError, match=r"^ZeroDivisionError: part 0 is wrong$"):
        list(run(functools.partial(fail, kind=ZeroDivisionError), num_parts=1))
    assert 'raise kind(f"part {part} is wrong")' in caplog.text
    assert "\x1b" not in caplog.text


def test_concurrency_limits_the_parts_at_the_same_time(run, resources, tmp_path):
    work = functools.partial(note, folder=tmp_path)
    assert {r["busy"] for r in run(work, num_parts=4, concurrency=1)} == {1}


def test_a_part_whose_worker_dies_is_repeated(run, resources, tmp_path):
    work = functools.partial(die_once, folder=tmp_path)
    assert [r["part"] for r in run(work, num_parts=1)] == [0]


def die(part):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_kills_every_worker_ends_the_job(run, resources, monkeypatch):
    monkeypatch.setattr(map_stages, "_MAX_RETRIES", 1)
    with pytest.raises(JobError, match=r"^(part 0|a part) was lost: \S"):
        list(run(die, num_parts=1))


def test_work_for_which_no_node_is_left_ends_the_job(run, resources, monkeypatch):
    """Ray would wait for ever. The nodes are hidden from the check."""
    monkeypatch.setattr(map_stages.Capacity, "is_there", lambda capacity: False)
    slow = functools.partial(time.sleep, 60)
    work = lambda part: slow() or {}  # noqa: E731
    with pytest.raises(JobError, match=r"the cluster has had no node with 1 core for 1 s"):
        list(run(work, num_parts=1, max_wait_seconds=1))
