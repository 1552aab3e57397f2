"""The head is killed in each stage while a scheduler follows: its retries give the same tables."""

import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
import scheduler_runs
import yaml
from conftest import PROJECT
from ray_head import Head
from test_several_nodes import assert_same_predictions, assert_same_prepared, has_begun

from sentiflow.data import manifest
from sentiflow.storage import filesystem

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

PATIENCE_SECONDS = 400
"""Time in which a stage must begin: far more than it needs, as the machine may be busy."""
STAGES = {"prepare": "prepared", "train": "trained", "score": "scored", "evaluate": "report"}
"""The stages of a run, and their directories."""


@pytest.fixture(scope="module")
def settings(clone, bucket, sample_csv) -> dict[str, object]:
    """Write settings of which every part is small, and put the corpus into the bucket."""
    filesystem.write_bytes(f"{bucket}/in/tweets.csv", sample_csv.read_bytes())
    settings = {
        "name": "weekly",
        "output_uri": f"{bucket}/undisturbed",
        "prepare": {
            "csv": f"{bucket}/in/tweets.csv",
            "rows_per_file": 300,
            "vocabulary": {"min_count": 2},
        },
        "train": {
            "model": {"cell": "gru", "hidden_size": 32},
            "batching": {"global_batch_size": 64},
            "num_epochs": 8,
            "learning_rate": 0.003,
        },
        "score": {"rows_per_file": 300},
        "tracking": {"uri": "http://127.0.0.1:9", "required": False},
    }
    (clone / "configs/weekly.yaml").write_text(yaml.safe_dump(settings))
    return settings


@pytest.fixture(scope="module")
def undisturbed(clone, settings, sentiflow) -> str:
    """Run everything once, on this machine."""
    done = sentiflow("run", clone / "configs/weekly.yaml", timeout=400, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return settings["output_uri"]


@pytest.fixture
def head() -> Iterator[Head]:
    """Start a head whose nodes have the keys of the object store."""
    head = Head({name: value for name, value in os.environ.items() if name.startswith("AWS_")})
    try:
        head.start()
        yield head
    finally:
        head.stop()


@pytest.mark.parametrize("scheduler", scheduler_runs.SCHEDULERS)
def test_a_head_killed_in_each_stage_changes_no_table(
    scheduler, tmp_path, clone, settings, undisturbed, head, bucket
):
    uri = f"{bucket}/{scheduler}"
    (clone / "configs/weekly.yaml").write_text(yaml.safe_dump(settings | {"output_uri": uri}))
    scheduler_runs.lay(tmp_path, clone, on_cluster=True)
    environment = head.client_environment(
        PATH=scheduler_runs.add_program(tmp_path, clone), RAY_API_SERVER_ADDRESS=head.address
    )
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = scheduler_runs.start(scheduler, tmp_path, output, environment)
        try:
            for stage in STAGES:
                wait_until_within(stage, uri, process, log)
                head.kill()
                head.start()
            code = process.wait(timeout=PATIENCE_SECONDS)
        finally:
            scheduler_runs.kill(process)
    said = log.read_text()
    assert code == 0, said
    restarts = re.findall("the cluster was restarted, and sentiflow-run-weekly-", said)
    assert len(restarts) == len(STAGES), said
    if scheduler == "loop":
        assert "stages: prepare train score evaluate\n" in said
    check_same(uri, undisturbed)


def wait_until_within(
    stage: str, uri: str, process: "subprocess.Popen[str]", log: os.PathLike[str]
) -> None:
    """Wait until a stage is in the midst of its work."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_within(stage, uri):
        text = log.read_text()
        assert process.poll() is None, f"it was over before {stage}: {text}"
        assert time.monotonic() < deadline, f"{stage} has not begun: {text}"
        time.sleep(0.1)


def is_within(stage: str, uri: str) -> bool:
    """Say whether a stage is in the midst of its work."""
    if stage == "evaluate":
        return filesystem.exists(f"{uri}/scored/manifest.json")
    return has_begun(uri, stage)


def check_same(uri: str, expected: str) -> None:
    """Compare the results of two runs."""
    assert_same_prepared(uri, expected)
    weights = "trained/model/weights.safetensors"
    assert filesystem.read_bytes(f"{uri}/{weights}") == filesystem.read_bytes(
        f"{expected}/{weights}"
    )
    assert_same_predictions(uri, expected)
    figures = [manifest.read(f"{root}/report")["figures"] for root in (uri, expected)]
    assert figures[0].keys() == figures[1].keys()
    for split in figures[0]:
        for name in ("num_rows", "accuracy"):
            assert figures[0][split][name] == figures[1][split][name]
