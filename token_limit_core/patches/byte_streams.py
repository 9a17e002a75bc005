"""Metered bodies that are read as bytes: a tee reads a copy, and may cut the body before its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple, Protocol

from ..calls.growth import cut_short
from ..calls.request import Outcome
from ..limits import Decision
from ..runtime.faults import report
from .watch import Watch, this_scope, this_task


class Tee(Protocol):
    """Reads a copy of a body as bytes."""

    def feed(self, data: bytes) -> bytes:
        """Read bytes; return those that the caller gets now."""

    def rest(self) -> bytes:
        """Return the bytes that were kept back, at the end of the body."""

    def outcome(self, error: BaseException | None) -> Outcome:
        """Return the outcome."""


def body_bytes(inner: Iterator[bytes], watch: Watch, tee: Tee, close: Callable[[], object]) -> Iterator[bytes]:
    """Pass bytes to the caller, and settle at the end. A body that is cut is closed before the refusal is raised."""
    try:
        for data in inner:
            watch.reader = this_scope()
            if passed := tee.feed(data):
                yield passed
            watch.growth.left -= 1
            if not watch.growth.left and (cut := _cut(watch, tee)) is not None:
                yield cut.last
                close()
                raise cut_short(watch.flight, cut.decision)
        if passed := tee.rest():
            yield passed
        watch.land()
    except GeneratorExit:
        watch.hand_over()
        raise
    except BaseException as error:
        watch.land(error)
        raise


async def abody_bytes(
    inner: AsyncIterator[bytes], watch: Watch, tee: Tee, close: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    """Do what `body_bytes` does for an asynchronous body."""
    try:
        watch.reader = this_task()
        async for data in inner:
            watch.reader = this_task()
            if passed := tee.feed(data):
                yield passed
            watch.growth.left -= 1
            if not watch.growth.left and (cut := _cut(watch, tee)) is not None:
                yield cut.last
                await close()
                raise cut_short(watch.flight, cut.decision)
        if passed := tee.rest():
            yield passed
        await watch.aland()
    except Exception as error:
        await watch.aland(error)
        raise
    except BaseException as error:
        watch.hand_over(None if isinstance(error, GeneratorExit) else error)
        raise


class _Cut(NamedTuple):
    """The refusal that a body is cut by, and the bytes that end it."""

    decision: Decision
    last: bytes


def _cut(watch: Watch, tee: Tee) -> _Cut | None:
    """See to the hold of a body; say how to cut it. A tee that has no `ending` yet is looked at with the next bytes."""
    decision, ending = watch.look(), getattr(tee, "ending", None)
    if decision is None or ending is None:
        return None
    try:
        last: bytes | None = ending()
    except Exception:
        report("ending a stream")
        last = b""
    if last is None:
        watch.growth.left = 1
        return None
    return _Cut(decision, last)


class Undecoded:
    """Feeds a tee with the decoded copy of a raw body. Nothing can be hidden in a compressed body."""

    def __init__(self, tee: Tee, response: Any) -> None:
        self._tee = tee
        self._response = response
        self._encoded = response.headers.get("content-encoding", "identity") != "identity"
        self.outcome = tee.outcome

    def feed(self, data: bytes) -> bytes:
        """Feed a copy, decoded by the decoder of the response, which is free because the caller reads raw bytes."""
        if not self._encoded:
            return self._tee.feed(data)
        try:
            decoded = self._response._get_content_decoder().decode(data)
            self._tee.feed(decoded if isinstance(decoded, bytes) else b"".join(decoded))  # httpx's, and httpx2's
        except Exception:
            report("decoding a raw body")
        return data

    def rest(self) -> bytes:
        """Return the bytes that were kept back."""
        rest = self._tee.rest()
        return b"" if self._encoded else rest
