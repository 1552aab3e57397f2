"""A server of archives on loopback, which answers as a test wants."""

import functools
import hashlib
import io
import random
import ssl
import threading
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest

from sentiflow.data import download as downloading
from sentiflow.data.archives import Archive
from sentiflow.data.download import download

NUM_TRIES = 4


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
    monkeypatch.setattr(downloading, "_RETRIES", downloading._RETRIES.new(backoff_factor=0))


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
    """Check that the folder holds the members, byte by byte, a lock, and no more."""
    known = {*MEMBERS, "tweets.zip.lock", *others}
    assert {path.name for path in folder.iterdir()} == known
    for name, content in MEMBERS.items():
        assert (folder / name).read_bytes() == content


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
