"""A host that a hostile manifest might name: it listens, and notes what arrives."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

_ANSWER = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAREADER",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token of the reader",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The reader's keys, with which requests would be signed."""


class ListeningHost:
    """A socket on loopback that refuses each request, quickly, and keeps its bytes."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # it is closed
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(2)
                self.arrived.append(b"")
                self.arrived[-1] = connection.recv(1 << 16)
                connection.sendall(_ANSWER)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def host(monkeypatch) -> Iterator[ListeningHost]:
    """Listen; requests to object stores go to this host, too, signed with the reader's keys."""
    listening = ListeningHost()
    for name, value in _KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{listening.address}")
    yield listening
    listening.close()
