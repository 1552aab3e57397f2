"""A cluster broken in each way is told so, node by node; a healthy one that all is well."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from conftest import PROJECT, write_config
from mlflow_server import Server
from ray_nodes import RayNodes, may_mount
from test_cli import invoke, one_line
from test_node_checks import node

from sentiflow.cluster.doctor import doctor, storage_probes
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.resources import Resources
from sentiflow.config import settings

needs_root = pytest.mark.skipif(
    not may_mount(), reason="only root can give a node file systems of its own, and not everywhere"
)

AHEAD_SECONDS = 60
SITE = f"import time\nreal = time.time\ntime.time = lambda: real() + {AHEAD_SECONDS}\n"


def examine(nodes, *arguments, code, says=""):
    """Run the command as a user of the cluster does; returns its findings."""
    command = [sys.executable, "-m", "sentiflow", "doctor", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, env=nodes.client_environment, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr if says else done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory, sample_csv):
    """Make a directory with the input in one part of it, and room for results in another."""
    folder = tmp_path_factory.mktemp("doctor")
    for name in ("in", "out", "home", "other home", "site"):
        (folder / name).mkdir()
    shutil.copy(sample_csv, folder / "in/tweets.csv")
    return folder


@pytest.fixture(scope="module")
def config(place):
    return write_config(
        place,
        place / "in/tweets.csv",
        output_uri=str(place / "out/run"),
        tracking={"uri": "http://127.0.0.1:9"},
    )


def break_node(place, nodes):
    """Make what a node needs that is broken in every way; returns its environment and mounts."""
    for name, version in (("pandas", "1.5.3"), ("numpy", "2.0.0")):
        distribution = place / f"site/{name}-{version}.dist-info"
        distribution.mkdir()
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (distribution / "METADATA").write_text(about)
    (place / "site/sitecustomize.py").write_text(SITE)
    token = place / "other home/.ray/auth_token"
    token.parent.mkdir()
    token.write_text("a" * 64)
    token.chmod(0o644)
    environment = {
        "HOME": str(place / "other home"),
        "PYTHONPATH": f"{place}/site:{PROJECT}",
    }
    mounts = f"""
