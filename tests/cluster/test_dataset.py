"""Each part passes its steps once, in as many tasks as are wanted; a failure is told in a line."""

import functools
import os
import signal
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.cluster import dataset
from sentiflow.cluster.dataset import Label
from sentiflow.errors import JobError, UserError

# isort: split
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

pytestmark = pytest.mark.ray


def read_numbers(part):
    """Make as many rows as the part says."""
    return pa.table({"n": pa.array(range(part), pa.int64())})


def double(table):
    return table.append_column("double", pa.array(2 * table["n"].to_numpy()))


def code(table):
    """Add lists of a dictionary's words, as tokens are."""
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(table), np.int32)), pa.array(["so"])
    )
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32))
    return table.append_column("words", pa.ListArray.from_arrays(offsets, words))


def write_sums(table, label):
    return [label.number, label.key, len(table), sum(table["double"].to_pylist())]


def process(parts, *steps, read=read_numbers, write=write_sums, **options):
    """Process numbered parts; returns the results in the order of the parts."""
    labelled = {Label(number, f"k{number}"): part for number, part in enumerate(parts)}
    return [
        result for _, result in sorted(dataset.process(labelled, read, steps, write, **options))
    ]


def test_each_part_passes_all_steps(resources):
    found = process([3, 1, 4], double, code)
    assert found == [[0, "k0", 3, 6], [1, "k1", 1, 0], [2, "k2", 4, 12]]
    assert process([]) == []


def test_a_part_without_rows_passes_all_steps_too(resources):
    assert process([0, 2], double, code) == [[0, "k0", 0, 0], [1, "k1", 2, 2]]


def test_the_steps_are_fused_and_have_their_names(resources):
    parts = {Label(number): 1 for number in range(2)}
    done = dataset.plan(parts, read_numbers, [functools.partial(double), code], write_sums)
    line = next(line for line in done.materialize().stats().splitlines() if "Read" in line)
    assert "ReadNumbers->MapBatches(double)->MapBatches(code)->MapBatches(write_sums)" in line
    assert "2 tasks executed, 2 blocks produced" in line


def test_a_long_text_is_not_cut_into_several_blocks(resources):
    """Ray Data would cut a block of more than 128 MiB."""
    read = lambda part: pa.table({"text": ["x" * 2**20] * part})  # noqa: E731
    write = lambda table, label: len(table)  # noqa: E731
    same = lambda table: table  # noqa: E731
    assert process([150], same, read=read, write=write) == [150]


def fail(*_, kind):
    raise kind("part 0 is wrong")


@pytest.mark.parametrize(
    ("where", "kind"), [("read", UserError), ("step", JobError), ("write", UserError)]
)
def test_an_error_of_a_part_is_raised_in_the_driver(resources, where, kind):
    wrong = functools.partial(fail, kind=kind)
    steps = [wrong, code] if where == "step" else [double]
    options = {where: wrong} if where != "step" else {}
    with pytest.raises(kind, match=r"^part 0 is wrong$"):
        process([1], *steps, **options)


def begin(part, *, folder):
    (folder / str(part)).touch()
    time.sleep(0.1)
    return pa.table({"part": [part]})


def fail_first(table):
    if table["part"][0].as_py() == 0:
        raise UserError("part 0 is wrong")
    return table


def test_after_a_failure_running_parts_end_and_no_other_begins(resources, tmp_path):
    read, written = functools.partial(begin, folder=tmp_path / "begun"), tmp_path / "written"
    (tmp_path / "begun").mkdir()
    written.mkdir()
    write = lambda table, label: (written / str(label.number)).touch()  # noqa: E731
    with pytest.raises(UserError, match="part 0 is wrong"):
        process(range(60), fail_first, read=read, write=write)
    begun = {path.name for path in (tmp_path / "begun").iterdir()}
    assert len(begun) < 45
    assert {path.name for path in written.iterdir()} == begun - {"0"}


def test_many_failures_leave_ray_as_it_was(resources):
    """Ray 2.60 may hang or crash where a running dataset is given up."""
    for _ in range(6):
        with pytest.raises(UserError):
            process(range(1, 5), functools.partial(fail, kind=UserError))
    assert process([2], double) == [[0, "k0", 2, 2]]


def refuse(part):
    raise PermissionError(13, "Permission denied", "/data/run")


def test_a_location_without_permission_is_a_user_error(resources, caplog):
    with pytest.raises(UserError, match=r"^Permission denied: '/data/run': choose another"):
        process([1], read=refuse)
    assert not caplog.records


def test_an_unknown_failure_is_one_line_and_its_traceback_is_logged(resources, caplog):
    with pytest.raises(JobError, match=r"^ZeroDivisionError: part 0 is wrong$"):
        process([1], functools.partial(fail, kind=ZeroDivisionError))
    assert 'raise kind("part 0 is wrong")' in caplog.text
    assert "\x1b" not in caplog.text


def note(part, *, folder):
    """Count the parts that are worked on at this moment."""
    mark = folder / str(part)
    mark.touch()
    time.sleep(0.2)
    busy = len(list(folder.iterdir()))
    mark.unlink()
    return pa.table({"busy": [busy]})


def take_busy(table, label):
    return table["busy"][0].as_py()


def test_concurrency_limits_the_parts_at_the_same_time(resources, tmp_path):
    read = functools.partial(note, folder=tmp_path)
    assert process(range(4), read=read, write=take_busy, concurrency=1) == [1] * 4


def die_once(part, *, folder):
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read_numbers(part)


def test_a_part_whose_worker_dies_is_repeated(resources, tmp_path):
    assert process([2], double, read=functools.partial(die_once, folder=tmp_path)) == [
        [0, "k0", 2, 2]
    ]


def die(part, *, folder):
    tempfile.mkstemp(dir=folder)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_kills_one_worker_too_many_ends_the_job(resources, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_MAX_RETRIES", 1)
    with pytest.raises(JobError, match=r"^a part was lost: \S"):
        process([1], read=functools.partial(die, folder=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_work_for_which_no_node_is_left_ends_the_job(resources, monkeypatch):
    """Ray would wait for ever. The nodes are hidden from the check."""
    monkeypatch.setattr(dataset.Capacity, "is_there", lambda capacity: False)
    with pytest.raises(JobError, match=r"this machine has no node with 1 core any more"):
        process([60], read=time.sleep, max_wait_seconds=1)
