"""Each fault of a cluster is found and names its nodes; a healthy cluster passes every check."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT, write_config
from mlflow_server import Server
from ray_nodes import RayNodes, may_mount
from test_cli import invoke
from test_local_checks import store  # noqa: F401 - a fixture

from sentiflow.cluster.doctor import cluster_checks

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
    for name in ("in", "out", "home", "other home", "site"):
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


def break_node(folder, nodes):
    """Break what a node needs in every way; returns its environment and its mounts."""
    distribution = folder / "site/pandas-1.5.3.dist-info"
    distribution.mkdir()
    about = "Metadata-Version: 2.1\nName: pandas\nVersion: 1.5.3\n"
    (distribution / "METADATA").write_text(about)
    token = folder / "other home/.ray/auth_token"
    token.parent.mkdir()
    token.write_text("a" * 64)
    token.chmod(0o644)
    environment = {
        "HOME": str(folder / "other home"),
        "PYTHONPATH": f"{folder}/site:{PROJECT}",
    }
    mounts = f"""
mount -t tmpfs -o size=8m tmpfs '{folder}/out'
mount -t tmpfs tmpfs '{folder}/in'
"""
    return {"environment": environment, "before": mounts if may_mount() else "true"}


@pytest.fixture(scope="module")
def results(folder, config):
    """Check a cluster without a token, whose second node is broken in every way."""
    nodes = RayNodes(folder / "home", RAY_AUTH_MODE="disabled")
    try:
        nodes.start_head("--num-cpus", "2", "--object-store-memory", "100000000")
        options = ["--num-cpus", "1", "--num-gpus", "1", "--object-store-memory", "80000000"]
        nodes.start_node(*options, **break_node(folder, nodes))
        nodes.wait_for_nodes()
        Path(nodes.temp_dir).chmod(0o755)
        yield examine(nodes, config, code=1)
    finally:
        nodes.kill()


BROKEN = [
    ("versions", "error", "pandas 1.5.3, but ", "constraints.txt"),
    ("torch", "error", "can use 0 of 1 GPU", "pytorch.org"),
    ("tracking", "error", "Connection refused", "mlflow server"),
    ("dashboard", "error", "answers without a token", "ray get-auth-token"),
    ("token", "error", "has mode 0644 (node ", "chmod 600"),
    ("session", "warning", "can be entered by other users (mode 0777)", "mkdir -m 700"),
]
BROKEN_BY_ROOT = [
    ("input", "error", "prepare.csv: no such file: ", "where every machine can read them"),
    ("output", "error", "is not shared with node", "s3://"),
    ("disk", "error", "GB are free at ", "output_uri"),
]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "level", "what", "do"),
    [*BROKEN, *(pytest.param(*row, marks=needs_root) for row in BROKEN_BY_ROOT)],
    ids=lambda value: value if " " not in value else "",
)
def test_each_fault_of_a_cluster_is_found(results, check, level, what, do):
    found = [r for r in results if r["check"] == check and what in r["what"]]
    assert found, [r["what"] for r in results if r["check"] == check]
    assert found[0]["level"] == level
    assert do in found[0]["do"]
    assert found[0]["why"]


def test_a_cluster_where_nobody_listens_is_reported_at_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert (
        "RAY_ADDRESS=127.0.0.1:9: no Ray cluster can be joined there (Connection" in result.stdout
    )
    assert result.stdout.splitlines()[-1] == "1 error, 2 unchecked"


def test_an_address_of_something_else_is_reported(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    monkeypatch.setattr(cluster_checks.ray, "is_initialized", lambda: False)
    (result,) = cluster_checks._examine_cluster(False, None)
    assert (result.check, result.level) == ("nodes", "error")
    assert "sentiflow submit" in result.what


def join(monkeypatch, folder, **environment):
    """Try to join a cluster for a few seconds, from a folder; returns what is said of it."""
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cluster_checks, "_LIMIT_SECONDS", 4)
    return cluster_checks.examine(None)[0].what


def test_a_cluster_that_never_answers_keeps_nobody_waiting(monkeypatch, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        said = join(monkeypatch, tmp_path, RAY_ADDRESS=address, RAY_AUTH_MODE="disabled")
    assert said == "no answer within 4 s"


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
        yield nodes, server, token
    finally:
        nodes.kill()
        server.kill()


def test_no_node_asks_the_tracking_store_only_the_driver_does():
    on_nodes = {check.name for check in cluster_checks.list_short_checks()}
    assert on_nodes == {"versions", "disk", "token", "session"}


@pytest.mark.ray
@pytest.mark.soak
def test_a_healthy_cluster_passes_every_check_soon(healthy, config, folder):
    nodes, server, _ = healthy
    began = time.monotonic()
    found = examine(nodes, config, f"tracking.uri={server.uri}", code=0)
    assert time.monotonic() - began < 60
    assert [r for r in found if r["level"] != "ok"] == []
    assert {r["check"] for r in found} == {
        "nodes", "versions", "torch", "input", "columns", "labels", "rows", "encoding", "output",
        "disk", "tracking", "dashboard", "token", "session",
    }  # fmt: skip
    assert os.listdir(folder / "out") == []


@pytest.mark.ray
@pytest.mark.soak
def test_a_submitted_job_examines_the_cluster_from_within(healthy, config, tmp_path):
    nodes, server, _ = healthy
    for folder in ("jobs", "sentiflow"):
        shutil.copytree(PROJECT / folder, tmp_path / "project" / folder)
    command = ["ray", "job", "submit", "--address", nodes.dashboard, "--working-dir", "."]
    command += ["--", "python", "jobs/doctor.py"]

    def submit(*arguments):
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path / "project", env=nodes.environment,
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    good = submit(str(config), f"tracking.uri={server.uri}")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "all is well: 14 checks" in good.stdout
    bare = submit()
    assert bare.returncode == 1
    assert "would be lost with the machine" in " ".join(bare.stdout.split())


@pytest.mark.ray
@pytest.mark.soak
def test_a_token_that_others_can_read_is_found_on_every_node(healthy):
    nodes, _, token = healthy
    token.chmod(0o644)
    found = examine(nodes, code=1)
    token.chmod(0o600)
    (result,) = [r for r in found if r["check"] == "token"]
    assert result["level"] == "error"
    assert len(result["nodes"]) == 2


@pytest.mark.ray
@pytest.mark.soak
def test_a_wrong_token_is_reported_in_time(healthy, tmp_path, monkeypatch):
    nodes, _, _ = healthy
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("f" * 64)
    token.chmod(0o600)
    said = join(monkeypatch, tmp_path, **(nodes.client_environment | {"HOME": str(tmp_path)}))
    assert "cannot be joined" in said or "no answer" in said


@pytest.mark.ray
@pytest.mark.soak
def test_a_node_that_hangs_does_not_hang_the_doctor(healthy, config):
    """It is the last test, as Ray declares the node lost sooner or later."""
    nodes, server, _ = healthy
    children = psutil.Process(nodes.processes[1].pid).children(recursive=True)
    (raylet,) = [child for child in children if child.name() == "raylet"]
    raylet.suspend()
    began = time.monotonic()
    try:
        found = examine(nodes, config, f"tracking.uri={server.uri}", code=1)
    finally:
        raylet.resume()
    assert time.monotonic() - began < 180
    whats = " ".join(r["what"] for r in found if r["check"] == "nodes" and r["level"] != "ok")
    assert "no answer within" in whats or "lost" in whats
