"""What a call costs its caller with a backend that is well, slow or away: the events wait for it, the calls do not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sdk
from token_limit_core import Meter, MeterConfig

SLOW_SECONDS = 2.0
MOODS = ("well", "slow", "down")


class Backend(ThreadingHTTPServer):
    """Takes everything, at once or after `SLOW_SECONDS`, or answers 503; checks are always answered at once."""

    daemon_threads = True

    def __init__(self, mood: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood = mood
        self.url = f"http://127.0.0.1:{self.server_port}/events"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        self._answer(200, {"limit_exceeded": False, "remaining_tokens": None})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.server.mood == "slow":
            time.sleep(SLOW_SECONDS)
        self._answer(503 if self.server.mood == "down" else 200, {})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def subjects() -> dict[str, Callable[[], Any]]:
    """Return what is compared, the base first."""
    return {
        "unpatched": sdk.unpatched,
        **{f"remote only, backend {mood}": _subject(mood) for mood in MOODS},
        **{f"memory store and outbox, backend {mood}": _subject(mood, store="memory://") for mood in MOODS},
    }


def _subject(mood: str, **settings: Any) -> Callable[[], Any]:
    backend = Backend(mood)
    meter = Meter(MeterConfig(url=backend.url, on_flush_error=lambda error: None, **settings))

    @contextmanager
    def patched() -> Iterator[None]:
        meter.patch_all()
        with meter.for_tenant("tenant"):
            yield
        meter.unpatch_all()

    return patched
