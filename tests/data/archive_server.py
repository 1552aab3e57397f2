"""A server of archives on loopback, which answers as a test wants."""

import functools
import hashlib
import io
import random
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sentiflow.data.download import Archive, download


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
SIZE = len(CONTENT)
HALF = 2 << 16
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
        request.head(206 if start else 200, Content_Length=len(content) - start)
        request.wfile.write(content[start:stop])

    return answer


def send(status: int, body: bytes = b"", **fields: object) -> Answer:
    """Send this response, whatever was requested."""

    def answer(request: Handler) -> None:
        request.head(status, **fields)
        request.wfile.write(body)

    return answer


class Server(ThreadingHTTPServer):
    """A real server that keeps its ``requests``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [serve()]
        self.requests = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.address}/tweets.zip"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def starts(self) -> list[int]:
        """The first byte of each request."""
        return [request.start for request in self.requests]

    def handle_error(self, *arguments):
        pass  # a client that went away

    def close(self):
        self.shutdown()
        self.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    made = Server()
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
    """Check that the folder holds the members, byte by byte, and no more."""
    assert {path.name for path in folder.iterdir()} == {*MEMBERS, *others}
    for name, content in MEMBERS.items():
        assert (folder / name).read_bytes() == content
