"""FakeProvider: a real HTTP server on loopback that answers like OpenAI, and fails on demand."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from .faults import DROP, MALFORMED, NO_USAGE, Break, Failure, Pause, Script, error_body
from .server import Exchange, Server
from .service import serve


class Received(NamedTuple):
    """A received request: path without query, parsed body, headers with lower-case names."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]


class FakeProvider:
    """An OpenAI-compatible provider for tests: chat and legacy completions, responses, embeddings; plain and streamed.

    Start it with `with FakeProvider() as provider:` or `start()`, and point a client at `base_url`. Every method
    that changes an answer takes `times`: for how many of the next requests it holds; None is until `reset()`.
    Rules with a count come first, in the order they were given. Raises `OSError` when `port` is taken; 0 is any.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Received] = []
        self._script = Script()
        self._pauses: list[Pause] = []
        self._server = Server(port, self._serve)
        self.host: str = f"127.0.0.1:{self._server.server_port}"
        self.base_url: str = f"http://{self.host}/v1"

    def start(self) -> Self:
        """Start the server."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Release paused answers, close every connection and free the port."""
        self.reset()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self) -> None:
        """Answer normally again. `requests` keeps what was received."""
        self._script.clear()
        for pause in self._pauses:
            pause.set()

    def reply_with(self, text: str, *, times: int | None = None) -> None:
        """Answer with this text."""
        self._script.add("text", text, times)

    def usage(
        self,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cached: int | None = None,
        reasoning: int | None = None,
        times: int | None = None,
    ) -> None:
        """Report these counts. Counts that are left out keep their computed values."""
        counts = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cached": cached,
            "reasoning": reasoning,
        }
        self._script.add("usage", {name: value for name, value in counts.items() if value is not None}, times)

    def no_usage(self, *, times: int | None = None) -> None:
        """Leave usage out of answers, also if a stream requested it."""
        self._script.add("usage", NO_USAGE, times)

    def fail(
        self,
        status: int,
        *,
        code: str | None = None,
        message: str | None = None,
        retry_after_ms: int | None = 1,
        times: int | None = None,
    ) -> None:
        """Answer with an HTTP error. SDKs that retry wait `retry_after_ms`; None sends no such header."""
        headers = {} if retry_after_ms is None else {"retry-after-ms": str(retry_after_ms)}
        self._script.add("fault", Failure(status, error_body(status, code, message), headers), times)

    def malformed_json(self, *, times: int | None = None) -> None:
        """Answer 200 with a body, or a stream with an event, that ends in the middle of its JSON."""
        self._script.add("fault", MALFORMED, times)

    def drop_connection(self, *, times: int | None = None) -> None:
        """Close the connection after the request, before any response."""
        self._script.add("fault", DROP, times)

    def reject_stream_options(self, *, times: int | None = None) -> None:
        """Answer requests that have `stream_options` with the 400 of providers that do not know it."""
        message = "Unknown parameter: 'stream_options'."
        body = error_body(400, "unknown_parameter", message, "stream_options")
        self._script.add("stream_options", Failure(400, body), times)

    def drop_mid_stream(self, *, after_chunks: int, times: int | None = None) -> None:
        """Close the connection of a stream after this many events."""
        self._script.add("break", Break(after_chunks, error=False), times)

    def error_mid_stream(self, *, after_chunks: int, times: int | None = None) -> None:
        """End a stream with an error event after this many others."""
        self._script.add("break", Break(after_chunks, error=True), times)

    def slow(self, seconds_per_chunk: float, *, times: int | None = None) -> None:
        """Wait before each event of a stream, and before a plain answer."""
        self._script.add("pace", seconds_per_chunk, times)

    def pause_after(self, *, chunks: int, times: int | None = None) -> Pause:
        """Stop after this many events until the test calls `set()` on what this returns; a plain answer counts as one.

        `pause.reached.wait()` tells when the answer got there.
        """
        pause = Pause(chunks)
        self._pauses.append(pause)
        self._script.add("pause", pause, times)
        return pause

    def _serve(self, exchange: Exchange) -> None:
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        self.requests.append(Received(exchange.command, exchange.route, exchange.body, headers))
        serve(exchange, self._script)
