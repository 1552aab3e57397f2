"""What one node writes, all others must see; nothing stays of it."""

import os

import pytest
from test_node_checks import node

from sentiflow.cluster import nodes, shared_storage
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.errors import UserError
from sentiflow.storage import filesystem

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
            except (OSError, KeyError) as error:
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


def test_a_place_that_all_share_is_as_it_was_afterwards(cluster, tmp_path):
    uri = str(tmp_path / "data/run")
    shared_storage.check_shared("output_uri", uri)
    found = shared_storage.exchange(uri, among=ALL)
    assert len(found.written) == len(found.read) == 3
    assert found.unseen == []
    assert os.listdir(tmp_path) == []


def test_a_directory_that_was_there_stays_with_what_is_in_it(cluster, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text("{}")
    shared_storage.exchange(str(tmp_path / "run"), among=ALL)
    assert os.listdir(tmp_path / "run") == ["manifest.json"]


def test_a_node_that_does_not_see_what_another_wrote_is_named(cluster, tmp_path, monkeypatch):
    read = filesystem.read_bytes

    def blind(place):
        if cluster[0] == ALL[1] and ALL[0].id in place:
            raise FileNotFoundError(place)
        return read(place)

    monkeypatch.setattr(filesystem, "read_bytes", blind)
    uri = str(tmp_path / "run")
    expected = (
        f"output_uri={uri} is not shared: node 10.0.0.3 does not see what node 10.0.0.2 wrote"
    )
    with pytest.raises(UserError, match=expected):
        shared_storage.check_shared("output_uri", uri)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("broken", "what"), [("write_bytes", "write"), ("read_bytes", "read")])
def test_a_node_that_cannot_write_or_read_is_named(cluster, tmp_path, monkeypatch, broken, what):
    works = getattr(filesystem, broken)

    def fail(*arguments):
        if cluster[0] == ALL[2]:
            raise PermissionError("permission denied")
        return works(*arguments)

    monkeypatch.setattr(filesystem, broken, fail)
    with pytest.raises(UserError, match=f"node 10.0.0.4 cannot {what} there: permission denied"):
        shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_nothing_is_asked_for_an_object_store_or_of_one_node(monkeypatch):
    monkeypatch.setattr(nodes, "living", lambda: ALL)
    monkeypatch.setattr(nodes, "on_each", None)
    shared_storage.check_shared("output_uri", "s3://bucket/run")
    monkeypatch.setattr(nodes, "living", lambda: HEAD)
    monkeypatch.setattr(shared_storage.connection, "count_resources", lambda: WITH_CORES)
    shared_storage.check_shared("output_uri", "/data/run")


def test_a_node_that_comes_meanwhile_is_not_asked(cluster, tmp_path, monkeypatch):
    lists = [ALL[:2]]
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL)
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_of_a_node_that_goes_meanwhile_nothing_is_said(cluster, tmp_path, monkeypatch):
    write, lists = filesystem.write_bytes, [ALL]

    def die(*arguments):
        if cluster[0] == ALL[2]:
            raise OSError("Ray has lost it meanwhile")
        write(*arguments)

    monkeypatch.setattr(filesystem, "write_bytes", die)
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL[:2])
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


def test_what_a_node_wrote_that_has_gone_need_not_be_seen(cluster, tmp_path, monkeypatch):
    read, lists = filesystem.read_bytes, [ALL]

    def blind(place):
        if ALL[2].id in place or cluster[0] == ALL[2]:
            raise FileNotFoundError(place)
        return read(place)

    monkeypatch.setattr(filesystem, "read_bytes", blind)
    monkeypatch.setattr(nodes, "living", lambda: lists.pop() if lists else ALL[:2])
    shared_storage.check_shared("output_uri", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("living", "place", "lacks"),
    [
        (HEAD, WITH_CORES, False),
        (HEAD, WITHOUT_CORES, True),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_cpus=4), False),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_cpus=64), True),
        (HEAD, Resources(4, 0, 1, 4, may_grow=True, max_gpus=1), True),
        (ALL, Resources(8, 0, 2, 4, False, may_grow=True, max_cpus=64), False),
    ],
)
def test_workers_are_lacking_where_a_head_alone_is_there_and_others_may_come(living, place, lacks):
    assert shared_storage.lacks_workers(living, place) is lacks


def test_a_local_place_is_refused_before_the_first_worker_comes(monkeypatch, tmp_path):
    monkeypatch.setattr(nodes, "living", lambda: HEAD)
    monkeypatch.setattr(shared_storage.connection, "count_resources", lambda: WITHOUT_CORES)
    uri = str(tmp_path / "run")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none / overlay rw 0 0\nnone {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr(shared_storage, "_MOUNTS", str(mounts))
    with pytest.raises(UserError, match=f"output_uri={uri} is on a disk of the head.*s3://"):
        shared_storage.check_shared("output_uri", uri)
    shared_storage.check_shared("output_uri", "s3://bucket/run")
    mounts.write_text(f"none / overlay rw 0 0\nhost:/export {tmp_path} nfs4 rw 0 0\n")
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
    folder, mounts = tmp_path / "my data", tmp_path / "mounts"
    folder.mkdir()
    place = str(folder).replace(" ", "\\040")
    mounts.write_text(f"auto {place} autofs rw 0 0\nx {place} {kind} rw 0 0\nx / nfs rw 0 0\n")
    monkeypatch.setattr(shared_storage, "_MOUNTS", str(mounts))
    assert shared_storage.is_on_network(f"{folder}/run/1") is is_shared
    assert shared_storage.is_on_network(str(tmp_path))


def test_where_mounts_are_not_told_nothing_counts_as_shared(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_storage, "_MOUNTS", "/no/such/file")
    assert not shared_storage.is_on_network(str(tmp_path))
