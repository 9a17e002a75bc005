"""The call that is being made right now, for hooks further down: which attempts of it were sent and lost."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..calls.failures import may_be_billed
from ..calls.flight import Flight

InFlight = tuple[Any, Flight]
"""A client, and its call."""

in_flight: ContextVar[InFlight | None] = ContextVar("token_limit_in_flight", default=None)


@contextmanager
def nothing_in_flight() -> Iterator[None]:
    """Keep the answer of a call that is not metered from being taken for that of one on whose way it is made."""
    token = in_flight.set(None)
    try:
        yield
    finally:
        in_flight.reset(token)


def within(inner: Iterator[Any], current: InFlight) -> Iterator[Any]:
    """Iterate with a call in flight: requests may be sent when the stream is first read, or in the middle of it."""
    while True:
        token = in_flight.set(current)
        try:
            chunk = next(inner)
        except StopIteration:
            return
        finally:
            in_flight.reset(token)
        yield chunk


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


@contextmanager
def attempt(client: Any) -> Iterator[None]:
    """Follow one attempt of the client's call; one that was lost counts when another follows it."""
    current = in_flight.get()
    flight = current[1] if current is not None and current[0] is client else None
    if flight is not None and flight.attempt_lost:
        flight.lost_attempts += 1
        flight.attempt_lost = False
    try:
        yield
    except Exception as error:
        if flight is not None:
            flight.attempt_lost = may_be_billed(error)
        raise


def note_lost_attempt(client: Any, error: BaseException | None) -> None:
    """Count an attempt of the client's call that the SDK is about to repeat, if the provider may bill it."""
    current = in_flight.get()
    if current is not None and current[0] is client and error is not None and may_be_billed(error):
        current[1].lost_attempts += 1


def noting_retries(original: Any) -> Any:
    """Wrap a Stainless client's `_calculate_retry_timeout`: the SDK calls it where it handles an error, to try again.

    Its last argument are the headers of an error's response, None where there was no response.
    """

    @functools.wraps(original)
    def wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:
        headers = kwargs.get("response_headers", args[2] if len(args) > 2 else None)
        if headers is None:
            note_lost_attempt(client, sys.exc_info()[1])
        return original(client, *args, **kwargs)

    return wrapper


def counting_attempts(original: Any) -> Any:
    """Wrap the method that makes one attempt of a call."""

    @functools.wraps(original)
    def request_once(client: Any, *args: Any, **kwargs: Any) -> Any:
        with attempt(client):
            return original(client, *args, **kwargs)

    return request_once


def acounting_attempts(original: Any) -> Any:
    """Do what `counting_attempts` does for a coroutine function."""

    @functools.wraps(original)
    async def request_once(client: Any, *args: Any, **kwargs: Any) -> Any:
        with attempt(client):
            return await original(client, *args, **kwargs)

    return request_once


def noting_reconnections(original: Any) -> Any:
    """Wrap Google's method that gives aiohttp's session: an attempt calls it again after a lost connection."""

    @functools.wraps(original)
    async def get_session(client: Any, *args: Any, **kwargs: Any) -> Any:
        error = sys.exc_info()[1]
        trace = None if error is None else error.__traceback__
        if trace is not None and trace.tb_frame.f_code.co_name == "_async_request_once":
            note_lost_attempt(client, error)
        return await original(client, *args, **kwargs)

    return get_session
