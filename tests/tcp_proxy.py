"""A TCP proxy on loopback that breaks its connections when it is told to."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Passes connections on to a port; each of them can be broken, and new ones refused."""

    def __init__(self, port: int, *, on_data: Callable[[bytes], None] = lambda data: None) -> None:
        """Pass data on to a port; ``on_data`` gets what clients send, before it is passed on."""
        self.target, self.on_data = port, on_data
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def break_all(self) -> int:
        """Break what is open, as a network does that is gone; how many there were."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _shut(end)
        return len(pairs)

    def close(self) -> None:
        """Take no more connections."""
        _shut(self._listener)
        self.break_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refusing:
                    _shut(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
                self._pairs.append((client, server))
                for pair in ((client, server, self.on_data), (server, client, lambda data: None)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, on_data: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            on_data(data)
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
