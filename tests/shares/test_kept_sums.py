"""Shares of a corpus that grows: what is not new is not read, and the result is the same."""

import itertools
import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import AIRLINES, CLASSES, draw, load, score
from stages import run_stage
from stopped_process import Job

from sentiflow.data import label_files, manifest
from sentiflow.metrics import drawing
from sentiflow.shares import next_draw, part_sums, rows, sample_log, trends
from sentiflow.tracking.recorder import Recorder

PART_ROWS = 300
WEEK_ROWS = 3 * PART_ROWS
NUM_WEEKS = 6
BY = ["airline", "created:day"]
CORPUS = {"uri": "/data/corpus.csv", "bytes": 1, "modified_ns": 1, "tree_sha256": "c5f0"}
TRENDS = """
import sys
import pathlib
from test_kept_sums import BY, run
run(pathlib.Path(sys.argv[1]), by=BY, labels=sys.argv[2:])
"""
"""A process that measures the shares of a folder."""


@pytest.fixture(scope="module")
def corpus():
    """The rows of all weeks, with authors, and their true classes."""
    table, truth = draw(WEEK_ROWS * NUM_WEEKS)
    rng = np.random.default_rng(5)
    users = rng.integers(0, 900, len(table))
    table = table.append_column("user", pa.array([f"user {number}" for number in users]))
    return table, truth


@pytest.fixture
def parts_read(monkeypatch):
    """The parts that were read, in their order."""
    names = []
    read_part = rows.PredictionReader.read_part

    def watched(self, part, **options):
        names.append(part["path"])
        return read_part(self, part, **options)

    monkeypatch.setattr(rows.PredictionReader, "read_part", watched)
    return names


def run(folder, **options):
    record = run_stage(trends, load(folder, **options), Recorder(), overwrite=True)
    return record, (folder / "trends/trends.parquet").read_bytes()


def run_afresh(folder, **options):
    """Run without what an earlier result has kept."""
    aside = folder / "aside"
    (folder / "trends").rename(aside)
    found = run(folder, **options)
    shutil.rmtree(folder / "trends")
    aside.rename(folder / "trends")
    return found


def grow(folder, corpus, week, label=None):
    """Publish the predictions of all weeks up to this one; each model scores a third of them."""
    table, _ = corpus
    num_rows = WEEK_ROWS * (week + 1)
    rows_of = {}
    for number, name in enumerate(("1", "2", "3")):
        rows_of[name] = min(max(num_rows - 2 * WEEK_ROWS * number, 0), 2 * WEEK_ROWS)
    rows_of = {name: number for name, number in rows_of.items() if number}
    own = None if label is None else label[:num_rows]
    whole = table.slice(0, num_rows)
    score(
        folder,
        whole,
        own,
        rows_per_file=PART_ROWS,
        rows_of=rows_of,
        keep=("user",),
        corpus={"fingerprint": f"week {week}", "files": [CORPUS]},
    )


def write_labels(folder, name, row_ids, truth):
    path = folder / f"{name}.csv"
    table = pd.DataFrame({"row_id": row_ids, "label": np.array(CLASSES)[truth[row_ids]]})
    table.to_csv(path, index=False)
    return str(path)


def test_after_a_week_only_new_parts_are_read_and_the_shares_are_those_of_all(
    tmp_path, corpus, parts_read
):
    _, truth = corpus
    rng = np.random.default_rng(0)
    label = np.where(rng.random(len(truth)) < 0.2, truth, -1)
    for week in range(NUM_WEEKS):
        grow(tmp_path, corpus, week, label)
        parts_read.clear()
        record, found = run(tmp_path, by=BY)
        new = [f"predictions/part-{number:05d}.parquet" for number in range(3 * week, 3 * week + 3)]
        assert parts_read == new
        assert record["counts"]["rows"] == WEEK_ROWS * (week + 1)
        assert found == run_afresh(tmp_path, by=BY)[1]


