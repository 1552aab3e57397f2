"""Ray does each part once, in as many tasks as are wanted; a failure is told in a line."""

import functools
import os
import signal
import sys
import tempfile
import time

import pytest

from sentiflow.cluster import parts_on_ray
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.errors import JobError, UserError

# isort: split
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

pytestmark = pytest.mark.ray


def double(part, part_id):
    return [part_id.number, part_id.key, 2 * part]


def process(parts, work=double, **options):
    """Process numbered parts; returns the results in the order of the parts."""
    parts_by_id = {PartId(number, f"k{number}"): part for number, part in enumerate(parts)}
    with tempfile.TemporaryDirectory() as notes:
        done = parts_on_ray.process(parts_by_id, work, notes_uri=notes, **options)
        return [result for _, result in sorted(done)]


def test_each_part_is_done_with_its_id(resources):
    assert process([3, 1, 4]) == [[0, "k0", 6], [1, "k1", 2], [2, "k2", 8]]
    assert process([]) == []


def fail(*_, error):
    raise error


REFUSED = PermissionError(13, "Permission denied", "/data/run")


@pytest.mark.parametrize(
    ("error", "kind", "line", "is_logged"),
    [
        (UserError("part 0 is wrong"), UserError, "part 0 is wrong$", False),
        (JobError("part 0 is wrong"), JobError, "part 0 is wrong$", False),
        (REFUSED, UserError, "Permission denied: '/data/run': choose another", False),
        (ZeroDivisionError("part 0"), JobError, "ZeroDivisionError: part 0$", True),
    ],
)
def test_an_error_of_a_part_is_one_line_in_the_driver(
    resources, caplog, error, kind, line, is_logged
):
    with pytest.raises(kind, match=f"^{line}"):
        process([1], functools.partial(fail, error=error))
    assert bool(caplog.records) is is_logged
    assert ("in fail" in caplog.text) is is_logged
    assert "\x1b" not in caplog.text


def fail_first(part, part_id, *, folder):
    if part_id.number == 0:
        raise UserError("part 0 is wrong")
    (folder / str(part_id.number)).touch()
    time.sleep(0.1)


def test_after_a_failure_hardly_another_part_begins(resources, tmp_path):
    with pytest.raises(UserError, match="part 0 is wrong"):
        process(range(60), functools.partial(fail_first, folder=tmp_path))
    assert len(list(tmp_path.iterdir())) < 45


def note(part, part_id, *, folder):
    """Count the parts that are worked on at this moment."""
    mark = folder / str(part)
    mark.touch()
    time.sleep(0.2)
    busy = len(list(folder.iterdir()))
    mark.unlink()
    return busy


def test_concurrency_limits_the_parts_at_the_same_time(resources, tmp_path):
    work = functools.partial(note, folder=tmp_path)
    assert process(range(4), work, concurrency=1) == [1] * 4


def die_once(part, part_id, *, folder):
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def test_a_part_whose_worker_dies_is_repeated(resources, tmp_path):
    assert process([2], functools.partial(die_once, folder=tmp_path)) == [2]


def die(part, part_id, *, folder):
    tempfile.mkstemp(dir=folder)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_kills_one_worker_too_many_ends_the_job(resources, tmp_path, monkeypatch):
    monkeypatch.setattr(parts_on_ray, "_MAX_FAILURES", 2)
    line = "a part was lost: part 0 of work: its worker has died 2 times, perhaps for lack of"
    with pytest.raises(JobError, match=f"^{line}"):
        process([1], functools.partial(die, folder=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


class File:
    """A part that reads a file."""

    def __init__(self, path):
        self.place = str(path)


def read_when_repaired(part, part_id, *, good):
    """Read a file whose disk fails at first: the kernel itself raises the error."""
    read = CsvRange(part.place, start=0, stop=4, first_row=0, num_rows=1, has_malformed=False).read
    try:
        return read().decode()
    except OSError:
        os.replace(good, part.place)
        raise


def test_a_part_is_repeated_after_an_error_of_the_disk(resources, tmp_path):
    bad = tmp_path / "tweets.csv"
    bad.symlink_to("/proc/self/mem")  # nothing is mapped at its beginning
    good = tmp_path / "good.csv"
    good.write_text("text")
    assert process([File(bad)], functools.partial(read_when_repaired, good=good)) == ["text"]


def wait(part, part_id):
    time.sleep(part)


def test_work_for_which_no_node_is_left_ends_the_job(resources, monkeypatch):
    """Ray would wait for ever. The nodes are hidden from the check."""
    monkeypatch.setattr(parts_on_ray.Capacity, "is_met", lambda capacity: False)
    with pytest.raises(JobError, match=r"the cluster has had no node with 1 CPU for 1 s"):
        process([60], wait, max_wait_seconds=1)
