"""A job that is stopped at any step, overtaken and continued, mixes no two results.

The first job runs in a thread, and stops where the test says: before it looks at its lease, or
between that and the call that others can see. Then its claim has grown old, and another job takes
over.
"""

import dataclasses
import itertools
import os
import threading

import pytest
from parts_of_a_stage import check_whole, read, run

from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem, lease


class Stops:
    """Stops the thread that calls :meth:`begin` at the ``after``-th of its steps."""

    def __init__(self, monkeypatch):
        self.after, self.thread = 0, None
        self.stopped, self.continued = threading.Event(), threading.Event()
        for module, name in (
            (filesystem, "delete"),
            (filesystem, "move"),
            (filesystem, "write_bytes"),
            (lease, "check"),
        ):
            monkeypatch.setattr(module, name, self.before(getattr(module, name)))
        monkeypatch.setattr(filesystem, "map_files", lambda work, files: [*map(work, files)])

    def before(self, really):
        def call(*arguments, **options):
            if threading.current_thread() is self.thread:
                self.after -= 1
                if self.after == -1:
                    self.stopped.set()
                    assert self.continued.wait(60)
            return really(*arguments, **options)

        return call


def write(spec, errors=None):
    """Do what the pipeline does with a stage, holding its directory."""
    try:
        with open_output(spec, overwrite=True) as output:
            list(run(spec, output))
    except (JobError, UserError) as error:
        if errors is None:
            raise
        errors.append(str(error))


def overtake(stops, first, second, *, after):
    """Stop a job, let another take over and complete, continue the first.

    Returns:
        Whether the first came as far as to be stopped, and what it said at its end.
    """
    errors = []
    stops.after = after
    stops.stopped.clear()
    stops.continued.clear()
    stops.thread = threading.Thread(target=write, args=(first, errors))
    stops.thread.start()
    while not stops.stopped.wait(0.001) and stops.thread.is_alive():
        pass
    was_stopped = stops.stopped.is_set()
    try:
        if was_stopped:
            for name in filesystem.listing(f"{first.uri}/_lease"):
                make_old(f"{first.uri}/_lease/{name}")
            write(second)
            assert read(second) == second.fingerprint
    finally:
        stops.continued.set()
        stops.thread.join()
    return was_stopped, errors


def make_old(claim):
    """Let a claim be as old as that of a dead job."""
    if "://" in claim:
        filesystem.delete(claim)  # as the next job does
    else:
        os.utime(claim, (0, 0))


@pytest.mark.parametrize("where", ["here", pytest.param("in a store", marks=pytest.mark.soak)])
@pytest.mark.parametrize("second", [0, 1], ids=["same settings", "other settings"])
@pytest.mark.parametrize("earlier", [None, 2], ids=["empty", "replaced"])
def test_a_stopped_job_that_is_overtaken_mixes_nothing(
    spec, folder, monkeypatch, request, where, second, earlier
):
    uri = str(folder) if where == "here" else f"{request.getfixturevalue('bucket')}/made"
    specs = {seed: dataclasses.replace(spec(seed=seed), uri=uri, inputs={}) for seed in (0, 1, 2)}
    stops, num_refused = Stops(monkeypatch), 0
    for after in itertools.count():
        filesystem.delete(uri)
        if earlier is not None:
            write(specs[earlier])
        was_stopped, errors = overtake(stops, specs[0], specs[second], after=after)
        if not was_stopped:
            break
        found = read(specs[second])
        if found not in (specs[0].fingerprint, specs[second].fingerprint):
            assert "damaged" in found or "has no manifest.json" in found
            num_refused += 1
        assert all("taken the directory over" in line for line in errors)
        write(specs[second])  # the same command again
        check_whole(specs[second])
    print(f"{after} stops, {num_refused} refused")
    assert after >= 19
    assert num_refused <= 6, "nearly all results are whole"
