"""What one node writes, all others must see; nothing of it stays."""

import os
from types import SimpleNamespace

import pytest

from sentiflow.cluster import nodes, shared_storage
from sentiflow.cluster.nodes import Node, NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.errors import UserError
from sentiflow.storage import filesystem


def node(number=2, *, num_gpus=0):
    """Make a node of a cluster; the first one is the head."""
    return Node(
        id=f"{number:056x}",
        name=f"10.0.0.{number}",
        num_cpus=4,
        num_gpus=num_gpus,
        session_dir="/tmp/ray/session_1",
        is_head=number == 2,
    )


ALL = [node(2), node(3), node(4)]
HEAD = ALL[:1]
WITHOUT_CORES = Resources(1, 0, 0, 1, may_grow=True)
WITH_CORES = Resources(4, 0, 1, 4, may_grow=True)


@pytest.fixture
def cluster(monkeypatch):
    """Do in this process, for one node after the other, what nodes would do."""
    now = []

    def on_each(work, *arguments, timeout_seconds=20.0, nodes=None):
        answers = []
        for one in now_living() if nodes is None else nodes:
            now[:] = [one]
            try:
                answers.append(NodeAnswer(one, work(*arguments)))
            except (OSError, UserError) as error:
                answers.append(NodeAnswer(one, problem=str(error)))
        return answers

    def now_living():
        return nodes.living()

    monkeypatch.setattr(nodes, "living", lambda: ALL)
    monkeypatch.setattr(
        shared_storage.connection, "count_resources", lambda: Resources(12, 0, 3, 4, False)
    )
    monkeypatch.setattr(nodes, "on_each", on_each)
    monkeypatch.setattr(nodes, "here", lambda: now[0].id)
    monkeypatch.setattr(shared_storage, "_VISIBLE_AFTER_SECONDS", 0.1)
    return now


def mount(monkeypatch, *mounts):
    """Let these be the mounted file systems: directory and type."""
    found = [SimpleNamespace(mountpoint=folder, fstype=kind) for folder, kind in mounts]
    monkeypatch.setattr(shared_storage.psutil, "disk_partitions", lambda all: found)


def find_problems(uri):
    return shared_storage.find_problems(str(uri), among=ALL, resources=WITH_CORES)


def test_a_location_that_all_share_is_as_it_was_afterwards(cluster, tmp_path):
    uri = str(tmp_path / "data/run")
    shared_storage.check_shared("output_uri", uri)
    assert find_problems(uri) == []
    assert os.listdir(tmp_path) == []


