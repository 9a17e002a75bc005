"""The call that an SDK is making right now. Hooks inside the SDK count which of its attempts were sent and lost."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import GeneratorType
from typing import Any

from ..calls.failures import may_be_billed
from ..calls.flight import Flight

InFlight = tuple[Any, Flight]
"""The client and its call."""

in_flight: ContextVar[InFlight | None] = ContextVar("token_limit_in_flight", default=None)


@contextmanager
def nothing_in_flight() -> Iterator[None]:
    """Make a call that is not metered inside of one that is: its answer is not taken for that of the outer call."""
    token = in_flight.set(None)
    try:
        yield
    finally:
        in_flight.reset(token)


def within(inner: Iterator[Any], current: InFlight) -> Iterator[Any]:
    """Iterate with a call in flight: requests may be sent when the stream is first read, or in the middle of it."""
    try:
        while True:
            token = in_flight.set(current)
            try:
                chunk = next(inner)
            except StopIteration:
                return
            finally:
                in_flight.reset(token)
            yield chunk
    finally:
        if isinstance(inner, GeneratorType):
            inner.close()


async def awithin(inner: AsyncIterator[Any], current: InFlight) -> AsyncIterator[Any]:
    """Do what `within` does for an asynchronous stream."""
    while True:
        token = in_flight.set(current)
        try:
            chunk = await anext(inner)
        except StopAsyncIteration:
            return
        finally:
            in_flight.reset(token)
        yield chunk


SendsFor = Callable[[Any, Any], bool]
"""Tests whether an object, the second argument, sends the requests of a client, the first."""


def _flight_of(sender: Any, sends_for: SendsFor = operator.is_) -> Flight | None:
    """Return the call in flight whose requests the sender sends: a client, or a part of one."""
    current = in_flight.get()
    return current[1] if current is not None and sends_for(current[0], sender) else None


def begin_attempt(sender: Any, sends_for: SendsFor = operator.is_) -> None:
    """Begin an attempt of the call in flight. An earlier one that was lost counts now, as the SDK has repeated it."""
    flight = _flight_of(sender, sends_for)
    if flight is not None and flight.attempt_lost:
        flight.lost_attempts += 1
        flight.attempt_lost = False


def fail_attempt(sender: Any, error: BaseException, sends_for: SendsFor = operator.is_) -> None:
    """End an attempt of the call in flight that got no answer. It is lost if the provider may bill it."""
    flight = _flight_of(sender, sends_for)
    if flight is not None:
        flight.attempt_lost = may_be_billed(error)


@contextmanager
def attempt(sender: Any, sends_for: SendsFor) -> Iterator[None]:
    """Make one attempt of the call in flight."""
    begin_attempt(sender, sends_for)
    try:
        yield
    except Exception as error:
        fail_attempt(sender, error, sends_for)
        raise


def note_lost_attempt(client: Any, error: BaseException | None) -> None:
    """Count an attempt of the client's call that the SDK is about to repeat, if the provider may bill it."""
    flight = _flight_of(client)
    if flight is not None and error is not None and may_be_billed(error):
        flight.lost_attempts += 1


def caught_by(function: str) -> BaseException | None:
    """Return the error that is being handled, if a function of this name has caught it."""
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    return error if trace is not None and trace.tb_frame.f_code.co_name == function else None


def noting_retries(original: Any) -> Any:
    """Wrap a Stainless client's `_calculate_retry_timeout`, which the SDK calls before it repeats an attempt.

    Its last argument is the headers of the error's response, None when there was no response.
    """

    @functools.wraps(original)
    def wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:
        headers = kwargs.get("response_headers", args[2] if len(args) > 2 else None)
        if headers is None:
            note_lost_attempt(client, sys.exc_info()[1])
        return original(client, *args, **kwargs)

    return wrapper


def counting_attempts(original: Any, sends_for: SendsFor = operator.is_) -> Any:
    """Wrap the method that makes one attempt of a call."""

    @functools.wraps(original)
    def send(sender: Any, *args: Any, **kwargs: Any) -> Any:
        with attempt(sender, sends_for):
            return original(sender, *args, **kwargs)

    return send


def acounting_attempts(original: Any, sends_for: SendsFor = operator.is_) -> Any:
    """Do what `counting_attempts` does for a coroutine function."""

    @functools.wraps(original)
    async def send(sender: Any, *args: Any, **kwargs: Any) -> Any:
        with attempt(sender, sends_for):
            return await original(sender, *args, **kwargs)

    return send


def noting_reconnections(original: Any) -> Any:
    """Wrap Google's method that returns aiohttp's session: an attempt calls it again after a lost connection."""

    @functools.wraps(original)
    async def get_session(client: Any, *args: Any, **kwargs: Any) -> Any:
        note_lost_attempt(client, caught_by("_async_request_once"))
        return await original(client, *args, **kwargs)

    return get_session
