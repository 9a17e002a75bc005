"""The HTTP server of a fake provider: threads, connections, chunks. It has no knowledge of any API."""

from __future__ import annotations

import json
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Exchange(BaseHTTPRequestHandler):
    """One client's connection: its current request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    body: Any = None

    def do_GET(self) -> None:
        """Answer a GET."""
        self.body = None
        self.server.serve(self)

    def do_POST(self) -> None:
        """Answer a POST; `body` is None unless it was JSON."""
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            self.body = json.loads(raw)
        except ValueError:
            self.body = None
        self.server.serve(self)

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    def send_body(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole JSON response."""
        self._start(
            status, {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
        )
        self.wfile.write(body)

    def send_json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a value as a whole JSON response."""
        self.send_body(status, json.dumps(body).encode(), headers)

    def start_stream(self) -> None:
        """Send the head of a stream of server-sent events."""
        self._start(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})

    def send_chunk(self, data: bytes) -> None:
        """Send one part of a stream; an empty one ends it."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def hang_up(self) -> None:
        """Close the connection without a response."""
        self.close_connection = True
        hang_up(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: tests read `requests`."""

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"x-request-id": f"req_{uuid.uuid4().hex}", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Listens on loopback, with a thread per connection."""

    def __init__(self, port: int, serve: Callable[[Exchange], None]) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.serve = serve
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self.stopped: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="fake-provider", daemon=True)

    def start(self) -> Self:
        """Answer in a thread of its own."""
        self._thread.start()
        return self

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, which `stop` hangs up on and waits for."""
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._connections = [(other, each) for other, each in self._connections if each.is_alive()]
        self._connections.append((request, thread))
        thread.start()

    def stop(self) -> None:
        """Close every connection, wait for the threads and free the port. Idempotent."""
        self.stopped.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection, thread in self._connections:
            hang_up(connection)
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about clients that disconnect: tests do that on purpose."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def hang_up(connection: socket.socket) -> None:
    """Close both directions of a connection that may be closed already."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
