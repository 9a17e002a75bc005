"""Metered streams: the caller gets the SDK's own object and chunks, and each stream settles exactly once.

A parsed stream gets another `_iterator` (0.2 microseconds a chunk). A raw response gets other `iter_bytes` and
`iter_raw`, which copy the body to a tee. A stream that is not read to its end settles when the HTTP response is closed,
else when the garbage collector finds the object.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from ..calls.flight import Flight
from ..calls.growth import cut_short
from ..calls.request import Outcome
from ..runtime.faults import report
from .byte_streams import Tee, Undecoded, abody_bytes, body_bytes
from .watch import Watch, this_scope, this_task


class Reader(Protocol):
    """Reads the chunks of one stream, and has the outcome so far at any moment.

    A stream whose reader has `ending()` can be cut: it returns the chunks that end the stream, as the provider sends
    them when the output reaches its bound.
    """

    def see(self, chunk: Any) -> bool:
        """Read a chunk; True hides it from the caller."""

    def outcome(self, error: BaseException | None) -> Outcome:
        """Return the outcome. Without an `error` the stream was read to its end, closed or left."""


def _follow_stream(stream: Any, response: Any, flight: Flight, reader: Reader) -> None:
    """Follow a parsed sync stream."""
    watch = Watch(flight, reader.outcome)
    stream._iterator = watch.by(chunks(stream._iterator, watch, reader, response.close))
    _on_close(response, watch)
    weakref.finalize(stream, watch.hand_over)


def _follow_async_stream(stream: Any, response: Any, flight: Flight, reader: Reader) -> None:
    """Follow a parsed async stream."""
    watch = Watch(flight, reader.outcome)
    stream._iterator = watch.by(achunks(stream._iterator, watch, reader, response.aclose))
    _on_aclose(response, watch)
    weakref.finalize(stream, watch.hand_over)


def _follow_body(response: Any, flight: Flight, tee: Tee) -> None:
    """Follow a raw sync response while the caller reads it."""
    watch = Watch(flight, tee.outcome)
    tees = {"iter_bytes": tee, "iter_raw": Undecoded(tee, response)}
    _on_reading(response, tees, lambda body, tee: watch.by(body_bytes(body, watch, tee, response.close)))
    _on_close(response, watch)
    weakref.finalize(response, watch.hand_over)


def _follow_async_body(response: Any, flight: Flight, tee: Tee) -> None:
    """Follow a raw async response while the caller reads it."""
    watch = Watch(flight, tee.outcome)
    tees = {"aiter_bytes": tee, "aiter_raw": Undecoded(tee, response)}
    _on_reading(response, tees, lambda body, tee: watch.by(abody_bytes(body, watch, tee, response.aclose)))
    _on_aclose(response, watch)
    weakref.finalize(response, watch.hand_over)


class Follow(NamedTuple):
    """How to follow a parsed stream and a raw body, for one kind of client."""

    stream: Callable[[Any, Any, Flight, Reader], None]
    body: Callable[[Any, Flight, Tee], None]


follow_sync: Follow = Follow(_follow_stream, _follow_body)
follow_async: Follow = Follow(_follow_async_stream, _follow_async_body)


def follow_chunks(stream: Iterator[Any], flight: Flight, reader: Reader) -> Iterator[Any]:
    """Follow a generator; return the generator that replaces it."""
    watch = Watch(flight, reader.outcome)
    return watch.by(chunks(stream, watch, reader, getattr(stream, "close", _nothing)))


def follow_async_chunks(stream: AsyncIterator[Any], flight: Flight, reader: Reader) -> AsyncIterator[Any]:
    """Follow an asynchronous generator, which may never be started."""
    watch = Watch(flight, reader.outcome)
    followed = watch.by(achunks(stream, watch, reader, getattr(stream, "aclose", _anothing)))
    weakref.finalize(followed, watch.hand_over)
    return followed


def chunks(inner: Any, watch: Watch, reader: Reader, close: Callable[[], object]) -> Iterator[Any]:
    """Pass chunks to the caller, and settle at the end. A stream that is cut is closed before the refusal is raised."""
    see, growth = reader.see, watch.growth
    try:
        for chunk in inner:
            watch.reader = this_scope()
            try:
                hidden = see(chunk)
            except Exception:
                report("reading a chunk")
                hidden = False
            if not hidden:
                yield chunk
            growth.left -= 1
            if not growth.left and (decision := watch.look()) is not None:
                yield from _ending(reader)
                close()
                raise cut_short(watch.flight, decision)
        watch.land()
    except GeneratorExit:  # closed or collected: this may be a finaliser
        watch.hand_over()
        raise
    except BaseException as error:
        watch.land(error)
        raise


async def achunks(
    inner: Any, watch: Watch, reader: Reader, close: Callable[[], Awaitable[object]]
) -> AsyncIterator[Any]:
    """Do what `chunks` does for an asynchronous stream."""
    see, growth = reader.see, watch.growth
    try:
        watch.reader = this_task()
        async for chunk in inner:
            watch.reader = this_task()
            try:
                hidden = see(chunk)
            except Exception:
                report("reading a chunk")
                hidden = False
            if not hidden:
                yield chunk
            growth.left -= 1
            if not growth.left and (decision := watch.look()) is not None:
                for last in _ending(reader):
                    yield last
                await close()
                raise cut_short(watch.flight, decision)
        await watch.aland()
    except Exception as error:
        await watch.aland(error)
        raise
    except BaseException as error:  # cancelled or closed: nothing may be awaited here
        watch.hand_over(None if isinstance(error, GeneratorExit) else error)
        raise


def ending_of(reader: Reader) -> Iterable[Any]:
    """Return the chunks that end a stream well, where its reader can make them."""
    ending = getattr(reader, "ending", None)
    return () if ending is None else ending()


def _ending(reader: Reader) -> Iterable[Any]:
    """Do what `ending_of` does; our own fault ends a stream without them."""
    try:
        return ending_of(reader)
    except Exception:
        report("ending a stream")
        return ()


def _nothing() -> None:
    """Close what cannot be closed."""


async def _anothing() -> None:
    """Do what `_nothing` does."""


def _on_reading(response: Any, tees: Mapping[str, Tee], follow: Callable[[Any, Tee], Any]) -> None:
    """Follow a body in the first of these methods that is called. All methods of httpx call one of them."""
    hooks: dict[str, Callable[..., Any]] = {}

    def hook(plain: Callable[..., Any], tee: Tee) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            while hooks:
                _unhook(response, *hooks.popitem())
            return follow(plain(*args, **kwargs), tee)

        return read

    for name, tee in tees.items():
        hooks[name] = hook(getattr(response, name), tee)
    vars(response).update(hooks)


def _on_close(response: Any, watch: Watch) -> None:
    """Settle when the response is closed, but not by the SDK's own iteration."""
    plain = response.close

    def close() -> None:
        _unhook(response, "close", close)
        early = not watch.pulling
        try:
            plain()
        finally:
            if early:
                watch.land()

    response.close = close


def _on_aclose(response: Any, watch: Watch) -> None:
    plain = response.aclose

    async def aclose() -> None:
        _unhook(response, "aclose", aclose)
        early = not watch.pulling
        try:
            await plain()
        finally:
            if early:
                await watch.aland()

    response.aclose = aclose


def _unhook(response: Any, name: str, hook: object) -> None:
    """Remove a hook at its first use. That also ends the reference cycle between the hook and its response.

    The cycle is needed until then: the garbage collector clears weak references before the SDK's generators close the
    response.
    """
    if response.__dict__.get(name) is hook:
        del response.__dict__[name]
