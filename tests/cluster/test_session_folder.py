"""No other user of the machine can enter a folder of Ray, and a foreign folder is refused."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from sentiflow.cluster import session_folder
from sentiflow.errors import UserError

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
    session = str(Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1])
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
    folder = session_folder.prepare()
    assert folder == shared / f"sentiflow-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["RAY_TMPDIR"] == str(folder)
    assert session_folder.prepare() == folder


def test_the_folder_of_the_user_is_made_or_used(shared, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "a/b"))
    assert session_folder.prepare() == shared / "a/b"
    assert (shared / "a/b").stat().st_mode & 0o777 == 0o700
    (shared / "link").symlink_to(shared / "a/b")
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "link"))
    assert session_folder.prepare() == shared / "a/b"


@pytest.mark.parametrize("mode", [0o770, 0o750, 0o701, 0o755])
def test_a_folder_that_others_can_enter_is_refused(shared, monkeypatch, mode):
    (shared / "open").mkdir()
    (shared / "open").chmod(mode)
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "open"))
    with pytest.raises(UserError, match=f"can be entered by other users .mode {mode:04o}"):
        session_folder.prepare()
    assert not list((shared / "open").iterdir())


def test_a_folder_that_others_can_replace_is_refused(shared, monkeypatch):
    (shared / "open").mkdir()
    (shared / "open").chmod(0o775)
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "open/mine"))
    with pytest.raises(UserError, match=rf"replaced by other users .mode 0775 of {shared}/open"):
        session_folder.prepare()


@needs_root
def test_a_link_to_the_folder_of_another_user_is_refused(shared, monkeypatch):
    (shared / "theirs").mkdir(mode=0o700)
    os.chown(shared / "theirs", NOBODY, NOBODY)
    (shared / "link").symlink_to(shared / "theirs")
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "link"))
    with pytest.raises(UserError, match="belongs to another user"):
        session_folder.prepare()


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
        session_folder.prepare()


@pytest.mark.parametrize("length", [40, 200])
def test_a_path_that_is_too_long_for_sockets_is_refused(shared, monkeypatch, length):
    longest = 39 if sys.platform == "linux" else 35
    fits = f"{shared}/".ljust(longest, "x")
    monkeypatch.setenv("RAY_TMPDIR", fits)
    assert str(session_folder.prepare()) == fits
    monkeypatch.setenv("RAY_TMPDIR", f"{shared}/".ljust(length, "x"))
    with pytest.raises(UserError, match=f"{length} characters, and Ray's sockets allow {longest}"):
        session_folder.prepare()


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_directory_is_refused(shared, monkeypatch, kind):
    if kind == "file":
        (shared / "file").touch(0o600)
    else:
        (shared / "file").symlink_to(shared / "none")
    monkeypatch.setenv("RAY_TMPDIR", str(shared / "file"))
    with pytest.raises(UserError, match="is not a directory"):
        session_folder.prepare()
