"""A lease on an output directory: while a job holds it, no other job writes there.

``pyarrow.fs`` cannot create a file only if it is absent. Therefore a job writes a claim,
``_lease/<uuid>.json``, and then lists all claims. It holds the lease if its own is listed and no
other one is alive. Of two jobs, the one that writes later sees the other's claim, so at most one
can win.

At least one wins, too. A job withdraws its claim before it gives up, and gives up only because of
the claim of another job. So that job has not given up yet, and the last one finds no other claim.

The owner renews its claim by writing it again. The age of a claim is measured by the storage clock:
the time of its file is compared with the time of the job's own claim.
"""

import contextlib
import json
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import NamedTuple

from pyarrow import fs

from sentiflow.errors import JobError
from sentiflow.storage import filesystem
from sentiflow.storage.lease_owner import FOLDER, Owner, name_owner, read_owner
from sentiflow.storage.uris import absolute_uri, display_uri, is_local, join

log = logging.getLogger(__name__)

RENEW_SECONDS = 30.0
"""Time between two renewals."""
DEAD_SECONDS = 600.0
"""A job on another host counts as dead if it has not renewed its claim for this time."""
_NUM_LOOKS = 3
"""Number of times that a job looks for other claims while it has one; and when it has withdrawn
it."""
_NUM_WRITES = 5
"""Number of times that a claim is written, if its folder is deleted meanwhile."""
_WAIT_SECONDS = (0.1, 0.3)
"""Minimum and maximum time between two looks. It is random, so that two jobs do not always write at
once."""


class _Listed(NamedTuple):
    """What a job finds in the folder of the claims."""

    has_own: bool
    """Whether its own claim is there."""
    others: dict[str, Owner]
    """The owner of each other claim that is alive."""
    dead: dict[str, str]
    """The claims of jobs that have ended, were silent for long, or write to another directory; and
    who these are."""


class Held:
    """The lease that this job holds on a directory."""

    def __init__(self, uri: str, *, job: str, user: str, dead_seconds: float) -> None:
        """Choose a name for the claim; it is not written yet."""
        self.uri = uri
        self.dead_seconds = dead_seconds
        self.is_lost = False
        """Whether another job has taken the lease over; then the claim is no longer renewed."""
        self.claim = self._name_claim()
        """URI of the claim, for :func:`check` in a task on any node."""
        self._content = asdict(name_owner(job, uri=absolute_uri(uri), user=user))
        del self._content["renewed"]
        self._renewed = time.clock_gettime(filesystem.CLOCK)
        """Time when the last renewal began, by the clock of this machine."""
        self._now = 0.0
        """Time when the claim was last written, by the storage clock; 0 before."""

    def renew(self) -> None:
        """Write the claim again, if it is still there.

        After a long silence another job may delete the claim just before it is written here.
        Therefore all claims are listed then, and the lease is given up if another claim is alive,
        or this one is gone.
        """
        began = time.clock_gettime(filesystem.CLOCK)
        if not self.is_lost and not filesystem.exists(self.claim):
            self.is_lost = True
        if self.is_lost:
            return
        self._write()
        if self._is_silent():  # a write may hang, too
            listed = self._look()
            if listed.others or not listed.has_own:
                self.is_lost = True
                filesystem.delete(self.claim)
        self._renewed = began

    def acquire(self) -> None:
        """Write the claim, and keep it if no other claim is alive.

        If several jobs start at the same time, the job whose claim comes first by name keeps it and
        waits. The others withdraw their claims, look on, and try again if there is no claim.

        Raises:
            JobError: Another job holds the lease.
        """
        while not self._outlast_others():
            self._step_back()

    def _outlast_others(self) -> bool:
        """Write the claim, and keep it while it comes first; say whether it is the only one then.

        Raises:
            JobError: The claim is gone.
        """
        for _ in range(_NUM_LOOKS):
            others = self._write_and_look()
            if not others:
                return True
            if self.claim > min(others):
                return False
            _pause()
        return False

    def _write_and_look(self) -> dict[str, Owner]:
        """Write the claim, find the other claims that are alive, and delete the dead ones.

        After a long silence another job may be about to delete this claim. Then it gets a name that
        no other job has seen.

        Returns:
            The owner of each other claim that is alive.

        Raises:
            JobError: The claim is gone.
        """
        while True:
            if self._is_silent():
                self._withdraw()
            self._renewed = time.clock_gettime(filesystem.CLOCK)
            self._write()
            listed = self._look()
            for claim, who in listed.dead.items():
                log.info("lease     takes %s over from %s", display_uri(self.uri), who)
                filesystem.delete(claim)
            if listed.others:
                return listed.others
            if not listed.has_own:
                raise JobError(_describe_gone(self.claim))
            if not self._is_silent():
                return {}

    def _step_back(self) -> None:
        """Withdraw the claim; return when no other claim is alive.

        No claim is deleted meanwhile: its owner may just renew it, and would not see that another
        job wants the lease.

        Raises:
            JobError: There is still another claim.
        """
        self._withdraw()
        for _ in range(_NUM_LOOKS):
            _pause()
            others = self._look().others
            if not others:
                return
        raise JobError(self._refuse(others))

    def _is_silent(self) -> bool:
        """Say whether the last renewal was so long ago that others may soon take it for dead."""
        silence = time.clock_gettime(filesystem.CLOCK) - self._renewed
        return silence > self.dead_seconds / 2

    def _withdraw(self) -> None:
        """Delete the claim; the next one gets another name, as a store may delete this one late."""
        filesystem.delete(self.claim)
        self.claim = self._name_claim()

    def _refuse(self, others: dict[str, Owner]) -> str:
        """Say who holds the lease, and what to do."""
        claim, owner = min(others.items(), key=lambda other: other[1].since)
        way_out = "wait until it ends, or stop it, and run the same command again"
        if owner.uri and owner.uri != self._content["uri"]:
            way_out = (
                f"it names the directory {display_uri(owner.uri)}; if this is another one, because "
                f"it was renamed or copied, delete {display_uri(claim)}; otherwise {way_out}"
            )
        return (
            f"{display_uri(self.uri)} is in use by {owner.describe('another job', self._now)}: "
            f"{way_out}; a dead job is replaced {self.dead_seconds / 60:.0f} minutes after its "
            "last sign of life"
        )

    def release(self) -> None:
        """Delete the claim, and on a file system the folder of claims if it is empty.

        If the storage does not answer, the claim stays, but jobs on this host see that it is dead.
        """
        try:
            filesystem.delete(self.claim)
        except OSError as error:
            log.warning("cannot release the lease on %s: %s", display_uri(self.uri), error)
        filesystem.delete_empty(join(self.uri, FOLDER))

    def _write(self) -> None:
        """Write the claim, or write it again."""
        content = json.dumps(self._content, ensure_ascii=False).encode()
        for _ in range(_NUM_WRITES - 1):
            with contextlib.suppress(FileNotFoundError):  # another job has deleted the empty folder
                _write_in_place(self.claim, content)
                return
        _write_in_place(self.claim, content)

    def _look(self) -> _Listed:
        """List the claims, and read their owners."""
        renewals = self._list_renewals()
        has_own = self.claim in renewals
        self._now = renewals.pop(self.claim, self._now)
        listed = _Listed(has_own, others={}, dead={})
        for claim, renewed in renewals.items():
            owner = read_owner(claim, renewed)
            if owner is None:
                continue
            if owner.is_gone() or self._now - renewed > self.dead_seconds:
                listed.dead[claim] = owner.describe("a dead job", self._now)
            elif owner.works_elsewhere(claim):
                where = display_uri(owner.uri)
                listed.dead[claim] = (
                    f"{owner.describe('a job', self._now)}, which writes to {where}"
                )
            else:
                listed.others[claim] = owner
        return listed

    def _name_claim(self) -> str:
        """Choose a name that no claim has had: the URI of its file."""
        return join(self.uri, FOLDER, f"{uuid.uuid4().hex}.json")

    def _list_renewals(self) -> dict[str, float]:
        """List the time of the last renewal of each claim, by the storage clock."""
        folder = join(self.uri, FOLDER)
        file_system, path = filesystem.locate(folder)
        renewals = {}
        for info in file_system.get_file_info(fs.FileSelector(path, allow_not_found=True)):
            if info.type == fs.FileType.File:
                renewals[join(folder, info.base_name)] = info.mtime_ns / 1e9
        return renewals


