"""Output directory -> its one writer: a job holds a lease on it while it works.

``pyarrow.fs`` cannot write a file on condition that it is absent. So a job writes a claim of its
own, ``_lease/<uuid>.json``, then lists all claims, and holds the lease if no other living one is
there. Of two jobs the one that writes later sees the claim of the other: never do both win. The
owner writes its claim again and again. How old a claim is, the storage's clock tells: the time of
its file compared with that of one's own.
"""

import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from pyarrow import fs

from sentiflow.errors import JobError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri, is_local, join

log = logging.getLogger(__name__)

FOLDER = "_lease"
RENEW_SECONDS = 30.0
DEAD_SECONDS = 600.0
"""A job on another host that has given no sign of life for so long is taken for dead."""
_RENEWAL_SECONDS = 0.1
"""A claim may be empty for so long, while its owner writes it again."""

_NUM_TRIES = 3
_SAME_SECONDS = 2.0
"""Two starts of a process that differ by less are the same: setting the clock changes them."""


@dataclass(frozen=True)
class Owner:
    """A job that writes to a directory; its process is told from all others, on any host."""

    host: str
    """The host's name, for people: two hosts may have the same."""
    boot_id: str
    """Of the host's last start, and of its container, which has process ids of its own."""
    pid: int
    started: float
    """Seconds between the start of the host and that of the process: clocks may be set."""
    job: str
    """For people: its stage or command, and its submission id on a cluster."""
    since: str
    """ISO 8601 in UTC, by the clock of its host."""
    renewed: float = 0.0
    """Its last sign of life: seconds since 1970, by the storage's clock. No claim has it."""

    def is_gone(self) -> bool:
        """Say whether it has certainly ended; False for a process of another host or container."""
        if (self.host, self.boot_id) != (socket.gethostname(), _boot_id()):
            return False
        try:
            os.kill(self.pid, 0)
            is_same = abs(_find_start(self.pid) - self.started) < _SAME_SECONDS
            return not is_same or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except (ProcessLookupError, OverflowError):
            return True
        except (PermissionError, ValueError, psutil.Error):  # another user's; no id; ends now
            return False

    def describe(self, now: float) -> str:
        """Say who it is, since when, and how long before ``now`` it gave a sign of life."""
        return (
            f"{self.job}, process {self.pid} on {self.host}, since {self.since}, "
            f"last sign of life {max(0.0, now - self.renewed):.0f} s ago"
        )


def name_owner(job: str) -> Owner:
    """Name this process, and what it does."""
    pid, since = os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(socket.gethostname(), _boot_id(), pid, round(_find_start(pid), 2), job, since)


def _find_start(pid: int) -> float:
    """Return the seconds between the start of this host and that of a process of it.

    Raises:
        psutil.Error: It has ended.
    """
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _boot_id() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.is_file():  # not Linux
        return f"{uuid.getnode():x}"
    return f"{boot.read_text().strip()} {namespace.readlink()}"


