"""A directory has one writer: on a file system and in an object store, among real processes."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentiflow.errors import JobError
from sentiflow.storage import filesystem, lease, lease_owner
from sentiflow.storage.uris import is_local

RACE = """
import os, sys, time
from sentiflow.errors import JobError
from sentiflow.storage import lease

uri, inside = sys.argv[1:]
print("ready", flush=True)
for line in sys.stdin:
    try:
        with lease.hold(uri, job="race") as held:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if the other one is inside
            time.sleep(0.02)
            lease.check(held.claim)
            os.unlink(inside)
        print("won", flush=True)
    except JobError as error:
        print(error, flush=True)
"""
HOLD = """
import sys, time
from sentiflow.storage import lease

uri = sys.argv[1]
renew_seconds = float(sys.argv[2])
dead_seconds = float(sys.argv[3])
with lease.hold(uri, job="prepare", renew_seconds=renew_seconds, dead_seconds=dead_seconds) as held:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            lease.check(held.claim)
            print("still held", flush=True)
        except Exception as error:
            print(error, flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    """An output directory here."""
    return str(tmp_path / "run/prepared")


@pytest.fixture(params=["local", "s3"])
def uri(request, folder, tmp_path):
    """An output directory here, then one in an object store."""
    if request.param == "local":
        return folder
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/prepared"


def be_silent(uri):
    """Wait without a renewal, and return a shorter time; S3 counts whole seconds."""
    if is_local(uri):
        time.sleep(0.3)
        return 0.2
    time.sleep(2.1)
    return 1


def start(code, *arguments):
    """Start a process that answers each line of its input by one line, and await its first."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdout.readline()
    return process


def ask(process):
    """Let the process go on, and read its answer."""
    process.stdin.write("\n")
    return process.stdout.readline().strip()


@pytest.fixture
def holder(uri):
    """Hold the lease in another process."""
    process = start(HOLD, uri, 0.1, 60)
    yield process
    process.kill()
    process.communicate()


def claims(uri):
    return filesystem.listing(f"{uri}/_lease")


def write_claim(directory, name="other.json", **changes):
    """Write a claim as another job would."""
    process = {"host": "elsewhere", "boot_id": "b", "pid": os.getpid(), "started": 1.0}
    claim = process | {"job": "score, raysubmit_x", "since": "2026-11-26T09:00:00+00:00"}
    filesystem.write_bytes(f"{directory}/_lease/{name}", json.dumps(claim | changes).encode())


def test_a_free_directory_is_held_and_nothing_is_left(uri):
    with lease.hold(uri, job="prepare") as held:
        lease.check(held.claim)
        lease.check(held.claim)
        assert [f"{uri}/_lease/{name}" for name in claims(uri)] == [held.claim]
        said = json.loads(filesystem.read_bytes(held.claim))
        assert list(said) == ["host", "boot_id", "pid", "started", "job", "since", "uri", "user"]
        assert (said["pid"], said["job"]) == (os.getpid(), "prepare")
        assert (said["uri"], said["user"]) == (uri, "")
    assert claims(uri) == []
    assert uri.startswith("s3:") or list(Path(uri).iterdir()) == []


def test_the_second_job_is_told_who_holds_it(uri, holder):
    with pytest.raises(JobError) as error, lease.hold(uri, job="prepare"):
        pass
    line = str(error.value)
    assert "\n" not in line
    for part in (f"is in use by another job (prepare, process {holder.pid} on ", ", since 20"):
        assert part in line
    assert "last sign of life 0 s ago" in line or "last sign of life 1 s ago" in line
    assert "wait until it ends, or stop it, and run the same command again" in line
    assert len(claims(uri)) == 1
    assert ask(holder) == "still held"


def test_the_second_job_is_told_whose_the_first_is(folder, said):
    with (
        lease.hold(folder, job="train", user="anna"),
        pytest.raises(
            JobError, match=r"in use by another job of anna \(train, process \d+ on .*, s"
        ),
    ):
        lease.hold(folder, job="prepare", user="ben").__enter__()
    write_claim(folder, user="ben", pid=2**22 + 1)
    with lease.hold(folder, job="prepare", user="anna", dead_seconds=be_silent(folder)):
        assert "over from a dead job of ben (score, raysubmit_x, process " in said.text


@pytest.mark.parametrize("more", [{}, {"user": "ben"}, {"user": "ben", "of_a_later_version": 1}])
def test_a_claim_of_another_version_is_read(folder, more):
    write_claim(folder, **more)
    owner = lease_owner.read_owner(f"{folder}/_lease/other.json", 0.0)
    assert (owner.job, owner.user) == ("score, raysubmit_x", more.get("user", ""))


def test_a_claim_that_is_being_renewed_is_read_again(folder):
    write_claim(folder)
    path = Path(folder) / "_lease/other.json"
    content = path.read_bytes()
    path.write_bytes(b"")
    renewal = threading.Timer(0.02, path.write_bytes, [content])
    renewal.start()
    assert lease_owner.read_owner(str(path), 0.0).job == "score, raysubmit_x"
    renewal.join()


def test_a_failure_of_the_storage_is_no_job_that_holds_the_lease(folder, monkeypatch):
    write_claim(folder)

    def fail(uri):
        raise OSError(errno.EIO, "Input/output error", uri)

    monkeypatch.setattr(filesystem, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error"):
        lease.hold(folder, job="prepare").__enter__()
    assert [Path(claim).name for claim in claims(folder)] == ["other.json"]


@pytest.mark.parametrize("num_races", [6, pytest.param(50, marks=pytest.mark.soak)])
def test_one_of_two_jobs_that_start_at_once_wins(uri, tmp_path, num_races):
    """The later one may hold it after the earlier one."""
    racers = [start(RACE, uri, tmp_path / "inside") for _ in range(2)]
    try:
        for _ in range(num_races):
            for racer in racers:
                racer.stdin.write("\n")
            answers = [racer.stdout.readline().strip() for racer in racers]
            assert all(answer == "won" or "in use" in answer for answer in answers), answers
            assert "won" in answers, answers
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert claims(uri) == []


def test_a_killed_holder_is_replaced_at_once(folder, said):
    holder = start(HOLD, folder, 0.1, 60)
    os.kill(holder.pid, signal.SIGKILL)
    time.sleep(0.2)  # nobody waits for it yet: it is a zombie
    with lease.hold(folder, job="prepare") as held:
        assert len(claims(folder)) == 1
        lease.check(held.claim)
    assert f"from a dead job (prepare, process {holder.pid} on" in said.text
    holder.communicate()


def test_a_restarted_process_with_the_same_number_is_another_one(folder):
    me = lease_owner.name_owner("prepare")
    write_claim(folder, host=me.host, boot_id=me.boot_id, pid=me.pid, started=me.started - 100)
    with lease.hold(folder, job="prepare"):
        assert len(claims(folder)) == 1


def test_a_job_on_another_host_is_dead_after_a_silence_only(uri, said):
    write_claim(uri, pid=2**22 + 1)
    with pytest.raises(JobError, match=r"score, raysubmit_x, process \d+ on elsewhere"):
        lease.hold(uri, job="score").__enter__()
    with lease.hold(uri, job="score", dead_seconds=be_silent(uri)) as held:
        assert len(claims(uri)) == 1
        lease.check(held.claim)
    assert "takes" in said.text


def test_the_clocks_of_hosts_do_not_count(folder, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: datetime(2040, 1, 1, tzinfo=UTC).timestamp())
    write_claim(folder, since="1999-01-01T00:00:00+00:00", started=1e9)
    with pytest.raises(
        JobError, match=r"since 1999-01-01T00:00:00.*, last sign of life [01] s ago"
    ):
        lease.hold(folder, job="score").__enter__()


def test_the_holder_renews_its_claim(folder):
    with lease.hold(folder, job="prepare", renew_seconds=0.1) as held:
        before = filesystem.file_info(held.claim).mtime_ns
        wait_for(lambda: filesystem.file_info(held.claim).mtime_ns > before)
        assert filesystem.file_info(held.claim).mtime_ns > before


@pytest.mark.parametrize("num_races", [6, pytest.param(60, marks=pytest.mark.soak)])
def test_two_jobs_that_take_over_from_killed_ones_at_once_delete_their_claims(
    uri, tmp_path, num_races
):
    me = lease_owner.name_owner("prepare")
    racers = [start(RACE, uri, tmp_path / "inside") for _ in range(2)]
    try:
        for _ in range(num_races):
            for number in range(4):
                write_claim(
                    uri, name=f"{number}.json", host=me.host, boot_id=me.boot_id, pid=2**22 + 1
                )
            for racer in racers:
                racer.stdin.write("\n")
            answers = [racer.stdout.readline().strip() for racer in racers]
            assert all(answer == "won" or "in use" in answer for answer in answers), answers
            assert "won" in answers, answers
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert claims(uri) == []


def test_a_renamed_directory_is_taken_from_the_job_that_writes_elsewhere(folder, tmp_path, said):
    with contextlib.closing(Holder(folder)) as holder:
        renamed = f"{tmp_path}/renamed"
        Path(folder).rename(renamed)
        with lease.hold(renamed, job="prepare") as held:
            assert claims(renamed) == [os.path.basename(held.claim)]
            assert "from a job (prepare, process" in said.text
            assert f"s ago), which writes to {folder}\n" in said.text
            assert "is gone: another job has taken the directory over, or it was renamed" in ask(
                holder.process
            )
            lease.check(held.claim)


def test_a_copy_of_a_directory_in_use_is_free_and_the_original_is_not(folder, tmp_path):
    with contextlib.closing(Holder(folder)) as holder:
        shutil.copytree(folder, tmp_path / "copy")
        os.symlink(Path(folder).parent, tmp_path / "link")
        with lease.hold(f"{tmp_path}/copy", job="prepare"):
            assert ask(holder.process) == "still held"
        for same in (folder, f"{tmp_path}/link/{Path(folder).name}"):
            with pytest.raises(JobError, match="is in use by another job"):
                lease.hold(same, job="prepare").__enter__()


def test_a_process_of_a_container_may_know_the_directory_by_another_name(
    folder, tmp_path, monkeypatch
):
    with contextlib.closing(Holder(folder)):
        shutil.copytree(folder, tmp_path / "copy")
        monkeypatch.setattr(lease_owner, "_has_same_mounts", lambda pid: False)
        with pytest.raises(JobError, match="it names the directory"):
            lease.hold(f"{tmp_path}/copy", job="prepare").__enter__()


def test_a_claim_that_the_storage_does_not_list_holds_nothing(folder, monkeypatch):
    monkeypatch.setattr(lease.Held, "_list_renewals", lambda held: {})
    with pytest.raises(JobError, match="is gone: another job has taken the directory over"):
        lease.hold(folder, job="prepare").__enter__()
    assert claims(folder) == []


def test_a_claim_that_names_another_directory_says_so(uri):
    write_claim(uri, uri="/elsewhere/run")
    with pytest.raises(JobError) as error:
        lease.hold(uri, job="prepare").__enter__()
    line = str(error.value)
    assert "it names the directory /elsewhere/run; if this is another one, because it was " in line
    assert "renamed or copied, delete " in line
    assert "_lease/other.json; otherwise wait until it ends" in line


class Holder:
    """Holds a lease in another process."""

    def __init__(self, uri):
        self.process = start(HOLD, uri, 60, 60)

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_a_stopped_holder_notices_that_another_job_took_over(uri, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    with lease.hold(uri, job="prepare", dead_seconds=be_silent(uri)) as held:
        os.kill(holder.pid, signal.SIGCONT)
        assert "another job has taken the directory over" in ask(holder)
        time.sleep(0.5)  # it would have renewed its claim
        assert [f"{uri}/_lease/{name}" for name in claims(uri)] == [held.claim]
        lease.check(held.claim)
    assert "another job has taken the directory over" in ask(holder)


def test_after_a_long_silence_another_claim_wins(folder):
    """The other job may take this claim for dead, and be about to delete it."""
    with lease.hold(folder, job="prepare", dead_seconds=3) as held:
        time.sleep(1.6)
        write_claim(folder)
        held.renew()
        with pytest.raises(JobError, match="taken the directory over"):
            lease.check(held.claim)
        assert claims(folder) == ["other.json"]
    assert claims(folder) == ["other.json"]


def test_a_renewal_that_hangs_is_a_long_silence(folder, monkeypatch):
    write = lease._write_in_place

    def hang(claim, content):
        time.sleep(0.6)
        write(claim, content)

    with lease.hold(folder, job="prepare", dead_seconds=1) as held:
        write_claim(folder)
        monkeypatch.setattr(lease, "_write_in_place", hang)
        held.renew()
        assert held.is_lost
        assert claims(folder) == ["other.json"]


def test_a_deleted_claim_is_noticed_on_any_node(folder):
    with lease.hold(folder, job="prepare", renew_seconds=0.1) as held:
        filesystem.delete(held.claim)
        wait_for(lambda: held.is_lost)
        assert claims(folder) == []
        with pytest.raises(JobError, match="run the same command again"):
            lease.check(held.claim)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"host": 1}', b'{"pid": "x"}', b"[" * 200_000],
    ids=lambda content: ascii(content[:12]),
)
def test_a_damaged_claim_counts_until_it_is_old(tmp_path, content):
    uri = str(tmp_path)
    filesystem.write_bytes(f"{uri}/_lease/other.json", content)
    with pytest.raises(JobError, match="an unknown job"):
        lease.hold(uri, job="prepare").__enter__()
    os.utime(tmp_path / "_lease/other.json", (0, 0))
    with lease.hold(uri, job="prepare"):
        assert len(claims(uri)) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("since", 5),
        ("since", None),
        ("pid", "1"),
        ("pid", True),
        ("started", "now"),
        ("uri", 5),
        ("user", {}),
        ("host", ["a"]),
    ],
)
def test_a_claim_with_a_value_of_another_type_is_a_damaged_one(tmp_path, key, value):
    uri = str(tmp_path)
    claim = vars(lease_owner.name_owner("train", uri=uri)) | {"pid": 1, "host": "a"}
    del claim["renewed"]
    filesystem.write_bytes(f"{uri}/_lease/a.json", json.dumps(claim).encode())
    filesystem.write_bytes(f"{uri}/_lease/b.json", json.dumps(claim | {key: value}).encode())
    owner = lease_owner.read_owner(f"{uri}/_lease/b.json", 0.0)
    assert owner is not None
    assert owner.job == "an unknown job"
    with pytest.raises(JobError, match="is in use by another job"):
        lease.hold(uri, job="prepare").__enter__()


@pytest.mark.parametrize("uri", ["/a\0b", "\0"])
def test_a_claim_that_names_no_path_is_the_one_of_another_job(tmp_path, uri):
    claim = vars(lease_owner.name_owner("train", uri=uri))
    del claim["renewed"]
    filesystem.write_bytes(f"{tmp_path}/_lease/a.json", json.dumps(claim).encode())
    with pytest.raises(JobError, match="is in use by another job"):
        lease.hold(str(tmp_path), job="prepare").__enter__()


def test_a_failure_in_the_job_is_the_one_that_is_told(folder):
    with pytest.raises(ZeroDivisionError), lease.hold(folder, job="prepare"):
        raise ZeroDivisionError
    assert claims(folder) == []


def test_a_renewal_that_fails_is_tried_again(folder, monkeypatch, said):
    with lease.hold(folder, job="prepare", renew_seconds=0.1) as held:
        before = filesystem.file_info(held.claim).mtime_ns
        with monkeypatch.context() as patch:
            patch.setattr(lease, "_write_in_place", lambda *claim: os.listdir("/nowhere"))
            wait_for(lambda: "cannot renew the lease" in said.text)
        wait_for(lambda: filesystem.file_info(held.claim).mtime_ns > before)
        lease.check(held.claim)


def wait_for(is_so):
    """Wait until it is so; the client of an object store may need some retries."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_read_only_directory_is_one_line(tmp_path):
    """If the tests run as root, who may write anywhere, another user tries it."""
    code = """
import os, sys
from sentiflow.storage import errors, lease

if os.geteuid() == 0:
    os.setuid(65534)
try:
    lease.hold(sys.argv[1], job="prepare").__enter__()
except OSError as error:
    known = errors.explain(error)
    print(type(known).__name__, known)
"""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o555)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.stdout.startswith("StorageError "), done.stderr
    assert done.stdout.count("\n") == 1
    assert "choose another location, or make it writable" in done.stdout
