"""A TCP gateway in front of a database server, which can be cut off and can stop to forward."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import free_port


class Gateway:
    """Forwards connections to a loopback port of a server. `attempts` counts the connections that were accepted."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.attempts = 0
        self._target = target
        self._forwards = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.restore()

    def restore(self) -> None:
        """Forward again, also what was held back."""
        self._forwards.set()
        self._listen()

    def cut(self) -> None:
        """End all connections and refuse new ones, as a server does that is stopped."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # it wakes the thread that accepts
            listener.close()
        for open_socket in list(self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def hang(self) -> None:
        """Accept everything and forward nothing, as a network does that drops packets."""
        self._forwards.clear()
        self._listen()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                self.attempts += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                for one, other in ((client, server), (server, client)):
                    self._sockets.add(one)
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._forwards.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        self._sockets.discard(source)
        source.close()


@contextmanager
def gateway(target: int) -> Iterator[Gateway]:
    """Run a gateway to a loopback port for a block."""
    made = Gateway(target)
    try:
        yield made
    finally:
        made.restore()
        made.cut()
