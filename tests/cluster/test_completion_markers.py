"""A completion marker is read back as it was written, and only if it was written completely."""

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.cluster import completion_markers
from sentiflow.storage import filesystem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(results=st.dictionaries(st.integers(0, 2_000_000), st.dictionaries(st.text(), JSON)))
def test_markers_are_read_by_part_in_order(tmp_path_factory, results):
    root = str(tmp_path_factory.mktemp("stage"))
    for part, result in results.items():
        completion_markers.write(root, "ingest", part, result)
    assert list(completion_markers.read(root, "ingest").items()) == sorted(results.items())


def test_a_text_of_broken_characters_is_written(tmp_path):
    completion_markers.write(str(tmp_path), "ingest", 0, {"raw": "\udc80"})
    assert completion_markers.read(str(tmp_path), "ingest") == {0: {"raw": "\udc80"}}


def test_nothing_is_read_where_nothing_was_written(tmp_path):
    assert completion_markers.read(str(tmp_path / "none"), "ingest") == {}


def test_each_name_has_its_own_parts(tmp_path):
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        completion_markers.write(str(tmp_path), name, 7, {"name": name})
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        assert completion_markers.read(str(tmp_path), name) == {7: {"name": name}}


def test_a_repeated_part_has_its_latest_result(tmp_path):
    completion_markers.write(str(tmp_path), "ingest", 0, {"rows": 1})
    completion_markers.write(str(tmp_path), "ingest", 0, {"rows": 2})
    assert completion_markers.read(str(tmp_path), "ingest") == {0: {"rows": 2}}


def test_an_incomplete_marker_is_ignored(tmp_path):
    completion_markers.write(str(tmp_path), "ingest", 0, {})
    folder = tmp_path / "_work/receipts"
    assert [path.name for path in folder.iterdir()] == ["ingest-000000.json"]
    (folder / "ingest-000001.json.0a1b2c3d.tmp").write_text("{")
    (folder / "ingest-000001.json.0a1b2c3d.tmp.json").write_text("{")
    assert completion_markers.read(str(tmp_path), "ingest") == {0: {}}


def test_a_marker_is_published_at_once(tmp_path, monkeypatch):
    published = []
    monkeypatch.setattr(
        filesystem, "write_bytes", lambda uri, content: published.append((uri, content))
    )
    completion_markers.write(str(tmp_path), "ingest", 3, {"rows": 1})
    ((uri, content),) = published
    assert uri == f"{tmp_path}/_work/receipts/ingest-000003.json"
    assert json.loads(content) == {"rows": 1}
    assert not list(tmp_path.iterdir())


def test_sixteen_are_read_at_a_time(tmp_path, monkeypatch):
    for part in range(32):
        completion_markers.write(str(tmp_path), "ingest", part, {})
    together, read_bytes = threading.Barrier(16, timeout=20), filesystem.read_bytes

    def wait_and_read(uri):
        together.wait()
        return read_bytes(uri)

    monkeypatch.setattr(filesystem, "read_bytes", wait_and_read)
    assert len(completion_markers.read(str(tmp_path), "ingest")) == 32


def test_an_unreadable_marker_is_an_error(tmp_path, monkeypatch):
    completion_markers.write(str(tmp_path), "ingest", 0, {})

    def fail(uri):
        raise PermissionError(uri)

    monkeypatch.setattr(filesystem, "read_bytes", fail)
    with pytest.raises(PermissionError):
        completion_markers.read(str(tmp_path), "ingest")
