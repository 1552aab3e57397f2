"""What nodes answer becomes one line for each problem, with the names of the nodes."""

# ruff: noqa: F401, F811 - fixtures of another file

import functools
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_cluster_checks import config, folder
from test_local_checks import store
from test_shared_storage import node

from sentiflow.cluster.doctor import cluster_checks, local_checks
from sentiflow.cluster.doctor.check import Check, CheckResult
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.cluster.shared_storage import SharingProblem
from sentiflow.config import settings
from sentiflow.errors import UserError

ALL = [node(2), node(3), node(4)]


@pytest.fixture
def answers(monkeypatch):
    """Give the answers of nodes in place of a cluster."""
    given = {}

    def on_each(work, *arguments, timeout_seconds, nodes):
        assert work in (cluster_checks.attempt_all, cluster_checks.nodes.here)
        return [NodeAnswer(one, *given.get(one.id, (FINE, ""))) for one in nodes]

    monkeypatch.setattr(cluster_checks.nodes, "on_each", on_each)
    return given


CHECK = Check("input", str, why="because", do="this")
FINE = [CheckResult("input", "ok", "fine")]


def test_a_check_that_all_nodes_pass_is_one_line(answers):
    (result,) = cluster_checks.run_on_nodes([CHECK], None, ALL)
    assert (result.level, result.what) == ("ok", "fine (3 nodes)")


def test_equal_problems_of_several_nodes_are_one_line(answers):
    answers |= {ALL[0].id: ([CHECK.fail("no such file")], ""), ALL[2].id: (None, "no such file")}
    (result,) = cluster_checks.run_on_nodes([CHECK], None, ALL)
    assert (result.level, result.what) == ("error", "no such file (nodes 10.0.0.2, 10.0.0.4)")
    assert list(result.nodes) == ["10.0.0.2", "10.0.0.4"]


def test_nodes_that_see_different_files_are_an_error(answers):
    answers[ALL[1].id] = ([CheckResult("input", "ok", "2 files")], "")
    (result,) = cluster_checks.run_on_nodes([CHECK], None, ALL)
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
    assert cluster_checks.TOKEN.attempt(None)[0].level == "ok"
    for path in (tmp_path / ".ray/auth_token", tmp_path / "elsewhere"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a")
        path.chmod(mode)
        (result,) = cluster_checks.TOKEN.attempt(None)
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
        this = SimpleNamespace(session_dir=str(session))
        monkeypatch.setattr(cluster_checks.nodes, "this", lambda: this)
        (result,) = cluster_checks.SESSION.attempt(None)
    assert (result.level == "warning") == is_open
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


def test_the_dashboard_is_asked_without_a_token(store):
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
    this = SimpleNamespace(num_gpus=1)
    monkeypatch.setattr(cluster_checks.nodes, "this", lambda: this)
    cuda = SimpleNamespace(device_count=lambda: 0 if "CUDA_VISIBLE_DEVICES" in os.environ else 2)
    fake = SimpleNamespace(ones=ones, cuda=cuda, __version__="9.9")
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def check(num_gpus):
        this.num_gpus = num_gpus
        return cluster_checks.check_torch(None)

    return check


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
