"""AWS's binary event streams, which consist of frames: headers, and a JSON payload."""

from __future__ import annotations

import json
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from ..calls.flight import Flight
from ..calls.request import Outcome
from ..runtime.faults import report
from .streams import achunks, chunks
from .watch import Watch


class FrameReader(ABC):
    """Follows the frames of a stream; `failed` is the error that a frame reported, after a status of success."""

    def __init__(self, request_id: str | None = None) -> None:
        self.failed: FrameError | None = None
        self.letters = 0
        self._request_id = request_id

    def see(self, frame: Any) -> bool:
        """Look at a frame; none is ever hidden."""
        if frame.headers.get(":message-type") in ("exception", "error"):
            self.failed = FrameError(frame.headers.get(":exception-type") or frame.headers.get(":error-code"))
        else:
            self.take(frame.headers.get(":event-type"), json.loads(frame.payload))
        return False

    @abstractmethod
    def take(self, kind: str | None, row: Mapping[str, Any]) -> None:
        """Look at the payload of an event."""

    @abstractmethod
    def so_far(self) -> Outcome:
        """Read what was reported so far."""

    def outcome(self, error: BaseException | None) -> Outcome:
        """Report what was used so far; without counts the output is estimated from what was seen of it."""
        outcome = self.so_far()
        outcome.error = error or self.failed or outcome.error
        outcome.observed_output = self.letters // 4
        if self._request_id is not None:
            outcome.request_id = self._request_id
        return outcome


class FrameError(Exception):
    """An error event of a stream, of which only the `type` is kept."""

    def __init__(self, type_: str | None) -> None:
        super().__init__()
        self.type = type_


class FrameTee:
    """Shows each frame of a body to a reader; nothing is ever hidden. What reads such bodies has botocore itself."""

    def __init__(self, reader: FrameReader) -> None:
        from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]

        self._reader = reader
        self._frames = EventStreamBuffer()
        self.outcome: Callable[[BaseException | None], Outcome] = reader.outcome

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; all of them come out."""
        try:
            self._frames.add_data(data)
            for frame in self._frames:
                self._reader.see(frame)
        except Exception:
            report("reading a frame")
        return data

    def rest(self) -> bytes:
        """Nothing is ever kept back."""
        return b""


def follow_frames(stream: Any, flight: Flight, reader: FrameReader) -> None:
    """Follow botocore's `EventStream`."""
    watch = Watch(flight, reader.outcome)
    stream._event_generator = _frames(
        watch.by(chunks(stream._event_generator, watch, reader, stream._raw_stream.close)), watch, reader
    )
    stream.close = _closing(stream, watch.land)
    weakref.finalize(stream, watch.hand_over)


def follow_async_frames(stream: Any, flight: Flight, reader: FrameReader) -> None:
    """Follow aiobotocore's `AioEventStream`, whose `close` is not awaited."""
    watch = Watch(flight, reader.outcome)
    stream._event_generator = _aframes(
        watch.by(achunks(stream._event_generator, watch, reader, _close(stream._raw_stream))), watch, reader
    )
    stream.close = _closing(stream, watch.hand_over)
    weakref.finalize(stream, watch.hand_over)


def _frames(inner: Iterator[Any], watch: Watch, reader: FrameReader) -> Iterator[Any]:
    for frame in inner:
        if reader.failed is not None:  # botocore is going to raise, and never comes back for more
            watch.land()
        yield frame


async def _aframes(inner: AsyncIterator[Any], watch: Watch, reader: FrameReader) -> AsyncIterator[Any]:
    async for frame in inner:
        if reader.failed is not None:
            await watch.aland()
        yield frame


def _close(raw: Any) -> Callable[[], Awaitable[None]]:
    """Make an awaitable close of what has a plain one."""

    async def close() -> None:
        raw.close()

    return close


def _closing(stream: Any, settle: Callable[[], None]) -> Callable[[], None]:
    """Make a `close` that settles; it does not keep its stream alive."""
    reference = weakref.ref(stream)

    def close() -> None:
        closed = reference()
        if closed is not None:
            type(closed).close(closed)
            settle()

    return close
