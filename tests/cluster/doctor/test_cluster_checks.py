"""Each fault of a cluster is found and names its nodes; a healthy cluster passes every check."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import PROJECT, write_config
from mlflow_server import Server
from ray_nodes import RayNodes, may_mount
from test_cli import invoke
from test_local_checks import store  # noqa: F401 - a fixture
from test_shared_storage import node

from sentiflow.cluster.doctor import cluster_checks, local_checks
from sentiflow.cluster.doctor.check import Check
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.cluster.shared_storage import SharingProblem
from sentiflow.config import settings
from sentiflow.errors import UserError

needs_root = pytest.mark.skipif(
    not may_mount(), reason="only root can give a node file systems of its own, and not everywhere"
)

ALL = [node(2), node(3), node(4)]


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
    ("output", "error", "is not shared: node", "s3://"),
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


def test_an_address_of_something_else_is_reported(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "sentiflow submit" in " ".join(result.stdout.split())


JOIN = """
from sentiflow.cluster.doctor import cluster_checks
cluster_checks._LIMIT_SECONDS = 8
if __name__ == "__main__":
    print(cluster_checks.examine(None)[0].what)
"""


def join(environment):
    return subprocess.run(
        [sys.executable, "-c", JOIN], capture_output=True, text=True, timeout=100, env=environment
    )


def test_a_cluster_that_never_answers_keeps_nobody_waiting():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = join(os.environ | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no answer within 8 s\n"


@pytest.fixture
def answers(monkeypatch):
    """Give the answers of nodes in place of a cluster."""
    given = {}

    def on_each(work, *arguments, timeout_seconds, nodes):
        return [NodeAnswer(one, *given.get(one.id, ("fine", ""))) for one in nodes]

    monkeypatch.setattr(cluster_checks.nodes, "on_each", on_each)
    return given


CHECK = Check("input", str, why="because", do="this")


def test_a_check_that_all_nodes_pass_is_one_line(answers):
    (result,) = cluster_checks.run_on_nodes(CHECK, None, ALL)
    assert (result.level, result.what) == ("ok", "fine (3 nodes)")


def test_equal_problems_of_several_nodes_are_one_line(answers):
    answers |= {ALL[0].id: (None, "no such file"), ALL[2].id: (None, "no such file")}
    (result,) = cluster_checks.run_on_nodes(CHECK, None, ALL)
    assert (result.level, result.what) == ("error", "no such file (nodes 10.0.0.2, 10.0.0.4)")
    assert list(result.nodes) == ["10.0.0.2", "10.0.0.4"]


def test_nodes_that_see_different_files_are_an_error(answers):
    answers[ALL[1].id] = ("2 files", "")
    (result,) = cluster_checks.run_on_nodes(CHECK, None, ALL)
    assert result.level == "error"
    assert "2 files (node 10.0.0.3)" in result.what


def test_a_node_without_sentiflow_is_reported_and_asked_nothing_else(answers):
    answers[ALL[1].id] = (None, "ModuleNotFoundError: No module named 'sentiflow'")
    (result,), able = cluster_checks.check_alive(ALL)
    assert (result.level, result.nodes) == ("error", ("10.0.0.3",))
    assert "--working-dir" in result.do
    assert able == [ALL[0], ALL[2]]


def test_the_nodes_are_counted_and_a_head_that_waits_for_workers_is_a_warning():
    (summary,) = cluster_checks.check_nodes(ALL, False)
    assert "3 nodes, 12 cores, 0 GPUs" in summary.what
    _, warning = cluster_checks.check_nodes(ALL[:1], True)
    assert (warning.level, "only the head" in warning.what) == ("warning", True)


@pytest.mark.parametrize("name", ["python", "ray", "pandas", "sentiflow", "code"])
def test_a_node_with_another_version_or_other_code_is_found(name):
    expected = local_checks.find_versions()
    assert "ray" in cluster_checks.check_same_versions(None, expected=expected)
    with pytest.raises(UserError, match=f"{name} .*, but 0.0 on the driver"):
        cluster_checks.check_same_versions(None, expected=expected | {name: "0.0"})


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o400, False), (0o640, True)])
def test_a_token_that_others_can_read_is_found(monkeypatch, tmp_path, mode, is_open):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster_checks.TOKEN.attempt(None).level == "ok"
    for path in (tmp_path / ".ray/auth_token", tmp_path / "elsewhere"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a")
        path.chmod(mode)
        result = cluster_checks.TOKEN.attempt(None)
        assert (result.level == "error") == is_open
        assert is_open == (f"{path} has mode {mode:04o}" in result.what)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("home_mode", "mode", "is_open"),
    [(0o755, 0o777, True), (0o755, 0o755, True), (0o750, 0o777, True), (0o700, 0o777, False)],
)
def test_a_session_folder_that_others_can_reach_is_found(monkeypatch, home_mode, mode, is_open):
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        session = Path(home, "ray/session_1")
        session.mkdir(parents=True)
        session.parent.chmod(0o777)
        session.chmod(mode)
        Path(home).chmod(home_mode)
        monkeypatch.setattr(cluster_checks.nodes, "here", lambda: "this")
        dirs = {"this": str(session)}
        run = functools.partial(cluster_checks.check_node_session, session_dirs=dirs)
        result = Check("session", run, "", "").attempt(None)
    assert (result.level == "error") == is_open
    assert ("can be entered by other users (mode 0777)" in result.what) == is_open


@pytest.mark.parametrize(
    ("address", "status", "is_alone", "level"),
    [
        ("127.0.0.1:8265", 401, False, "ok"),
        ("127.0.0.1:8265", 200, True, "warning"),
        ("127.0.0.1:8265", 200, False, "error"),
        ("10.0.0.2:8265", 200, True, "error"),
        ("10.0.0.2:8265", 401, False, "warning"),
    ],
)
def test_an_open_dashboard_is_found(address, status, is_alone, level):
    result = cluster_checks.judge_dashboard(address, status, is_alone=is_alone)
    assert result.level == level
    assert ("CVE-2023-48022" in result.why) == (status == 200)


def test_the_dashboard_is_asked_without_a_token(store):  # noqa: F811
    store.health = 401
    assert cluster_checks.ask_dashboard(f"127.0.0.1:{store.server_port}") == 401


def test_output_that_nodes_do_not_share_is_found(config, monkeypatch):
    found = [SharingProblem("is not shared: node a does not see what node b wrote", ("a", "b"))]
    monkeypatch.setattr(
        cluster_checks.shared_storage, "find_problems", lambda uri, **options: found
    )
    check = functools.partial(cluster_checks.check_shared_output, settings.load(config), ALL)
    (result,) = check(Resources(12, 0, 3, 4))
    assert (result.level, result.nodes) == ("error", ("a", "b"))
    found.clear()
    (result,) = check(Resources(12, 0, 3, 4))
    assert (result.level, "3 nodes" in result.what) == ("ok", True)


class FakeArray:
    def __init__(self, size):
        self.size = size

    def __matmul__(self, other):
        return self

    def __getitem__(self, key):
        return self.size


def ones(size, _, device):
    if device == "cuda:1":
        raise RuntimeError("CUDA error: no kernel image\nmore")
    return FakeArray(size)


@pytest.fixture
def check_torch(monkeypatch):
    """Check a torch whose second GPU fails, and which sees no GPU where Ray hides them."""
    monkeypatch.setattr(cluster_checks.nodes, "here", lambda: "this")
    cuda = SimpleNamespace(device_count=lambda: 0 if "CUDA_VISIBLE_DEVICES" in os.environ else 2)
    fake = SimpleNamespace(ones=ones, cuda=cuda, __version__="9.9")
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda num_gpus: cluster_checks.check_torch(None, num_gpus={"this": num_gpus})


def test_a_gpu_that_ray_counts_and_torch_cannot_use_is_found(check_torch):
    assert "torch 9.9 works" in check_torch(1)
    with pytest.raises(UserError, match=r"can use 1 of 2 GPUs: CUDA error: no kernel image$"):
        check_torch(2)


def test_gpus_that_ray_hides_from_its_tasks_are_seen(check_torch, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert check_torch(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match="can use 0 of 1 GPU"):
        check_torch(1)


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
    on_nodes = {check.name for check in cluster_checks._list_node_checks(None, [])}
    assert on_nodes == {"versions", "torch", "disk", "token", "session"}
    (result,) = local_checks.run_in_time({}, None, seconds=60)[:1]
    assert result.check == "tracking"


@pytest.mark.ray
@pytest.mark.soak
def test_a_healthy_cluster_passes_every_check_soon(healthy, config, folder):
    nodes, server, _ = healthy
    began = time.monotonic()
    found = examine(nodes, config, f"tracking.uri={server.uri}", code=0)
    assert time.monotonic() - began < 60
    assert [r for r in found if r["level"] != "ok"] == []
    assert {r["check"] for r in found} == {
        "nodes", "versions", "torch", "input", "output", "disk", "tracking", "dashboard", "token",
        "session",
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
    assert "all is well: 10 checks" in good.stdout
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
def test_a_wrong_token_is_reported_in_time(healthy, tmp_path):
    nodes, _, _ = healthy
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("f" * 64)
    token.chmod(0o600)
    done = join(nodes.client_environment | {"HOME": str(tmp_path)})
    assert "cannot be joined" in done.stdout or "no answer" in done.stdout, (
        done.stdout + done.stderr
    )


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
