"""The funnel of openai, anthropic, groq and together: `{package}._base_client.{Sync,Async}APIClient`.

Every call of any method passes `request` once. `_process_response` gets each answer, also one that cannot be parsed.
Tested on four versions of each SDK.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..calls.flow import adepart, aland, at_once, depart, hand_over, land
from ..errors import UnguardedCall
from ..hosts import UNKNOWN, is_known, provider_of
from ..runtime.faults import report
from .answers import Answers
from .hooks import raw_types, refuses_stream_options
from .in_flight import in_flight, nothing_in_flight, noting_retries
from .sending import to_send
from .streams import follow_async, follow_sync
from .surfaces import Classified, Plan, Surface, mask, pattern_of, registered, unguarded

if TYPE_CHECKING:
    from ..calls.engine import Engine

MAX_ADDRESSES = 256
"""The most addresses that are cached: an application may make a client per request."""

MAX_REFUSALS = 1024
"""The most pairs of host and model that are cached: users of an application may type model names."""


class Address(NamedTuple):
    """The address of a client: its provider, whether the Meter meters it, and its host."""

    url: Any
    engine: Engine
    host: str
    provider: str
    metered: bool
    gateway: bool


class StainlessPatch(Answers):
    """Hooks the funnel. A subclass has the table of surfaces of its SDK, and what is special about it."""

    surfaces: ClassVar[tuple[Surface, ...]]
    """The surfaces of POSTs, in the order of the search."""

    later: ClassVar[tuple[Surface, ...]] = ()
    """The surfaces of GETs that report on an earlier call. Only an outcome with an `event_id` is recorded."""

    free: ClassVar[re.Pattern[str]]
    """Paths of POSTs that cost nothing. `on_unguarded` decides on paths that are neither free nor a surface."""

    refined: ClassVar[frozenset[str]] = frozenset()
    """Providers whose calls all pass `refine`."""

    def __init__(self) -> None:
        super().__init__()
        self._addresses: dict[int, Address] = {}
        self._refusing: set[tuple[str, str]] = set()
        self._later = [(pattern_of(surface), surface) for surface in self.later]
        self._kinds = Classified(self.surfaces, self.free)

    def provider_of_client(self, client: Any) -> str:
        """Return the provider of a client on an unknown host, by the class of the client."""
        return UNKNOWN

    def inject(self, plan: Plan) -> Any:
        """Return options that ask for the usage of a stream; None when that is not needed, or the caller decides."""
        return None

    def refine(self, plan: Plan) -> None:
        """Complete the plan of a `refined` call by its body."""

    def _plan(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan of a call that costs money or reports a cost; None for any other, and after our own fault.

        Raises `UnguardedCall` for a call that is not classified, if `on_unguarded` is to refuse it.
        """
        try:
            options = kwargs["options"] if "options" in kwargs else args[1]
            stream = bool(kwargs.get("stream"))
            method = options.method
            if method != "post" and method.lower() != "post":
                return self._recognise_later(client, options, stream)
            surface, engine = self._kinds[options.url], self.engine()
            address = self._address(client, engine)
            if not address.metered:
                return None
            if isinstance(surface, Surface):
                plan = Plan(engine, surface, options, address.provider, stream)
                plan.gateway, plan.host = address.gateway, address.host
                plan.bounds = surface.bounds or ()
                if stream and (address.host, plan.model) not in self._refusing:
                    changed = self.inject(plan)
                    if changed is not None:
                        plan.asking, plan.injected = changed, True
                if surface.refined or address.provider in self.refined:
                    self.refine(plan)
                return plan
            if surface is None:
                unguarded(engine, f"POST {mask(options.url.partition('?')[0])} of the {self.name} SDK")
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
        return None

    def _recognise_later(self, client: Any, options: Any, stream: bool) -> Plan | None:
        if options.method.lower() != "get":
            return None
        engine = self.engine()
        path = options.url.partition("?")[0]
        surface = next((surface for pattern, surface in self._later if pattern.search(path)), None)
        address = self._address(client, engine)
        if surface is None or not address.metered:
            return None
        plan = Plan(engine, surface, options, address.provider, stream)
        plan.later, plan.gateway = True, address.gateway
        if surface.refined or address.provider in self.refined:
            self.refine(plan)
        return plan

    def _address(self, client: Any, engine: Engine) -> Address:
        """Return the address of a client, cached until the address, the Meter or its patches change."""
        url = client._base_url
        known = self._addresses.get(id(url))
        if known is not None and known.url is url and known.engine is engine:
            return known
        provider = self.provider_at(client, url, engine)
        address = Address(url, engine, url.host, provider, self.claims(engine, provider), not is_known(url.host))
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        self._addresses[id(url)] = address  # the reference to the url keeps its id from being used again
        return address

    def provider_at(self, client: Any, url: Any, engine: Engine) -> str:
        """Return the provider of a client at a URL."""
        provider = registered(client) or provider_of(url.host, url.port, engine.config.hosts, url.path)
        return self.provider_of_client(client) if provider == UNKNOWN else provider

    def _refused(self, client: Any, plan: Plan) -> None:
        """Remember that a host refuses our options for a model. Azure's hosts refuse them for some models only."""
        if len(self._refusing) >= MAX_REFUSALS:
            self._refusing.clear()
        self._refusing.add((client._base_url.host, plan.model))

    def claimed(self) -> None:
        self._addresses.clear()

    def _install(self) -> None:
        base = importlib.import_module(f"{self.module}._base_client")
        streaming = importlib.import_module(f"{self.module}._streaming")
        self._stream_types = (streaming.Stream, streaming.AsyncStream)
        self._special_types = (*self._stream_types, *raw_types(str(self.module)))
        for cls, request, process in (
            (base.SyncAPIClient, self._metered, self._noting),
            (base.AsyncAPIClient, self._ametered, self._anoting),
        ):
            self._swap(cls, "request", request(cls.__dict__["request"]))
            self._swap(cls, "_process_response", process(cls.__dict__["_process_response"]))
        if "_calculate_retry_timeout" in base.BaseClient.__dict__:
            self._swap(
                base.BaseClient, "_calculate_retry_timeout", noting_retries(base.BaseClient._calculate_retry_timeout)
            )
        self._watch_websockets()

    def _metered(self, original: Any) -> Any:
        """Wrap `request` by a plain function, which takes a third of the time of a `wrapt.FunctionWrapper`."""

        @functools.wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan(client, args, kwargs) if self.active else None
            flight = None if plan is None else depart(plan.engine, plan)
            if plan is None or flight is None:
                with nothing_in_flight():
                    return original(client, *args, **kwargs)
            token = in_flight.set((client, flight))
            try:
                try:
                    changed = plan.injected or plan.clamped is not None
                    sent_args, sent_kwargs = to_send(plan, args, kwargs) if changed else (args, kwargs)
                    result = original(client, *sent_args, **sent_kwargs)
                except Exception as error:
                    if not refuses_stream_options(plan, error):
                        raise
                    plan.injected = False
                    sent_args, sent_kwargs = to_send(plan, args, kwargs)
                    result = original(client, *sent_args, **sent_kwargs)
                    self._refused(client, plan)
            except BaseException as error:
                land(flight, self._failed(flight, plan, error))
                raise
            finally:
                in_flight.reset(token)
            outcome = self._arrive(flight, plan, result, follow_sync)
            if outcome is not None:
                land(flight, outcome)
            return result

        return request

    def _ametered(self, original: Any) -> Any:
        """Do what `_metered` does for an asynchronous client."""

        @functools.wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan(client, args, kwargs) if self.active else None
            if plan is None:
                with nothing_in_flight():
                    return await original(client, *args, **kwargs)
            directly = at_once(plan.engine)
            flight = depart(plan.engine, plan) if directly else await adepart(plan.engine, plan)
            if flight is None:
                with nothing_in_flight():
                    return await original(client, *args, **kwargs)
            token = in_flight.set((client, flight))
            try:
                try:
                    changed = plan.injected or plan.clamped is not None
                    sent_args, sent_kwargs = to_send(plan, args, kwargs) if changed else (args, kwargs)
                    result = await original(client, *sent_args, **sent_kwargs)
                except Exception as error:
                    if not refuses_stream_options(plan, error):
                        raise
                    plan.injected = False
                    sent_args, sent_kwargs = to_send(plan, args, kwargs)
                    result = await original(client, *sent_args, **sent_kwargs)
                    self._refused(client, plan)
            except Exception as error:
                await aland(flight, self._failed(flight, plan, error))
                raise
            except BaseException as error:  # cancelled: nothing may be awaited here
                hand_over(flight, self._failed(flight, plan, error))
                raise
            finally:
                in_flight.reset(token)
            outcome = self._arrive(flight, plan, result, follow_async)
            if outcome is not None:
                if directly:
                    land(flight, outcome)
                else:
                    await aland(flight, outcome)
            return result

        return request

    def _noting(self, original: Any) -> Any:
        """Wrap `_process_response`, which takes keywords only, to remember each response of a call.

        For an asynchronous client it returns the coroutine of the original.
        """

        @functools.wraps(original)
        def process_response(client: Any, **kwargs: Any) -> Any:
            current = in_flight.get()
            if current is not None and current[0] is client:  # an inner client may send requests for sign-in
                flight = current[1]
                flight.answer = kwargs["response"]
                if flight.request.later:
                    self.told_later(flight, flight.answer)
            return original(client, **kwargs)

        return process_response

    _anoting = _noting
