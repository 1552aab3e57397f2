"""A Ray of this machine is closed to other users, and its end ends the command in one line."""
# ruff: noqa: F811 -- a fixture is imported

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fake_ray import ray  # noqa: F401

from sentiflow.cluster import connection, local_ray
from sentiflow.errors import JobError, UserError


@pytest.mark.parametrize(
    ("failure", "kind", "raised"),
    [
        (
            "The current node timed out during startup.",
            JobError,
            r"^Ray's start on this machine has timed out; .*/logs$",
        ),
        ("no space left", Exception, "^no space left$"),
    ],
)
def test_a_start_that_failed_is_told(ray, failure, kind, raised):
    def fail():
        raise Exception(failure)

    ray.init = fail
    with pytest.raises(kind, match=raised), connection.starting(verbose=False) as resources:
        resources()
    assert ray.done.count("init") == 1


WATCHED = """
import subprocess, sys, threading
import psutil
from sentiflow.cluster import local_ray

local_ray._GRACE_SECONDS = 0
program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
local_ray._processes = {"raylet": psutil.Process(program.pid)}
watch = threading.Thread(target=local_ray.end_with_ray, args=(threading.Event(),))
watch.start()
watch.join(1)
print("it is alive", flush=True)
program.kill()
watch.join(20)
print("nothing has ended this process")
"""


def test_the_end_of_ray_ends_the_process_with_one_line():
    # In a process of its own: a Ray of other tests here is watched, too.
    command = [sys.executable, "-c", WATCHED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "it is alive\n"
    assert done.stderr.count("Ray has ended on this machine") == 1


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
NOBODY = 65534

TAMPER = """
import os, socket, sys
session, user = sys.argv[1], int(sys.argv[2])
os.setgroups([])
os.setgid(user)
os.setuid(user)
sockets = session + "/sockets"
client = socket.socket(socket.AF_UNIX)
attempts = {
    "list": lambda: os.listdir(session),
    "connect": lambda: client.connect(sockets + "/raylet"),
    "write": lambda: open(session + "/logs/forged", "w"),
    "rename": lambda: os.rename(sockets + "/raylet", sockets + "/stolen"),
    "rename back": lambda: os.rename(sockets + "/stolen", sockets + "/raylet"),
}
if user:
    folder = os.path.dirname(os.path.dirname(session))
    attempts["replace"] = lambda: os.rename(folder, folder + "-stolen")
for name, attempt in attempts.items():
    try:
        attempt()
    except PermissionError:
        continue
    except OSError as error:
        print(name, error.strerror)
    else:
        print(name, "done")
"""


def tamper(session, user):
    """Try to disturb a session of Ray as a user; returns what was not forbidden."""
    command = [sys.executable, "-c", TAMPER, session, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_root
@pytest.mark.ray
def test_another_user_can_do_nothing_with_the_session_of_a_local_run(resources):
    from ray import nodes

    session = str(Path(nodes()[0]["ObjectStoreSocketName"]).parents[1])
    done = ["list done", "connect done", "write done", "rename done", "rename back done"]
    assert tamper(session, os.getuid()) == done, "each attempt can succeed"
    assert tamper(session, NOBODY) == []


@pytest.fixture
def shared(tmp_path_factory, monkeypatch):
    """Make a folder like /tmp, with a short path, where Ray would keep its files."""
    folder = Path(tempfile.mkdtemp(prefix="sf", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.setenv("RAY_TMPDIR", "")  # so that it is as before at the end
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_each_user_has_a_folder_and_keeps_it(shared):
    folder = shared / f"sentiflow-{os.getuid()}"
    for _ in range(2):
        local_ray.prepare_folder()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert os.environ["RAY_TMPDIR"] == str(folder)


def test_the_folder_of_the_user_is_made_or_used(shared, monkeypatch):
    (shared / "link").symlink_to(shared / "a/b")
    for name in ("a/b", "link"):
        monkeypatch.setenv("RAY_TMPDIR", str(shared / name))
        local_ray.prepare_folder()
        assert os.environ["RAY_TMPDIR"] == str(shared / "a/b")
        assert (shared / "a/b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o750, 0o701, 0o755])
def test_a_folder_that_others_can_enter_is_refused(shared, monkeypatch, mode):
    (shared / "open").mkdir()
    (shared / "open").chmod(mode)
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "open"))
    with pytest.raises(UserError, match=f"can be entered by other users .mode {mode:04o}"):
        local_ray.prepare_folder()
    assert not list((shared / "open").iterdir())


def test_a_folder_that_others_can_replace_is_refused(shared, monkeypatch):
    (shared / "open").mkdir()
    (shared / "open").chmod(0o775)
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "open/mine"))
    with pytest.raises(UserError, match=rf"replaced by other users .mode 0775 of {shared}/open"):
        local_ray.prepare_folder()


@needs_root
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_another_user_has_put_there_is_refused(shared, kind):
    there = shared / f"sentiflow-{os.getuid()}"
    if kind == "folder":
        there.mkdir(mode=0o700)
    else:
        (shared / "mine").mkdir(mode=0o700)
        there.symlink_to(shared / "mine")
    os.chown(there, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(UserError, match=r"belongs to another user: .*RAY_TMPDIR"):
        local_ray.prepare_folder()
