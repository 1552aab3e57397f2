"""What this node writes, all others must see, and nothing of it stays."""

import os

import pytest

from sentiflow.cluster import nodes, shared_storage
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.errors import UserError
from sentiflow.storage import filesystem

ALL = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


@pytest.fixture
def asked(monkeypatch):
    """Do in this process, for one node after the other, what nodes would do."""
    now = []

    def on_each(work, *arguments):
        answers = []
        for one in ALL:
            now.append(one)
            try:
                answers.append(NodeAnswer(one, {}, work(*arguments)))
            except OSError as error:
                answers.append(NodeAnswer(one, {}, problem=str(error)))
        now.clear()
        return answers

    monkeypatch.setattr(nodes, "on_each", on_each)
    return now


@pytest.mark.parametrize("exists", [True, False])
def test_a_location_that_all_share_is_as_it_was_afterwards(asked, tmp_path, exists):
    if exists:
        (tmp_path / "run").mkdir()
    said = shared_storage.check("output_uri", f"{tmp_path}/run")
    assert said == f"{tmp_path}/run can be read and written by 3 nodes"
    assert os.listdir(tmp_path) == ["run"] * exists
    assert not exists or not os.listdir(tmp_path / "run")


@pytest.mark.parametrize("broken", ["read_bytes", "write_bytes"])
def test_a_node_that_cannot_read_or_write_is_named(asked, tmp_path, monkeypatch, broken):
    works = getattr(filesystem, broken)

    def fail(*arguments):
        if asked and asked[-1] == ALL[1]:
            raise PermissionError("permission denied")
        return works(*arguments)

    monkeypatch.setattr(filesystem, broken, fail)
    line = (
        r"output_uri=.*run is not shared with node 10.0.0.3 \(permission denied\): set a location"
    )
    with pytest.raises(UserError, match=line):
        shared_storage.check("output_uri", f"{tmp_path}/run")
    assert os.listdir(tmp_path) == []


@pytest.mark.ray
def test_a_running_cluster_is_asked(resources, tmp_path):
    assert "by 1 nodes" in shared_storage.check("output_uri", f"{tmp_path}/run")
    assert os.listdir(tmp_path) == []
