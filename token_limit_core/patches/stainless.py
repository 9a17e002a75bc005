"""The funnel that openai, anthropic, groq and together share: `{package}._base_client.{Sync,Async}APIClient`.

`request` is where every surface passes once per logical call, whatever the method, and `_process_response` is where
an answer shows even if parsing it then raises (research: sdks sections 1 and 2, proven on four versions of each SDK).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

from ..errors import report
from ..flow import Flight, adepart, aland, depart, hand_over, land
from ..outcome import Outcome, Request
from ..sse import DocumentTee, EventTee, read_document
from ..streams import Follow, Reader, Tee, follow_async, follow_sync
from .base import BasePatch

_in_the_air: ContextVar[tuple[Any, Flight] | None] = ContextVar("token_limit_in_the_air", default=None)


class Plan(NamedTuple):
    """A recognised call: what admission is told, and the arguments to send (`options` may be a changed copy)."""

    request: Request
    options: Any
    injected: bool


class StainlessPatch(BasePatch):
    """Hooks the funnel; a provider adds which calls it recognises and how it reads answers."""

    request_id_header: ClassVar[str]
    other_id_headers: ClassVar[Mapping[str, str]] = {}
    """What some providers send in its place."""

    def recognise(self, client: Any, options: Any, stream: bool) -> Plan | None:
        """Return the plan of a billable call, None for any other."""
        raise TypeError(f"{type(self).__name__} must define recognise()")

    def reader(self, flight: Flight, request_id: str | None, injected: bool) -> Reader:
        """Return a reader for a stream of this call."""
        raise TypeError(f"{type(self).__name__} must define reader()")

    def read(self, answer: Any) -> Outcome:
        """Read a parsed object or a JSON document."""
        raise TypeError(f"{type(self).__name__} must define read()")

    def _install(self) -> None:
        base = importlib.import_module(f"{self.module}._base_client")
        streaming = importlib.import_module(f"{self.module}._streaming")
        self._stream_types = (streaming.Stream, streaming.AsyncStream)
        self._special_types = (*self._stream_types, *_raw_types(str(self.module)))
        for cls, around in ((base.SyncAPIClient, self._around_request), (base.AsyncAPIClient, self._around_arequest)):
            self._swap(cls, "request", around(cls.__dict__["request"]))
            self._swap(cls, "_process_response", _noting_response(cls.__dict__["_process_response"]))

    def _around_request(self, original: Any) -> Any:
        """Wrap the funnel in a function: a third of a `wrapt.FunctionWrapper`'s time."""

        @functools.wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan(client, args, kwargs)
            flight = None if plan is None else depart(self.meter(), plan.request)
            if plan is None or flight is None:
                return original(client, *args, **kwargs)
            token = _in_the_air.set((client, flight))
            try:
                try:
                    sent_args, sent_kwargs = _with_options(args, kwargs, plan) if plan.injected else (args, kwargs)
                    result = original(client, *sent_args, **sent_kwargs)
                except Exception as error:
                    if not _refuses_stream_options(plan, error):
                        raise
                    plan = plan._replace(injected=False)
                    result = original(client, *args, **kwargs)
            except BaseException as error:
                land(flight, self._failed(flight, error))
                raise
            finally:
                _in_the_air.reset(token)
            outcome = self._arrive(flight, plan, result, follow_sync)
            if outcome is not None:
                land(flight, outcome)
            return result

        return request

    def _around_arequest(self, original: Any) -> Any:
        """Do what `_around_request` does, for the asynchronous funnel."""

        @functools.wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan(client, args, kwargs)
            flight = None if plan is None else await adepart(self.meter(), plan.request)
            if plan is None or flight is None:
                return await original(client, *args, **kwargs)
            token = _in_the_air.set((client, flight))
            try:
                try:
                    sent_args, sent_kwargs = _with_options(args, kwargs, plan) if plan.injected else (args, kwargs)
                    result = await original(client, *sent_args, **sent_kwargs)
                except Exception as error:
                    if not _refuses_stream_options(plan, error):
                        raise
                    plan = plan._replace(injected=False)
                    result = await original(client, *args, **kwargs)
            except Exception as error:
                await aland(flight, self._failed(flight, error))
                raise
            except BaseException as error:  # cancelled: nothing may be awaited here
                hand_over(flight, self._failed(flight, error))
                raise
            finally:
                _in_the_air.reset(token)
            outcome = self._arrive(flight, plan, result, follow_async)
            if outcome is not None:
                await aland(flight, outcome)
            return result

        return request

    def _plan(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Recognise a call; a fault of ours lets it pass unmetered."""
        if not self.active:
            return None
        try:
            options = kwargs["options"] if "options" in kwargs else args[1]
            return self.recognise(instance, options, bool(kwargs.get("stream")))
        except Exception:
            report("recognising a call")
            return None

    def _arrive(self, flight: Flight, plan: Plan, result: Any, follow: Follow) -> Outcome | None:
        """Read an answer that is there in full, or hook what is still to be read and return None."""
        response, flight.answer = flight.answer, None  # holding it would keep an abandoned stream alive
        try:
            row = getattr(result, "__dict__", {})
            if "_request_id" in row:  # a model: the SDK has read the header already
                outcome = self.read(result)
                request_id = row["_request_id"]
                if request_id is None and flight.request.provider in self.other_id_headers:
                    request_id = self._request_id(flight, response)
            elif response is None or not (result is response or isinstance(result, self._special_types)):
                outcome = self.read(result)
                request_id = self._request_id(flight, response)
            elif isinstance(result, self._stream_types):
                flight.meter.settler.start()
                reader = self.reader(flight, self._request_id(flight, response), plan.injected)
                follow.stream(result, response, flight, reader)
                return None
            elif plan.request.stream or not hasattr(response, "_content"):  # the body is still to be read
                flight.meter.settler.start()
                follow.body(response, flight, self._tee(flight, plan, self._request_id(flight, response)))
                return None
            else:
                outcome = read_document(response.content, self.read)
                request_id = self._request_id(flight, response)
            if request_id is not None:
                outcome.request_id = request_id
            return outcome
        except Exception:
            report("reading an answer")
            return Outcome()

    def _request_id(self, flight: Flight, response: Any) -> str | None:
        headers = getattr(response, "headers", None) or {}
        found: str | None = headers.get(self.request_id_header)
        other = self.other_id_headers.get(flight.request.provider)
        return found if found or other is None else headers.get(other)

    def _tee(self, flight: Flight, plan: Plan, request_id: str | None) -> Tee:
        if plan.request.stream:
            return EventTee(self.reader(flight, request_id, plan.injected), hiding=plan.injected)
        return DocumentTee(self.read, request_id)

    def _failed(self, flight: Flight, error: BaseException) -> Outcome:
        """Read what an error leaves: an answer that could not be parsed was billed all the same."""
        response, flight.answer = flight.answer, None
        outcome = Outcome(answered=False)
        try:
            if response is not None:  # else it was refused, or never answered
                outcome = read_document(getattr(response, "_content", b""), self.read)
            told = response if response is not None else getattr(error, "response", None)
            if told is not None:
                outcome.request_id = self._request_id(flight, told)
        except Exception:
            report("reading a failed answer")
        outcome.error = error
        return outcome


def _noting_response(original: Any) -> Any:
    """Remember the HTTP response for the flight of this very client (an auth client may be called within).

    What an asynchronous client's method returns is awaited by its caller.
    """

    @functools.wraps(original)
    def process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
        air = _in_the_air.get()
        if air is not None and air[0] is client:
            air[1].answer = kwargs.get("response")
        return original(client, *args, **kwargs)

    return process_response


def _with_options(args: tuple[Any, ...], kwargs: dict[str, Any], plan: Plan) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put a changed copy of the options into the arguments; the caller's own are never touched."""
    if "options" in kwargs:
        return args, {**kwargs, "options": plan.options}
    return (args[0], plan.options, *args[2:]), kwargs


def _refuses_stream_options(plan: Plan, error: Exception) -> bool:
    """Tell a 400 that names the field we added; older gateways do that (research: sdks section 5)."""
    return plan.injected and getattr(error, "status_code", None) == 400 and "stream_options" in str(error)


def _raw_types(package: str) -> list[type]:
    """List the SDK's raw response classes; not every version has every module."""
    found: list[type] = []
    for module, names in (
        ("_response", ("BaseAPIResponse", "APIResponse", "AsyncAPIResponse")),
        ("_legacy_response", ("LegacyAPIResponse",)),
    ):
        with contextlib.suppress(ImportError):
            loaded = importlib.import_module(f"{package}.{module}")
            found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return found