def test_a_directory_that_was_there_stays_with_what_is_in_it(cluster, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text("{}")
    assert find_problems(tmp_path / "run") == []
    assert os.listdir(tmp_path / "run") == ["manifest.json"]


def test_a_node_that_does_not_see_what_another_wrote_is_named(cluster, tmp_path, monkeypatch):
    read = filesystem.read_bytes

    def blind(place):
        if cluster[0] == ALL[1] and ALL[0].id in place:
            raise FileNotFoundError(place)
        return read(place)

    monkeypatch.setattr(filesystem, "read_bytes", blind)
    uri = str(tmp_path / "run")
    expected = f"output_uri={uri} is not shared with node 10.0.0.3: it does not see what node 10"
    with pytest.raises(UserError, match=expected):
        shared_storage.check_shared("output_uri", uri)
    assert not (tmp_path / "run").exists()


def test_equal_problems_of_several_nodes_are_one(cluster, tmp_path, monkeypatch):
    def fail(*arguments):
        if cluster[0] != ALL[0]:
            raise PermissionError("permission denied")

    monkeypatch.setattr(filesystem, "write_bytes", fail)
    monkeypatch.setattr(filesystem, "read_bytes", lambda file: file.encode())
    (problem,) = find_problems(tmp_path / "run")
    assert problem.what == "cannot be written on nodes 10.0.0.3, 10.0.0.4: permission denied"
    assert problem.nodes == ("10.0.0.3", "10.0.0.4")


@pytest.mark.parametrize(
    ("broken", "what"),
    [("write_bytes", "cannot be written on"), ("read_bytes", "is not shared with")],
)
def test_a_node_that_cannot_write_or_read_is_named(cluster, tmp_path, monkeypatch, broken, what):
    works = getattr(filesystem, broken)

    def fail(*arguments):
        if cluster[0] == ALL[2]:
            raise PermissionError("permission denied")
        return works(*arguments)

    monkeypatch.setattr(filesystem, broken, fail)
    with pytest.raises(UserError, match=f"run {what} node 10.0.0.4: permission denied"):
        shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_nothing_is_asked_for_an_object_store_or_of_one_node(monkeypatch):
    monkeypatch.setattr(nodes, "living", lambda: ALL)
    monkeypatch.setattr(nodes, "on_each", None)
    shared_storage.check_shared("output_uri", "s3://bucket/run")
    monkeypatch.setattr(nodes, "living", lambda: HEAD)
    monkeypatch.setattr(shared_storage.connection, "count_resources", lambda: WITH_CORES)
    shared_storage.check_shared("output_uri", "/data/run")


def test_a_node_that_joins_during_the_check_is_not_asked(cluster, tmp_path, monkeypatch):
    lists = [ALL[:2]]
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL)
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_a_node_that_is_lost_during_the_check_is_no_problem(cluster, tmp_path, monkeypatch):
    write, lists = filesystem.write_bytes, [ALL]

    def die(*arguments):
        if cluster[0] == ALL[2]:
            raise OSError("Ray has lost the node")
        write(*arguments)

    monkeypatch.setattr(filesystem, "write_bytes", die)
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL[:2])
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_files_of_a_lost_node_need_not_be_seen(cluster, tmp_path, monkeypatch):
    read, lists = filesystem.read_bytes, [ALL]

    def blind(place):
        if ALL[2].id in place or cluster[0] == ALL[2]:
            raise FileNotFoundError(place)
        return read(place)

    monkeypatch.setattr(filesystem, "read_bytes", blind)
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL[:2])
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("living", "has", "lacks"),
    [
        (HEAD, WITH_CORES, False),
        (HEAD, WITHOUT_CORES, True),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_cpus=4), False),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_cpus=64), True),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_gpus=1), True),
        (ALL, Resources(8, 0, 2, 4, False, may_grow=True, max_cpus=64), False),
    ],
)
def test_workers_are_lacking_if_there_is_only_a_head_and_others_may_join(living, has, lacks):
    assert shared_storage.lacks_workers(living, has) is lacks


def test_a_local_directory_is_refused_before_the_first_worker_joins(monkeypatch, tmp_path):
    monkeypatch.setattr(nodes, "living", lambda: HEAD)
    monkeypatch.setattr(shared_storage.connection, "count_resources", lambda: WITHOUT_CORES)
    uri = str(tmp_path / "run")
    mount(monkeypatch, ("/", "overlay"), (str(tmp_path), "tmpfs"))
    with pytest.raises(UserError, match=f"output_uri={uri} is on a disk of the head.*s3://"):
        shared_storage.check_shared("output_uri", uri)
    shared_storage.check_shared("output_uri", "s3://bucket/run")
    mount(monkeypatch, ("/", "overlay"), (str(tmp_path), "nfs4"))
    shared_storage.check_shared("output_uri", uri)


@pytest.mark.parametrize(
    ("kind", "is_shared"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "lustre", "ceph", "fuse.s3fs", "fuse")),
        *((kind, False) for kind in ("ext4", "xfs", "tmpfs", "overlay", "fuse.fuse-overlayfs")),
        *((kind, False) for kind in ("fuseblk", "fuse.lxcfs", "9p", "nfsd")),
    ],
)
def test_a_network_file_system_is_known_by_its_type(monkeypatch, tmp_path, kind, is_shared):
    folder = tmp_path / "my data"
    folder.mkdir()
    mount(monkeypatch, (str(folder), "autofs"), (str(folder), kind), ("/", "nfs"))
    assert shared_storage.is_on_network(f"{folder}/run/1") is is_shared
    assert shared_storage.is_on_network(str(tmp_path))


def test_nodes_are_named_once_and_in_order():
    assert nodes.name_nodes(["b", "a", "b"]) == "nodes a, b"
    assert nodes.name_nodes(["a", "b", "c", "d"]) == "nodes a, b, c and 1 more"
