"""A preparation that is killed resumes, and writes the same files."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT, without_token, write_config

from sentiflow.config import settings
from sentiflow.data import sample
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.pipeline import stages
from sentiflow.storage import parquet

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Make a corpus of a dozen parts."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_rows=9000)


def write_corpus(folder, num_rows):
    """Write labelled rows, and unlabelled ones of which some repeat them; returns the first."""
    path = folder / "tweets.csv"
    path.write_bytes(b"".join(sample.generate(num_rows=num_rows, seed=2)))
    further = b"".join(sample.generate(num_rows=num_rows // 3, seed=3))
    path.with_name("unlabelled.csv").write_bytes(further + path.read_bytes()[:100_000])
    return path


def configure(folder, csv, **prepare):
    """Write settings that repeat rows enough to have some dropped, unlabelled ones, too."""
    chosen = {"csv": str(csv), "rows_per_file": 1000, "duplicates": "drop"} | prepare
    further = csv.with_name("unlabelled.csv")
    if further.exists():
        chosen["unlabelled"] = {"files": str(further), "format": {"kind": "sentiment140"}}
    return write_config(folder, csv, prepare=chosen)


def files_of(folder):
    """List every file of the prepared data with a hash, but for times in the manifest."""
    root = folder / "run/prepared"
    paths = [path for path in root.rglob("*") if path.is_file()]
    hashes = {
        without_token(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
    assert len(hashes) == len(paths), "a part is there twice"
    assert hashes.pop("manifest.json")
    return hashes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, csv, resources):
    """Prepare the corpus once without a kill."""
    folder = tmp_path_factory.mktemp("undisturbed")
    stages.run(settings.load(configure(folder, csv)), ["prepare"])
    return files_of(folder)


def num_parts(files):
    """Count the parts of the labelled rows."""
    return sum(path.startswith("tweets/split=train/") for path in files)


def markers(folder, name):
    """Find the completion markers of a map stage."""
    return sorted((folder / "run/prepared/_work").glob(f"*/receipts/{name}-*.json"))


def wait_for(folder, name, number, is_over):
    """Wait until so many parts of a pass are done."""
    while len(markers(folder, name)) < number:
        assert not is_over(), f"it was over before {number} parts of {name} were done"
        time.sleep(0.002)


def busy_workers():
    """List the workers that have a part at this moment: Ray then names them after the task."""
    busy = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            if child.name().startswith("ray::_run") or "Map" in child.name():
                busy.append(child)
    return busy


def times_of_rejected(folder):
    """Tell when each part of the rejected rows was written, wherever it lies."""
    files = (folder / "run/prepared").rglob("rejected/*.parquet")
    return {path.name: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param("ingest", 5, marks=pytest.mark.soak),
        pytest.param("encode", 2, marks=pytest.mark.soak),
        pytest.param("unlabelled_encode", 2, marks=pytest.mark.soak),
    ],
)
def test_a_killed_driver_resumes_to_the_same_files(
    tmp_path, csv, undisturbed, sentiflow, name, number
):
    config = configure(tmp_path, csv)
    kill_when(tmp_path, config, name, number)
    done = markers(tmp_path, "ingest")
    assert not (tmp_path / "run/prepared/manifest.json").exists()
    before = times_of_rejected(tmp_path)
    result = sentiflow("prepare", config)
    assert result.returncode == 0, result.stderr
    most = num_parts(undisturbed)
    said = f"resumes ingest: {len(done)} of {most} parts were done before"
    assert said in result.stderr or len(done) == most
    assert times_of_rejected(tmp_path).items() >= before.items()
    assert files_of(tmp_path) == undisturbed


@pytest.mark.soak
def test_a_killed_worker_is_not_noticed(tmp_path, csv, undisturbed, resources):
    config = settings.load(configure(tmp_path, csv))
    thread = threading.Thread(target=stages.run, args=(config, ["prepare"]))
    thread.start()
    wait_for(tmp_path, "ingest", 2, lambda: not thread.is_alive())
    while not (workers := busy_workers()):
        assert thread.is_alive(), "it was over before a worker was seen at work"
    workers[0].kill()
    thread.join()
    assert files_of(tmp_path) == undisturbed


def kill_when(folder, config, name, number):
    """Prepare in a process that is killed when so many parts of a map stage are done."""
    command = [sys.executable, "-m", "sentiflow", "prepare", str(config)]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        wait_for(folder, name, number, lambda: process.poll() is not None)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)  # what was begun may still be finished


@pytest.mark.soak
def test_unfinished_work_on_another_input_is_replaced_with_overwrite_only(
    tmp_path, csv, resources, said
):
    config = configure(tmp_path, csv)
    kill_when(tmp_path, config, "ingest", 2)
    done = markers(tmp_path, "ingest")
    half = tmp_path / "half.csv"
    half.write_bytes(b"".join(csv.read_bytes().splitlines(keepends=True)[::2]))
    other = settings.load(config, [f"prepare.csv={half}"])
    with pytest.raises(UserError, match=r"unfinished run of other settings \(another csv: .*half"):
        stages.run(other, ["prepare"])
    assert markers(tmp_path, "ingest") == done
    stages.run(other, ["prepare"], overwrite=True)
    assert "resumes" not in said.text
    rows = [
        parquet.read(str(path)).num_rows
        for path in Path(tmp_path / "run/prepared/tweets").rglob("*.parquet")
    ]
    assert sum(rows) <= 4500
    assert not (tmp_path / "run/prepared/_work").exists()


@pytest.mark.soak
def test_content_that_changed_with_neither_size_nor_time_is_not_resumed(tmp_path, csv, resources):
    """Labels are exchanged after the kill: no row may keep its earlier one."""
    own = tmp_path / "own.csv"
    shutil.copy2(csv, own)
    config = configure(tmp_path, own)
    kill_when(tmp_path, config, "ingest", 2)
    before = own.stat()
    lines = own.read_bytes().splitlines(keepends=True)
    turned = {b'"0"': b'"4"', b'"4"': b'"0"'}
    own.write_bytes(b"".join(turned.get(line[:3], line[:3]) + line[3:] for line in lines))
    os.utime(own, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert own.stat().st_size == before.st_size
    stages.run(settings.load(config), ["prepare"])
    fresh = tmp_path / "fresh"
    stages.run(settings.load(config, [f"prepare.output_uri={fresh}/run/prepared"]), ["prepare"])
    assert files_of(tmp_path) == files_of(fresh)


@pytest.mark.parametrize("folder", [pytest.param("encoded", marks=pytest.mark.soak), "unlabelled"])
def test_a_storage_that_fails_keeps_the_finished_parts(
    tmp_path, csv, undisturbed, resources, folder
):
    """A file stands where a directory of the result has to be."""
    config = settings.load(configure(tmp_path, csv))
    failures = []

    def prepare():
        try:
            stages.run(config, ["prepare"])
        except (StorageError, JobError) as error:
            failures.append(error)

    thread = threading.Thread(target=prepare)
    thread.start()
    wait_for(tmp_path, "ingest", 2, lambda: not thread.is_alive())
    (work,) = (tmp_path / "run/prepared/_work").iterdir()
    obstacle = work / folder
    obstacle.write_bytes(b"")
    thread.join()
    assert len(failures) == 1
    assert len(markers(tmp_path, "ingest")) == num_parts(undisturbed) > 8
    obstacle.unlink()
    stages.run(config, ["prepare"])
    assert files_of(tmp_path) == undisturbed


def test_a_replacement_that_fails_leaves_the_result_as_it_was(tmp_path, csv, resources):
    config = configure(tmp_path, csv)
    stages.run(settings.load(config), ["prepare"])
    before = files_of(tmp_path)
    damaged = tmp_path / "vectors.txt"
    damaged.write_text("good 1 2\nbad 1\n")
    for other, problem in (
        (f"prepare.vocabulary.vectors={damaged}", r"vectors\.txt"),
        (
            "format={kind: csv, header: false, columns: {label: 0, text: 6}, "
            "labels: {negative: '0', positive: '4'}}",
            "column",
        ),
    ):
        with pytest.raises(UserError, match=problem):
            stages.run(settings.load(config, [other]), ["prepare"], overwrite=True)
        assert files_of(tmp_path) == before
    (outcome,) = stages.run(settings.load(config), ["prepare"])
    assert not outcome.ran