def test_manual_labels_read_only_the_parts_that_hold_them(tmp_path, corpus, parts_read):
    _, truth = corpus
    grow(tmp_path, corpus, NUM_WEEKS - 1)
    first = write_labels(tmp_path, "first", np.arange(0, len(truth), 9), truth)
    run(tmp_path, by=BY, labels=[first])
    parts_read.clear()
    others = np.setdiff1d(np.arange(301, 330), np.arange(0, len(truth), 9))
    second = write_labels(tmp_path, "second", others, truth)
    _, found = run(tmp_path, by=BY, labels=[first, second])
    assert parts_read == ["predictions/part-00001.parquet"]
    record, afresh = run_afresh(tmp_path, by=BY, labels=[first, second])
    assert found == afresh
    assert record["counts"]["sample"] == len(truth) // 9 + len(others)
    # Without the second file, no part is read at all.
    parts_read.clear()
    _, again = run(tmp_path, by=BY, labels=[first])
    assert not parts_read
    assert again == run_afresh(tmp_path, by=BY, labels=[first])[1]


@pytest.fixture
def num_searches(monkeypatch):
    """The number of draws whose rate was searched for, in a list."""
    found = [0]
    find_rate = drawing.find_rate

    def watched(*arguments):
        found[0] += 1
        return find_rate(*arguments)

    monkeypatch.setattr(drawing, "find_rate", watched)
    return found


