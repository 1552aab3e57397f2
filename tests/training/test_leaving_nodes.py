"""When Ray says that a node of a training is about to go, a checkpoint is saved at once."""

import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import PROJECT
from several_nodes import IMPATIENT, Nodes
from test_train import checkpoints_of, configure

from sentiflow.data import manifest
from sentiflow.training import checkpoints, leaving_nodes
from sentiflow.training.leaving_nodes import LeavingNodes

# isort: split
import ray.train
from ray.train import PreemptionInfo

DRAIN_SECONDS = 25
"""Time from the notice to the end of the node."""
PATIENCE = 120
LONG_EPOCH = {
    "batching": {"global_batch_size": 4, "num_shards": 4},
    "pretrain": {"num_epochs": 0},
    "num_epochs": 1,
    "checkpoints": {"every_minutes": None},
    "num_workers": 2,
}
"""An epoch of more than a thousand steps; by itself it saves a checkpoint at its end only."""


def test_each_node_that_is_about_to_go_is_noticed_once(monkeypatch):
    one = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [0]})
    both = PreemptionInfo(deadline_ms=1, preempted_node_to_ranks={"a": [0], "b": [1]})
    answers = iter([None, one, one, both])
    is_over = threading.Event()
    noticed = []
    leaving = LeavingNodes()

    def answer():
        noticed.append(leaving.take_notice())
        try:
            return next(answers)
        except StopIteration:
            is_over.set()
            raise RuntimeError("the workers have ended") from None

    monkeypatch.setattr(ray.train, "get_preemption_info", answer)
    monkeypatch.setattr(leaving_nodes, "_ASK_EVERY_SECONDS", 0)
    leaving.listen()
    assert is_over.wait(10)
    assert noticed == [False, False, True, False, True]


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(420)
def test_a_training_whose_node_is_drained_resumes_at_the_step_of_the_notice(
    tmp_path, finished_run, resources, monkeypatch
):
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    nodes = Nodes()
    try:
        nodes.have(2)
        step, said = _train_and_drain(tmp_path, finished_run / "run/prepared", nodes)
    finally:
        nodes.stop()
    assert f"workers were lost; resuming at step {step:,} of" in said, said
    (epoch,) = manifest.read(f"{tmp_path}/run/trained")["history"]
    assert 0 < step < epoch["step"]


def _train_and_drain(folder, prepared, nodes):
    """Train, and lose a node after its notice; return the step of the notice, and the log."""
    config = configure(folder, prepared, **LONG_EPOCH)
    root = checkpoints_of(folder)
    log = folder / "log.txt"
    command = [sys.executable, "-m", "sentiflow", "train", str(config)]
    environment = os.environ | {"RAY_ADDRESS": nodes.address}
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=stderr) as process,
    ):
        wait_until(lambda: "epoch 1 of 1" in log.read_text(), process, log)
        assert checkpoints.list_steps(root) == []
        leaving = nodes.living[-1]
        drain(nodes, leaving.node_id)
        wait_until(lambda: checkpoints.list_steps(root), process, log)
        (step,) = checkpoints.list_steps(root)
        nodes.kill_id(leaving.node_id)
        nodes.add()
        assert process.wait(timeout=PATIENCE) == 0, log.read_text()
    return step, log.read_text()


def wait_until(is_so, process, log):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def drain(nodes, node_id):
    """Tell Ray that a cloud is about to take a node back, as Ray does itself at SIGTERM."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
        *("--address", nodes.address, "--node-id", node_id),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"),
        *("--deadline-remaining-seconds", str(DRAIN_SECONDS)),
    ]
    subprocess.run(command, check=True, capture_output=True)
