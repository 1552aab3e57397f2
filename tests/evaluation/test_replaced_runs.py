"""A reader beside a job that publishes gets the old rows or the new ones, or one line."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT
from republisher import republish
from test_evaluated_rows import NUM_ROWS, Runs

import sentiflow
from sentiflow.data import manifest
from sentiflow.errors import JobError, ReplacedError, UserError
from sentiflow.evaluation import comparison, scored_runs
from sentiflow.pipeline.results import Scored
from sentiflow.storage import filesystem


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def count_outcome(outcomes, name, read):
    """Read once, and count what came of it."""
    try:
        read()
        outcomes[name, "read"] += 1
    except (UserError, JobError) as error:
        is_line = "\n" not in str(error)
        outcomes[name, "one line" if is_line else "several lines"] += 1
    except FileNotFoundError:
        outcomes[name, "a file is gone"] += 1


def read_listed(run):
    """Read the files that the manifest lists, as docs/outputs.md shows."""
    scored = Path(run) / "scored"
    files = json.loads((scored / "manifest.json").read_text())["files"]
    paths = [item["path"] for item in files if item["path"].startswith("predictions/")]
    return pd.concat(pd.read_parquet(scored / path) for path in paths)


def test_predictions_that_were_replaced_are_read_anew(runs):
    run = runs.run("a")
    loaded = sentiflow.load_run(run)
    table = loaded.predictions
    republish(f"{run}/scored", 1)
    assert len(table) == NUM_ROWS
    assert len(table.to_arrow(["row_id"])) == NUM_ROWS
    assert "prediction" in table.columns
    assert len(sentiflow.read_predictions(loaded)) == NUM_ROWS


def test_predictions_of_other_classes_or_none_are_one_line(runs):
    run = runs.run("a")
    table = sentiflow.load_run(run).predictions
    path = Path(run) / "scored/manifest.json"
    republish(f"{run}/scored", 1)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"classes": ["good", "bad", "neutral"]}))
    for _ in range(2):
        with pytest.raises(ReplacedError) as error:
            table.to_pandas()
        line = str(error.value)
        assert "\n" not in line
        assert line.endswith(
            "was replaced by another job, or deleted, while it was read: read it again"
        )
        path.unlink(missing_ok=True)


def test_a_result_that_is_being_replaced_is_not_called_wrong(runs):
    run = runs.run("a")
    (Path(run) / "scored/manifest.json").unlink()
    with pytest.raises(UserError, match="name the finished output of sentiflow score"):
        Scored.load(f"{run}/scored")
    filesystem.write_bytes(f"{run}/scored/_work/0a1b2c3d/started.json", b"{}")
    with pytest.raises(UserError, match="sentiflow score writes it now, or was stopped: wait, or"):
        Scored.load(f"{run}/scored")


def test_a_comparison_reads_a_replaced_run_once_more(runs, monkeypatch):
    first = runs.run("a", wrong=[8])
    second = runs.run("b", wrong=[9])
    expected = comparison.compare(first, second)
    find_pair = scored_runs.find_pair
    found = []

    def find_and_replace(*names):
        """Find the runs, which a job then replaces."""
        found.append(find_pair(*names))
        if len(found) <= num_replaced:
            republish(f"{first}/scored", len(found))
        return found[-1]

    monkeypatch.setattr(scored_runs, "find_pair", find_and_replace)
    num_replaced = 1
    assert comparison.compare(first, second) == expected
    assert len(found) == 2
    num_replaced = 9
    with pytest.raises(ReplacedError, match="a/scored was replaced by another job while it was re"):
        comparison.compare(first, second)


def test_a_damaged_run_is_no_replaced_one(runs):
    run = runs.run("a")
    (file,) = (Path(run) / "scored/predictions").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"part-0\.parquet is missing or damaged: make it again"):
        manifest.require(f"{run}/scored", stage="score", setting="x")


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_readers_beside_a_job_that_publishes_get_all_rows_or_one_line(runs, seconds):
    run = runs.run("a", wrong=[8])
    other = runs.run("b", wrong=[9])
    expected = comparison.compare(run, other)
    counts = Counter()

    def check(frame):
        assert len(frame) == NUM_ROWS

    def compare():
        assert comparison.compare(run, other).differences == expected.differences

    readers = {
        "read_predictions": lambda: check(sentiflow.read_predictions(run)),
        "load_run": lambda: check(sentiflow.load_run(run).predictions.to_arrow()),
        "docs": lambda: check(read_listed(run)),
        "compare": compare,
    }
    command = [sys.executable, PROJECT / "tests/republisher.py", f"{run}/scored", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        while writer.poll() is None:
            for name, read in readers.items():
                count_outcome(counts, name, read)
        num_published = int(writer.stdout.readline())
    print(f"{num_published} times published: {dict(counts)}")
    assert writer.returncode == 0
    assert num_published >= 2
    assert min(counts[name, "read"] for name in readers) >= 1
    gone = {name for name, outcome in counts if outcome == "a file is gone"}
    assert gone <= {"docs"}, "it reads the manifest once"
    assert not any(outcome == "several lines" for _, outcome in counts)
