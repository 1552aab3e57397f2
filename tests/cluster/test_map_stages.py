"""A killed job repeats no finished part, and takes no marker of other settings for its own."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stages import begin

from sentiflow.cluster import map_stages
from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.markers import read_markers, write_marker
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError
from sentiflow.storage import filesystem

# isort: split

RUN = "_work/0a1b2c3d"
SIZES = [10] * 4


def run_here(parts, work, **options):
    """Stand for Ray: results travel as JSON."""
    for label, part in parts.items():
        yield label.number, json.loads(json.dumps(work(part, label)))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(map_stages, "process", run_here)


def make_stages(root, *, resumes, seed=0, num_workers="auto", max_wait_minutes=10):
    spec = OutputSpec("score", str(root), {"seed": seed}, {}, owns=("tables/[0-9]+",))
    output = begin(spec, overwrite=True)
    assert output.resumes is resumes
    return MapStages(output, num_workers=num_workers, max_wait_minutes=max_wait_minutes)


def run(root, work, *, resumes, seed=0, keys=None):
    stages = make_stages(root, resumes=resumes, seed=seed)
    return run_stage(stages, work, keys=keys), stages.fresh


def run_stage(stages, work, keys=None):
    def read(part):
        return pa.table({"part": [part]})

    def write(table, label):
        assert table["part"].to_pylist() == [10 * label.number]
        assert label.key == keys[label.number]
        return work(label.number)

    parts = [10 * part for part in range(4)]
    keys = keys or ["k"] * 4
    return stages.run("score", parts, read, write=write, sizes=SIZES, keys=keys)


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


def test_markers_count_only_if_the_run_is_resumed_and_the_key_is_the_same(tmp_path):
    run(tmp_path, lambda part: "old", resumes=False, keys=["a"] * 4)
    results, fresh = run(tmp_path, lambda part: "new", resumes=True, keys=["a", "b", "a", "b"])
    assert (results, fresh) == (["old", "new", "old", "new"], [1, 3])
    assert run(tmp_path, lambda part: "new", resumes=False, seed=1)[1] == [0, 1, 2, 3]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def mark(root, part, result, *, name="ingest", files=()):
    marker = {"key": "k", "files": dict(files), "result": result}
    write_marker(f"{root}/{RUN}", name, part, marker)


def read(root, name="ingest"):
    found = read_markers(str(root), f"{root}/{RUN}", name)
    return {part: marker["result"] for part, marker in found.items()}


@settings(max_examples=20, deadline=None)
@given(results=st.dictionaries(st.integers(0, 2_000_000), st.dictionaries(st.text(), JSON)))
def test_markers_are_read_by_part_in_order(tmp_path_factory, results):
    root = str(tmp_path_factory.mktemp("stage"))
    for part, result in results.items():
        mark(root, part, result)
    assert list(read(root).items()) == sorted(results.items())


def test_each_name_has_its_own_parts(tmp_path):
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        mark(tmp_path, 7, name, name=name)
    for name in ("ingest", "ingest-2", "in.est", "encode"):
        assert read(tmp_path, name) == {7: name}


def test_an_incomplete_marker_is_ignored(tmp_path):
    mark(tmp_path, 0, {})
    folder = tmp_path / RUN / "receipts"
    assert [path.name for path in folder.iterdir()] == ["ingest-000000.json"]
    (folder / "ingest-000001.json.0a1b2c3d.tmp").write_text("{")
    (folder / "ingest-000001.json.0a1b2c3d.tmp.json").write_text("{")
    for part, content in enumerate(("", "{", "[]", "{}", '{"key": "k"}'), start=2):
        (folder / f"ingest-{part:06d}.json").write_text(content)
    assert read(tmp_path) == {0: {}}


def test_a_marker_whose_files_are_missing_or_of_another_size_does_not_count(tmp_path):
    """They may be in the folder of the run, or have been put in place already."""
    path = f"{RUN}/tables/{{}}"
    for part in range(5):
        mark(tmp_path, part, {}, files={path.format(part): 4})
        filesystem.write_bytes(f"{tmp_path}/{path.format(part)}", b"rows")
    (tmp_path / path.format(1)).write_bytes(b"")
    (tmp_path / path.format(2)).unlink()
    filesystem.move(f"{tmp_path}/{path.format(3)}", f"{tmp_path}/tables/3")
    filesystem.move(f"{tmp_path}/{path.format(4)}", f"{tmp_path}/tables/4")
    (tmp_path / "tables/4").write_bytes(b"")
    assert list(read(tmp_path)) == [0, 3]


def test_the_files_of_a_part_are_noted_in_its_marker(tmp_path):
    def work(part):
        filesystem.write_bytes(f"{tmp_path}/tables/{part}", b"rows of a part")

    run(tmp_path, work, resumes=False)
    (tmp_path / "tables/2").unlink()
    assert run(tmp_path, work, resumes=True)[1] == [2]


def test_a_task_left_by_a_killed_job_writes_nothing(tmp_path):
    spec = OutputSpec("score", str(tmp_path), {}, {}, owns=("tables/[0-9]+",))
    with open_output(spec) as output:
        output.begin()
        stages = MapStages(output, num_workers="auto", max_wait_minutes=10)
    with pytest.raises(JobError, match="another job has taken the directory over"):
        run_stage(stages, lambda part: filesystem.write_bytes(f"{tmp_path}/tables/{part}", b"late"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["started.json"]