@contextlib.contextmanager
def hold(
    uri: str,
    *,
    job: str,
    user: str = "",
    renew_seconds: float = RENEW_SECONDS,
    dead_seconds: float = DEAD_SECONDS,
) -> Iterator[Held]:
    """Hold the lease on a directory, which is created if it is absent.

    It cannot be held twice, not even in one process: pass the :class:`Held` object on instead.

    Args:
        uri: The directory.
        job: What works there, for people: the stage, and the submission id on a cluster.
        user: The person who runs the job, for people.
        renew_seconds: Time between two renewals.
        dead_seconds: Time after which a job on another host counts as dead if it has not renewed.

    Raises:
        JobError: Another job holds it.
        OSError: The claim cannot be written.
    """
    held = Held(uri, job=job, user=user, dead_seconds=dead_seconds)
    is_over = threading.Event()
    renewal = threading.Thread(
        target=_keep_renewing, args=(held, is_over, renew_seconds), daemon=True
    )
    try:
        held.acquire()
        renewal.start()
        yield held
    finally:
        is_over.set()
        if renewal.ident:  # the thread was started
            renewal.join()
        held.release()


def check(claim: str) -> None:
    """Check on any node that the job of a claim still holds the lease.

    Args:
        claim: URI of the claim; empty if no other job can write to the directory.

    Raises:
        JobError: The claim is gone.
    """
    if claim and not filesystem.exists(claim):
        raise JobError(_describe_gone(claim))


def _describe_gone(claim: str) -> str:
    """Say why a claim may be gone, and what to do."""
    return (
        f"{display_uri(claim)} is gone: another job has taken the directory over, or it was "
        "renamed or deleted, or this node does not see it (is it a directory of one machine?); "
        "finished parts are kept: run the same command again when the other job has ended"
    )


def _keep_renewing(held: Held, is_over: threading.Event, seconds: float) -> None:
    """Renew a claim until its job is over; after an error of the storage, try again later."""
    while not held.is_lost and not is_over.wait(seconds):
        try:
            held.renew()
        except OSError as error:
            log.warning("cannot renew the lease on %s yet: %s", display_uri(held.uri), error)


def _pause() -> None:
    """Wait before the next look."""
    time.sleep(random.uniform(*_WAIT_SECONDS))  # noqa: S311


def _write_in_place(uri: str, content: bytes) -> None:
    """Write a file directly: a killed process would leave a temporary file behind."""
    file_system, path = filesystem.locate(uri)
    if is_local(uri):
        file_system.create_dir(os.path.dirname(path), recursive=True)
    with file_system.open_output_stream(path, compression=None) as stream:
        stream.write(content)
