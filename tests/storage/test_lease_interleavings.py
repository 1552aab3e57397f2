"""Several jobs want one lease, and their steps come in many orders: one gets it, and never two.

A step is a request to the storage, or a wait of any length. The storage is a dictionary.
"""

import queue
import random
import threading
from types import SimpleNamespace

import pytest

from sentiflow.errors import JobError
from sentiflow.storage import lease
from sentiflow.storage.lease_owner import Owner


class Turns:
    """Lets threads go on one step at a time, in an order that a seed decides."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.time = 0
        self.waiting = {}
        """By thread: the lock that lets it go on."""
        self.arrivals = queue.Queue()
        self.errors = []

    def wait(self):
        """Wait for this thread's next turn."""
        go_on = threading.Event()
        self.arrivals.put((threading.current_thread(), go_on))
        assert go_on.wait(60)
        self.time += 1

    def run(self, jobs):
        """Run functions at the same time; some are ten times as slow as others."""
        threads = [threading.Thread(target=self._run_one, args=(job,)) for job in jobs]
        speeds = {thread: self.random.choice([1, 1, 10]) for thread in threads}
        for thread in threads:
            thread.start()
            self._await_arrival()
        while self.waiting:
            ready = list(self.waiting)
            (chosen,) = self.random.choices(ready, [speeds[thread] for thread in ready])
            self.waiting.pop(chosen).set()
            self._await_arrival()
        assert self.errors == []

    def _run_one(self, job):
        try:
            self.wait()
            job()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.arrivals.put((None, None))

    def _await_arrival(self):
        thread, go_on = self.arrivals.get(timeout=60)
        if thread:
            self.waiting[thread] = go_on


class Storage:
    """Claims in a dictionary: the time of the last write of each."""

    def __init__(self, turns, monkeypatch):
        self.turns = turns
        self.times = {}
        monkeypatch.setattr(lease, "time", SimpleNamespace(clock_gettime=lambda _: turns.time))
        monkeypatch.setattr(lease, "_pause", turns.wait)
        monkeypatch.setattr(lease, "_write_in_place", lambda claim, content: self.write(claim))
        monkeypatch.setattr(lease, "read_owner", self.read)
        monkeypatch.setattr(lease.filesystem, "delete", self.delete)
        monkeypatch.setattr(lease.Held, "_list_renewals", lambda held: self.list())
        monkeypatch.setattr(
            lease.Held, "_name_claim", lambda held: f"{turns.random.getrandbits(64):016x}"
        )

    def write(self, claim):
        self.turns.wait()
        self.times[claim] = self.turns.time

    def list(self):
        self.turns.wait()
        return dict(self.times)

    def read(self, claim, renewed):
        self.turns.wait()
        if claim not in self.times:
            return None
        return Owner(
            host="elsewhere", boot_id="", pid=1, started=0, job="", since="", renewed=renewed
        )

    def delete(self, claim):
        self.turns.wait()
        self.times.pop(claim, None)


@pytest.mark.parametrize("num_jobs", [2, 3, 5])
@pytest.mark.parametrize("num_orders", [40, pytest.param(2000, marks=pytest.mark.soak)])
def test_of_jobs_that_start_at_once_one_wins(num_jobs, num_orders, monkeypatch):
    for seed in range(num_orders):
        turns = Turns(seed)
        Storage(turns, monkeypatch)
        winners = []
        refused = []

        def work(turns=turns, winners=winners, refused=refused):
            held = lease.Held("/run", job="prepare", user="", dead_seconds=1e9)
            try:
                held.acquire()
            except JobError:
                refused.append(held)
                return
            winners.append(held)
            while len(winners) + len(refused) < num_jobs:  # it works until the others have ended
                turns.wait()

        turns.run([work] * num_jobs)
        assert (len(winners), len(refused)) == (1, num_jobs - 1), f"seed {seed}"


@pytest.mark.parametrize("num_orders", [100, pytest.param(5000, marks=pytest.mark.soak)])
def test_of_jobs_that_are_silent_for_long_only_one_has_its_claim(num_orders, monkeypatch):
    """Whoever works may be taken for dead; then its claim is gone before another one works."""
    num_taken_over = 0
    for seed in range(num_orders):
        turns = Turns(seed)
        storage = Storage(turns, monkeypatch)
        winners = []

        def work(turns=turns, storage=storage, winners=winners):
            held = lease.Held("/run", job="prepare", user="", dead_seconds=20)
            try:
                held.acquire()
            except JobError:
                return
            assert held.claim in storage.times
            winners.append(held)
            for _ in range(40):
                writers = [each.claim for each in winners if each.claim in storage.times]
                assert len(writers) <= 1
                turns.wait()

        turns.run([work] * 4)
        num_taken_over += len(winners) > 1
    assert num_taken_over > num_orders / 10
