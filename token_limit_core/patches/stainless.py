"""The funnel that openai, anthropic, groq and together share: `{package}._base_client.{Sync,Async}APIClient`.

`request` is where every surface passes once per logical call, whatever the method, and `_process_response` is where
an answer shows even if parsing it then raises. Tested on four versions of each SDK.
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
"""How many clients' addresses are remembered: an application may make a client for every request."""

MAX_REFUSALS = 1024
"""How many models of hosts are remembered: an application may let people type model names."""


class Address(NamedTuple):
    """Where a client sends its calls: whose prices hold there, whether the Meter meters it, and whose host it is."""

    url: Any
    engine: Engine
    host: str
    provider: str
    metered: bool
    gateway: bool


class StainlessPatch(Answers):
    """Hooks the funnel; a provider adds its table of surfaces, and how its clients and answers are special."""

    surfaces: ClassVar[tuple[Surface, ...]]
    """What a POST may be, in the order it is looked for."""

    later: ClassVar[tuple[Surface, ...]] = ()
    """What a GET may tell of a call made earlier; only an outcome with an `event_id` of its own is recorded."""

    free: ClassVar[re.Pattern[str]]
    """Paths of POSTs that cost nothing. What is neither this nor a surface falls under `on_unguarded`."""

    refined: ClassVar[frozenset[str]] = frozenset()
    """Providers whose calls are all looked at once more by `refine`."""

    def __init__(self) -> None:
        super().__init__()
        self._addresses: dict[int, Address] = {}
        self._refusing: set[tuple[str, str]] = set()
        self._later = [(pattern_of(surface), surface) for surface in self.later]
        self._kinds = Classified(self.surfaces, self.free)

    def provider_of_client(self, client: Any) -> str:
        """Name the provider of a client on an unknown host, where its class tells."""
        return UNKNOWN

    def inject(self, plan: Plan) -> Any:
        """Return a copy of the options of a stream that makes it tell its usage; None when it does, or must not."""
        return None

    def refine(self, plan: Plan) -> None:
        """Put into the plan of a `refined` call what only its body tells."""

    def _plan(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan of a call that costs money, or tells what one has cost; None for any other.

        A fault of ours lets the call pass unmetered.
        Raises `UnguardedCall` for one that nobody has classified, if the policy is to refuse those.
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
        if address.provider in self.refined:
            self.refine(plan)
        return plan

    def _address(self, client: Any, engine: Engine) -> Address:
        """Return what is known of a client's address; looked up again when it, the Meter or its patches change."""
        url = client._base_url
        known = self._addresses.get(id(url))
        if known is not None and known.url is url and known.engine is engine:
            return known
        provider = self.provider_at(client, url, engine)
        address = Address(url, engine, url.host, provider, self.claims(engine, provider), not is_known(url.host))
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        self._addresses[id(url)] = address  # keeping the url keeps its id from being used again
        return address

    def provider_at(self, client: Any, url: Any, engine: Engine) -> str:
        """Name the provider that a client talks to at a URL."""
        provider = registered(client) or provider_of(url.host, url.port, engine.config.hosts, url.path)
        return self.provider_of_client(client) if provider == UNKNOWN else provider

    def _refused(self, client: Any, plan: Plan) -> None:
        """Remember that a host refuses for a model what was injected: Azure's hosts refuse it for some models only."""
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
        """Wrap `request` in one frame: a third of a `wrapt.FunctionWrapper`'s time."""

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
        """Wrap `_process_response`, which takes keywords only, to note each response that a call got.

        What the method of an asynchronous client returns is awaited by its caller.
        """

        @functools.wraps(original)
        def process_response(client: Any, **kwargs: Any) -> Any:
            current = in_flight.get()
            if current is not None and current[0] is client:  # an auth client may be called within
                flight = current[1]
                flight.answer = kwargs["response"]
                if flight.request.later:
                    self.told_later(flight, flight.answer)
            return original(client, **kwargs)

        return process_response

    _anoting = _noting
