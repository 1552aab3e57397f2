"""Ray starts while other work is done, whatever was imported first, and is always stopped."""
# ruff: noqa: F811 -- a fixture is imported

import os
import socket
import subprocess
import sys
import threading
import time
import types

import pytest
from fake_ray import ray  # noqa: F401

from sentiflow.cluster import capacity, connection, local_ray, token_file
from sentiflow.cluster.capacity import Capacity
from sentiflow.errors import JobError, UnavailableError, UserError


def python(script, **environment):
    """Run a script in a process of its own; returns its output, if it succeeds."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        | environment,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


@pytest.mark.ray
@pytest.mark.parametrize(
    "first",
    [
        "import sentiflow.cluster.connection",
        pytest.param("import ray.data", marks=pytest.mark.soak),
        pytest.param("import ray", marks=pytest.mark.soak),
    ],
)
def test_ray_starts_with_a_token_whatever_was_imported_first_and_is_gone_at_the_end(
    tmp_path, first
):
    script = f"""
{first}
import pathlib, psutil
from sentiflow.cluster import connection, local_ray
with connection.starting(verbose=False) as wait:
    resources = wait()
    token = pathlib.Path.home() / ".ray/auth_token"
    print(resources.num_cpus > 0, oct(token.stat().st_mode)[-3:])
    print([name in local_ray._processes for name in ("raylet", "gcs_server", "monitor.py")])
print([p.name() for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE])
"""
    assert python(script, HOME=str(tmp_path)).splitlines() == [
        "True 600", "[True, True, True]", "[]"
    ]  # fmt: skip


def test_other_work_does_not_wait_for_ray_until_it_asks(ray):
    meanwhile = threading.Event()
    ray.init = lambda: meanwhile.wait(20)
    with connection.starting(verbose=False) as resources:
        assert ray.came.wait(20)
        assert ray.done == ["init"]
        meanwhile.set()
        assert resources() == "what there is"
        assert resources() == "what there is"
    assert ray.done == ["init", "shutdown"]


@pytest.mark.parametrize("chosen", ["", "numpy"])
def test_workers_import_ray_data_when_they_start_if_they_will_need_it(ray, monkeypatch, chosen):
    monkeypatch.setenv(connection.PRELOADED, chosen)
    seen = []
    ray.init = lambda: seen.append(os.environ[connection.PRELOADED])
    for preloads_data in (True, False):
        with connection.starting(verbose=False, preloads_data=preloads_data) as resources:
            resources()
    assert seen == ([chosen, chosen] if chosen else ["ray.data", ""])


def test_the_thread_that_starts_ray_lives_until_it_has_stopped_it(ray):
    """Linux ends the processes of a thread with the thread."""
    with connection.starting(verbose=False) as resources:
        resources()
        (starter,) = {thread for _, thread in ray.calls}
        starter.join(0.2)
        assert starter.is_alive()
        assert ray.done[-1] != "shutdown"
        assert starter is not threading.current_thread()
    assert ray.calls[-1] == ("shutdown", starter)
    assert not starter.is_alive()


@pytest.mark.parametrize("error", [RuntimeError("no Ray"), SystemExit(3)])
def test_an_error_of_ray_is_raised_where_it_is_waited_for(ray, error):
    def fail():
        raise error

    ray.init = fail
    with (
        connection.starting(verbose=False) as resources,
        pytest.raises(type(error), match=str(error)),
    ):
        resources()
    assert ray.done == ["init"]


def fail_beside_ray(error, *, waited=False):
    """Raise ``error`` in the block, before Ray is there or after."""
    with connection.starting(verbose=False) as resources:
        if waited:
            resources()
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("waited", [True, False])
def test_ray_is_stopped_when_the_block_fails_even_before_ray_has_started(ray, error, waited):
    ray.init = lambda: time.sleep(0.05)
    with pytest.raises(error):
        fail_beside_ray(error, waited=waited)
    assert ray.done[-1] == "shutdown"


def test_a_ray_that_was_running_before_is_not_stopped(ray, monkeypatch):
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: True)
    with connection.starting(verbose=False) as wait:
        assert wait() == "what there is"
    assert ray.done == []


@pytest.fixture
def nodes(monkeypatch):
    """Stand for the nodes of Ray, and for a clock."""
    monkeypatch.setattr(local_ray, "_processes", {})
    alive = []
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        connection.ray, "nodes", lambda: [{"Alive": True, "Resources": has} for has in alive]
    )
    monkeypatch.setattr(capacity.time, "monotonic", lambda: clock.now)

    def at(seconds, *there):
        clock.now = 100 + seconds
        alive[:] = there

    return at


def test_work_waits_for_capacity_but_not_for_ever(nodes, said):
    capacity = Capacity({"CPU": 2, "GPU": 0.5}, max_wait_seconds=60)
    nodes(0, {"CPU": 2.0, "GPU": 1.0})
    capacity.check()
    assert not said.text
    nodes(10, {"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0})
    capacity.check()
    nodes(20, {"CPU": 2.0, "GPU": 1.0})
    capacity.check()
    said.clear()
    nodes(30, {"CPU": 2.0})
    capacity.check()
    nodes(89, {"CPU": 2.0})
    capacity.check()
    assert said.text.count("no node with 2 CPU and 0.5 GPU: waiting for one, 60 s at most") == 1
    nodes(91, {"CPU": 2.0})
    with pytest.raises(JobError, match=r"had no node with 2 CPU and 0\.5 GPU for 60 s"):
        capacity.check()


def test_capacity_for_several_workers_may_be_on_several_nodes(nodes):
    capacity = Capacity({"CPU": 2}, times=3, max_wait_seconds=0)
    nodes(0, {"CPU": 5.0}, {"CPU": 2.0})
    assert capacity.is_met()
    nodes(0, {"CPU": 5.0}, {"CPU": 1.0})
    assert not capacity.is_met()
    assert str(capacity) == "2 CPU for 3 workers"


@pytest.mark.parametrize(
    ("host", "kind", "problem"),
    [("127.0.0.1", UnavailableError, "Connection"), ("a..b", UserError, ".*label")],
)
def test_a_missing_cluster_is_reported_at_once(monkeypatch, host, kind, problem):
    """It may be starting, so a later try may help; not so if the address is no address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"{host}:{sock.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
    with (
        pytest.raises(
            kind,
            match=rf"RAY_ADDRESS={address}: no Ray cluster can be joined there \({problem}",
        ),
        connection.starting(verbose=False) as wait,
    ):
        wait()


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    path = tmp_path / ".ray/auth_token"
    seen = set()
    for _ in range(2):
        token_file.make_private()
        seen.add(path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
    assert [len(token) for token in seen] == [64]
