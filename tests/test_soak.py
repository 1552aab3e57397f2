"""Kills at random moments, each continued by the same command: ``make soak``."""

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
from test_pipeline import read
from test_resume import configure, csv, files_of, undisturbed  # noqa: F401

pytestmark = pytest.mark.soak

NUM_KILLS = 12
LATEST_KILL_SECONDS = 22
NUM_PREPARE_KILLS = 20
LATEST_PREPARE_KILL_SECONDS = 9


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_driver_killed_at_any_moment_is_continued_to_the_same_tables(
    tmp_path: Path, sample_csv: Path, finished_run: Path, sentiflow, seed: int
):
    config = write_config(tmp_path, sample_csv)
    command = [sys.executable, "-m", "sentiflow.cli", "run", str(config)]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        time.sleep(random.Random(seed).uniform(1, LATEST_KILL_SECONDS))
        os.kill(process.pid, signal.SIGKILL)
    result = sentiflow("run", config)
    assert result.returncode == 0, result.stderr
    for name in ("prepared/tweets", "prepared/encoded", "scored/predictions"):
        assert read(tmp_path, name).equals(read(finished_run, name)), name
    assert not list((tmp_path / "run").rglob("started.json"))
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.parametrize("seed", range(NUM_PREPARE_KILLS))
def test_a_preparation_killed_twice_at_any_moments_leaves_the_same_files(
    tmp_path: Path,
    csv: Path,  # noqa: F811
    undisturbed: dict[str, str],  # noqa: F811
    sentiflow,
    seed: int,
):
    config = configure(tmp_path, csv)
    command = [sys.executable, "-m", "sentiflow.cli", "prepare", str(config)]
    chance = random.Random(seed)
    for _ in range(2):
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(4, LATEST_PREPARE_KILL_SECONDS))
            kill_one(process.pid, chance)
    result = sentiflow("prepare", config)
    assert result.returncode == 0, result.stderr
    assert files_of(tmp_path) == undisturbed


def kill_one(driver: int, chance: random.Random) -> None:
    """Kill the driver, or first one of its workers."""
    processes = psutil.Process(driver).children(recursive=True)
    workers = [process for process in processes if process.name().startswith("ray::")]
    if workers and chance.random() < 0.5:
        chance.choice(workers).kill()
        time.sleep(chance.uniform(0, 1))
    os.kill(driver, signal.SIGKILL)
