"""After a download the files are those of the archive, whatever the server and the user did."""

# ruff: noqa: F401, F811 - fixtures of another file

import json
import resource
from pathlib import Path

import pytest
from archive_server import (
    CONTENT,
    HALF,
    MEMBERS,
    SIZE,
    _no_proxy,
    archive,
    check_complete,
    fails,
    get,
    part,
    send,
    serve,
    server,
)
from conftest import PROJECT
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.data import download as downloading
from sentiflow.data.download import GLOVE, SENTIMENT140
from sentiflow.errors import JobError, UserError


def test_a_download_leaves_only_the_members(get, server, folder, tmp_path, said):
    assert get() == [folder / "tweets.csv", folder / "few.csv"]
    check_complete(folder)
    assert list(tmp_path.iterdir()) == [folder]
    get()
    assert server.starts == [0]
    assert f"nothing to do: {folder / 'tweets.csv'}" in said.text


def test_another_file_is_replaced_only_on_request(get, fails, server, folder):
    get()
    (folder / "tweets.csv").write_bytes(b"mine")
    assert "tweets.csv has 4 bytes: it is not from tweets.zip: move it" in fails(UserError)
    assert (folder / "tweets.csv").read_bytes() == b"mine"
    assert len(server.requests) == 1
    get(overwrite=True)
    check_complete(folder)


def test_a_broken_download_is_resumed_by_the_same_command(fails, get, server, folder, part):
    server.answers = [serve(stop=HALF), serve()]
    assert "run the same command again to resume" in fails(JobError)
    assert part.read_bytes() == CONTENT[:HALF]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:HALF]], ids=["complete", "no ranges"])
def test_a_part_is_used_or_replaced(get, server, folder, part, content):
    folder.mkdir()
    part.write_bytes(content)
    server.answers = [serve(ranges=False)]
    get()
    check_complete(folder)
    assert len(server.requests) == (content != CONTENT)


def test_a_download_with_another_checksum_is_deleted(fails, get, server, folder, part):
    server.answers = [serve(bytes(SIZE)), serve()]
    assert "tweets.zip.part is not the archive: its SHA-256 is" in fails(UserError)
    assert not part.exists()
    get()
    check_complete(folder)


def test_an_archive_put_there_by_hand_is_verified_unpacked_and_kept(get, fails, server, folder):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(CONTENT[:HALF])
    assert fails(UserError).startswith(f"{folder / 'tweets.zip'} is not the archive: its SHA-256")
    assert (folder / "tweets.zip").exists()
    (folder / "tweets.zip").write_bytes(CONTENT)
    get()
    check_complete(folder, "tweets.zip")
    assert server.requests == []


def test_a_full_disk_gives_one_line_and_the_same_command_resumes(get, fails, server, folder):
    """A limit for the size of a file stands for that of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        line = fails(UserError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write to {folder}: File too large: solve that and run the same comm" in line
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.parametrize(
    ("url", "answer", "problem", "kind"),
    [
        ("http://127.0.0.1:9/x.zip", 404, "no connection (ConnectionError)", JobError),
        ("x.zip", 404, "no connection (MissingSchema)", UserError),
        (None, 404, "the server answers 404", UserError),
        (None, 429, "the server answers 429", JobError),
    ],
)
def test_a_refusal_explains_how_to_do_it_by_hand(fails, server, folder, url, answer, problem, kind):
    server.answers = [send(answer)]
    line = fails(kind, url=url)
    assert line.startswith(f"cannot download {url or server.url}: {problem}: check the network, ")
    assert f"save it as {folder / 'tweets.zip'}, and run the same command" in line


def test_a_proxy_is_used_and_its_password_is_not_shown(get, server, folder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address.replace("//", "//me:secret@"))
    get(url="http://mirror.invalid/tweets.zip")
    check_complete(folder)
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(JobError) as error:
        get(url="http://mirror.invalid/tweets.zip", overwrite=True)
    assert "secret" not in str(error.value)


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["download", *map(str, arguments)])


def test_the_command_prints_where_the_files_are(archive, folder, monkeypatch):
    monkeypatch.setattr(downloading, "SENTIMENT140", archive)
    result = invoke("sentiment140", "--to", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(folder / name) for name in MEMBERS]
    files = json.loads(invoke("sentiment140", "--to", folder, "--json").stdout)["files"]
    assert files == [
        {"path": str(folder / name), "bytes": len(content)} for name, content in MEMBERS.items()
    ]


def test_every_archive_has_an_https_address_and_a_checksum():
    for published in (SENTIMENT140, *GLOVE.values()):
        assert published.url.startswith("https://")
        assert published.name.endswith(".zip")
        assert len(bytes.fromhex(published.sha256)) == 32
        assert all(Path(member).name == member for member in published.members)
