"""A sweep whose processes are killed trains nothing twice."""
# ruff: noqa: F811 -- fixtures are imported

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import PROJECT
from stages import look
from test_sweep import configure, run, runs_of
from test_train import prepared  # noqa: F401

from sentiflow.cluster.connection import Resources
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import StorageError, UserError, WorkerError
from sentiflow.pipeline import stages
from sentiflow.training import checkpoints, sweep, sweep_trials, train_job
from sentiflow.training import train as training


def plan(config):
    """List the trials as the sweep places them."""
    loaded = settings.load(config)
    planned = sweep.resolve(loaded)
    return sweep_trials.plan(planned.combinations, look(planned.spec, overwrite=True))


def record_of(trial):
    """Read the manifest of a trial's training; None if it has not ended."""
    return manifest.read(trial.config.train.output_uri)


def checkpoints_of(trial):
    """Name the directory of the checkpoints of a trial."""
    spec = training.resolve(trial.config).spec
    return train_job.locate_checkpoints(trial.open_output(spec))


def is_training(process):
    """Say whether a process of Ray Tune is still there; Ray's own agents stay for a while."""
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and "ImplicitFunc" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def start(config):
    command = [sys.executable, "-m", "sentiflow", "sweep", str(config)]
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(root, process):
    """Wait until a trial has one; returns the processes below the sweep's."""
    deadline = time.monotonic() + 60
    while not checkpoints.list_steps(root):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.parametrize("max_failures", [3, 0])
def test_a_killed_process_of_a_trial_is_replaced_until_it_has_failed_too_often(
    tmp_path, prepared, max_failures
):
    space = {"train.learning_rate": [0.02], "train.seed": [1, 2]}
    train = {"batching": {"global_batch_size": 32}, "max_failures": max_failures}
    config = configure(tmp_path, prepared, space, train=train, max_concurrent=1, grace_epochs=4)
    tasks = plan(config)
    root = checkpoints_of(tasks[0])
    with start(config) as process:
        victim = next(filter(is_training, wait_for_checkpoint(root, process)))
        begun = checkpoints.load_last(root).state["history"]
        victim.kill()
        lines = process.stderr.read()
    assert process.returncode == 0, lines
    record = manifest.read(str(tmp_path / "run/sweep"))
    statuses = [trial["status"] for trial in record["trials"]]
    if not max_failures:
        assert statuses == ["finished", "failed"]
        assert record_of(tasks[1]) is not None, "the others are trained"
        return
    assert statuses == ["finished"] * 2
    assert record_of(tasks[0])["history"][: len(begun)] == begun
    client, _ = runs_of(tmp_path)
    for trial in record["trials"]:
        points = client.get_metric_history(trial["mlflow_run_id"], "validation/accuracy")
        assert [p.step for p in points] == [1, 2, 3, 4]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", [WorkerError, StorageError])
def test_failures_that_another_node_may_not_have_are_raised_for_tune_to_retry(
    tmp_path,
    prepared,
    monkeypatch,
    kind,
):
    def fail(*arguments, **options):
        raise kind("this node is not let in")

    monkeypatch.setattr(sweep_trials.training, "run", fail)
    (task,) = plan(configure(tmp_path, prepared, {"train.seed": [1]}))
    share = Resources(num_cpus=1, num_gpus=0, num_nodes=1, min_node_cpus=1, is_one_machine=True)
    with pytest.raises(kind, match="not let in"):
        sweep_trials.train(task, share=share)


@pytest.mark.ray
@pytest.mark.soak
def test_a_killed_sweep_resumes_without_training_anything_twice(tmp_path, prepared, resources):
    """Kill it when the first trial is finished, and the second has an epoch."""
    space = {"train.learning_rate": [0.02], "train.seed": [1, 2, 3]}
    train = {"batching": {"global_batch_size": 32}}
    config = configure(tmp_path, prepared, space, train=train, max_concurrent=1, grace_epochs=4)
    tasks = plan(config)
    root = checkpoints_of(tasks[1])
    with start(config) as process:
        children = wait_for_checkpoint(root, process)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(is_training(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first, second = (record_of(task) for task in tasks[:2])
    assert first is not None
    assert second is None
    begun = checkpoints.load_last(root).state["history"]
    assert 0 < len(begun) < 4

    record = run(config).record
    assert [trial["status"] for trial in record["trials"]] == ["finished"] * 3
    assert {trial["epochs"] for trial in record["trials"]} == {4}
    assert record_of(tasks[0]) == first
    history = record_of(tasks[1])["history"]
    assert history[: len(begun)] == begun, "its epochs were trained again"
    client, runs = runs_of(tmp_path)
    latest = {}
    for found in sorted(runs, key=lambda r: r.info.start_time):
        latest[found.data.tags.get("sentiflow.trial", "sweep")] = found
    for found in latest.values():
        assert found.info.status == "FINISHED"
    (killed,) = [r for r in runs if r.info.status != "FINISHED"]
    assert (killed.info.status, killed.data.tags["sentiflow.stage"]) == ("KILLED", "sweep")
    for task in tasks:
        run_id = latest[task.name].info.run_id
        points = client.get_metric_history(run_id, "validation/accuracy")
        assert [p.step for p in points] == [1, 2, 3, 4]


@pytest.mark.ray
@pytest.mark.soak
def test_a_sweep_of_other_settings_says_what_it_replaces_and_ends_the_runs_of_a_killed_one(
    tmp_path, prepared, resources, said
):
    """Kill it when the first trial has an epoch; then sweep over another space."""
    train = {"batching": {"global_batch_size": 32}}
    space = {"train.learning_rate": [0.02], "train.seed": [1, 2]}
    config = configure(tmp_path, prepared, space, train=train, max_concurrent=1, grace_epochs=4)
    root = checkpoints_of(plan(config)[0])
    with start(config) as process:
        wait_for_checkpoint(root, process)
        os.kill(process.pid, signal.SIGKILL)
    other = configure(tmp_path, prepared, {"train.seed": [3]}, train=train, max_concurrent=1)
    with pytest.raises(UserError, match="holds an unfinished run of other settings by "):
        run(other)
    stages.run(settings.load(other), ["sweep"], overwrite=True)
    replaced = f"sweep     replaces {tmp_path}/run/sweep, which holds an unfinished run of other"
    assert replaced in said.text
    assert "space.train.seed: [1, 2] there, [3] here" in said.text
    _, runs = runs_of(tmp_path)
    statuses = sorted(r.info.status for r in runs)
    assert statuses == ["FINISHED", "FINISHED", "KILLED"], "the sweep, its trial, the killed sweep"
