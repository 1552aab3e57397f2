"""A job that was stopped at any visible step, and overtaken by another one, mixes no two results.

The jobs are processes of the command line. ``trends`` needs no Ray, so it is cheap enough to be
stopped before each of its steps.
"""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_store
from stopped_process import Job

WRITE = """
import sys
from sentiflow.storage import filesystem
place = sys.argv[1]
filesystem.write_bytes(f"{place}/a", b"1")
filesystem.write_bytes(f"{place}/_lease/claim.json", b"{}")
filesystem.move(f"{place}/a", f"{place}/b")
filesystem.write_bytes(f"{place}/manifest.json", b"{}")
filesystem.delete(f"{place}/b")
"""


def test_a_process_stops_before_each_of_its_visible_steps(tmp_path):
    seen = []
    for after in itertools.count():
        folder = tmp_path / str(after)
        job = Job(folder, after, "-c", WRITE, str(folder))
        if not job.wait():
            break
        seen.append({path.name for path in folder.iterdir() if path.suffix != ".tmp"} - {"_lease"})
        job.make_old()
        assert job.finish() == (0, "")
    whole = [set(), {"a"}, {"b"}, {"b", "manifest.json"}]
    assert [names for names, _ in itertools.groupby(seen)] == whole
    assert job.finish() == (0, "")
    assert {path.name for path in folder.iterdir()} == {"_lease", "manifest.json"}


def read(folder: Path) -> tuple[str, pd.DataFrame] | None:
    """Read what a complete result is grouped by, and its rows; None if readers refuse it."""
    if not (folder / "manifest.json").exists():
        return None
    record = json.loads((folder / "manifest.json").read_text())
    for item in record["files"]:
        path = folder / item["path"]
        content = path.read_bytes() if path.exists() else b""
        digest = hashlib.sha256(content).hexdigest()
        if (len(content), digest) != (item["bytes"], item.get("sha256", digest)):
            return None
    return ",".join(record["settings"]["by"]), pd.read_parquet(folder / "trends.parquet")


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("earlier", "second"), [(None, "split"), ("", "predicted_label"), ("", "split")]
)
def test_a_stopped_job_that_was_overtaken_mixes_nothing(
    finished_run, sentiflow, tmp_path, earlier, second
):
    """The first one groups by split. Results are compared row by row."""
    folder, laid = tmp_path / "trends", tmp_path / "laid"
    others, own = (make_store(tmp_path, name) for name in ("mlflow.db", "stopped.db"))

    def trends(by, store=others):
        settings = f"trends.output_uri={folder}", f"trends.by=[{by}]", f"tracking.uri={store}"
        return "trends", str(finished_run / "config.yaml"), *settings, "--overwrite"

    def run(by):
        done = sentiflow(*trends(by))
        assert done.returncode == 0, done.stderr
        return read(folder)

    tables = dict(run(by) for by in ("", "predicted_label", "split"))
    if earlier is not None:
        run(earlier)
        folder.rename(laid)
    num_refused = 0
    for after in itertools.count():
        shutil.rmtree(folder, ignore_errors=True)
        if laid.exists():
            shutil.copytree(laid, folder)
        job = Job(folder, after, "-m", "sentiflow", *trends("split", own))
        if not job.wait():
            break
        job.make_old()
        run(second)
        code, errors = job.finish()
        assert code == 0 or "taken the directory over" in errors.splitlines()[-1], (after, errors)
        found = read(folder)
        num_refused += found is None
        for by, table in filter(None, [found, run(second)]):
            pd.testing.assert_frame_equal(table, tables[by])
        assert not [path for path in folder.glob("_*/**/*") if path.is_file()]
    assert job.finish()[0] == 0
    assert after > 5
    print(f"{after} stops, {num_refused} refused")
