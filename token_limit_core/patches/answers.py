"""Reads what the funnel of a Stainless SDK returns: complete answers, streams, raw responses and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..calls.failures import was_stopped_unsent
from ..calls.flight import Flight
from ..calls.request import Outcome
from ..runtime.faults import report
from .base import BasePatch
from .byte_streams import Tee
from .costs import cost_in_headers
from .streams import Follow
from .surfaces import Plan
from .tees import BlindTee, DocumentTee, EventTee, read_document
from .whole import read_whole


class Answers(BasePatch):
    """The part of a `StainlessPatch` that reads answers."""

    request_id_header: ClassVar[str]
    other_id_headers: ClassVar[Mapping[str, str]] = {}
    """Other headers with the id of a request."""

    _stream_types: tuple[Any, ...]
    _special_types: tuple[Any, ...]

    def _arrive(self, flight: Flight, plan: Plan, result: Any, follow: Follow) -> Outcome | None:
        """Read a complete answer; hook a stream or a raw response and return None."""
        response, flight.answer = flight.answer, None  # a reference would keep an abandoned stream alive
        try:
            if plan.gateway and response is not None:
                flight.cost_usd = cost_in_headers(response.headers)
            row = getattr(result, "__dict__", {})
            if "_request_id" in row:  # a model: the SDK has read the header
                read = plan.read
                outcome = read_whole(result, read)
                request_id: Any = row["_request_id"]
                if request_id is None and flight.request.provider in self.other_id_headers:
                    request_id = self._request_id(flight, response)
            elif response is None or not (result is response or isinstance(result, self._special_types)):
                request_id = self._request_id(flight, response)
                outcome = (
                    self._read_events(plan, response, request_id) if plan.stream else read_whole(result, plan.read)
                )
            elif isinstance(result, self._stream_types):
                flight.engine.settler.start()
                reader = plan.reader(self._request_id(flight, response), plan.injected)
                follow.stream(result, response, flight, reader)
                return None
            elif (plan.stream and plan.kept) or not hasattr(response, "_content"):  # the body is not read yet
                flight.engine.settler.start()
                follow.body(response, flight, self.tee(plan, response, self._request_id(flight, response)))
                return None
            else:
                request_id = self._request_id(flight, response)
                if plan.stream:
                    outcome = self._read_events(plan, response, request_id)
                else:
                    outcome = read_document(response.content, plan.read) if plan.kept else plan.read(None)
            if request_id is not None:
                outcome.request_id = request_id
            return outcome
        except Exception:
            report("reading an answer")
            return Outcome()

    def _read_events(self, plan: Plan, response: Any, request_id: str | None) -> Outcome:
        """Read the events of a stream that the SDK returns as a document, such as speech."""
        tee = self.tee(plan, response, request_id)
        tee.feed(getattr(response, "_content", b""))
        tee.rest()
        return tee.outcome(None)

    def tee(self, plan: Plan, response: Any, request_id: str | None) -> Tee:
        """Return the tee for a body that is not read yet."""
        if plan.stream:
            return EventTee(plan.reader(request_id, plan.injected), hiding=plan.injected)
        return DocumentTee(plan.read, request_id) if plan.kept else BlindTee(plan.read, request_id)

    def _request_id(self, flight: Flight, response: Any) -> str | None:
        headers = getattr(response, "headers", None) or {}
        found: str | None = headers.get(self.request_id_header)
        other = self.other_id_headers.get(flight.request.provider)
        return found if found or other is None else headers.get(other)

    def _failed(self, flight: Flight, plan: Plan, error: BaseException) -> Outcome:
        """Read the answer behind an error, if there is one: an answer that cannot be parsed is billed, too."""
        response, flight.answer = flight.answer, None
        outcome = Outcome(answered=False)
        try:
            if response is not None:  # else the call was refused, or got no answer
                outcome = read_document(getattr(response, "_content", b""), plan.read)
            found = response if response is not None else getattr(error, "response", None)
            if found is not None:
                outcome.request_id = self._request_id(flight, found)
        except Exception:
            report("reading a failed answer")
        outcome.error, outcome.unsent = error, response is None and was_stopped_unsent(error)
        return outcome

    def told_later(self, flight: Flight, response: Any) -> None:
        """Read each response of a `later` call."""
