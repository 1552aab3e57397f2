"""A lease on an output directory: while a job holds it, no other job writes there.

``pyarrow.fs`` cannot create a file only if it is absent. Therefore a job writes a claim,
``_lease/<uuid>.json``, and then lists all claims. It holds the lease if no other claim is alive. Of
two jobs, the one that writes later sees the other's claim, so at most one can win. The owner renews
its claim by writing it again. The age of a claim is measured by the storage clock: the time of its
file is compared with the time of the job's own claim.
"""

import contextlib
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from pyarrow import fs

from sentiflow.errors import JobError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri, is_local, join

log = logging.getLogger(__name__)

FOLDER = "_lease"
"""Folder of the claims in the directory."""
RENEW_SECONDS = 30.0
"""Time between two renewals."""
DEAD_SECONDS = 600.0
"""A job on another host counts as dead if it has not renewed its claim for this time."""
_REWRITE_SECONDS = 0.1
"""Maximum time that a claim is empty while its owner writes it again."""

_NUM_TRIES = 3
"""Number of times that a job tries to acquire the lease."""
_NUM_WRITES = 5
"""Number of times that a claim is written, if its folder is deleted meanwhile."""
_WAIT_SECONDS = (0.1, 0.3)
"""Minimum and maximum time between two tries. It is random, so that two jobs do not always try at
once."""
_SAME_SECONDS = 2.0
"""Start times of a process that differ by less count as equal: setting the clock changes them."""


@dataclass(frozen=True)
class Owner:
    """A job that writes to a directory; it identifies its process uniquely among all hosts."""

    host: str
    """Name of the host, for people: two hosts may have the same name."""
    boot_id: str
    """Id of the host's last start, and of the container, which has its own process ids."""
    pid: int
    started: float
    """Start of the process, in seconds after the start of the host: the clock may be set later."""
    job: str
    """For people: its stage or command, and its submission id on a cluster."""
    since: str
    """Start of the lease: ISO 8601 in UTC, by the clock of the host."""
    uri: str = ""
    """The directory, as its job names it; empty in the claims of earlier versions."""
    user: str = ""
    """The person who runs the job; empty if it is unknown."""
    renewed: float = 0.0
    """Time of the last renewal: seconds since 1970, by the storage clock. Not part of a claim."""

    def is_gone(self) -> bool:
        """Say whether the job has certainly ended; False for a job of another host or container."""
        if self.host != socket.gethostname() or self.boot_id != _boot_id():
            return False
        try:
            os.kill(self.pid, 0)
            is_same = abs(_find_start(self.pid) - self.started) < _SAME_SECONDS
            return not is_same or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # a process of another user
            return False
        except ValueError:  # not a process id
            return False
        except psutil.Error:  # the process is just ending
            return False

    def works_elsewhere(self, claim: str) -> bool:
        """Say whether the claim certainly came here with its directory, by a rename or a copy.

        The job writes to the directory that it names. On this machine that can be another one: then
        there is not this claim. On other machines one directory may have several names.
        """
        if not (self.uri and is_local(self.uri) and is_local(claim)):
            return False
        if self.host != socket.gethostname() or self.boot_id != _boot_id():
            return False
        own = join(self.uri, FOLDER, os.path.basename(claim))
        try:
            return not os.path.samefile(filesystem.locate(own)[1], filesystem.locate(claim)[1])
        except FileNotFoundError:
            return os.path.exists(filesystem.locate(claim)[1])

    def describe(self, kind: str, now: float) -> str:
        """Name the person, the job and its process, its start, and the time of its last renewal.

        Args:
            kind: What to call the job: "another job".
            now: The time, by the storage clock.
        """
        whose = f"{kind} of {self.user}" if self.user else kind
        return (
            f"{whose} ({self.job}, process {self.pid} on {self.host}, since {self.since}, "
            f"last sign of life {max(0.0, now - self.renewed):.0f} s ago)"
        )


_CLAIM_KEYS = tuple(each.name for each in fields(Owner) if each.name != "renewed")
"""Keys of a claim. Other keys are of a later version of sentiflow."""


def name_owner(job: str, *, uri: str = "", user: str = "") -> Owner:
    """Describe this process as an owner of a directory."""
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=pid,
        started=round(_find_start(pid), 2),
        job=job,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        uri=uri,
        user=user,
    )