ulimit -n 1024
mount -t tmpfs -o size=8m tmpfs '{place}/out'
mount -t tmpfs tmpfs '{place}/in'
mount -t tmpfs -o size=60m tmpfs '{nodes.own_dir(1)}'
head -c 59M /dev/zero > '{nodes.own_dir(1)}/full'
mount -t tmpfs -o size=64m tmpfs /dev/shm
"""
    return {"environment": environment, "before": mounts if may_mount() else "ulimit -n 1024"}


@pytest.fixture(scope="module")
def findings(place, config):
    """Examine a cluster without a token, whose second node is broken in every way."""
    nodes = RayNodes(place / "home", RAY_AUTH_MODE="disabled")
    try:
        nodes.start_head("--num-cpus", "2", "--object-store-memory", "100000000")
        options = ["--num-cpus", "1", "--num-gpus", "1", "--object-store-memory", "80000000"]
        nodes.start_node(*options, **break_node(place, nodes))
        nodes.wait_for_nodes()
        yield examine(nodes, config, "train.num_workers=3", code=1)
    finally:
        nodes.kill()


BROKEN = [
    ("versions", "error", "pandas 1.5.3 on node", "pip install 'pandas<4,>=2.2'"),
    ("versions", "warning", "numpy differs: ", "one image"),
    ("torch", "error", "Ray counts 1 GPU on node", "pytorch.org"),
    ("tracking", "error", "http://127.0.0.1:9 cannot be used from nodes", "mlflow server"),
    ("clock", "error", "s ahead of this one", "time server"),
    ("dashboard", "error", "answers without a token", "ray get-auth-token"),
    ("token", "error", "is open to all users (mode 0644) on node", "chmod 600"),
    ("open files", "warning", "at most 1,024 a process on node", "ulimit -n 65536"),
    ("memory", "warning", "an object store of 80.0 MB on node", "--object-store-memory"),
    ("workers", "error", "no nodes are there with 1 core and 1 GPU for 3", "train.num_workers"),
]
BROKEN_BY_ROOT = [
    ("input", "error", "tweets.csv cannot be read on node", "copy or mount it there"),
    ("output", "error", "is not shared: node", "s3://"),
    ("disk", "error", "are free for Ray's own files", "--temp-dir"),
    ("disk", "error", "this corpus needs about", "output_uri"),
    ("memory", "warning", "has a /dev/shm of 67.1 MB", "--shm-size"),
]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "level", "what", "do"),
    [*BROKEN, *(pytest.param(*row, marks=needs_root) for row in BROKEN_BY_ROOT)],
    ids=lambda value: value if " " not in value else "",
)
def test_each_way_in_which_a_cluster_is_broken_is_found(findings, check, level, what, do):
    found = [f for f in findings if f["check"] == check and what in f["what"]]
    assert found, [f["what"] for f in findings if f["check"] == check]
    assert found[0]["level"] == level
    assert do in found[0]["do"]
    assert found[0]["why"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_machine_by_itself_is_well_and_stays_as_it_was(
    resources, tmp_path, sample_csv, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = settings.load(write_config(tmp_path, sample_csv))
    before = sorted(tmp_path.rglob("*"))
    found = doctor.examine(config)
    assert not [f for f in found if f.level in ("error", "unchecked")]
    assert {f.check for f in found} == {
        "nodes", "versions", "torch", "workers", "input", "output", "tracking", "disk", "memory",
        "open files", "clock", "dashboard", "token",
    }  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cluster_at_which_nobody_listens_is_told_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    result = invoke("doctor")
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert "RAY_ADDRESS=127.0.0.1:9 cannot be joined: connection refused" in first
    assert "unchecked versions   no node could be asked" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 error, 8 unchecked"


def test_without_settings_what_they_name_is_unchecked():
    found = doctor._check_input(None, [], [], 0) + doctor._check_output(None, [], [])
    found += doctor._check_workers(None, None)
    assert [f.level for f in found] == ["unchecked"] * 3


def test_a_wrong_setting_is_told_as_by_every_command():
    assert "no such settings file" in one_line(invoke("doctor", "no-such.yaml"))
    quickstart = str(PROJECT / "configs/quickstart.yaml")
    line = one_line(invoke("doctor", quickstart, "train.num_epoch=3"))
    assert "did you mean num_epochs?" in line


def test_a_ray_that_does_not_start_is_a_finding(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def fail(**options):
        raise RuntimeError("no\nspace")

    monkeypatch.setattr(doctor.connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(doctor.connection.ray, "init", fail)
    first = doctor.examine(None)[0]
    assert (first.level, first.what) == ("error", "Ray does not start on this machine: no space")


def test_input_that_cannot_be_named_is_a_finding(config):
    missing = ["prepare.csv=/no/such.csv", "score.corpus=/no/*.csv"]
    uris, findings = storage_probes.find_inputs(settings.load(config, missing))
    assert uris == []
    assert [f.level for f in findings] == ["error", "error"]
    assert findings[0].what.startswith("prepare.csv: no such file: /no/such.csv")
    assert findings[1].what.startswith("score.corpus: no file matches /no/*.csv")


def test_a_store_that_never_answers_keeps_nobody(config, place, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc")
        changed = settings.load(config, ["score.corpus=s3://bucket/*.csv"])
        began = time.monotonic()
        uris, (finding,) = storage_probes.find_inputs(changed, timeout_seconds=6)
    assert time.monotonic() - began < 20
    assert finding.what == "score.corpus: s3://bucket/*.csv: no answer within 6 s"
    assert uris == [str(place / "in/tweets.csv")], "what did answer is known"


def test_a_process_that_cannot_look_says_why(config, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: libarrow' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    _, (finding,) = storage_probes.find_inputs(settings.load(config))
    assert finding.what.endswith("tweets.csv: ImportError: libarrow")


JOIN = """
from sentiflow.cluster.doctor import doctor
doctor._JOIN_SECONDS = 1
print(doctor.examine(None)[0].what)
"""


def test_a_cluster_that_never_answers_keeps_nobody():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", JOIN], capture_output=True, text=True, timeout=60,
            env=os.environ | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = f"RAY_ADDRESS={address} cannot be joined: no answer within 1 s"
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("cores", "changes", "is_there", "level", "what"),
    [
        ((16, 0, 4, 4), [], True, "ok", "train.num_workers: 4, each with 4 cores"),
        ((48, 2, 3, 16), [], True, "ok", "train.num_workers: 2, each with 16 cores and 1 GPU"),
        ((48, 2, 3, 16), ["gpus_per_worker=0"], True, "ok", "3, each with 16 cores"),
        ((64, 0, 16, 4), [], True, "ok", "train.num_workers: 8, each with 4 cores"),
        ((64, 0, 16, 4), ["num_workers=9"], True, "error", "there can be 8"),
        ((8, 0, 2, 4), ["num_workers=2", "cpus_per_worker=6"], True, "error", "Ray has 8 cores"),
        ((8, 0, 2, 4), ["num_workers=1", "cpus_per_worker=6"], False, "error", "with 6 cores"),
        ((2, 0, 1, 2), [], False, "ok", "train.num_workers: 1, each with 2 cores"),
    ],
)  # fmt: skip
def test_training_workers_are_counted_as_training_counts_them(
    config, monkeypatch, cores, changes, is_there, level, what
):
    monkeypatch.setattr(doctor.connection.Capacity, "is_there", lambda room: is_there)
    changed = settings.load(config, [f"train.{change}" for change in changes])
    has = Resources(*cores, is_one_machine=cores[2] == 1)
    (finding,) = doctor._check_workers(changed, has)
    assert finding.level == level
    assert what in finding.what


def test_training_workers_for_which_nodes_may_come_are_a_warning(config, monkeypatch):
    monkeypatch.setattr(doctor.connection.Capacity, "is_there", lambda room: False)
    zero = Resources(1, 0, 0, 1, may_grow=True, max_cpus=64, max_gpus=4)
    changed = settings.load(config, ["train.num_workers=4"])
    (finding,) = doctor._check_workers(changed, zero)
    assert (finding.level, finding.check) == ("warning", "workers")
    assert finding.what == "no nodes are there with 1 core and 1 GPU for 4 workers"


@pytest.mark.ray
def test_a_head_alone_is_no_cluster_that_is_well(resources, tmp_path, sample_csv, monkeypatch):
    """Ray of this machine stands for the head of a cluster that has scaled to zero."""
    grows = replace(resources, may_grow=True, max_cpus=resources.num_cpus + 64)
    local = settings.load(write_config(tmp_path, sample_csv))
    monkeypatch.setattr(doctor.node_probes, "try_torch", no_torch)
    found = doctor._examine_nodes(local, grows)
    levels = {(f.check, f.level) for f in found}
    assert ("nodes", "warning") in levels
    assert ("output", "error") in levels
    assert ("input", "warning") in levels
    well = {check for check, level in levels if level == "ok"}
    assert not well - {"nodes", "workers", "dashboard", "memory"}


def no_torch(timeout_seconds):
    return {"version": "2", "built_for": "", "gpus": [], "problem": ""}


def test_prepared_data_of_another_run_is_input(config, place):
    uris, _ = storage_probes.find_inputs(
        settings.load(config, ["train.prepared_uri=/other/prepared"])
    )
    assert uris == [str(place / "in/tweets.csv"), "/other/prepared/manifest.json"]


def test_a_store_that_does_not_answer_here_is_left_to_the_nodes(config, monkeypatch):
    def fail(uri):
        raise OSError("access denied")

    def expand_here(patterns, timeout_seconds):
        return {pattern: storage_probes.expand(pattern) for pattern in patterns}

    monkeypatch.setattr(storage_probes.filesystem, "file_info", fail)
    monkeypatch.setattr(storage_probes, "_expand_aside", expand_here)
    uris, findings = storage_probes.find_inputs(settings.load(config))
    assert [f.what for f in findings] == ["prepare.csv: access denied"]
    assert [uri.rpartition("/")[2] for uri in uris] == ["manifest.json"]


def test_each_place_for_results_is_looked_at_once(config, place):
    found = storage_probes.find_outputs(
        settings.load(config, ["score.output_uri=s3://bucket/scored"])
    )
    assert found == [str(place / "out/run"), "s3://bucket/scored"]


def test_the_space_that_is_needed_grows_with_the_corpus(config):
    def need(uri, *overrides):
        answer = NodeAnswer(node(2), {uri: {"bytes": 1000, "problem": ""}})
        blind = NodeAnswer(node(3), {uri: {"bytes": 0, "problem": "no such file"}})
        return storage_probes.estimate_need(settings.load(config, overrides), [answer, blind])

    least = storage_probes._NEED_AT_LEAST
    assert need("/a.csv") == least + 1500
    assert need("/a.csv", "prepare.every_nth=10") == least + 150
    assert need("/a.csv.gz") == need("/a.zip::b.csv") == least + 6000
    assert need("/prepared/manifest.json") is None


def test_a_node_that_answers_one_question_and_not_another_is_named():
    silent = NodeAnswer(node(3), problem="no answer within 60 s")
    good = [NodeAnswer(node(2), {}), NodeAnswer(node(3), {})]
    (finding,) = doctor._unanswered("torch", [good[0], silent], good)
    assert (finding.level, finding.nodes) == ("unchecked", ("10.0.0.3",))
    assert doctor._unanswered("torch", [silent], good[:1]) == []
    assert doctor._of(good[:1], [good[0], silent]) == [good[0]]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [(None, "would be lost with the machine"), ("mlruns", "plain directories")],
)
def test_a_tracking_store_that_a_job_would_lose_is_an_error(config, monkeypatch, uri, expected):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    resolved = settings.load(config, [f"tracking.uri={uri or 'null'}"])
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    finding = doctor._ask_tracking(resolved, [])
    assert finding.level == "error"
    assert expected in finding.what


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, place):
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


@pytest.mark.ray
@pytest.mark.soak
def test_a_healthy_cluster_is_well_and_is_told_so_soon(healthy, config, place):
    nodes, server, _ = healthy
    began = time.monotonic()
    found = examine(nodes, config, f"tracking.uri={server.uri}", code=0)
    assert time.monotonic() - began < 60
    assert [f for f in found if f["level"] != "ok"] == []
    assert "2 nodes" in next(f["what"] for f in found if f["check"] == "tracking")
    assert os.listdir(place / "out") == []


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
    assert "all is well: 13 checks" in good.stdout
    bare = submit()
    assert bare.returncode == 1
    assert "would be lost with the machine" in " ".join(bare.stdout.split())


@pytest.mark.ray
@pytest.mark.soak
def test_a_token_that_all_users_can_read_is_found_on_every_node(healthy):
    nodes, _, token = healthy
    token.chmod(0o644)
    found = examine(nodes, code=1)
    token.chmod(0o600)
    (finding,) = [f for f in found if f["check"] == "token"]
    assert finding["level"] == "error"
    assert len(finding["nodes"]) == 2


@pytest.mark.ray
@pytest.mark.soak
def test_a_wrong_token_is_told_in_time(healthy, tmp_path):
    nodes, _, _ = healthy
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("f" * 64)
    token.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", JOIN], capture_output=True, text=True, timeout=60,
        env=nodes.client_environment | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert "cannot be joined" in done.stdout, done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.soak
def test_a_node_that_hangs_does_not_hang_the_doctor(healthy, config):
    """Last: Ray gives the node up for lost sooner or later."""
    nodes, server, _ = healthy
    children = psutil.Process(nodes.processes[1].pid).children(recursive=True)
    (raylet,) = [child for child in children if child.name() == "raylet"]
    raylet.suspend()
    began = time.monotonic()
    try:
        found = examine(nodes, config, f"tracking.uri={server.uri}", code=1, says="marked dead")
    finally:
        raylet.resume()
    assert time.monotonic() - began < 180
    (finding, *_) = [f for f in found if f["check"] == "nodes"]
    assert "no answer within" in finding["what"] or "lost" in finding["what"]
