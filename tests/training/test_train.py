"""Whatever dies while a model is trained, the same command resumes to the same weights."""

import logging
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch
import yaml
from conftest import PROJECT, write_config
from safetensors.torch import load_file
from stages import begin, look
from tcp_proxy import Proxy

from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.pipeline import stages
from sentiflow.training import checkpoints, train_job
from sentiflow.training import train as training

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TRAIN = {
    "model": {"cell": "gru", "hidden_size": 16, "pooling": "mean_max", "dropout": 0.3},
    "batching": {"global_batch_size": 32},
    "pretrain": {"num_epochs": 1},
    "num_epochs": 3,
    "checkpoints": {"every_minutes": 0.001},
}
"""Some 600 steps."""


@pytest.fixture(scope="module")
def prepared(finished_run):
    """The prepared corpus of all trainings."""
    return finished_run / "run/prepared"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, prepared, resources):
    """Train once without a kill, by one worker."""
    return train_in(tmp_path_factory.mktemp("one"), prepared, num_workers=1)


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory, prepared, resources):
    """Train once without a kill, by two workers."""
    return train_in(tmp_path_factory.mktemp("two"), prepared, num_workers=2)


def train_in(folder, prepared, **train):
    config = settings.load(configure(folder, prepared, **train), ["tracking.register_model=true"])
    (outcome,) = stages.run(config, ["train"])
    return folder, outcome.record


def configure(folder, prepared, **train):
    """Write settings of a training on the prepared corpus."""
    chosen = TRAIN | {"prepared_uri": str(prepared)} | train
    folder.mkdir(exist_ok=True)
    return write_config(folder, prepared / "none.csv", train=chosen)


def checkpoints_of(folder):
    """Name the directory of the checkpoints of the training that the settings describe."""
    plan = training.resolve(settings.load(folder / "config.yaml"))
    return train_job.locate_checkpoints(look(plan.spec, overwrite=True))


def weights_of(folder):
    return load_file(folder / "run/trained/model/weights.safetensors")


