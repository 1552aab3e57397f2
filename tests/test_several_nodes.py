"""Jobs on a head and two nodes with data in object storage: the same results, whatever dies."""

import re
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, without_token, write_config
from several_nodes import IMPATIENT, Nodes

from sentiflow.data import manifest
from sentiflow.models.package import ModelPackage
from sentiflow.storage import filesystem, parquet

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROWS_PER_FILE = 750
PATIENCE = 600
"""Seconds that a command may take: far more than it needs, as the machine may be busy."""
CORES_OF_KILLED = 180
"""Seconds for which Ray keeps the cores of a killed training."""


@pytest.fixture(scope="module")
def started(bucket, finished_run, resources):
    """Start a cluster whose nodes can reach the object store.

    The finished run is made before, as commands would run on the cluster from here on. This process
    has a Ray of its own, which sets the token up: nodes without it do not find the driver.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in IMPATIENT.items():
            patch.setenv(name, value)
        nodes = Nodes()
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.stop()


@pytest.fixture
def nodes(started):
    """Have two nodes, whatever the last test did to them."""
    started.have(2)
    return started


@pytest.fixture(scope="module")
def config(tmp_path_factory, sample_csv, bucket):
    """Write settings with many small parts, all in the bucket.

    The training does not amplify rounding errors (docs/training.md): with one worker and with two,
    the loss of each epoch is the same to 2e-8.
    """
    filesystem.write_bytes(f"{bucket}/in/tweets.csv", sample_csv.read_bytes())
    folder = tmp_path_factory.mktemp("several_nodes")
    path = write_config(folder, sample_csv)
    changes = {
        f"prepare:\n  csv: {sample_csv}\n  rows_per_file: 2500": "prepare:\n"
        f"  csv: {bucket}/in/*.csv\n  rows_per_file: {ROWS_PER_FILE}",
        "score:\n  rows_per_file: 2500": f"score:\n  rows_per_file: {ROWS_PER_FILE}",
        f"output_uri: {folder}/run": f"output_uri: {bucket}/on_nodes",
        "learning_rate: 0.01": "learning_rate: 0.003",
        "global_batch_size: 128": "global_batch_size: 64",
        "pooling: mean_max": "pooling: last",
        "num_epochs: 6": "num_epochs: 3",
    }
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text + "cluster: {max_wait_minutes: 0.1}\n")
    return path


@pytest.fixture(scope="module")
def model(bucket, finished_run):
    """Bring the model of one machine to where all nodes find it."""
    package = finished_run / "run/trained/model"
    for path in package.rglob("*"):
        if path.is_file():
            uri = f"{bucket}/model/{path.relative_to(package)}"
            filesystem.write_bytes(uri, path.read_bytes())
    return f"{bucket}/model"


@pytest.fixture(scope="module")
def on_nodes(started, config, bucket, model):
    """Prepare on both nodes, and score by the model of one machine, in one command.

    In the midst of the preparation a node is killed, and another takes its place.
    """
    started.have(2)
    log = config.parent / "log.txt"
    script = f"""
import logging
from sentiflow.config import settings
from sentiflow.pipeline import stages
logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s")
config = settings.load({str(config)!r}, ["score.model_uri={model}"])
stages.run(config, ["prepare", "score"])
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=PROJECT, stderr=log.open("w")) as process:
        wait_until_begun(f"{bucket}/on_nodes", "prepare", process, log)
        started.kill()
        started.add()
        assert end_of(process, log) == 0, log.read_text()
    return f"{bucket}/on_nodes"


@pytest.fixture(scope="module")
def trained_on_nodes(on_nodes, started, config, bucket):
    """Train on both nodes; returns the manifest of the training."""
    started.have(2)
    log = config.parent / "trained.txt"
    command = [sys.executable, "-m", "sentiflow", "train", config, "train.num_workers=2"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=log.open("w")) as process:
        assert end_of(process, log) == 0, log.read_text()
    return manifest.read(f"{on_nodes}/trained")