def _find_start(pid: int) -> float:
    """Return the seconds from the start of this host to the start of a process.

    Raises:
        psutil.Error: The process has ended.
    """
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _boot_id() -> str:
    """Identify the last start of this host, and this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not boot.is_file():  # not Linux
        return f"{uuid.getnode():x}"
    return f"{boot.read_text().strip()} {namespace.readlink()}"


class Held:
    """The lease that this job holds on a directory."""

    def __init__(self, uri: str, *, job: str, user: str, dead_seconds: float) -> None:
        """Choose a name for the claim; it is not written yet."""
        self.uri = uri
        self.dead_seconds = dead_seconds
        self.is_lost = False
        """Whether another job has taken the lease over; then the claim is no longer renewed."""
        self.claim = join(uri, FOLDER, f"{uuid.uuid4().hex}.json")
        """URI of the claim, for :func:`check` in a task on any node."""
        self._content = asdict(name_owner(job, uri=uri, user=user))
        del self._content["renewed"]
        self._renewed = time.clock_gettime(filesystem.CLOCK)
        self._now = 0.0
        """Time when the claims were last listed, by the storage clock."""

    def renew(self) -> None:
        """Write the claim again, if it is still there.

        After a long silence another job may delete the claim just before it is written here.
        Therefore all claims are listed then, and the lease is given up if another claim is alive.
        """
        began = time.clock_gettime(filesystem.CLOCK)
        if not self.is_lost and not filesystem.exists(self.claim):
            self.is_lost = True
        if self.is_lost:
            return
        self._write()
        silence = time.clock_gettime(filesystem.CLOCK) - self._renewed  # a write may hang, too
        if silence > self.dead_seconds / 2 and self._find_others():
            self.is_lost = True
            filesystem.delete(self.claim)
        self._renewed = began

    def acquire(self) -> None:
        """Write the claim, and keep it if no other claim is alive.

        If several jobs start at the same time, the job whose claim comes first by name waits until
        the others withdraw their claims.

        Raises:
            JobError: Another job holds the lease.
        """
        for _ in range(_NUM_TRIES):
            self._write()
            others = self._find_others()
            if not others:
                return
            is_first = self.claim < min(others)
            if not is_first:
                filesystem.delete(self.claim)
            time.sleep(random.uniform(*_WAIT_SECONDS))  # noqa: S311
        claim, owner = min(others.items(), key=lambda other: other[1].since)
        way_out = "wait until it ends, or stop it, and run the same command again"
        if owner.uri and owner.uri != self.uri:
            way_out = (
                f"it names the directory {display_uri(owner.uri)}; if this is another one, because "
                f"it was renamed or copied, delete {display_uri(claim)}; otherwise {way_out}"
            )
        raise JobError(
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

    def _find_others(self) -> dict[str, Owner]:
        """Return the owner of each other claim that is alive; delete the claims of dead owners."""
        renewals = self._list_renewals()
        self._now = renewals.pop(self.claim, 0.0)  # this job's claim has just been written
        others = {}
        for claim, renewed in renewals.items():
            owner = _read_owner(claim, renewed)
            is_dead = owner.is_gone() or self._now - renewed > self.dead_seconds
            if is_dead or owner.works_elsewhere(claim):
                kind = "a dead job" if is_dead else f"a job that writes to {owner.uri}"
                who = owner.describe(kind, self._now)
                log.info("lease     takes %s over from %s", display_uri(self.uri), who)
                filesystem.delete(claim)
            else:
                others[claim] = owner
        return others

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
        raise JobError(
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


def _read_owner(claim: str, renewed: float) -> Owner:
    """Read the owner in a claim.

    The owner is an unknown job if the claim is damaged, or has just been deleted.
    """
    try:
        content = filesystem.read_bytes(claim)
        if not content:  # the claim is being renewed
            time.sleep(_REWRITE_SECONDS)
            content = filesystem.read_bytes(claim)
        found = json.loads(content)
        known = {name: found[name] for name in _CLAIM_KEYS if name in found}
        return Owner(**known, renewed=renewed)
    except (OSError, ValueError, TypeError):
        return Owner(
            host="an unknown host",
            boot_id="",
            pid=0,
            started=0.0,
            job="an unknown job",
            since="?",
            renewed=renewed,
        )


def _write_in_place(uri: str, content: bytes) -> None:
    """Write a file directly: a killed process would leave a temporary file behind."""
    file_system, path = filesystem.locate(uri)
    if is_local(uri):
        file_system.create_dir(os.path.dirname(path), recursive=True)
    with file_system.open_output_stream(path, compression=None) as stream:
        stream.write(content)
