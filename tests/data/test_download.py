"""After a download the files are those of the archive, whatever the server and the user did."""

# ruff: noqa: F401, F811 - fixtures of another file

import concurrent.futures
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from archive_server import (
    CONTENT,
    HALF,
    MEMBERS,
    SIZE,
    TWEETS,
    _impatient,
    _no_proxy,
    archive,
    check_complete,
    fails,
    get,
    part,
    send,
    serve,
    server,
    stall,
)
from conftest import PROJECT
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.data import archives
from sentiflow.data import download as downloading
from sentiflow.data.archives import GLOVE, SENTIMENT140
from sentiflow.data.download import download
from sentiflow.errors import JobError, UserError


def test_a_download_leaves_only_the_members(get, server, folder, tmp_path):
    assert get() == [folder / "tweets.csv", folder / "few.csv"]
    check_complete(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert server.starts == [0]


def test_complete_files_are_not_downloaded_again(get, server, folder, said, monkeypatch):
    get()
    monkeypatch.delattr(downloading, "_locked")  # the folder may be read-only
    get()
    assert len(server.requests) == 1
    assert f"nothing to do: {folder / 'tweets.csv'}" in said.text


def test_one_file_can_be_downloaded_and_another_later(get, folder):
    assert get(names=["few.csv"]) == [folder / "few.csv"]
    assert not (folder / "tweets.csv").exists()
    get(names=["tweets.csv"])
    check_complete(folder)


def test_another_file_is_replaced_only_on_request(get, fails, server, folder):
    get()
    (folder / "tweets.csv").write_bytes(b"mine")
    assert "tweets.csv has 4 bytes: it is not from tweets.zip: move it" in fails(UserError)
    assert (folder / "tweets.csv").read_bytes() == b"mine"
    assert len(server.requests) == 1
    get(overwrite=True)
    check_complete(folder)


# Interruptions


def test_a_broken_download_is_resumed(get, server, folder):
    server.answers = [serve(stop=HALF), serve()]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


def test_requests_that_get_something_are_not_counted(get, server, folder):
    server.answers = [serve(stop=i << 16) for i in range(1, 6)]
    get()
    check_complete(folder)
    assert len(server.requests) == 5


def test_after_a_request_that_gets_nothing_the_same_command_resumes(
    fails, get, server, folder, part
):
    server.answers = [serve(stop=HALF)]
    line = fails(JobError)
    assert f"{HALF:,} of {SIZE:,} bytes" in line
    assert "run the same command again to resume" in line
    assert len(server.requests) == 2
    assert part.read_bytes() == CONTENT[:HALF]
    server.answers = [serve()]
    get()
    check_complete(folder)
    assert server.starts[-1] == HALF


def test_an_archive_put_there_by_hand_is_verified_unpacked_and_kept(get, server, folder):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(CONTENT)
    get()
    check_complete(folder, "tweets.zip")
    assert server.requests == []


@pytest.mark.parametrize("content", [CONTENT[:HALF], bytes(SIZE)], ids=["size", "content"])
def test_another_archive_of_that_name_is_refused_and_kept(fails, server, folder, content):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(content)
    line = fails(UserError)
    assert line.startswith(f"{folder / 'tweets.zip'} is not the archive: it")
    assert (folder / "tweets.zip").read_bytes() == content
    assert server.requests == []


def test_free_space_is_checked_before_the_download(get, fails, server, folder, archive):
    huge = replace(archive, members=MEMBERS.fromkeys(MEMBERS, 10**18))
    with pytest.raises(
        UserError, match="MB free, and 2,000,000,000,000 MB are needed: free some space"
    ):
        download(huge, folder)
    with pytest.raises(
        UserError, match="MB free, and 1,000,000,000,000 MB are needed: free some space"
    ):
        download(replace(archive, size=10**18), folder)
    assert server.requests == []
    (folder / "tweets.zip").write_bytes(CONTENT)
    with pytest.raises(UserError, match="free some space"):
        download(huge, folder)


def test_a_full_disk_gives_one_line_and_the_same_command_resumes(get, fails, server, folder):
    """A limit for the size of a file stands for that of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        line = fails(UserError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (
        f"cannot write to {folder}: File too large: solve that and run the same command again"
        in line
    )
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_gives_one_line(fails, folder):
    folder.mkdir(mode=0o500)
    assert f"cannot write to {folder}: Permission denied" in fails(UserError)


def test_a_file_in_place_of_the_folder_gives_one_line(fails, folder):
    folder.write_bytes(b"")
    assert f"cannot write to {folder}: File exists" in fails(UserError)


# Unpacking


def test_an_archive_that_a_kill_after_unpacking_left_is_deleted(get, server, folder, part):
    get()
    part.write_bytes(CONTENT)
    get()
    assert len(server.requests) == 1
    check_complete(folder)


def test_a_killed_unpacking_is_repeated(get, folder):
    """One file is complete, the other is half written."""
    get()
    (folder / "few.csv").unlink()
    (folder / "few.csv.ab12cd34.tmp").write_bytes(b"0,b")
    get()
    check_complete(folder)


# Processes

SCRIPT = """
import json, logging, sys
from pathlib import Path
from sentiflow.data.archives import Archive
from sentiflow.data.download import download

logging.basicConfig(level="INFO", format="%(message)s")
download(Archive(**json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture
def start(archive, folder):
    """Start a download in a process of its own."""
    started = []

    def run():
        command = [sys.executable, "-c", SCRIPT, json.dumps(asdict(archive)), str(folder)]
        started.append(subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_two_downloads_one_waits_for_the_other(get, server, folder, said):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with downloading._locked(folder, "tweets.zip"):
            second = pool.submit(get)
            wait_for(lambda: "another process writes" in said.text)
            assert not server.requests
        second.result()
    check_complete(folder)


def test_a_download_that_another_one_has_finished_meanwhile_asks_for_nothing(
    get, server, folder, said
):
    get()
    content = (folder / "few.csv").read_bytes()
    (folder / "few.csv").unlink()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with downloading._locked(folder, "tweets.zip"):
            second = pool.submit(get)
            wait_for(lambda: "another process writes" in said.text)
            (folder / "few.csv").write_bytes(content)
        second.result()
    assert len(server.requests) == 1
    check_complete(folder)


def test_a_killed_download_is_resumed_by_the_same_command(start, server, folder, part):
    server.answers = [stall(20), serve()]
    killed = start()
    wait_for(lambda: part.exists() and part.stat().st_size == HALF)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(20) == -signal.SIGKILL
    assert start().wait(20) == 0
    check_complete(folder)
    assert server.starts == [0, HALF]


# The command


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["download", *map(str, arguments)])


def test_the_command_prints_where_the_files_are(archive, folder, monkeypatch):
    monkeypatch.setattr(archives, "SENTIMENT140", archive)
    for _ in range(2):
        result = invoke("sentiment140", "--to", folder)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines() == [str(folder / name) for name in MEMBERS]
    files = json.loads(invoke("sentiment140", "--to", folder, "--json").stdout)["files"]
    assert files == [
        {"path": str(folder / name), "bytes": len(content)} for name, content in MEMBERS.items()
    ]


@pytest.mark.parametrize(
    ("answer", "code"), [(send(404), 2), (serve(), 2)], ids=["absent", "another"]
)
def test_the_command_fails_in_one_line(server, tmp_path, answer, code):
    server.answers = [answer]
    result = invoke("sentiment140", "--to", tmp_path / "cache", "--url", server.url)
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"sentiflow: cannot download {server.url}: " in result.stderr.splitlines()[-1]
    assert str(tmp_path / "cache" / "trainingandtestdata.zip") in result.stderr


def test_files_go_where_the_settings_look_for_them():
    import yaml

    for name in ("sentiment140", "tutorial_rnn"):
        config = yaml.safe_load((PROJECT / f"configs/{name}.yaml").read_text())
        folder, _, file = config["prepare"]["csv"].rpartition("/")
        assert folder == "data"
        assert file in SENTIMENT140.members
    assert all(
        member.startswith(f"glove.{name}.") and member.endswith("d.txt")
        for name, archive in GLOVE.items()
        for member in archive.members
    )


def test_every_archive_has_an_https_address_and_a_checksum():
    for published in (SENTIMENT140, *GLOVE.values()):
        assert published.url.startswith("https://")
        assert published.name.endswith(".zip")
        assert len(bytes.fromhex(published.sha256)) == 32
        assert all(Path(member).name == member for member in published.members)
