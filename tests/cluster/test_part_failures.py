"""A part is repeated after I/O errors, up to a limit; what no try can mend ends it at once."""

import errno
import os

import pytest
from tcp_proxy import Proxy

from sentiflow.cluster import part_failures
from sentiflow.cluster.part_failures import LossNotes
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors, filesystem, retries
from sentiflow.storage.retries import repeat_after_io_errors

STORE = OSError("When reading key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION during X: y")
EIO = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def waits(monkeypatch):
    """Record the waits, and do not wait."""
    seconds = []
    monkeypatch.setattr(retries.time, "sleep", seconds.append)
    return seconds


class Work:
    """Fails a few times, and then succeeds."""

    def __init__(self, error, times):
        self.error = error
        self.times = times
        self.tries = 0

    def __call__(self):
        self.tries += 1
        if self.tries > self.times:
            return "done"
        with errors.as_fault_of("/in/a.parquet", "a.parquet is damaged"):
            raise self.error


def repeat(work, *, max_failures=5):
    return repeat_after_io_errors(work, place="/in/a.parquet", max_failures=max_failures)


@pytest.mark.parametrize("error", [EIO, STORE, OSError(errno.ECONNRESET, "Connection reset")])
def test_work_is_repeated_after_longer_and_longer_waits(waits, error):
    assert repeat(Work(error, times=4)) == "done"
    assert len(waits) == 4
    for wait, base in zip(waits, [1, 2, 4, 8], strict=True):
        assert 0.5 * base <= wait <= 1.5 * base


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EIO, "/in/a.parquet: Input/output error: run the same command again to resume"),
        (STORE, "s3://b/a: the object store is unavailable (NETWORK_CONNECTION): check AWS_"),
    ],
)
def test_a_part_that_fails_each_time_names_file_error_and_number_of_tries(waits, error, line):
    work = Work(error, times=5)
    with pytest.raises(JobError) as raised:
        repeat(work)
    assert str(raised.value).startswith(f"after 5 tries: {line}")
    assert work.tries == 5


@pytest.mark.parametrize(
    "error",
    [
        OSError("Couldn't deserialize thrift: invalid TType"),
        FileNotFoundError(errno.ENOENT, "No such file", "/in/a.parquet"),
        OSError(errno.ENOSPC, "No space left on device", "/in/a.parquet"),
        OSError("When reading bucket 'b': AWS Error ACCESS_DENIED during X: y"),
        UserError("wrong"),
        JobError("another job has taken over"),
        ZeroDivisionError("part 0"),
    ],
)
def test_an_error_that_no_further_try_can_mend_is_raised_at_once(waits, error):
    work = Work(error, times=1)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each has another type
        repeat(work)
    assert (work.tries, waits) == (1, [])


@pytest.mark.slow
def test_a_part_is_repeated_after_a_store_has_reset_its_connections(bucket, monkeypatch):
    uri = f"{bucket}/in/a.csv"
    filesystem.write_bytes(uri, b"text")
    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.01)
    proxy.refusing = True
    tries = []

    def read():
        tries.append(uri)
        try:
            return filesystem.read_bytes(uri)
        finally:
            proxy.refusing = False

    assert repeat(read) == b"text"
    assert len(tries) == 2
    proxy.close()


def test_a_file_whose_disk_fails_is_named(tmp_path):
    """The kernel itself refuses to read what no process has mapped."""
    (tmp_path / "a.csv").symlink_to("/proc/self/mem")
    file_system, path = filesystem.locate(f"{tmp_path}/a.csv")
    with (
        pytest.raises(OSError, match=r"Input/output error: '.*/a\.csv'") as raised,
        filesystem.naming(path),
        file_system.open_input_file(path) as file,
    ):
        file.read_at(4, 0)
    assert errors.is_temporary(raised.value)


class Nodes:
    """Stands for Ray: nodes live, or are lost, and some of them without Ray's knowledge."""

    def __init__(self, monkeypatch, notes):
        self.notes = notes
        self.is_alive = {"aa": True, "bb": True, "cc": True}
        self.silent = set()
        monkeypatch.setattr(part_failures.ray, "nodes", self._list)
        monkeypatch.setattr(part_failures.ray, "get_runtime_context", lambda: self)
        monkeypatch.setattr(
            part_failures, "_list_answering", lambda nodes: set(nodes) - self.silent
        )

    def _list(self):
        return [{"NodeID": name, "Alive": alive} for name, alive in self.is_alive.items()]

    def get_node_id(self):
        return self.here

    def begin(self, here, num_losses, *, max_failures=3):
        self.here = here
        self.notes.check(7, num_losses, place="/in/a.csv", max_failures=max_failures)


@pytest.fixture
def nodes(monkeypatch, tmp_path):
    return Nodes(monkeypatch, LossNotes(str(tmp_path / "losses"), job="0a1b"))


def test_workers_that_die_on_living_nodes_count(nodes):
    nodes.begin("bb", 1)
    nodes.begin("bb", 2)
    with pytest.raises(JobError, match=r"lost: /in/a\.csv: its worker has died 3 times"):
        nodes.begin("aa", 3)


def test_workers_that_were_lost_with_their_nodes_do_not_count(nodes):
    for num_losses in range(1, 8):
        nodes.begin(f"{num_losses}{num_losses}", num_losses)
        nodes.is_alive[f"{num_losses}{num_losses}"] = False
    nodes.begin("aa", 8)
    nodes.begin("aa", 9)
    nodes.begin("aa", 10)
    with pytest.raises(JobError, match="has died 3 times"):
        nodes.begin("bb", 11)


def test_a_node_that_ray_still_believes_to_be_alive_is_asked(nodes):
    nodes.silent = {"bb"}
    nodes.begin("bb", 1)
    nodes.begin("bb", 2)
    nodes.begin("aa", 3)
    nodes.silent = set()  # without an answer, the two losses did not count
    with pytest.raises(JobError, match="has died 4 times"):
        nodes.begin("aa", 4)


def test_the_losses_of_another_part_or_job_do_not_count(nodes):
    other = LossNotes(nodes.notes.folder, job="ffff")
    nodes.is_alive["dd"] = False
    nodes.here = "dd"
    other.check(7, 1, place="", max_failures=3)
    nodes.notes.check(77, 1, place="", max_failures=3)
    nodes.is_alive.pop("dd")
    nodes.begin("aa", 2)
    with pytest.raises(JobError, match="has died 3 times"):
        nodes.begin("aa", 3)
