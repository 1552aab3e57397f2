"""Wherever a stage is killed, what is called complete is whole, and no finished part is redone."""

import dataclasses
import itertools
import os
import shutil

import pytest
from parts_of_a_stage import TABLES, check_honest, check_whole, refuse, run
from pyarrow import fs

from sentiflow.data import manifest
from sentiflow.data.output_status import find_status
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
    monkeypatch.setattr(manifest, "version", lambda library: "1")


@pytest.fixture
def faults(monkeypatch):
    """Make the storage fail where the test wants it."""
    return Faults(monkeypatch)


def kill_everywhere(start, faults, folder, follow, *, lay=lambda: None):
    """Kill what ``start`` begins at each of its steps, every time from anew; then ``follow``."""
    for after in itertools.count():
        filesystem.delete(str(folder))
        lay()
        survived = faults.survives(start(), after=after)
        follow()
        if survived:
            return


SOAK = [pytest.param(*n, 1, marks=pytest.mark.soak) for n in ((0, 0), (0, 1), (1, 0), (1, 1))]


@pytest.mark.parametrize(("second", "third", "stride"), [(0, 0, 4), *SOAK])
def test_after_two_runs_killed_anywhere_a_third_makes_the_directory_whole(
    spec, faults, folder, second, third, stride
):
    """Runs of the same or of other settings, so that each finds all that another may leave."""
    first_survived = False
    for first_after in itertools.count():
        for second_after in itertools.count(first_after % stride, stride):
            shutil.rmtree(folder, ignore_errors=True)
            first_survived = faults.survives(run(spec(seed=0)), after=first_after)
            check_honest(spec())
            survived = faults.survives(run(spec(seed=second)), after=second_after)
            check_honest(spec())
            list(run(spec(seed=third)))
            check_whole(spec(seed=third))
            if survived:
                break
        if first_survived:
            return


@pytest.mark.parametrize("replaces", [False, True])
def test_no_part_is_made_twice_however_often_a_run_is_killed(spec, faults, folder, replaces):
    for after in range(11, 40):
        shutil.rmtree(folder, ignore_errors=True)
        if replaces:
            list(run(spec(seed=1)))
        made = []
        while not faults.survives(run(spec()), after=after, made=made):
            pass
        assert sorted(made) == list(TABLES)
        check_whole(spec())


def test_a_complete_directory_stays_complete_during_clean_up(spec, faults, folder):
    def follow():
        if find_status(spec()).state != "complete":
            return
        for after in itertools.count():
            survived = faults.survives(run(spec()), after=after, made=(made := []))
            assert made == []
            assert find_status(spec()).state == "complete"
            check_honest(spec())
            if survived:
                return

    kill_everywhere(lambda: run(spec()), faults, folder, follow)


@pytest.mark.parametrize("where", ["here", pytest.param("in a store", marks=pytest.mark.soak)])
def test_an_earlier_result_is_whole_until_the_new_one_is_put_in_place(
    spec, faults, folder, request, where
):
    """Whatever step a replacement is killed at, a reader finds one of the two results, or none."""
    uri = str(folder) if where == "here" else f"{request.getfixturevalue('bucket')}/made"
    earlier = dataclasses.replace(spec(seed=1), uri=uri)
    new = dataclasses.replace(spec(seed=0), uri=uri)
    found = []

    def lay():
        list(run(earlier))

    def follow():
        check_honest(new)
        record = manifest.read(uri)
        found.append(record["fingerprint"] if record else "")

    kill_everywhere(lambda: run(new), faults, uri, follow, lay=lay)
    assert found == sorted(found, key=[earlier.fingerprint, "", new.fingerprint].index)
    assert len(set(found)) == 3


def test_another_file_in_the_directory_survives_every_kill(spec, faults, folder):
    def lay():
        list(run(spec(seed=1)))
        filesystem.write_bytes(str(folder / "notes.txt"), b"keep")

    def follow():
        list(run(spec()))
        check_whole(spec(), guests=["notes.txt"])

    kill_everywhere(lambda: run(spec()), faults, folder, follow, lay=lay)


def test_a_run_killed_during_roll_back_is_not_resumed(spec, faults, folder):
    def follow():
        assert find_status(spec()).state == "new"
        list(run(spec()))
        check_whole(spec())

    kill_everywhere(lambda: refuse(spec()), faults, folder, follow)
