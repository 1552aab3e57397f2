"""Kills at random moments, each continued by the same command: ``make soak``."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, write_config
from test_pipeline import read

pytestmark = pytest.mark.soak

NUM_KILLS = 12
LATEST_KILL_SECONDS = 22


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