class Held:
    """The lease that this job holds on a directory."""

    def __init__(self, uri: str, *, job: str, dead_seconds: float) -> None:
        """Choose a name for the claim, which is not written yet."""
        self.uri, self.dead_seconds = uri, dead_seconds
        self.is_lost = False
        """Whether another job has taken over: the claim is not renewed any more."""
        self.claim = join(uri, FOLDER, f"{uuid.uuid4().hex}.json")
        """URI of the claim: for :func:`check` in a task on any node."""
        self._content = asdict(name_owner(job))
        del self._content["renewed"]
        self._renewed = time.clock_gettime(filesystem.CLOCK)
        self._now = 0.0
        """The storage's time when the claims were last listed."""

    def renew(self) -> None:
        """Give a sign of life, if the claim is still there; after a long silence, look again."""
        began = time.clock_gettime(filesystem.CLOCK)
        self.is_lost = self.is_lost or not filesystem.exists(self.claim)
        if self.is_lost:
            return
        self._write()
        silence = time.clock_gettime(filesystem.CLOCK) - self._renewed  # a write may hang, too
        # another may have deleted it just before
        if silence > self.dead_seconds / 2 and self._find_others():
            self.is_lost = True
            filesystem.delete(self.claim)
        self._renewed = began

    def acquire(self) -> None:
        """Write the claim, and keep it if there is no other one that lives.

        Of several jobs that start at once, the one whose claim has the first name waits for the
        others to withdraw theirs.

        Raises:
            JobError: Another job holds the lease.
        """
        for _ in range(_NUM_TRIES):
            self._write()
            others = self._find_others()
            if not others:
                return
            if self.claim > min(others):
                filesystem.delete(self.claim)
            time.sleep(random.uniform(0.1, 0.3))  # noqa: S311
        owner = min(others.values(), key=lambda other: other.since)
        raise JobError(
            f"{display_uri(self.uri)} is in use by another job ({owner.describe(self._now)}): "
            "wait until it ends, or stop it, and run the same command again; a dead job is "
            f"replaced {self.dead_seconds / 60:.0f} minutes after its last sign of life"
        )

    def release(self) -> None:
        """Delete the claim, and on a file system the folder of claims if it is empty.

        Where the storage does not answer, the claim stays; jobs on this host know that it is dead.
        """
        try:
            filesystem.delete(self.claim)
        except OSError as error:
            log.warning("cannot release the lease on %s: %s", display_uri(self.uri), error)
        filesystem.delete_empty(join(self.uri, FOLDER))

    def _write(self) -> None:
        """Write the claim, again if another job's release deletes the folder meanwhile."""
        content = json.dumps(self._content, ensure_ascii=False).encode()
        try:
            _write_in_place(self.claim, content)
        except FileNotFoundError:
            _write_in_place(self.claim, content)

    def _find_others(self) -> dict[str, Owner]:
        """Find the living owners of other claims; delete the claims of dead ones."""
        file_system, path = filesystem.locate(join(self.uri, FOLDER))
        infos = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        files = [info for info in infos if info.type == fs.FileType.File]
        times = {join(self.uri, FOLDER, info.base_name): info.mtime_ns / 1e9 for info in files}
        others = {}
        self._now = now = times.pop(self.claim, 0.0)
        for claim, renewed in times.items():
            owner = _read(claim, renewed)
            if owner.is_gone() or now - renewed > self.dead_seconds:
                who = owner.describe(now)
                log.info("lease     takes %s over from a dead job (%s)", display_uri(self.uri), who)
                filesystem.delete(claim)
            else:
                others[claim] = owner
        return others


@contextmanager
def hold(
    uri: str,
    *,
    job: str,
    renew_seconds: float = RENEW_SECONDS,
    dead_seconds: float = DEAD_SECONDS,
) -> Iterator[Held]:
    """Hold the lease on a directory, which is created if it is absent.

    It cannot be held twice, not even in one process: who holds it passes it on.

    Args:
        uri: The directory.
        job: Who works there, for people: the stage, and the submission id on a cluster.
        renew_seconds: Time between two signs of life.
        dead_seconds: Silence after which a job on another host is taken for dead.

    Raises:
        JobError: Another job holds it.
        OSError: The claim cannot be written.
    """
    held, is_over = Held(uri, job=job, dead_seconds=dead_seconds), threading.Event()
    renewal = threading.Thread(target=_keep, args=(held, is_over, renew_seconds), daemon=True)
    try:
        held.acquire()
        renewal.start()
        yield held
    finally:
        is_over.set()
        if renewal.ident:
            renewal.join()
        held.release()


def check(claim: str) -> None:
    """Make sure that the job of a claim still is the writer, here or on any other node.

    Without a claim, nobody else can write there.

    Raises:
        JobError: It is not.
    """
    if claim and not filesystem.exists(claim):
        raise JobError(
            f"{display_uri(claim)} is gone: another job has taken the directory over, or this node "
            "does not see it (is it a directory of one machine?); finished parts are kept: run the "
            "same command again when the other job has ended"
        )


def _keep(held: Held, is_over: threading.Event, seconds: float) -> None:
    """Renew a claim until its job is over; a storage that does not answer is tried again."""
    while not held.is_lost and not is_over.wait(seconds):
        try:
            held.renew()
        except OSError as error:
            log.warning("cannot renew the lease on %s yet: %s", display_uri(held.uri), error)


def _read(claim: str, renewed: float) -> Owner:
    """Read a claim; it may be damaged, or written or deleted at this moment."""
    try:
        content = filesystem.read_bytes(claim)
        if not content:  # it is being renewed
            time.sleep(_RENEWAL_SECONDS)
            content = filesystem.read_bytes(claim)
        return Owner(**json.loads(content), renewed=renewed)
    except (OSError, ValueError, TypeError):
        return Owner("an unknown host", "", 0, 0.0, "an unknown job", "?", renewed)


def _write_in_place(uri: str, content: bytes) -> None:
    """Write a file without a temporary one, which a kill would leave."""
    file_system, path = filesystem.locate(uri)
    if is_local(uri):
        file_system.create_dir(os.path.dirname(path), recursive=True)
    with file_system.open_output_stream(path, compression=None) as stream:
        stream.write(content)
