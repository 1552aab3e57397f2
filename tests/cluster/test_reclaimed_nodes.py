"""A part whose nodes are taken back again and again goes on, as that is not its own failure."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT
from several_nodes import IMPATIENT, Nodes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "waiting_part.py"
PATIENCE = 60
"""Seconds within which a part must begin again."""


@pytest.fixture
def nodes(monkeypatch, resources):
    """Start a cluster of two nodes; this process has a Ray of its own, which sets the token up."""
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    cluster = Nodes()
    cluster.have(2)
    yield cluster
    cluster.stop()


def wait_for_try(folder, number, driver):
    """Wait until the part has begun so many times; return the node of the last time."""
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("*-*"))) < number:
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < deadline, f"try {number} has not begun"
        time.sleep(0.05)
    return max(path.name for path in folder.glob("*-*")).partition("-")[2]


@pytest.mark.soak
@pytest.mark.parametrize(("times", "max_failures"), [(2, 1), (6, 5)])
def test_a_part_whose_node_is_reclaimed_again_and_again_goes_on(
    nodes, tmp_path, times, max_failures
):
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), str(max_failures)],
        cwd=PROJECT,
        env=os.environ | {"RAY_ADDRESS": nodes.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        for number in range(1, times + 1):
            nodes.kill_id(wait_for_try(tmp_path, number, driver))
            nodes.add()
        wait_for_try(tmp_path, times + 1, driver)
        (tmp_path / "released").touch()
        assert driver.wait(timeout=PATIENCE) == 0, driver.stderr.read()
        assert "done\n" in driver.stdout.read()  # between messages of Ray
    assert len(list(tmp_path.glob("*-*"))) == times + 1
