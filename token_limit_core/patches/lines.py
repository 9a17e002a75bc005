"""Bodies of JSON lines, read as they pass."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ..calls.request import Outcome
from ..runtime.faults import report
from .streams import Reader, ending_of

See = Callable[[dict[str, Any]], object]


class _Lines:
    """Joins pieces of a body into lines, and passes the JSON of each line on."""

    def __init__(self, see: See) -> None:
        self._see = see
        self._part = b""

    @property
    def begun(self) -> bool:
        """Whether a line is incomplete."""
        return bool(self._part)

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


class LinesTee:
    """Passes the JSON of each line of a body to a stream reader. Nothing is hidden."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lines = _Lines(reader.see)
        self.outcome: Callable[[BaseException | None], Outcome] = reader.outcome

    def feed(self, data: bytes) -> bytes:
        """Read bytes and return all of them."""
        self._lines.feed(data)
        return data

    def rest(self) -> bytes:
        """Pass on a last line without a line break."""
        self._lines.end()
        return b""


class CutLinesTee(LinesTee):
    """A `LinesTee` for bodies that only the SDK reads: they can be cut, like parsed streams."""

    def ending(self) -> bytes | None:
        """Return the lines that end the stream well; None in the middle of a line."""
        if self._lines.begun:
            return None
        return b"".join(json.dumps(row).encode() + b"\n" for row in ending_of(self._reader))


def show_lines(response: Any, see: See) -> None:
    """Pass the JSON of each line to `see` whenever the body of a response is read."""
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
