"""A killed job repeats no finished part, and takes no marker of other settings for its own."""

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.cluster import map_stages
from sentiflow.cluster.map_stages import MapStages
from sentiflow.storage import filesystem

SIZES = [(10, 100)] * 4


def run_here(work, parts, **options):
    """Stand for Ray: results travel as JSON."""
    for part in parts:
        yield part, json.loads(json.dumps(work(part)))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(map_stages, "map_parts", run_here)


def run(root, work, *, resumes, keys=None):
    stages = MapStages("score", str(root), resumes=resumes, num_workers="auto", max_wait_minutes=10)
    return stages.run("score", work, SIZES, unit="rows", keys=keys), stages.fresh


def fail_at_2(part):
    if part == 2:
        raise RuntimeError("killed")
    return {"part": part}


def test_finished_parts_are_not_repeated(tmp_path, said):
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, fail_at_2, resumes=False)
    results, fresh = run(tmp_path, lambda part: {"part": part}, resumes=True)
    assert results == [{"part": part} for part in range(4)]
    assert fresh == [2, 3]
    assert "resumes score: 2 of 4 parts were done before, 20 of 40 rows are left" in said.text


def test_markers_count_only_if_the_job_resumes_and_the_key_is_the_same(tmp_path):
    run(tmp_path, lambda part: "old", resumes=False, keys=["a"] * 4)
    results, fresh = run(tmp_path, lambda part: "new", resumes=True, keys=["a", "b", "a", "b"])
    assert (results, fresh) == (["old", "new", "old", "new"], [1, 3])
    assert run(tmp_path, lambda part: "new", resumes=False)[1] == [0, 1, 2, 3]


@pytest.mark.parametrize(("num_workers", "concurrency"), [("auto", None), (3, 3)])
def test_the_settings_limit_the_tasks_and_the_wait(tmp_path, num_workers, concurrency):
    stages = MapStages(
        "score", str(tmp_path), resumes=False, num_workers=num_workers, max_wait_minutes=2
    )
    assert (stages.concurrency, stages.max_wait_seconds) == (concurrency, 120)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(results=st.dictionaries(st.integers(0, 2_000_000), st.dictionaries(st.text(), JSON)))
def test_markers_are_read_by_part_in_order(tmp_path_factory, results):
    root = str(tmp_path_factory.mktemp("stage"))
    for part, result in results.items():
        map_stages.write_marker(root, "ingest", part, result)
    assert list(map_stages.read_markers(root, "ingest").items()) == sorted(results.items())


def test_a_text_of_broken_characters_is_written(tmp_path):
    map_stages.write_marker(str(tmp_path), "ingest", 0, {"raw": "\udc80"})
    assert map_stages.read_markers(str(tmp_path), "ingest") == {0: {"raw": "\udc80"}}


def test_nothing_is_read_where_nothing_was_written(tmp_path):
    assert map_stages.read_markers(str(tmp_path / "none"), "ingest") == {}


def test_each_name_has_its_own_parts(tmp_path):
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        map_stages.write_marker(str(tmp_path), name, 7, {"name": name})
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        assert map_stages.read_markers(str(tmp_path), name) == {7: {"name": name}}


def test_a_repeated_part_has_its_latest_result(tmp_path):
    map_stages.write_marker(str(tmp_path), "ingest", 0, {"rows": 1})
    map_stages.write_marker(str(tmp_path), "ingest", 0, {"rows": 2})
    assert map_stages.read_markers(str(tmp_path), "ingest") == {0: {"rows": 2}}


def test_an_incomplete_marker_is_ignored(tmp_path):
    map_stages.write_marker(str(tmp_path), "ingest", 0, {})
    folder = tmp_path / "_work/receipts"
    assert [path.name for path in folder.iterdir()] == ["ingest-000000.json"]
    (folder / "ingest-000001.json.0a1b2c3d.tmp").write_text("{")
    (folder / "ingest-000001.json.0a1b2c3d.tmp.json").write_text("{")
    assert map_stages.read_markers(str(tmp_path), "ingest") == {0: {}}


def test_a_marker_is_published_at_once(tmp_path, monkeypatch):
    published = []
    monkeypatch.setattr(
        filesystem, "write_bytes", lambda uri, content: published.append((uri, content))
    )
    map_stages.write_marker(str(tmp_path), "ingest", 3, {"rows": 1})
    ((uri, content),) = published
    assert uri == f"{tmp_path}/_work/receipts/ingest-000003.json"
    assert json.loads(content) == {"rows": 1}
    assert not list(tmp_path.iterdir())


def test_sixteen_are_read_at_a_time(tmp_path, monkeypatch):
    for part in range(32):
        map_stages.write_marker(str(tmp_path), "ingest", part, {})
    together, read_bytes = threading.Barrier(16, timeout=20), filesystem.read_bytes

    def wait_and_read(uri):
        together.wait()
        return read_bytes(uri)

    monkeypatch.setattr(filesystem, "read_bytes", wait_and_read)
    assert len(map_stages.read_markers(str(tmp_path), "ingest")) == 32


def test_an_unreadable_marker_is_an_error(tmp_path, monkeypatch):
    map_stages.write_marker(str(tmp_path), "ingest", 0, {})

    def fail(uri):
        raise PermissionError(uri)

    monkeypatch.setattr(filesystem, "read_bytes", fail)
    with pytest.raises(PermissionError):
        map_stages.read_markers(str(tmp_path), "ingest")
