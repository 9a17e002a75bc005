"""Clients with middleware: a call sends any number of requests, and none if its answer comes from a cache.

Anthropic's `Anthropic(middleware=[...])` runs inside the retry loop and hands each HTTP response to
`_process_response`. So each successful response is an event of its own there; the first
takes over the hold of the call's admission, and an answer that no response stands behind costs nothing.
"""

from __future__ import annotations

import functools
from typing import Any

from ..calls.flight import Flight
from ..calls.flow import again, aland, land, unadmitted
from ..calls.request import Outcome
from ..runtime.faults import report
from ..usage import Usage
from .in_flight import awithin, in_flight, within
from .stainless import StainlessPatch
from .streams import Follow, follow_async, follow_sync
from .surfaces import Plan, Surface


class ClientMiddlewarePatch(StainlessPatch):
    """The funnel of an SDK whose clients may have middleware."""

    def _noting(self, original: Any) -> Any:
        noting = super()._noting(original)

        @functools.wraps(original)
        def process_response(client: Any, **kwargs: Any) -> Any:
            if not _has_middleware(client):
                return noting(client, **kwargs)
            hop = self._hop(client, kwargs, follow_sync)
            if hop is not None:
                land(*hop)
            return original(client, **kwargs)

        return process_response

    def _anoting(self, original: Any) -> Any:
        noting = super()._noting(original)

        @functools.wraps(original)
        async def process_response(client: Any, **kwargs: Any) -> Any:
            if not _has_middleware(client):
                return await noting(client, **kwargs)
            hop = self._hop(client, kwargs, follow_async)
            if hop is not None:
                await aland(*hop)
            return await original(client, **kwargs)

        return process_response

    def _hop(self, client: Any, kwargs: dict[str, Any], follow: Follow) -> tuple[Flight, Outcome] | None:
        """Read one response of a call, or follow its body and return None."""
        response = kwargs["response"]
        if not self.active or not response.is_success:
            return None
        try:
            current = in_flight.get()
            if current is None or current[0] is not client:
                plan = self._late(client, kwargs)
                flight = None if plan is None else unadmitted(plan.engine, plan)
            elif current[1].request.later:
                current[1].answer = response
                self.told_later(current[1], response)
                return None
            else:
                current[1].answer = client
                flight = again(current[1])
                plan = self._plan_of_hop(flight, kwargs)
            if flight is None or plan is None:
                return None
            flight.answer = response
            outcome = super()._arrive(flight, plan, response, follow)
            return None if outcome is None else (flight, outcome)
        except Exception:
            report("following a request of middleware")
            return None

    def _plan_of_hop(self, flight: Flight, kwargs: dict[str, Any]) -> Plan:
        plan, body = flight.request, kwargs["options"].json_data
        assert isinstance(plan, Plan)
        if isinstance(body, dict) and isinstance(body.get("model"), str):  # on Bedrock it has moved into the path
            plan.model = body["model"]
        return plan

    def _late(self, client: Any, kwargs: dict[str, Any]) -> Plan | None:
        """Recognise a request that middleware sends while a raw stream is read, after its call has returned."""
        options = kwargs["options"]
        if options.method.lower() != "post" or not isinstance(self._kinds[options.url], Surface):
            return None
        return self._plan(client, (), kwargs)

    def _arrive(self, flight: Flight, plan: Plan, result: Any, follow: Follow) -> Outcome | None:
        if flight.landed:  # its responses have been followed one by one
            client, flight.answer = flight.answer, None
            if isinstance(result, self._stream_types):
                result._iterator = (within if follow is follow_sync else awithin)(result._iterator, (client, flight))
            return None
        if flight.answer is None:
            return Outcome(usage=Usage(input_tokens=0, output_tokens=0), tags={"answered_by": "middleware"})
        return super()._arrive(flight, plan, result, follow)


def _has_middleware(client: Any) -> bool:
    return bool(getattr(client, "_middleware", None))