def test_drawn_labels_of_each_week(tmp_path, corpus, parts_read, num_searches):
    _, truth = corpus
    files = []
    for week in range(4):
        grow(tmp_path, corpus, week)
        config = load(tmp_path, by=BY, labels=files)
        drawn, _ = next_draw.draw_rows(config, 60)
        label = np.array(CLASSES, object)[truth[drawn["row_id"]]]
        label[3] = ""  # this row was skipped
        path = tmp_path / f"week-{week}.csv"
        path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
        sample_log.record(config, drawn, path=str(path))
        files.append(str(path))
        parts_read.clear()
        num_searches[0] = 0
        _, found = run(tmp_path, by=BY, labels=files)
        assert num_searches == [1], "the rates of earlier draws are kept"
        with_new_labels = {int(row_id) // PART_ROWS for row_id in drawn["row_id"]}
        expected = with_new_labels | {3 * week, 3 * week + 1, 3 * week + 2}
        assert {int(path[-13:-8]) for path in parts_read} <= expected
        num_searches[0] = 0
        assert found == run_afresh(tmp_path, by=BY, labels=files)[1]
        assert num_searches == [week + 1]


def test_other_settings_and_other_labels_of_the_corpus_are_read_anew(tmp_path, corpus, parts_read):
    table, truth = corpus
    grow(tmp_path, corpus, 0)
    run(tmp_path, by=BY)
    parts_read.clear()
    run(tmp_path, by="created:day", time_zone="Asia/Seoul")
    assert len(parts_read) == 3
    parts_read.clear()
    _, found = run(tmp_path, by=BY)
    assert len(parts_read) == 3
    assert found == run_afresh(tmp_path, by=BY)[1]
    # Other predictions replace those that were there.
    other = table.set_column(
        table.schema.get_field_index("airline"), "airline", pa.array(AIRLINES[truth % 4])
    )
    score(tmp_path, other.slice(0, WEEK_ROWS), rows_per_file=PART_ROWS)
    _, found = run(tmp_path, by=BY)
    assert found == run_afresh(tmp_path, by=BY)[1]


def test_a_damaged_table_is_made_again(tmp_path, corpus, parts_read):
    grow(tmp_path, corpus, 1)
    run(tmp_path, by=BY)
    for path in (tmp_path / "trends/sums").iterdir():
        path.write_bytes(b"x" * path.stat().st_size)
    grow(tmp_path, corpus, 2)
    parts_read.clear()
    _, found = run(tmp_path, by=BY)
    assert len(parts_read) == 9
    assert found == run_afresh(tmp_path, by=BY)[1]


def test_an_earlier_result_without_sums_is_extended(tmp_path, corpus):
    grow(tmp_path, corpus, 0)
    _, found = run(tmp_path, by=BY)
    path = tmp_path / "trends/manifest.json"
    record = json.loads(path.read_text())
    record["files"] = [item for item in record["files"] if not item["path"].startswith("sums/")]
    path.write_text(json.dumps(record))
    shutil.rmtree(tmp_path / "trends/sums")
    assert run(tmp_path, by=BY)[1] == found


def test_many_parts_are_few_files(tmp_path, corpus):
    table, _ = corpus
    score(tmp_path, table, rows_per_file=50)
    record, _ = run(tmp_path, by=BY)
    num_parts = len(manifest.read(str(tmp_path / "scored"))["files"])
    names = [item["path"] for item in record["files"] if item["path"].startswith("sums/sums-")]
    assert num_parts == 108
    assert len(names) == 1 + 5 + 4  # 64, 5 times 8, and 4 parts
    assert part_sums._cover(108)[0].level == 2


def list_parts(first, last):
    """Name the parts of some weeks."""
    return [f"predictions/part-{number:05d}.parquet" for number in range(3 * first, 3 * last + 3)]


def kill(folder, after, labels):
    """Kill a process of trends before a step in its output; say whether it came so far."""
    path = os.pathsep.join(sys.path)
    program = ("-c", TRENDS, str(folder), *labels)
    job = Job(folder / "trends", after, *program, env=os.environ | {"PYTHONPATH": path})
    has_stopped = job.wait()
    job.process.kill()
    _, errors = job.process.communicate()
    job.make_old()
    assert has_stopped or job.process.returncode == 0, errors
    return has_stopped


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stride", [44, pytest.param(1, marks=pytest.mark.soak)])
def test_a_kill_at_any_step_loses_no_sums_and_leaves_no_old_ones(
    tmp_path, corpus, parts_read, stride
):
    """A week arrives and the process is killed; then the next week arrives, and it is again."""
    _, truth = corpus
    labels = [write_labels(tmp_path, "labels", np.arange(0, WEEK_ROWS, 9), truth)]
    options = {"by": BY, "labels": labels}
    first_week = tmp_path / "first week"
    grow(tmp_path, corpus, 0)
    run(tmp_path, **options)
    (tmp_path / "trends").rename(first_week)
    expected = {}
    for week in (1, 2):
        grow(tmp_path, corpus, week)
        expected[week] = run(tmp_path, **options)[1]
        shutil.rmtree(tmp_path / "trends")
    is_without_manifest = []
    for after in itertools.count(0, stride):
        shutil.rmtree(tmp_path / "trends", ignore_errors=True)
        shutil.copytree(first_week, tmp_path / "trends")
        grow(tmp_path, corpus, 1)
        was_killed = kill(tmp_path, after, labels)
        is_without_manifest.append(not (tmp_path / "trends/manifest.json").exists())
        killed_once = tmp_path / "killed once"
        shutil.copytree(tmp_path / "trends", killed_once)
        parts_read.clear()
        assert run(tmp_path, **options)[1] == expected[1]
        assert set(parts_read) <= set(list_parts(1, 1))
        shutil.rmtree(tmp_path / "trends")
        killed_once.rename(tmp_path / "trends")
        grow(tmp_path, corpus, 2)
        kill(tmp_path, after, labels)
        parts_read.clear()
        record, found = run(tmp_path, **options)
        assert found == expected[2]
        assert set(parts_read) <= set(list_parts(1, 2))
        listed = {item["path"] for item in record["files"]} | {"manifest.json"}
        folder = tmp_path / "trends"
        files = [path for path in folder.rglob("*") if path.is_file()]
        there = {str(path.relative_to(folder)) for path in files}
        assert {path for path in there if not path.startswith("_lease/")} == listed
        if not was_killed:
            break
    # A few steps of all: while files are replaced, the manifest is set aside.
    assert any(is_without_manifest) or stride > 1
