"""What one node writes, all others must see; nothing stays of it."""

import os

import pytest
from test_node_checks import node

from sentiflow import nodes, shared_place, storage
from sentiflow.errors import UserError
from sentiflow.nodes import NodeAnswer

ALL = [node(2), node(3), node(4)]


@pytest.fixture
def cluster(monkeypatch):
    """Do in this process, for one node after the other, what nodes would do."""
    now = []

    def on_each(work, *arguments, timeout_seconds=20.0, nodes=ALL):
        answers = []
        for one in nodes:
            now[:] = [one]
            try:
                answers.append(NodeAnswer(one, work(*arguments)))
            except OSError as error:
                answers.append(NodeAnswer(one, problem=str(error)))
        return answers

    monkeypatch.setattr(nodes, "living", lambda: ALL)
    monkeypatch.setattr(nodes, "on_each", on_each)
    monkeypatch.setattr(nodes, "here", lambda: now[0].id)
    monkeypatch.setattr(shared_place, "_VISIBLE_AFTER_SECONDS", 0.1)
    return now


def test_a_place_that_all_share_is_as_it_was_afterwards(cluster, tmp_path):
    uri = str(tmp_path / "data/run")
    shared_place.check_shared("output_uri", uri)
    found = shared_place.exchange(uri)
    assert len(found.written) == len(found.read) == 3
    assert found.unseen == []
    assert os.listdir(tmp_path) == []


def test_a_directory_that_was_there_stays_with_what_is_in_it(cluster, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text("{}")
    shared_place.exchange(str(tmp_path / "run"))
    assert os.listdir(tmp_path / "run") == ["manifest.json"]


def test_a_node_that_does_not_see_what_another_wrote_is_named(cluster, tmp_path, monkeypatch):
    read = storage.read_bytes

    def blind(place):
        if cluster[0] == ALL[1] and ALL[0].id in place:
            raise FileNotFoundError(place)
        return read(place)

    monkeypatch.setattr(storage, "read_bytes", blind)
    uri = str(tmp_path / "run")
    expected = (
        f"output_uri={uri} is not shared: node 10.0.0.3 does not see what node 10.0.0.2 wrote"
    )
    with pytest.raises(UserError, match=expected):
        shared_place.check_shared("output_uri", uri)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("broken", "what"), [("write_bytes", "write"), ("read_bytes", "read")])
def test_a_node_that_cannot_write_or_read_is_named(cluster, tmp_path, monkeypatch, broken, what):
    works = getattr(storage, broken)

    def fail(*arguments):
        if cluster[0] == ALL[2]:
            raise PermissionError("permission denied")
        return works(*arguments)

    monkeypatch.setattr(storage, broken, fail)
    with pytest.raises(UserError, match=f"node 10.0.0.4 cannot {what} there: permission denied"):
        shared_place.check_shared("output_uri", str(tmp_path / "run"))


def test_nothing_is_asked_for_an_object_store_or_of_one_node(monkeypatch):
    monkeypatch.setattr(nodes, "living", lambda: ALL)
    monkeypatch.setattr(nodes, "on_each", None)
    shared_place.check_shared("output_uri", "s3://bucket/run")
    monkeypatch.setattr(nodes, "living", lambda: ALL[:1])
    shared_place.check_shared("output_uri", "/data/run")
