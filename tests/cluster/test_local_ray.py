"""A Ray of this machine that ends, or does not start, ends the command in one line."""
# ruff: noqa: F811 -- a fixture is imported

import contextlib
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from fake_ray import ray  # noqa: F401

from sentiflow.cluster import connection, local_ray
from sentiflow.errors import JobError

TIMED_OUT = "The current node timed out during startup."


@pytest.mark.parametrize(
    ("failures", "num_starts", "raised"),
    [
        ([TIMED_OUT], 2, None),
        ([TIMED_OUT, TIMED_OUT], 2, r"^Ray's start on this machine has timed out twice; .*/logs$"),
        (["no space left"], 1, "^no space left$"),
    ],
)
def test_a_start_that_timed_out_is_tried_once_more(ray, said, failures, num_starts, raised):
    left = iter(failures)

    def fail():
        for message in left:
            raise Exception(message)

    ray.init = fail
    refused = pytest.raises(Exception, match=raised) if raised else contextlib.nullcontext()
    with refused as error, connection.starting(verbose=False) as resources:
        resources()
    assert ray.done.count("init") == num_starts
    assert said.text.count("its start has timed out: starting it once more") == num_starts - 1
    assert isinstance(getattr(error, "value", None), JobError) == (num_starts == len(failures) == 2)


@pytest.fixture
def kill_raylet(ray, monkeypatch):
    """Let a process of our own be the raylet; the function kills it."""
    monkeypatch.setattr(local_ray, "end_noticed", threading.Event())
    monkeypatch.setattr(local_ray, "_own", {})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ray.init = lambda: local_ray._own.update(raylet=psutil.Process(process.pid))
        yield process.kill
        process.kill()


def fail_without_ray(kill, error=None):
    """Raise ``error`` in the block when Ray has ended, or wait for what ends the block."""
    with connection.starting(verbose=False) as resources:
        resources()
        kill()
        if error is None:
            threading.Event().wait(60)
        while not local_ray.find_end():
            time.sleep(0.01)
        raise error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("pages of Ray"), "^Ray has ended on this machine"),
        (JobError("a part was lost"), "^Ray has ended on this machine"),
        (KeyboardInterrupt("by the user"), "^by the user$"),
    ],
)
def test_whatever_fails_when_ray_has_ended_that_is_the_reason(ray, kill_raylet, error, raised):
    with pytest.raises((JobError, KeyboardInterrupt), match=raised):
        fail_without_ray(kill_raylet, error)
    assert "shutdown" not in ray.done, "Ray would end this process"
    with connection.starting(verbose=False) as resources:
        resources()
        assert ray.done[-2:] == ["shutdown", "init"]


def test_the_end_of_ray_ends_work_that_waits_for_nothing_of_it(kill_raylet):
    before = signal.signal(signal.SIGCHLD, local_ray.end_with_ray)
    try:
        with pytest.raises(JobError, match="same command again: it resumes"):
            fail_without_ray(kill_raylet)
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "it ends it once"
    finally:
        signal.signal(signal.SIGCHLD, before)
