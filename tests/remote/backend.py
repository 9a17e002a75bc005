"""A backend that speaks the wire contract and can be told to misbehave; it keeps what it took, by event id."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection to the backend."""

    protocol_version = "HTTP/1.1"
    server: Backend
    raw: bytes = b""

    def do_POST(self) -> None:
        self.raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    do_DELETE = do_GET

    def body(self) -> Any:
        raw = gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw
        return json.loads(raw)

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _serve(self) -> None:
        backend = self.server
        path = self.path.partition("?")[0]
        with backend.lock:
            backend.seen.append((self.command, self.path, self.headers.get("authorization")))
            backend.keys.append(self.headers.get("x-api-key"))
            backend.arrived.append(time.time())
            script = backend.scripts.get(path.rpartition("/")[2], [])
            behave = script.pop(0) if script else backend.usual
        behave(self)


class Backend(ThreadingHTTPServer):
    """Answers as the published backend and ours do; `scripts` has what the next requests to an endpoint get instead."""

    daemon_threads = True
    request_queue_size = 128  # 64 threads connect at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.seen: list[tuple[str, str, str | None]] = []
        self.keys: list[str | None] = []
        self.late = threading.Event()
        self.usual: Behaviour = Backend.well
        self.arrived: list[float] = []  # when, in unix seconds
        self.scripts: dict[str, list[Behaviour]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.deliveries: Counter[str] = Counter()
        self.limits: dict[str, Decimal] = {}
        self.thresholds: list[dict[str, Any]] = []
        self.answer_check: Callable[[str], Any] = self.check
        self.url = f"http://127.0.0.1:{self.server_port}/v1/events"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.late.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def requests(self, method: str) -> int:
        return sum(seen[0] == method for seen in self.seen)

    def spent(self, tenant_id: str) -> Decimal:
        mine = [event for event in self.events.values() if event["tenant_id"] == tenant_id]
        return sum((Decimal(event.get("cost_usd", "0")) for event in mine), Decimal(0))

    def check(self, tenant_id: str) -> dict[str, Any]:
        limit, spent = self.limits.get(tenant_id), self.spent(tenant_id)
        if limit is None:
            return {"limit_exceeded": False, "remaining_tokens": None}
        return {
            "limit_exceeded": spent >= limit,
            "remaining_tokens": None,
            "limit_usd": str(limit),
            "spent_usd": str(spent),
            "remaining_usd": str(max(Decimal(0), limit - spent)),
        }

    @staticmethod
    def well(handler: Handler) -> None:
        """Answer as one should."""
        backend = handler.server
        if handler.path.startswith("/v1/check-tenant-limit"):
            tenant_id = handler.path.partition("tenant_id=")[2]
            with backend.lock:
                told = backend.answer_check(tenant_id)
            handler.answer(200, told)
        elif handler.path == "/v1/thresholds":
            body = handler.body()
            with backend.lock:
                backend.thresholds.append(body)
                backend.limits[body["tenant_id"]] = Decimal(body["limit_usd"])
            handler.answer(201)
        elif handler.path == "/v1/events":
            take(handler)
            handler.answer(202)
        else:
            handler.answer(404)  # the published backend has three endpoints

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that time out are part of the game."""


def take(handler: Handler) -> None:
    """Store the events of a request, each once."""
    with handler.server.lock:
        for event in handler.body()["events"]:
            handler.server.deliveries[event["event_id"]] += 1
            handler.server.events.setdefault(event["event_id"], event)


def status(code: int, **headers: str) -> Behaviour:
    """Answer with a status and take nothing."""

    def behave(handler: Handler) -> None:
        handler.answer(code, **headers)

    behave.__name__ = f"status_{code}"
    return behave


def garbage(handler: Handler) -> None:
    """Answer 200 with what is no JSON."""
    handler.answer(200, b"<html>gateway</html>")


def closes(handler: Handler) -> None:
    """Hang up without an answer."""
    handler.hang_up()


def takes_and_closes(handler: Handler) -> None:
    """Store the events and hang up before the answer."""
    take(handler)
    handler.hang_up()


def closes_mid_body(handler: Handler) -> None:
    """Hang up in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.hang_up()


def broken(handler: Handler) -> None:
    """Answer 200 with JSON that breaks off."""
    handler.answer(200, b'{"accepted": ')


def takes_and_answers_late(handler: Handler) -> None:
    """Store the events, and answer after the sender has given up."""
    take(handler)
    handler.server.late.wait(60)
    handler.answer(200)
