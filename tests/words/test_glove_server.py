"""A download by torchtext is verified, whatever the server, the network and another process do."""

# ruff: noqa: F401, F811 - fixtures of another file

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
from archive_server import _no_proxy, certificate, pack, secure, send, serve, server
from conftest import PROJECT, write_config
from test_glove import (
    FILES,
    KEPT,
    NUM_WORDS,
    SOURCE,
    _published,
    archive,
    cache,
    check,
    check_restored,
    content,
    files_in,
    members,
    publish,
    refusal,
)
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data.archives import GLOVE, Archive
from sentiflow.data.download import download, locked
from sentiflow.errors import UserError
from sentiflow.pipeline import stages
from sentiflow.words import glove as glove_vectors
from sentiflow.words import word_vectors


def test_an_untrusted_certificate_is_refused(archive, secure, cache):
    publish(replace(archive, url=f"{secure.address}/glove.6B.zip"))
    assert "certificate verify failed" in refusal(cache)
    assert secure.requests == []
    check_restored()


def test_a_trusted_certificate_is_accepted_and_others_are_refused_afterwards(
    archive, secure, certificate, content, check, monkeypatch
):  # fmt: skip
    secure.answers = [serve(content)]
    publish(replace(archive, url=f"{secure.address}/glove.6B.zip"))
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        check()
    assert len(secure.requests) == 1
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(secure.url)
    check_restored()


def test_a_text_in_the_cache_does_not_end_the_verification(cache, check, members):
    cache.mkdir()
    (cache / FILES[1]).write_bytes(members["glove_6B_50d_txt"])
    check()
    check_restored()


# Proxies


def test_a_proxy_of_the_environment_is_used(archive, server, check, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address.replace("//", "//me:s3cret@"))
    publish(replace(archive, url="http://far.invalid/glove.6B.zip"))
    check()
    assert server.requests[0].path == "http://far.invalid/glove.6B.zip"


@pytest.mark.parametrize("port", ["9", "{}", "port"])
def test_a_proxy_error_does_not_show_the_password(archive, server, cache, said, monkeypatch, port):
    server.answers = [send(407)]
    monkeypatch.setenv(
        "HTTPS_PROXY", f"http://me:s3cret@127.0.0.1:{port}".format(server.server_port)
    )
    publish(replace(archive, url="https://far.invalid/glove.6B.zip"))
    assert "s3cret" not in refusal(cache) + said.text


# Failures


def cut(content):
    """Send half of the archive as if it were all."""
    return serve(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda content: send(404), "HTTP Error 404: "),
        (lambda content: send(503), "HTTP Error 503: "),
        (lambda content: serve(content, stop=len(content) // 2), "retrieval incomplete: got only"),
        (cut, "File is not a zip file"),
        (lambda content: send(200, b"<html>log in"), "File is not a zip file"),
        (lambda content: serve(content[:-1] + b"x"), "is not the archive: its SHA-256 is"),
        (
            lambda content: serve(pack(glove_6B_50d_txt=b"the 1 2 3\n")),
            "is not the archive: it has",
        ),
        (lambda content: lambda request: request.wfile.write(b"\x1b[31mSSH\n"), r"\x1b[31mSSH"),
        (lambda content: lambda request: None, "Remote end closed connection without response"),
    ],
)
def test_a_download_that_fails_gives_one_line_and_leaves_nothing(
    archive, server, content, cache, check, answer, reason
):  # fmt: skip
    server.answers = [answer(content)]
    line = refusal(cache)
    assert reason in line
    assert "\x1b" not in line
    assert archive.url in line
    assert f"sentiflow download glove --name 6B --dim 50 --to {cache}" in line
    assert "package:glove.6B.50d needs no download" in line
    assert files_in(cache) == ["glove.6B.zip.lock"]
    check_restored()
    server.answers = [serve(content)]
    check()
    assert files_in(cache) == KEPT


def test_a_silent_server_is_an_error(archive, server, cache, monkeypatch):
    monkeypatch.setattr(glove_vectors, "_TIMEOUT_SECONDS", 0.2)
    server.answers = [lambda request: request.server.released.wait(20)]
    assert "timed out" in refusal(cache)
    check_restored()


def test_without_a_network_the_command_says_what_to_do(archive, cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    publish(replace(archive, url="https://name.invalid/glove.6B.zip"))
    result = CliRunner().invoke(app, ["words", "nearest", "good", "--vectors", SOURCE])
    assert (result.exit_code, result.stdout) == (2, "")
    line = result.stderr.splitlines()[-1]
    assert line.startswith("sentiflow: torchtext cannot load https://name.invalid/glove.6B.zip: ")
    assert "--to .vector_cache retries and resumes, and package:glove.6B.50d needs no" in line


SCRIPT = """
import json, sys
from sentiflow.data.archives import GLOVE, Archive
from sentiflow.words import word_vectors

GLOVE["6B"] = Archive(**json.loads(sys.argv[1]))
print(len(word_vectors.load("torchtext:6B.50d", cache=sys.argv[2]).words))
"""


def start(archive: Archive, cache) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(asdict(archive)), str(cache)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_download_leaves_nothing_that_is_trusted(
    archive, server, cache, check, content
):  # fmt: skip
    def stall(request):
        request.head(200, Content_Length=len(content))
        request.wfile.write(content[: len(content) // 2])
        request.server.released.wait(60)

    server.answers = [stall]
    process = start(archive, cache)
    wait_for(lambda: any(path.stat().st_size for path in cache.glob("glove.6B.zip-*/*.zip")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(files_in(cache)) == 2  # the lock, and the folder of torchtext
    server.answers = [serve(content)]
    check()
    assert files_in(cache) == KEPT


def test_while_another_process_downloads_its_files_are_waited_for(
    archive, server, cache, check, members, said
):  # fmt: skip
    with ThreadPoolExecutor() as pool, locked(cache, "glove.6B.zip"):
        waiting = pool.submit(check)
        wait_for(lambda: "waiting for it" in said.text)
        (cache / FILES[1]).write_bytes(members["glove_6B_50d_txt"])
    waiting.result()
    assert server.requests == []


# In a pipeline


@pytest.mark.ray
@pytest.mark.slow
def test_prepare_without_a_network_leaves_no_directory(
    archive, server, cache, tmp_path, sample_csv, resources
):  # fmt: skip
    server.answers = [send(404)]
    config = settings.load(
        write_config(tmp_path, sample_csv),
        [f"prepare.vocabulary.vectors={SOURCE}", f"prepare.vocabulary.vectors_cache={cache}"],
    )
    with pytest.raises(UserError, match="HTTP Error 404"):
        stages.run(config, ["prepare"])
    assert not (tmp_path / "run").exists()
