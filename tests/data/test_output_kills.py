"""Wherever a stage is killed, what is called complete is whole, and no finished part is redone."""

import dataclasses
import itertools
import os
import shutil

import pytest
from pyarrow import fs
from stages import look

from sentiflow.data import manifest, outputs
from sentiflow.data.output_status import State, find_status
from sentiflow.storage import filesystem


class Kill(BaseException):
    """Ends a run where it stands, as SIGKILL does."""


class Faults:
    """Kills at the ``after``-th step of what is done to the storage, if it comes that far.

    A write is two steps, before half of a temporary file is there and before the file is. The
    deletion of a directory is a step for each of its files, and one for the directory.
    """

    def __init__(self, monkeypatch):
        self.after = None
        self.really_delete, self.really_write = filesystem.delete, filesystem.write_bytes
        self.really_move = filesystem.move
        monkeypatch.setattr(filesystem, "delete", self.delete)
        monkeypatch.setattr(filesystem, "move", self.move)
        monkeypatch.setattr(filesystem, "write_bytes", self.write_bytes)

    def survives(self, parts, *, after, made=None):
        """Go through the parts that a run makes; say whether it ended before the kill.

        ``made`` takes those that were.
        """
        self.after = after
        try:
            for part in parts:
                if made is not None:
                    made.append(part)
        except Kill:
            return False
        finally:
            self.after = None
        return True

    def step(self):
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                raise Kill

    def delete(self, uri):
        if filesystem.file_info(uri).type == fs.FileType.Directory:
            for name in filesystem.listing(uri):
                self.step()
                self.really_delete(f"{uri}/{name}")
        self.step()
        self.really_delete(uri)

    def move(self, uri, to):
        self.step()
        self.really_move(uri, to)

    def write_bytes(self, uri, content):
        self.step()
        half = f"{uri}.0a1b2c3d.tmp"
        self.really_write(half, content[: len(content) // 2])
        self.step()
        self.really_delete(half)
        self.really_write(uri, content)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Do not wait for the disk, nor look up the versions of libraries, thousands of times."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    monkeypatch.setattr(outputs, "version", lambda library: "1")


@pytest.fixture
def faults(monkeypatch):
    """Make the storage fail where the test wants it."""
    return Faults(monkeypatch)


@pytest.fixture
def resuming(spec):
    """Make a spec of a stage that keeps a completion marker of each part."""
    return lambda **changes: dataclasses.replace(spec(**changes), owns=("tables", "_work"))


TABLES = ("tables/0", "tables/1")


def work(output):
    """Make the parts that have no marker yet, and yield them; all files hold the spec's mark."""
    mark = output.spec.fingerprint.encode()
    output.begin()
    for table in TABLES:
        marker = f"{output.uri}/_work/marker-of-{table[-1]}"
        if filesystem.exists(marker):
            assert filesystem.read_bytes(marker) == mark, "a marker of other settings was believed"
        else:
            filesystem.write_bytes(f"{output.uri}/{table}", mark)
            filesystem.write_bytes(marker, mark)
            yield table


def run(spec):
    """Do what the pipeline does with a stage; yield the parts that are made."""
    output = look(spec, overwrite=True)
    if output.is_complete:
        output.clean_up()
        return
    yield from work(output)
    files = [{"path": table, "rows": 1, "bytes": 16} for table in TABLES]
    output.publish(counts={}, files=files, seconds=0)


def refuse(spec):
    """Do what a stage does that finds, after some work, that it cannot succeed."""
    output = look(spec, overwrite=True)
    yield from work(output)
    output.roll_back()


def kill_everywhere(start, faults, folder, follow, *, lay=lambda: None):
    """Kill what ``start`` begins at each of its steps, every time from anew; then ``follow``."""
    for after in itertools.count():
        filesystem.delete(str(folder))
        lay()
        survived = faults.survives(start(), after=after)
        follow()
        if survived:
            return


def check_honest(spec):
    """If the directory is called complete, all its files are there and were made for it."""
    record = manifest.read(spec.uri)
    for item in record["files"] if record else ():
        mark = filesystem.read_bytes(f"{spec.uri}/{item['path']}").decode()
        assert mark == record["fingerprint"]


def check_whole(spec, *, guests=()):
    """The directory is complete, and holds what its manifest lists and no more.

    But what was begun in ``_next`` for other settings stays, for the command that began it.
    """
    check_honest(spec)
    status = find_status(spec)
    assert status.state is State.COMPLETE
    assert status.is_tidy
    left = [name for name in filesystem.listing(spec.uri) if not name.startswith("_next/")]
    assert left == sorted(["manifest.json", *guests, *TABLES])


SOAK = [pytest.param(*n, 1, marks=pytest.mark.soak) for n in ((0, 0), (0, 1), (1, 0), (1, 1))]


@pytest.mark.parametrize(("second", "third", "stride"), [(0, 0, 4), *SOAK])
def test_after_two_runs_killed_anywhere_a_third_makes_the_directory_whole(
    resuming, faults, folder, second, third, stride
):
    """Runs of the same or of other settings, so that each finds all that another may leave."""
    first_survived = False
    for first_after in itertools.count():
        for second_after in itertools.count(first_after % stride, stride):
            shutil.rmtree(folder, ignore_errors=True)
            first_survived = faults.survives(run(resuming(seed=0)), after=first_after)
            check_honest(resuming())
            survived = faults.survives(run(resuming(seed=second)), after=second_after)
            check_honest(resuming())
            list(run(resuming(seed=third)))
            check_whole(resuming(seed=third))
            if survived:
                break
        if first_survived:
            return


def test_no_part_is_made_twice_however_often_a_run_is_killed(resuming, faults, folder):
    for after in range(9, 40):
        shutil.rmtree(folder, ignore_errors=True)
        made = []
        while not faults.survives(run(resuming()), after=after, made=made):
            pass
        assert sorted(made) == list(TABLES)
        check_whole(resuming())


def test_a_complete_directory_stays_complete_during_clean_up(resuming, faults, folder):
    def follow():
        if find_status(resuming()).state is not State.COMPLETE:
            return
        for after in itertools.count():
            survived = faults.survives(run(resuming()), after=after, made=(made := []))
            assert made == []
            assert find_status(resuming()).state is State.COMPLETE
            check_honest(resuming())
            if survived:
                return

    kill_everywhere(lambda: run(resuming()), faults, folder, follow)


@pytest.mark.parametrize("where", ["here", pytest.param("in a store", marks=pytest.mark.soak)])
def test_an_earlier_result_is_whole_until_the_new_one_is(resuming, faults, folder, request, where):
    """Whatever step a replacement is killed at, a reader finds one of the two results, whole."""
    uri = str(folder) if where == "here" else f"{request.getfixturevalue('bucket')}/made"
    earlier, new = (dataclasses.replace(resuming(seed=seed), uri=uri) for seed in (1, 0))
    found = []

    def lay():
        list(run(earlier))

    def follow():
        record = manifest.require(uri, stage="prepare", setting="", check_files=True)
        check_honest(new)
        found.append(record["fingerprint"])

    kill_everywhere(lambda: run(new), faults, uri, follow, lay=lay)
    assert found == sorted(found, key=[earlier.fingerprint, new.fingerprint].index)
    assert len(set(found)) == 2


def test_a_killed_replacement_is_resumed(resuming, faults, folder):
    for after in range(9, 40):
        shutil.rmtree(folder, ignore_errors=True)
        list(run(resuming(seed=1)))
        made = []
        while not faults.survives(run(resuming()), after=after, made=made):
            pass
        assert sorted(made) == list(TABLES)
        check_whole(resuming())


def test_another_file_in_the_directory_survives_every_kill(resuming, faults, folder):
    def lay():
        list(run(resuming(seed=1)))
        filesystem.write_bytes(str(folder / "notes.txt"), b"keep")

    def follow():
        list(run(resuming()))
        check_whole(resuming(), guests=["notes.txt"])

    kill_everywhere(lambda: run(resuming()), faults, folder, follow, lay=lay)


def test_a_run_killed_during_roll_back_is_not_resumed(resuming, faults, folder):
    def follow():
        assert find_status(resuming()).state in (State.ABSENT, State.UNFINISHED)
        list(run(resuming()))
        check_whole(resuming())

    kill_everywhere(lambda: refuse(resuming()), faults, folder, follow)


def test_a_run_killed_during_roll_back_can_be_rolled_back(resuming, faults, folder):
    def follow():
        list(refuse(resuming()))
        assert not folder.exists()

    kill_everywhere(lambda: refuse(resuming()), faults, folder, follow)


def test_cleaning_up_a_clean_directory_changes_nothing(resuming, folder):
    list(run(resuming()))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    look(resuming()).clean_up()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
