"""Tees: read a copy of a raw body, which has server-sent events or one JSON document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..calls.request import Outcome
from ..runtime.faults import report
from .streams import Reader, ending_of
from .whole import read_whole

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class EventTee:
    """Feeds a stream reader with the JSON of each event, and leaves events out that the reader hides."""

    def __init__(self, reader: Reader, hiding: bool) -> None:
        self._reader = reader
        self._hiding = hiding
        self._buffer = b""
        self.outcome: Callable[[BaseException | None], Outcome] = reader.outcome

    def feed(self, data: bytes) -> bytes:
        """Read bytes. While events may be hidden, only complete events are returned."""
        looked_at = max(0, len(self._buffer) - 3)  # the separator has up to four bytes
        self._buffer += data
        passed: list[bytes] = []
        start = 0
        for match in _END.finditer(self._buffer, looked_at):
            event = self._buffer[start : match.end()]
            start = match.end()
            if not self._hides(event):
                passed.append(event)
        self._buffer = self._buffer[start:]
        return b"".join(passed) if self._hiding else data

    def rest(self) -> bytes:
        """Return an incomplete last event."""
        rest, self._buffer = self._buffer, b""
        hidden = bool(rest) and self._hides(rest)
        return rest if self._hiding and not hidden else b""

    def _hides(self, event: bytes) -> bool:
        data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if not data.startswith(b"{"):
            return False
        try:
            return self._reader.see(json.loads(data)) and self._hiding
        except ValueError:
            return False  # the SDK handles it
        except Exception:
            report("reading an event")
            return False


class CutTee(EventTee):
    """An `EventTee` for bodies that only the SDK reads: they can be cut, like parsed streams."""

    def ending(self) -> bytes | None:
        """Return the events that end the stream well; None in the middle of an event."""
        if self._buffer:
            return None
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in ending_of(self._reader))


class DocumentTee:
    """Keeps a copy of a JSON body, and reads it at the end."""

    def __init__(self, read: Callable[[Any], Outcome], request_id: str | None) -> None:
        self._read = read
        self._request_id = request_id
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Keep a copy."""
        self._parts.append(data)
        return data

    def rest(self) -> bytes:
        """Return nothing: no bytes are kept back."""
        return b""

    def outcome(self, error: BaseException | None) -> Outcome:
        """Read the document; an incomplete one has no usage."""
        outcome = read_document(b"".join(self._parts), self._read)
        outcome.error = outcome.error if error is None else error
        if self._request_id is not None:
            outcome.request_id = self._request_id
        return outcome


class BlindTee:
    """Passes a body that is not JSON and may be large, such as speech."""

    def __init__(self, read: Callable[[Any], Outcome], request_id: str | None) -> None:
        self._read = read
        self._request_id = request_id

    def feed(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data

    def rest(self) -> bytes:
        """Return nothing: no bytes are kept back."""
        return b""

    def outcome(self, error: BaseException | None) -> Outcome:
        """Return what is known without the body."""
        outcome = self._read(None)
        outcome.error = error
        if self._request_id is not None:
            outcome.request_id = self._request_id
        return outcome


def read_document(body: bytes, read: Callable[[Any], Outcome]) -> Outcome:
    """Read a JSON body with `read`; any other body is read as None."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    return read_whole(document if isinstance(document, dict) else None, read)