def end_of(process, log, *, seconds=PATIENCE):
    """Wait for the exit code of a command; kill one that hangs, and show its log."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"no end after {seconds} s: {log.read_text()}")


def list_files(uri, suffix):
    return [name for name in filesystem.listing(uri) if name.endswith(suffix)]


def table(uri):
    """Read a table in the bucket by its row ids."""
    names = list_files(uri, ".parquet")
    return pa.concat_tables([parquet.read(f"{uri}/{n}") for n in names]).sort_by("row_id")


def assert_same_prepared(ours, theirs):
    """Compare every file byte by byte, except for the manifest, which has times."""
    names = [list_files(f"{root}/prepared", ".parquet") for root in (ours, theirs)]
    assert [*map(without_token, names[0])] == [*map(without_token, names[1])]
    for own, other in zip(*names, strict=True):
        content = filesystem.read_bytes(f"{theirs}/prepared/{other}")
        assert filesystem.read_bytes(f"{ours}/prepared/{own}") == content, own


def assert_same_predictions(ours, theirs):
    """Compare the predictions; the probabilities may differ by rounding."""
    ours, theirs = table(f"{ours}/scored/predictions"), table(f"{theirs}/scored/predictions")
    for name in theirs.column_names:
        if name.startswith(("probability", "confidence")):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)
        else:
            assert ours[name].equals(theirs[name]), name


def test_two_nodes_of_which_one_is_killed_give_the_tables_of_one_machine(on_nodes, finished_run):
    alone = str(finished_run / "run")
    for name in ("prepared/tweets", "prepared/encoded"):
        assert table(f"{on_nodes}/{name}").equals(table(f"{alone}/{name}")), name
    assert_same_predictions(on_nodes, alone)
    left = filesystem.listing(on_nodes)
    assert not [name for name in left if "_work" in name]


@pytest.mark.soak
def test_a_training_uses_both_nodes(trained_on_nodes, on_nodes):
    assert trained_on_nodes["num_workers"] == 2
    assert len(ModelPackage.load(f"{on_nodes}/trained/model").vocabulary) > 100


def start(config, verb, bucket, log, *overrides):
    """Begin a stage on the results of the finished run, with an output of its own."""
    uri = f"{bucket}/{log.parent.name}"
    chosen = [f"output_uri={uri}", *overrides]
    if verb != "prepare":
        chosen += [f"{verb}.prepared_uri={bucket}/on_nodes/prepared"]
    if verb == "score":
        chosen += [f"score.model_uri={bucket}/model"]
    command = [sys.executable, "-m", "sentiflow", verb, str(config), *chosen]
    return uri, command, subprocess.Popen(command, cwd=PROJECT, stderr=log.open("w"))


def has_begun(uri, verb):
    """Say whether a stage is in the middle of its work."""
    if verb == "train":  # its log may be late, as the driver records epochs before it tells them
        checkpoints = list_files(f"{uri}/trained/checkpoints", "/state.json")
        return len(checkpoints) > 1
    root = f"{uri}/prepared" if verb == "prepare" else f"{uri}/scored"
    return sum("/receipts/" in name for name in filesystem.listing(f"{root}/_work")) > 2


def wait_until_begun(uri, verb, process, log):
    while not has_begun(uri, verb):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)  # the object store answers in this process, on a core that the job needs


@pytest.mark.parametrize(
    ("verb", "is_replaced"),
    [
        pytest.param("prepare", False, marks=pytest.mark.soak),
        pytest.param("train", False, marks=pytest.mark.soak),
        pytest.param("score", True, marks=pytest.mark.soak),
        pytest.param("prepare", True, marks=pytest.mark.soak),
        pytest.param("train", True, marks=pytest.mark.soak),
        pytest.param("score", False, marks=pytest.mark.soak),
    ],
)
def test_a_killed_node_changes_no_result(
    tmp_path, config, bucket, on_nodes, nodes, request, verb, is_replaced
):
    alone = request.getfixturevalue("trained_on_nodes") if verb == "train" else None
    log = tmp_path / "log.txt"
    workers = ["train.num_workers=2"] if verb == "train" else []
    uri, _, process = start(config, verb, bucket, log, *workers)
    with process:
        wait_until_begun(uri, verb, process, log)
        nodes.kill()
        if is_replaced:
            nodes.add()
        assert end_of(process, log) == 0, log.read_text()
    if verb == "prepare":
        assert_same_prepared(uri, on_nodes)
    elif verb == "score":
        assert_same_predictions(uri, on_nodes)
    else:
        assert "workers were lost; resuming at step" in log.read_text()
        assert is_replaced or manifest.read(f"{uri}/trained")["num_workers"] == 1
        resumed = manifest.read(f"{uri}/trained")
        curves = [
            [epoch["validation_loss"] for epoch in training["history"]]
            for training in (resumed, alone)
        ]
        assert curves[0] == pytest.approx(curves[1], abs=1e-6)


@pytest.mark.soak
def test_after_a_killed_driver_the_same_command_waits_for_its_cores_and_resumes(
    tmp_path, config, bucket, on_nodes, nodes
):
    log = tmp_path / "log.txt"
    uri, command, process = start(config, "train", bucket, log, "train.num_workers=2")
    with process:
        wait_until_begun(uri, "train", process, log)
        process.kill()
    with subprocess.Popen(command, cwd=PROJECT, stderr=log.open("w")) as again:
        assert end_of(again, log, seconds=CORES_OF_KILLED + PATIENCE) == 0, log.read_text()
    assert "resuming at step" in log.read_text()
    assert manifest.read(f"{uri}/trained")["num_workers"] == 2


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param("score", marks=pytest.mark.soak),
        pytest.param("prepare", marks=pytest.mark.soak),
        pytest.param("train", marks=pytest.mark.soak),
    ],
)
def test_without_a_node_a_job_ends_and_the_same_command_resumes(
    tmp_path, config, bucket, on_nodes, nodes, verb
):
    log = tmp_path / "log.txt"
    uri, command, process = start(config, verb, bucket, log)
    with process:
        wait_until_begun(uri, verb, process, log)
        nodes.have(0)
        assert end_of(process, log) == 1, log.read_text()
    said = log.read_text()
    assert "no node with 1 CPU: waiting for one, 6 s at most" in said
    assert said.endswith(
        "sentiflow: the cluster has had no node with 1 CPU for 6 s (cluster.max_wait_minutes): "
        "add one and run the same command again: it resumes\n"
    )
    nodes.have(1)
    again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert re.search("goes on|resum", again.stderr)
