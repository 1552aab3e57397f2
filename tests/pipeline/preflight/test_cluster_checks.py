"""Each fault of a cluster is found and names its nodes; a healthy cluster passes every check."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import PROJECT, write_config
from mlflow_server import Server
from ray_nodes import RayNodes, may_mount

from sentiflow.pipeline.preflight import machine_checks

needs_root = pytest.mark.skipif(
    not may_mount(), reason="only root can give a node file systems of its own, and not everywhere"
)


def examine(nodes, *arguments, code):
    """Run the command as a user of the cluster does; returns its results."""
    command = [sys.executable, "-m", "sentiflow", "doctor", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, env=nodes.client_environment, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sample_csv):
    """Make a directory with the input in one part of it, and room for results in another."""
    folder = tmp_path_factory.mktemp("doctor")
    for name in ("in", "out", "home", "site"):
        (folder / name).mkdir()
    shutil.copy(sample_csv, folder / "in/tweets.csv")
    return folder


@pytest.fixture(scope="module")
def config(folder):
    return write_config(
        folder,
        folder / "in/tweets.csv",
        output_uri=str(folder / "out/run"),
        tracking={"uri": "http://127.0.0.1:9"},
    )


def break_node(folder):
    """Break what a node needs in every way; returns its environment and its mounts."""
    distribution = folder / "site/pandas-1.5.3.dist-info"
    distribution.mkdir()
    about = "Metadata-Version: 2.1\nName: pandas\nVersion: 1.5.3\n"
    (distribution / "METADATA").write_text(about)
    environment = {"PYTHONPATH": f"{folder}/site:{PROJECT}"}
    mounts = f"mount -t tmpfs -o size=8m tmpfs '{folder}/out'"
    return {"environment": environment, "before": mounts if may_mount() else "true"}


@pytest.fixture(scope="module")
def results(folder, config):
    """Check a cluster without a token, whose second node is broken in every way."""
    nodes = RayNodes(folder / "home", RAY_AUTH_MODE="disabled")
    try:
        nodes.start_head("--num-cpus", "2", "--object-store-memory", "100000000")
        options = ["--num-cpus", "1", "--num-gpus", "1", "--object-store-memory", "80000000"]
        nodes.start_node(*options, **break_node(folder))
        nodes.wait_for_nodes()
        yield examine(nodes, config, code=2)
    finally:
        nodes.kill()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "what", "do"),
    [
        ("versions", "(pandas 1.5.3)", "constraints.txt"),
        ("torch", "(can use 0 of 1 GPUs)", "pytorch.org"),
        ("tracking", "Connection refused", ""),
        ("token", "answers without a token", "ray get-auth-token"),
        pytest.param("output", "is not shared with node ", "s3://", marks=needs_root),
    ],
)
def test_each_fault_of_a_cluster_is_found(results, check, what, do):
    (found,) = [r for r in results if r["check"] == check]
    assert found["level"] == "error"
    assert what in found["what"]
    assert do in found["what"]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Start a cluster with a token and two nodes, and an MLflow server."""
    home = tmp_path_factory.mktemp("home")
    token = home / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    nodes = RayNodes(home, RAY_AUTH_MODE="token")
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        nodes.start_head("--num-cpus", "2", "--object-store-memory", "100000000")
        server.start()
        nodes.start_node("--num-cpus", "1", "--object-store-memory", "100000000")
        nodes.wait_for_nodes()
        yield nodes, server
    finally:
        nodes.kill()
        server.kill()


@pytest.mark.ray
@pytest.mark.soak
def test_a_healthy_cluster_passes_every_check_soon(healthy, config, folder):
    nodes, server = healthy
    found = examine(nodes, config, f"tracking.uri={server.uri}", code=0)
    assert [r for r in found if r["level"] != "ok"] == []
    names = [result["check"] for result in found]
    assert names == ["nodes", "versions", "torch", "output", "token", "config", "tracking"]
    assert os.listdir(folder / "out") == []


class FakeArray:
    def sum(self):
        return self

    def item(self):
        return 8.0


def ones(size, device):
    if device == "cuda:1":
        raise RuntimeError("CUDA error: no kernel image")
    return FakeArray()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gpus_that_ray_hides_from_its_tasks_are_tried(monkeypatch, number):
    def count():
        return number if "CUDA_VISIBLE_DEVICES" not in os.environ else 0

    fake = SimpleNamespace(ones=ones, cuda=SimpleNamespace(device_count=count))
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if number == 2:
        with pytest.raises(RuntimeError, match="no kernel image"):
            machine_checks.count_gpus()
    else:
        assert machine_checks.count_gpus() == number
