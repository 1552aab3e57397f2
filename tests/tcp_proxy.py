"""A TCP proxy on loopback that tests can use to break connections."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Passes connections on to a port; can break open connections and refuse new ones."""

    def __init__(self, port: int, *, on_data: Callable[[bytes], None] = lambda data: None) -> None:
        """Pass data on to a port; ``on_data`` first gets each piece of data from a client."""
        self.target = port
        self.on_data = on_data
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def break_all(self) -> int:
        """Break all open connections, as if the network failed; return their number."""
        pairs = self._pairs
        self._pairs = []
        for client, server in pairs:
            _shut(client)
            _shut(server)
        return len(pairs)

    def close(self) -> None:
        """Accept no more connections, and break the open ones."""
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
                directions = (
                    (client, server, self.on_data),
                    (server, client, lambda data: None),
                )
                for arguments in directions:
                    threading.Thread(target=_pump, args=arguments, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, on_data: Callable[[bytes], None]) -> None:
    """Pass data on until a connection is broken, then break the other one."""
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
