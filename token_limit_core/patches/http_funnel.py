"""SDKs whose funnel sends one HTTP request: which requests cost money, and how httpx responses are read."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from ..calls.failures import was_stopped_unsent
from ..calls.flight import Flight
from ..calls.request import Outcome
from ..errors import UnguardedCall
from ..hosts import UNKNOWN, is_known, provider_of
from ..runtime.faults import report
from .base import BasePatch, Read
from .byte_streams import Tee
from .costs import cost_in_headers
from .streams import Follow
from .surfaces import Classified, Plan, Surface, mask, pattern_of, unguarded
from .tees import BlindTee, CutTee, DocumentTee, read_document


class StatusError(Exception):
    """An HTTP status for which the SDK will raise an error of its own."""

    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


class HttpPatch(BasePatch):
    """Hooks the funnel of an SDK. A subclass has the table of surfaces."""

    surfaces: ClassVar[tuple[Surface, ...]]
    """The surfaces of POSTs, in the order of the search."""

    later: ClassVar[tuple[Surface, ...]] = ()
    """The surfaces of GETs that report on an earlier call. Only an outcome with an `event_id` is recorded."""

    free: ClassVar[re.Pattern[str]]
    """Paths of POSTs that cost nothing. `on_unguarded` decides on paths that are neither free nor a surface."""

    own_provider: ClassVar[str] = UNKNOWN
    """The provider of a client on an unknown host."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds = Classified(self.surfaces, self.free)
        self._later = [(pattern_of(surface), surface) for surface in self.later]

    def plan_later(self, url: str) -> Plan | None:
        """Return the plan of a GET that reports on an earlier call; None for any other, and after our own fault."""
        try:
            parts = urlsplit(url)
            surface = next((surface for pattern, surface in self._later if pattern.search(parts.path)), None)
            if surface is None:
                return None
            plan = self.make_plan(surface, parts, SimpleNamespace(json_data={}), False, self.own_provider)
            plan.later = True
            self.refine(plan)
            return plan
        except Exception:
            report("recognising a call")
            return None

    def plan_of(self, url: str, body: Any, stream: bool) -> Plan | None:
        """Return the plan of a POST that costs money; None for any other, and after our own fault.

        Raises `UnguardedCall` for a path that is not classified, if `on_unguarded` is to refuse it.
        """
        try:
            parts = urlsplit(url)
            surface = self._kinds[parts.path]
            if isinstance(surface, Surface):
                plan = self.make_plan(surface, parts, SimpleNamespace(json_data=body), stream, self.own_provider)
                if surface.refined:
                    self.refine(plan)
                return plan
            if surface is None:
                unguarded(self.engine(), f"POST {mask(parts.path)} of the {self.name} SDK")
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
        return None

    def make_plan(self, surface: Surface, url: SplitResult, options: Any, stream: bool, otherwise: str) -> Plan:
        """Return the plan of a call to a URL. `otherwise` is the provider of an unknown host."""
        engine, host = self.engine(), url.hostname or ""
        provider = provider_of(host, url.port, engine.config.hosts, url.path)
        plan = Plan(engine, surface, options, otherwise if provider == UNKNOWN else provider, stream)
        plan.gateway, plan.host = not is_known(host), host
        return plan

    def refine(self, plan: Plan) -> None:
        """Complete the plan of a `refined` call by its body."""

    def request_id(self, plan: Plan, response: Any) -> str | None:
        """Return the request id of a header; None to use the id of the body."""
        return None

    def tee(self, plan: Plan, response: Any) -> Tee:
        """Return the tee for a body that is not read yet."""
        request_id = self.request_id(plan, response)
        if plan.stream and plan.kept:
            return CutTee(plan.reader(request_id, plan.injected), hiding=plan.injected)
        return DocumentTee(plan.read, request_id) if plan.kept else BlindTee(plan.read, request_id)

    def received(self, plan: Plan, response: Any, error: BaseException | None) -> BaseException | None:
        """Adjust a plan to its response, before that is read. Return the error that is recorded."""
        return error

    def arrival(self, follow: Follow) -> Read:
        """Return the function that reads responses of one kind of client."""
        return functools.partial(self._arrive, follow)

    def _arrive(
        self,
        follow: Follow,
        flight: Flight,
        response: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: BaseException | None,
    ) -> Any:
        plan = flight.request
        assert isinstance(plan, Plan)
        error = self.received(plan, response, error)
        arrived = read_response(
            flight, response, error, follow, plan.read, lambda: self.tee(plan, response), plan.stream
        )
        answer = getattr(error, "response", None) if response is None else response
        if isinstance(arrived, Outcome) and answer is not None:
            arrived.request_id = self.request_id(plan, answer) or arrived.request_id
        return arrived


def read_response(
    flight: Flight,
    response: Any,
    error: BaseException | None,
    follow: Follow,
    read: Callable[[Any], Outcome],
    tee: Callable[[], Tee],
    stream: bool,
) -> Any:
    """Read a response that has its body; follow and return one whose body is not read yet."""
    if error is not None:
        return Outcome(error=error, answered=False, unsent=was_stopped_unsent(error))
    try:
        if response.status_code >= 400:
            return Outcome(error=StatusError(response.status_code), answered=False)
        if flight.request.gateway:
            flight.cost_usd = cost_in_headers(response.headers)
        if hasattr(response, "_content") and not stream:
            return read_document(response.content, read)
        flight.engine.settler.start()
        follow.body(response, flight, tee())
    except Exception:
        report("reading an answer")
        return Outcome()
    return response


def with_body(request: Any, document: Mapping[str, Any]) -> Any:
    """Copy an httpx request with another JSON document."""
    headers = [(name, value) for name, value in request.headers.multi_items() if name != "content-length"]
    content = json.dumps(document).encode()
    return type(request)(request.method, request.url, headers=headers, content=content, extensions=request.extensions)


def document_in(request: Any) -> Mapping[str, Any]:
    """Return the body of an httpx request: a JSON document, or the fields of a form without its files."""
    fields = getattr(request.stream, "fields", None)
    if fields is not None:
        return {field.name: field.value for field in fields if hasattr(field, "value")}
    try:
        document = json.loads(request.content)
    except Exception:  # not JSON, or a body that only the SDK may read
        return {}
    return document if isinstance(document, dict) else {}
