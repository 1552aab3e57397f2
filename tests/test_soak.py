"""Kills at random moments, each resumed by the same command: ``make soak``."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT, write_config
from several_nodes import IMPATIENT, Nodes
from test_pipeline import read
from test_resume import configure, files_of, undisturbed, write_corpus  # noqa: F401
from test_score import assert_same, markers, table, times
from test_score import configure as configure_scoring

from sentiflow.data import sample

pytestmark = pytest.mark.soak

NUM_KILLS = 12
LATEST_KILL_SECONDS = 22
NUM_PREPARE_KILLS = 20
LATEST_PREPARE_KILL_SECONDS = 9
NUM_SCORE_KILLS = 30
NUM_SCORED, SCORED_ROWS_PER_FILE = 50_000, 500


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_driver_killed_at_any_moment_resumes_to_the_same_tables(
    tmp_path: Path, sample_csv: Path, finished_run: Path, sentiflow, seed: int
):
    config = write_config(tmp_path, sample_csv)
    command = [sys.executable, "-m", "sentiflow", "run", str(config)]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        time.sleep(random.Random(seed).uniform(1, LATEST_KILL_SECONDS))
        os.kill(process.pid, signal.SIGKILL)
    result = sentiflow("run", config)
    assert result.returncode == 0, result.stderr
    for name in ("prepared/tweets", "prepared/encoded", "scored/predictions"):
        assert read(tmp_path, name).equals(read(finished_run, name)), name
    assert not list((tmp_path / "run").rglob("_work"))
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Make a corpus of forty parts."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_rows=30_000)


@pytest.mark.parametrize("seed", range(NUM_PREPARE_KILLS))
def test_a_preparation_killed_twice_at_any_moments_leaves_the_same_files(
    tmp_path: Path,
    csv: Path,
    undisturbed: dict[str, str],  # noqa: F811
    sentiflow,
    seed: int,
):
    config = configure(tmp_path, csv)
    command = [sys.executable, "-m", "sentiflow", "prepare", str(config)]
    chance = random.Random(seed)
    for _ in range(2):
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(4, LATEST_PREPARE_KILL_SECONDS))
            kill_one(process.pid, chance)
    result = sentiflow("prepare", config)
    assert result.returncode == 0, result.stderr
    assert files_of(tmp_path) == undisturbed


@pytest.fixture
def nodes(monkeypatch):
    """Start a head without cores and two nodes with one core each."""
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    started = Nodes()
    started.have(2)
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    started.stop()


def kill_one(driver: int, chance: random.Random) -> None:
    """Kill the driver, or first one of its workers."""
    processes = psutil.Process(driver).children(recursive=True)
    workers = [process for process in processes if process.name().startswith("ray::")]
    if workers and chance.random() < 0.5:
        chance.choice(workers).kill()
        time.sleep(chance.uniform(0, 1))
    os.kill(driver, signal.SIGKILL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make a corpus of a hundred parts to score."""
    path = tmp_path_factory.mktemp("scored") / "all.csv"
    path.write_bytes(b"".join(sample.generate(num_rows=NUM_SCORED, seed=3)))
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory, corpus, finished_run, sentiflow):
    """Score a corpus of a hundred parts once without a kill."""
    folder = tmp_path_factory.mktemp("scored")
    result = sentiflow("score", configure_hundred_parts(folder, finished_run, corpus))
    assert result.returncode == 0, result.stderr
    return table(folder)


def configure_hundred_parts(folder, finished_run, corpus):
    return configure_scoring(
        folder,
        f"{finished_run}/run/trained/model",
        corpus,
        rows_per_file=SCORED_ROWS_PER_FILE,
    )


VICTIMS = ("driver", "worker", "node")


@pytest.mark.parametrize("seed", range(NUM_SCORE_KILLS))
def test_every_row_is_scored_once_whatever_is_killed_when(
    tmp_path,
    corpus,
    finished_run,
    scored,
    sentiflow,
    seed,
    request,
):
    chance = random.Random(seed)
    victim = VICTIMS[seed % len(VICTIMS)]
    config = configure_hundred_parts(tmp_path, finished_run, corpus)
    started = request.getfixturevalue("nodes") if victim == "node" else None
    command = [sys.executable, "-m", "sentiflow", "score", str(config)]
    log = tmp_path / "log.txt"
    with subprocess.Popen(command, cwd=PROJECT, stderr=log.open("w")) as process:
        wait_for_parts(tmp_path, chance.randrange(70), process)
        if victim == "node":
            started.kill()
        elif victim == "worker":
            processes = psutil.Process(process.pid).children(recursive=True)
            names = ("ray::_run_s", "ray::IDLE")  # the node's agents are ray::, too
            workers = [child for child in processes if child.name().startswith(names)]
            chance.choice(workers).kill()
        else:
            process.kill()
        process.wait(timeout=200)
    assert victim == "driver" or process.returncode == 0, log.read_text()
    done = times(tmp_path)
    kept = len(markers(tmp_path))
    result = sentiflow("score", config)
    assert result.returncode == 0, result.stderr
    same = sum(times(tmp_path).get(name) == time for name, time in done.items())
    assert same >= (kept if victim == "driver" else len(done))
    assert_same(table(tmp_path), scored)
    assert len(scored) == NUM_SCORED
    assert not list((tmp_path / "run").rglob("_work"))
    assert not list((tmp_path / "run").rglob("*.tmp"))


def wait_for_parts(folder, number, process):
    """Wait until so many parts are scored; or none yet, where the number is 0."""
    while len(markers(folder)) < number:
        assert process.poll() is None, f"it was over before {number} parts were scored"
        time.sleep(0.002)
