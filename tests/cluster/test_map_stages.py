"""A killed job repeats no finished part, and takes no marker of other settings for its own."""

import json

import pytest

from sentiflow.cluster.map_stages import Passes

SIZES = [(10, 100)] * 4


def run_here(work, *, num_parts):
    """Stand for an engine: results travel as JSON."""
    for index in range(num_parts):
        yield json.loads(json.dumps(work(index)))


def run(root, work, *, resumes, keys=None):
    passes = Passes("score", str(root), resumes=resumes, engine=run_here)
    return passes.run("score", work, SIZES, unit="rows", keys=keys), passes.fresh


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
