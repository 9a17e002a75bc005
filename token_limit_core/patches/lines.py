"""Bodies that are neither one JSON document nor server-sent events: JSON lines, and AWS's binary event stream."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ..runtime.faults import report
from .streams import Reader

See = Callable[[dict[str, Any]], object]


class AwsTee:
    """Shows the JSON in each frame of an AWS event stream to a stream reader; nothing is ever hidden.

    Bedrock wraps each of Anthropic's events as base64 in a `chunk` frame. botocore, which the SDK itself needs to read
    these streams, takes the frames apart.
    """

    def __init__(self, reader: Reader) -> None:
        from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]

        self._reader = reader
        self._frames = EventStreamBuffer()
        self.outcome = reader.outcome

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; all of them come out."""
        try:
            self._frames.add_data(data)
            for frame in self._frames:
                chunk = json.loads(frame.payload).get("bytes")
                if chunk is not None:
                    self._reader.see(json.loads(base64.b64decode(chunk)))
        except Exception:
            report("reading a frame")
        return data

    def rest(self) -> bytes:
        """Nothing is ever kept back."""
        return b""


class _Lines:
    """Puts lines together from pieces of a body, and shows the JSON of each."""

    def __init__(self, see: See) -> None:
        self._see = see
        self._part = b""

    def feed(self, data: bytes) -> None:
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            self._show(line)

    def end(self) -> None:
        self._show(self._part)

    def _show(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            if isinstance(row, dict):
                self._see(row)
        except Exception:
            report("reading a line")


def show_lines(response: Any, see: See) -> None:
    """Show the JSON of each line to `see` when the body of a response is read, by whomever."""
    for name, shown in (("iter_bytes", _shown), ("aiter_bytes", _ashown)):
        setattr(response, name, _once(response, getattr(response, name), shown, see))


def _once(response: Any, plain: Any, shown: Any, see: See) -> Any:
    def hook(*args: Any, **kwargs: Any) -> Any:
        for name in ("iter_bytes", "aiter_bytes"):  # the hooks make a cycle with their response
            response.__dict__.pop(name, None)
        return shown(plain(*args, **kwargs), _Lines(see))

    return hook


def _shown(inner: Iterator[bytes], lines: _Lines) -> Iterator[bytes]:
    for data in inner:
        lines.feed(data)
        yield data
    lines.end()


async def _ashown(inner: AsyncIterator[bytes], lines: _Lines) -> AsyncIterator[bytes]:
    async for data in inner:
        lines.feed(data)
        yield data
    lines.end()
