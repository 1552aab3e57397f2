"""Whatever a server, a proxy or a certificate does, a download is right or explained in a line."""

# ruff: noqa: F401, F811 - fixtures of another file

import hashlib
import time

import pytest
from archive_server import (
    CONTENT,
    HALF,
    NUM_TRIES,
    SIZE,
    _impatient,
    _no_proxy,
    archive,
    certificate,
    check_complete,
    fails,
    get,
    part,
    secure,
    send,
    serve,
    server,
    stall,
)

from sentiflow.errors import JobError, UserError


def test_a_stalled_server_is_retried(get, server, folder):
    server.answers = [stall(20), serve()]
    started = time.monotonic()
    get()
    assert time.monotonic() - started < 10
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_error_is_retried(get, fails, server, folder, status):
    server.answers = [send(status, Retry_After=600)]  # nobody waits so long
    assert f"the server answers {status}" in fails(JobError)
    assert len(server.requests) == NUM_TRIES
    server.answers = [send(status), serve()]
    get()
    check_complete(folder)


def test_a_server_that_ignores_ranges_sends_all_again(get, server, folder):
    server.answers = [serve(stop=HALF), serve(ranges=False)]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


def test_another_range_than_requested_is_not_used(get, fails, server, folder, part):
    wrong_range = send(206, CONTENT[:HALF], Content_Range=f"bytes 0-{HALF - 1}/{SIZE}")
    server.answers = [serve(stop=HALF), wrong_range]
    assert "is not the archive: it has" in fails(UserError)
    assert not part.exists()
    server.answers = [serve()]
    get()
    check_complete(folder)


@pytest.mark.parametrize("content", [CONTENT + b"x", bytes(SIZE)])
def test_a_part_that_is_not_of_the_archive_is_deleted(get, fails, folder, part, content):
    folder.mkdir()
    part.write_bytes(content)
    assert "is not the archive" in fails(UserError)
    get()
    check_complete(folder)


# Another file


def test_a_wrong_length_is_refused_before_the_content(fails, server, part):
    server.answers = [send(200, CONTENT, Content_Length=SIZE + 9)]
    assert f"the file there does not have {SIZE:,} bytes: it is another one" in fails(UserError)
    assert len(server.requests) == 1
    assert not part.exists()


def test_a_file_that_became_another_is_refused_and_the_part_is_kept(fails, server, part):
    server.answers = [serve(stop=HALF), serve(CONTENT + b"x")]
    assert "it is another one" in fails(UserError)
    assert part.read_bytes() == CONTENT[:HALF]


def test_content_without_a_length_is_counted(get, fails, server, folder, part):
    server.answers = [send(200, CONTENT + b"x")]
    assert f"is not the archive: it has {SIZE + 1:,} bytes" in fails(UserError)
    assert not part.exists()
    server.answers = [send(200, CONTENT[:HALF])]
    assert f"broken off at {HALF:,} of {SIZE:,} bytes" in fails(JobError)
    server.answers = [serve()]
    get()
    check_complete(folder)
    assert server.starts[-1] == HALF


def test_a_file_with_a_wrong_checksum_is_deleted(get, fails, server, folder):
    wrong = CONTENT[:-1] + b"x"
    server.answers = [serve(wrong)]
    line = fails(UserError)
    assert f"its SHA-256 is {hashlib.sha256(wrong).hexdigest()}, not" in line
    assert len(server.requests) == 1
    assert [path.name for path in folder.iterdir()] == ["tweets.zip.lock"]
    server.answers = [serve()]
    get()
    check_complete(folder)
    assert server.starts == [0, 0]


# Addresses and networks


def test_a_mirror_must_have_the_same_checksum(get, fails, server, folder, archive):
    mirror = f"{server.address}/mirror?token=s3cret"
    server.answers = [serve(bytes(SIZE)), serve()]
    line = fails(UserError, url=mirror)
    assert f"{server.address}/mirror?token=*** is not the archive" in line
    get(url=mirror)
    check_complete(folder)
    assert {request.path for request in server.requests} == {"/mirror?token=s3cret"}


def test_a_redirect_is_followed(get, server, folder):
    server.answers = [send(302, Location="/elsewhere"), serve()]
    get()
    check_complete(folder)
    assert server.requests[-1].path == "/elsewhere"


def test_a_trusted_certificate_is_accepted(get, secure, certificate, folder, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    get(url=secure.url)
    check_complete(folder)


def test_https_is_not_redirected_to_http(
    get, fails, server, secure, certificate, folder, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure.answers = [send(302, Location=server.url)]
    assert f"it redirects to {server.url}, which is not safe" in fails(UserError, url=secure.url)
    assert not (folder / "tweets.zip.part").exists()
    secure.answers = [send(302, Location="/elsewhere"), serve()]
    get(url=secure.url)
    check_complete(folder)


def test_an_untrusted_certificate_is_refused(fails, secure):
    assert "no connection (SSLError): " in fails(UserError, url=secure.url)
    assert secure.requests == []


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_final_and_explains_how_to_do_it_by_hand(fails, server, folder, status):
    server.answers = [send(status)]
    line = fails(UserError)
    assert f"cannot download {server.url}: the server answers {status}" in line
    assert f"put it at {folder / 'tweets.zip'}, and run the same command" in line
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x.zip",
        "http://me:s3cret@[x/x.zip",
        f"http://{'x' * 64}.org/x.zip",
        "http://me:s3cret@127.0.0.1:9/x",
    ],
)
def test_without_a_network_one_line_explains_how_to_do_it_by_hand(fails, folder, url):
    line = fails(UserError, url=url)
    assert "no connection (" in line
    assert "s3cret" not in line
    assert f"get it with a browser, put it at {folder / 'tweets.zip'}, and" in line


def test_a_proxy_of_the_environment_is_used(get, server, folder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address.replace("//", "//me:s3cret@"))
    get(url="http://far.invalid/tweets.zip")
    check_complete(folder)
    (request,) = server.requests
    assert request.path == "http://far.invalid/tweets.zip"
    assert request.headers["Proxy-Authorization"].startswith("Basic ")


def test_no_proxy_excludes_hosts(get, server, folder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    get()
    assert server.requests[0].path == "/tweets.zip"


@pytest.mark.parametrize("port", ["{}", "9", "port"], ids=["refuses", "absent", "wrong"])
def test_a_proxy_error_does_not_show_the_password(fails, server, said, monkeypatch, port):
    server.answers = [send(407)]
    proxy = f"http://me:s3cret@127.0.0.1:{port.format(server.server_port)}"
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    line = fails(UserError, url="https://far.invalid/tweets.zip")
    assert "no connection (" in line
    assert "s3cret" not in line + said.text


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x.zip", "x.zip"])
def test_an_address_must_be_http(fails, server, folder, url):
    line = fails(UserError, url=url)
    assert line.startswith(f"--url {url}: write http://… or https://…, or put the file at {folder}")
    assert not server.requests


def test_the_reason_that_a_server_sends_is_not_shown(fails, server):
    server.answers = [
        lambda request: (request.send_response(404, "\x1b[31mHA"), request.end_headers())
    ]
    assert "\x1b" not in fails(UserError)
