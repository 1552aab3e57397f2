"""After a download the files are those of the archive, whatever the server and the user did."""

import functools
import hashlib
import io
import json
import os
import random
import resource
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from conftest import PROJECT
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.data import archives
from sentiflow.data import download as downloading
from sentiflow.data.archives import GLOVE, SENTIMENT140, Archive
from sentiflow.data.download import download
from sentiflow.errors import JobError, UserError

PAUSES = (0, 0.01)


def pack(**members: bytes) -> bytes:
    """Make a zip of these files and one that unsafe unpacking would write outside of the folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
        archive.writestr("../outside.txt", "nobody asked for it")
    return stream.getvalue()


TWEETS = random.Random(0).randbytes(300_000)
MEMBERS = {"tweets.csv": TWEETS, "few.csv": b"0,bad\n4,good\n"}
CONTENT = pack(tweets_csv=TWEETS, few_csv=MEMBERS["few.csv"])
SIZE, HALF = len(CONTENT), 2 << 16
"""A multiple of the block size, because an incomplete block is not written."""


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's ``answers``; the last one repeats."""

    def do_GET(self):
        self.server.requests.append(self)
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass

    @property
    def start(self) -> int:
        """The first byte that the client requests."""
        return int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])

    def head(self, status: int, **fields: object) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


Answer = Callable[[Handler], None]


