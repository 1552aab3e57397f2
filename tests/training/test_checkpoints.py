"""A complete checkpoint is read as it was saved; an incomplete one is skipped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import PROJECT

from sentiflow.training import checkpoints
from sentiflow.training.checkpoints import Checkpoint


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "checkpoints")


def folder_of(root, step):
    """Find the directory of the checkpoint of a step."""
    (found,) = Path(root).glob(f"step-{step:09d}-*")
    return found


def make(step, value=None):
    tensors = {
        "a": torch.full((2, 3), float(step if value is None else value)),
        "b": torch.ones(()),
    }
    return Checkpoint(step, tensors, {"epoch": step // 10, "loss": 0.1 + step})


def test_a_loaded_checkpoint_equals_the_saved_one(root):
    checkpoints.save(root, make(7))
    found = checkpoints.load_last(root)
    assert (found.step, found.state) == (7, make(7).state)
    assert all(torch.equal(found.tensors[name], t) for name, t in make(7).tensors.items())


def test_an_incomplete_one_is_skipped_and_no_two_writes_share_a_name(root):
    for value in (1, 2):
        checkpoints.save(root, make(5, value))
    checkpoints.save(root, make(6))
    (folder_of(root, 6) / "state.json").unlink()
    assert checkpoints.list_steps(root) == [5, 5]
    assert checkpoints.load_last(root).step == 5


def test_the_last_few_and_the_best_are_kept(root):
    for step in range(10, 60, 10):
        checkpoints.save(root, make(step))
    for name in ("step-000000050-0a1b2c3d", "step-000000060-0a1b2c3d"):
        Path(root, name).mkdir()
        Path(root, name, "tensors.safetensors").write_bytes(b"half")
    checkpoints.keep(root, last=2, best=20)
    assert checkpoints.list_steps(root) == [20, 40, 50]
    left = sorted(path.name for path in Path(root).rglob("*") if path.is_file())
    assert left == ["state.json"] * 3 + ["tensors.safetensors"] * 3


WRITER = """
import sys, torch
from sentiflow.training import checkpoints
step = 0
while True:
    step += 1
    tensors = {"a": torch.full((1_000_000,), float(step))}
    checkpoints.save(sys.argv[1], checkpoints.Checkpoint(step, tensors, {"step": step}))
    checkpoints.keep(sys.argv[1], last=2)
"""


@pytest.mark.slow
def test_a_kill_while_writing_loses_only_what_was_being_written(root):
    for delay in (0.0, 0.013):
        command = [sys.executable, "-c", WRITER, root]
        with subprocess.Popen(command, cwd=PROJECT) as process:
            while len(checkpoints.list_steps(root)) < 2:
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.3 + delay)
            os.kill(process.pid, signal.SIGKILL)
        found = checkpoints.load_last(root)
        assert found.step >= checkpoints.list_steps(root)[-1] - 1
        assert (found.tensors["a"] == found.step).all()