def assert_equal(folder, undisturbed, atol):
    """Compare the weights and the curve with those of the undisturbed training."""
    expected_folder, expected = undisturbed
    theirs = weights_of(expected_folder)
    ours = weights_of(folder)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=atol, msg=name)
    record = manifest.read(str(folder / "run/trained"))
    assert record["fingerprint"] == expected["fingerprint"]
    assert len(record["history"]) == len(expected["history"])
    for epoch, wanted in zip(record["history"], expected["history"], strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy", "step"):
            assert epoch[name] == pytest.approx(wanted[name], abs=1e-5), name


def wait_for_step(folder, step, is_over):
    """Wait until there is a checkpoint of a step, or a later one."""
    root = checkpoints_of(folder)
    while not (steps := checkpoints.list_steps(root)) or steps[-1] < step:
        assert not is_over(), f"it was over before step {step}"
        time.sleep(0.005)
    return steps[-1]


def training_workers():
    """List the processes that train: Ray names an actor's process after what it does."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in child.name() or "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.soak
def test_a_killed_worker_is_replaced(tmp_path, prepared, undisturbed_pair, resources, caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    resolved = settings.load(configure(tmp_path, prepared, num_workers=2))
    thread = threading.Thread(target=stages.run, args=(resolved, ["train"]))
    thread.start()
    wait_for_step(tmp_path, 200, lambda: not thread.is_alive())
    workers = training_workers()
    assert len(workers) == 2
    workers[1].kill()
    thread.join()
    assert "workers were lost; resuming at step" in caplog.text
    assert_equal(tmp_path, undisturbed_pair, atol=1e-6)


@pytest.mark.soak
def test_a_store_that_is_away_for_twenty_seconds_is_named_and_the_training_goes_on(
    tmp_path, prepared, bucket
):
    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    config = configure(tmp_path, prepared, num_workers=2)
    output = f"train.output_uri={bucket}/outage/trained"
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", "sentiflow", "train", config, output], cwd=PROJECT, text=True,
        env=os.environ | {"AWS_ENDPOINT_URL": proxy.address}, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for line in process.stderr:
            lines.append(line)
            if line.startswith("train     epoch 1: loss"):
                proxy.refusing = True
                proxy.break_all()
                threading.Timer(20, setattr, [proxy, "refusing", False]).start()
    text = "".join(lines)
    proxy.close()
    assert process.returncode == 0, text
    assert f"workers have failed: {bucket}/outage/trained/checkpoints/" in text
    assert "the object store is unavailable (NETWORK_CONNECTION); resuming at step" in text


@pytest.mark.soak
def test_one_worker_may_resume_a_training_of_two(
    tmp_path, prepared, undisturbed, undisturbed_pair, resources, caplog
):
    """Take the last but one checkpoint of the pair, as if they had been killed then."""
    folder, _ = undisturbed_pair
    config = settings.load(configure(tmp_path, prepared))
    begin(training.resolve(config).spec)
    ours, theirs = map(checkpoints_of, (tmp_path, folder))
    step = checkpoints.list_steps(theirs)[-2]
    checkpoints.save(ours, checkpoints.load(theirs, step))
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    (outcome,) = stages.run(config, ["train"])
    assert f"resuming at step {step}" in caplog.text
    curve = [epoch["validation_loss"] for epoch in outcome.record["history"]]
    for _, record in (undisturbed, undisturbed_pair):
        expected = [epoch["validation_loss"] for epoch in record["history"]]
        assert curve == pytest.approx(expected, abs=0.01)


def test_checkpoints_of_the_last_and_the_best_epoch_stay(undisturbed):
    folder, record = undisturbed
    history = record["history"]
    best = max(history, key=lambda epoch: epoch["validation_accuracy"])
    steps = checkpoints.list_steps(checkpoints_of(folder))
    assert history[-1]["step"] in steps
    assert best["step"] in steps
    assert record["chosen_epoch"] == best["epoch"]
    saved = checkpoints.load(checkpoints_of(folder), best["step"]).tensors
    for name, tensor in weights_of(folder).items():
        if name != "output.bias":  # the calibration changes it
            assert torch.equal(tensor, saved[f"weights/network.{name}"])


def test_the_run_in_mlflow_has_steps_epochs_and_the_curve(undisturbed):
    from mlflow import MlflowClient

    folder, record = undisturbed
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run_id = record["mlflow_run_id"]
    epochs = client.get_metric_history(run_id, "validation/accuracy")
    assert [point.step for point in epochs] == [1, 2, 3, 3], "and once more, of the kept model"
    for name in ("loss", "learning_rate", "gradient_norm", "padding_fraction"):
        steps = [point.step for point in client.get_metric_history(run_id, f"step/{name}")]
        assert steps == sorted(set(steps))
        assert steps
    plots = [item.path for item in client.list_artifacts(run_id, "plots")]
    assert plots == ["plots/training_curve.png"]


def test_training_may_start_from_a_registered_model(tmp_path, prepared, undisturbed, resources):
    folder, first = undisturbed
    changes = {"pretrain": {"num_epochs": 0}, "num_epochs": 1, "learning_rate": 1e-9}
    config = configure(tmp_path, prepared, init_from="models:/test@candidate", **changes)
    store = {"tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | store))
    (outcome,) = stages.run(settings.load(config), ["train"])
    for name, tensor in weights_of(tmp_path).items():
        atol = 0.01 if name == "output.bias" else 1e-4  # which is calibrated anew
        torch.testing.assert_close(tensor, weights_of(folder)[name], rtol=0, atol=atol)
    named = outcome.record["inputs"]["init_from"]
    assert named["uri"] == f"models:/test/{first['registered']['version']}"
    assert named["training"]["fingerprint"] == first["fingerprint"]
    other = configure(tmp_path, prepared, init_from=str(folder / "run"), model={"hidden_size": 8})
    with pytest.raises(UserError, match="trained/model is of another network"):
        stages.run(settings.load(other), ["train"], overwrite=True)
    left = {path.name for path in (tmp_path / "run/trained").iterdir()}
    assert left == {"manifest.json", "model", "checkpoints", "plots"}, "the earlier result stays"
    uri = str(tmp_path / "run/trained")
    before = outcome.record["fingerprint"]
    record = manifest.require(uri, stage="train", setting="")
    assert record["fingerprint"] == before