def serve(content: bytes = CONTENT, *, stop: int | None = None, ranges: bool = True) -> Answer:
    """Send the file; close the connection before byte ``stop``; ``ranges=False``: ignore ranges."""

    def answer(request: Handler) -> None:
        start = request.start if ranges else 0
        fields = {"Content-Length": len(content) - start}
        if start:
            fields["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.head(206 if start else 200, **fields)
        request.wfile.write(content[start:stop])

    return answer


def send(status: int, body: bytes = b"", **fields: object) -> Answer:
    """Send this response, whatever was requested."""

    def answer(request: Handler) -> None:
        request.head(status, **fields)
        request.wfile.write(body)

    return answer


def stall(seconds: float) -> Answer:
    """Send half of the file, and then nothing for a while."""

    def answer(request: Handler) -> None:
        request.head(200, Content_Length=SIZE)
        request.wfile.write(CONTENT[:HALF])
        request.server.released.wait(seconds)

    return answer


class Server(ThreadingHTTPServer):
    """A real server that keeps its ``requests``."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests, self.released = [serve()], [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.address = self.address.replace("http:", "https:")
        self.url = f"{self.address}/tweets.zip"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def starts(self) -> list[int]:
        """The first byte of each request."""
        return [request.start for request in self.requests]

    def handle_error(self, *arguments):
        pass  # a client that went away

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(downloading, "_TIMEOUTS", (5, 1))
    monkeypatch.setattr(downloading, "_PAUSES", PAUSES)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def secure(certificate):
    made = Server(certificate)
    yield made
    made.close()


@pytest.fixture
def archive(server):
    sizes = {name: len(content) for name, content in MEMBERS.items()}
    return Archive(server.url, SIZE, hashlib.sha256(CONTENT).hexdigest(), sizes)


@pytest.fixture
def get(archive, folder):
    """Download the archive into the folder."""
    return functools.partial(download, archive, folder)


@pytest.fixture
def fails(get):
    """Let a download fail; give the one line."""

    def run(kind: type[Exception], **options) -> str:
        with pytest.raises(kind) as error:
            get(**options)
        (line,) = str(error.value).splitlines()
        return line

    return run


@pytest.fixture
def part(folder):
    """The path of the incomplete archive."""
    return folder / "tweets.zip.part"


def check_complete(folder: Path, *others: str) -> None:
    """Check that the folder holds the members, byte by byte, their list, a lock, and no more."""
    known = {*MEMBERS, "tweets.zip.json", "tweets.zip.lock", *others}
    assert {path.name for path in folder.iterdir()} == known
    for name, content in MEMBERS.items():
        assert (folder / name).read_bytes() == content


def test_a_download_leaves_only_the_members(get, server, folder, tmp_path):
    assert get() == [folder / "tweets.csv", folder / "few.csv"]
    check_complete(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert server.starts == [0]


def test_complete_files_are_not_downloaded_again(get, server, folder, said, monkeypatch):
    get()
    monkeypatch.delattr(downloading, "locked")  # the folder may be read-only
    get(overwrite=True)
    assert len(server.requests) == 1
    assert f"nothing to do: {folder / 'tweets.csv'}" in said.text


def test_one_file_can_be_downloaded_and_another_later(get, folder):
    assert get(names=["few.csv"]) == [folder / "few.csv"]
    assert not (folder / "tweets.csv").exists()
    get(names=["tweets.csv"])
    check_complete(folder)


def test_a_kept_archive_replaces_lost_files(get, server, folder):
    get(keep_archive=True)
    check_complete(folder, "tweets.zip")
    (folder / "few.csv").unlink()
    get()
    check_complete(folder, "tweets.zip")
    assert len(server.requests) == 1


@pytest.mark.parametrize("content", [b"mine", TWEETS[:-1] + b"x"], ids=["short", "same size"])
def test_another_file_is_replaced_only_on_request(get, fails, server, folder, content):
    get()
    (folder / "tweets.csv").write_bytes(content)
    assert "tweets.csv exists, and is not known to be from" in fails(UserError)
    assert (folder / "tweets.csv").read_bytes() == content
    assert len(server.requests) == 1
    get(overwrite=True)
    check_complete(folder)


def test_the_contents_of_another_archive_do_not_count(get, fails, folder):
    get()
    known = folder / "tweets.zip.json"
    known.write_text(known.read_text().replace(hashlib.sha256(CONTENT).hexdigest(), 64 * "0"))
    assert "tweets.csv exists, and is not known to be from tweets.zip" in fails(UserError)
    known.write_text("{")
    assert fails(UserError) == f"{known} cannot be read: delete it"


# Interruptions


def test_a_broken_download_is_resumed(get, server, folder):
    server.answers = [serve(stop=HALF), serve()]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


def test_tries_that_make_progress_are_not_counted(get, server, folder):
    server.answers = [serve(stop=SIZE * i // 8) for i in range(1, 9)]
    get()
    check_complete(folder)
    assert len(server.requests) == 8 > 1 + len(PAUSES)


def test_after_too_many_tries_the_same_command_resumes(fails, get, server, folder, part):
    server.answers = [serve(stop=HALF)]
    line = fails(JobError)
    assert f"{HALF:,} of {SIZE:,} bytes" in line
    assert "run the same command again to resume" in line
    assert len(server.requests) == 1 + len(PAUSES)
    assert part.read_bytes() == CONTENT[:HALF]
    server.answers = [serve()]
    get()
    check_complete(folder)
    assert server.starts[-1] == HALF


def test_a_stalled_server_is_retried(get, server, folder):
    server.answers = [stall(20), serve()]
    started = time.monotonic()
    get()
    assert time.monotonic() - started < 10
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_server_error_is_retried(get, fails, server, folder, status):
    server.answers = [send(status)]
    assert f"the server answers {status}" in fails(JobError)
    assert len(server.requests) == 1 + len(PAUSES)
    server.answers = [send(status), serve()]
    get()
    check_complete(folder)


def test_a_server_that_ignores_ranges_sends_all_again(get, server, folder):
    server.answers = [serve(stop=HALF), serve(ranges=False)]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF]


@pytest.mark.parametrize(
    "answer",
    [
        send(416),
        send(206, CONTENT[:HALF], Content_Range=f"bytes 0-{HALF - 1}/{SIZE}"),
        send(206, CONTENT[HALF:]),
    ],
    ids=["none", "another", "unnamed"],
)
def test_another_range_than_requested_is_not_used(get, server, folder, answer):
    server.answers = [serve(stop=HALF), answer, serve()]
    get()
    check_complete(folder)
    assert server.starts == [0, HALF, 0]


def test_parts_of_different_files_are_deleted(get, fails, server, folder):
    server.answers = [serve(bytes(SIZE), stop=HALF), serve()]
    assert "is not the archive: its SHA-256 is" in fails(UserError)
    assert [path.name for path in folder.iterdir()] == ["tweets.zip.lock"]
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


@pytest.mark.parametrize("length", [SIZE - 9, SIZE + 9])
def test_a_wrong_length_is_refused_before_the_content(fails, server, part, length):
    server.answers = [send(200, CONTENT, Content_Length=length)]
    assert f"it has {length} bytes there, not {SIZE}: another file" in fails(UserError)
    assert len(server.requests) == 1
    assert not part.exists()


def test_a_file_that_became_another_is_refused(fails, server, part):
    server.answers = [serve(stop=HALF), serve(CONTENT + b"x")]
    assert f"it has {SIZE + 1} bytes there" in fails(UserError)


def test_content_without_a_length_is_counted(get, fails, server, folder, part):
    server.answers = [send(200, CONTENT + b"x")]
    assert f"it has more than {SIZE} bytes there" in fails(UserError)
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


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x.zip", "file:///etc/passwd"])
def test_a_redirect_leads_to_http_only(fails, server, target):
    server.answers = [send(302, Location=target)]
    assert "the address, a redirect, or the proxy is wrong" in fails(UserError)


def test_redirects_end(fails, server):
    server.answers = [send(302, Location="/again")]
    assert "redirects too many times" in fails(UserError)


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
    line = fails(UserError, url=secure.url)
    assert "the certificate of 127.0.0.1 is not trusted (see REQUESTS_CA_BUNDLE)" in line
    assert secure.requests == []


@pytest.mark.parametrize("status", [404, 403, 401, 410])
def test_a_refusal_is_final_and_explains_how_to_do_it_by_hand(fails, server, folder, status):
    server.answers = [send(status)]
    line = fails(UserError)
    assert f"cannot download {server.url}: the server answers {status}" in line
    assert f"put it at {folder / 'tweets.zip'}, and run the same command" in line
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/x.zip", "no connection to 127.0.0.1 (no network"),
        ("http://name.invalid/x.zip", "no connection to name.invalid (no network"),
        ("http://me:s3cret@[x/x.zip", "cannot download http://[x/x.zip: the address, a"),
        (f"http://{'x' * 64}.org/x.zip", "the address, a redirect, or the proxy is wrong"),
        ("http://me:s3cret@127.0.0.1:9/x", "cannot download http://127.0.0.1:9/x: no connection"),
    ],
)
def test_without_a_network_one_line_explains_how_to_do_it_by_hand(fails, folder, url, reason):
    line = fails(UserError, url=url)
    assert reason in line
    assert "s3cret" not in line
    assert f"get it with a browser, put it at {folder / 'tweets.zip'}, and" in line


def test_an_archive_put_there_by_hand_is_verified_unpacked_and_kept(get, server, folder):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(CONTENT)
    get()
    check_complete(folder, "tweets.zip")
    assert server.requests == []


def test_files_unpacked_by_hand_are_verified_with_the_archive_beside_them(get, folder):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(CONTENT)
    for name, content in MEMBERS.items():
        (folder / name).write_bytes(content)
    get()
    check_complete(folder, "tweets.zip")


@pytest.mark.parametrize("content", [CONTENT[:HALF], bytes(SIZE)], ids=["size", "content"])
def test_another_archive_of_that_name_is_refused_and_kept(fails, server, folder, content):
    folder.mkdir()
    (folder / "tweets.zip").write_bytes(content)
    line = fails(UserError)
    assert line.startswith(f"{folder / 'tweets.zip'} is not the archive: it")
    assert (folder / "tweets.zip").read_bytes() == content
    assert server.requests == []


# Proxies


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


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("127.0.0.1:{}", "the proxy does not connect to far.invalid (see HTTPS_PROXY)"),
        ("127.0.0.1:9", "the proxy does not connect to far.invalid (see HTTPS_PROXY)"),
        ("127.0.0.1:port", "the address, a redirect, or the proxy is wrong"),
    ],
    ids=["refuses", "absent", "wrong"],
)
def test_a_proxy_error_does_not_show_the_password(fails, server, said, monkeypatch, proxy, reason):
    server.answers = [send(407)]
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{proxy.format(server.server_port)}")
    line = fails(UserError, url="https://far.invalid/tweets.zip")
    assert reason in line
    assert "s3cret" not in line + said.text


# The disk


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


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x.zip", "x.zip", "file:///x.zip"])
def test_an_address_must_be_http(fails, server, folder, url):
    line = fails(UserError, url=url)
    assert line.startswith(f"--url {url}: write http://… or https://…, or put the file at {folder}")
    assert not server.requests


def test_a_length_of_thousands_of_digits_is_refused(fails, server):
    server.answers = [lambda request: request.head(200, Content_Length="9" * 5000)]
    assert "it has 99999999999999999999 bytes there" in fails(UserError)


def test_the_reason_that_a_server_sends_is_not_shown(fails, server):
    server.answers = [
        lambda request: (request.send_response(404, "\x1b[31mHA"), request.end_headers())
    ]
    line = fails(UserError)
    assert "the server answers 404 Not Found" in line
    assert "\x1b" not in line


def test_missing_certificates_are_explained(fails, monkeypatch, folder):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    line = fails(UserError, url="https://127.0.0.1:9/x.zip")
    assert "the certificates that REQUESTS_CA_BUNDLE names are not there" in line


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


def test_of_two_processes_one_downloads_and_the_other_waits(start, server, folder, part):
    server.answers = [stall(20), serve()]
    first = start()
    wait_for(lambda: server.requests)
    second = start()
    assert "another process writes" in second.stderr.readline()
    server.released.set()
    assert first.wait(20) == second.wait(20) == 0
    check_complete(folder)
    assert server.starts == [0, HALF]


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
    result = invoke("glove", "--dim", 50, "--to", tmp_path / "cache", "--url", server.url)
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"sentiflow: cannot download {server.url}: " in result.stderr.splitlines()[-1]
    assert str(tmp_path / "cache" / "glove.6B.zip") in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--name", "7B"], "no GloVe vectors are called '7B': use 6B, twitter.27B, 42B, 840B"),
        (["--dim", 25], "--dim 25: glove.6B.zip has glove.6B.50d.txt, glove.6B.100d.txt"),
        (["--name", "42B", "--dim", 50], "--dim 50: glove.42B.300d.zip has glove.42B.300d.txt"),
    ],
)
def test_unknown_vectors_are_not_downloaded(arguments, expected):
    result = invoke("glove", *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr


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
    for archive in (SENTIMENT140, *GLOVE.values()):
        assert archive.url.startswith("https://")
        assert archive.name.endswith(".zip")
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert all(Path(member).name == member for member in archive.members)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a key and a self-signed certificate for this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
