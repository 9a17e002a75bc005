"""READ FIRST. What happens to a metered call:

    depart   who pays (Scope), what it will probably cost (Estimator), is there money left (Store.admit)
             refused -> LimitExceededException before any traffic is sent
    ...      the SDK's own call or stream, untouched
    land     what it used (Usage), what that costs (pricing), record it and free the hold (Store.settle)

`depart`/`land` are for synchronous calls, `adepart`/`aland` the same with storage off the event loop, and
`hand_over` is `land` for places that may not do I/O (finalisers, cancelled tasks). A flight lands exactly once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from . import scope as scopes
from .errors import NoTenant, StoreError, refusal, report
from .limits import Decision
from .outcome import Outcome, Request, conclude
from .pricing import price_of
from .stores.base import Call

if TYPE_CHECKING:
    from .estimates import Estimate
    from .meter import Meter
    from .pricing import Price

logger = logging.getLogger("token_limit")
T = TypeVar("T")

UNVERIFIED = Decision("admitted")
"""Admitted because the store could not be asked."""


class Flight:
    """A call between its admission and its settle."""

    __slots__ = (
        "_open", "answer", "attributes", "call_id", "estimate", "meter", "request", "session_id", "started",
        "started_at", "tags", "tenant_id",
    )  # fmt: skip

    def __init__(self, meter: Meter, request: Request, scope: scopes.Scope | None, tenant_id: str) -> None:
        self.meter = meter
        self.request = request
        self.tenant_id = tenant_id
        self.session_id = scope.session_id if scope is not None else None
        self.attributes = scope.attributes if scope is not None else None
        self.call_id = str(uuid.UUID(int=random.getrandbits(128), version=4))  # unique, not secret
        self.started_at = meter.config.clock()
        self.started = time.perf_counter()
        self.estimate: Estimate = meter.estimator.estimate(
            request.provider, request.model, request.size, request.max_output
        )
        self.tags: dict[str, Any] = {}
        self.answer: Any = None
        self._open = [True]

    def claim(self) -> bool:
        """Return True to exactly one caller; `list.pop` is atomic and safe inside a finaliser."""
        try:
            return self._open.pop()
        except IndexError:
            return False

    def price(self, model: str) -> Price | None:
        """Return the price of `model` at the time of the call."""
        return price_of(self.request.provider, model, self.started_at, self.request.service_tier)


def depart(meter: Meter, request: Request) -> Flight | None:
    """Admit a call or raise its refusal; None when we failed and the call goes out unmetered."""
    scope = scopes.current()
    try:
        flight = _prepare(meter, request, scope, scope.tenant() if scope is not None else None)
        decision = _admit(flight)
    except NoTenant:
        raise
    except Exception:
        report("admitting a call")
        return None
    return _board(flight, scope, decision)


async def adepart(meter: Meter, request: Request) -> Flight | None:
    """Do what `depart` does, with storage off the event loop."""
    scope = scopes.current()
    try:
        flight = _prepare(meter, request, scope, await scope.atenant() if scope is not None else None)
        decision = await _off_loop(meter, partial(_admit, flight), undo=partial(_give_back, flight))
    except NoTenant:
        raise
    except Exception:
        report("admitting a call")
        return None
    return _board(flight, scope, decision)


def land(flight: Flight | None, outcome: Outcome) -> None:
    """Settle a flight, once."""
    if flight is not None and flight.claim():
        try:
            flight.meter.settle(conclude(flight, outcome))
        except Exception:
            report("settling a call")


async def aland(flight: Flight | None, outcome: Outcome) -> None:
    """Do what `land` does, with storage off the event loop."""
    if flight is not None and flight.claim():
        try:
            await _off_loop(flight.meter, partial(flight.meter.settle, conclude(flight, outcome)))
        except Exception:
            report("settling a call")


def hand_over(flight: Flight | None, outcome: Outcome) -> None:
    """Settle a flight from the settler's thread; does no I/O and takes no lock."""
    if flight is not None and flight.claim():
        flight.meter.settler.put(partial(_conclude_late, flight, outcome))


def _conclude_late(flight: Flight, outcome: Outcome) -> None:
    flight.meter.settle(conclude(flight, outcome))


def _prepare(meter: Meter, request: Request, scope: scopes.Scope | None, tenant_id: str | None) -> Flight:
    if tenant_id is None:
        if meter.config.on_no_tenant == "refuse":
            decision = Decision("unverifiable")
            if scope is not None:
                scope.deny(decision)
            raise NoTenant(decision)
        meter.count("unattributed")
        tenant_id = ""
    return Flight(meter, request, scope, tenant_id)


def _admit(flight: Flight) -> Decision:
    if not flight.tenant_id:
        return UNVERIFIED
    price = flight.price(flight.request.model)
    estimate = flight.estimate
    amount = None
    if price is not None:
        amount = price.cost({"input_tokens": estimate.input_tokens, "output_tokens": estimate.output_tokens})
    call = Call(flight.call_id, flight.tenant_id, amount, flight.meter.config.hold_seconds)
    try:
        return flight.meter.store.admit(call, flight.started_at)
    except StoreError:
        logger.exception("the store cannot be asked for a limit; the call goes out unverified")
        flight.meter.count("unverified")
        flight.tags["unverified"] = True
        return UNVERIFIED


def _board(flight: Flight, scope: scopes.Scope | None, decision: Decision) -> Flight:
    if decision.kind != "admitted":
        if scope is not None:
            scope.deny(decision)
        flight.meter.count("refused")
        raise refusal(decision)
    if decision.observed:
        flight.tags["would_refuse"] = decision.observed[0]
    return flight


def _give_back(flight: Flight) -> None:
    flight.meter.settler.put(partial(flight.meter.store.release, flight.call_id, flight.started_at))


async def _off_loop(meter: Meter, work: Callable[[], T], undo: Callable[[], None] | None = None) -> T:
    """Run a store operation off the loop; a cancelled caller does not stop it, but may have it undone."""
    if not meter.store.leaves_loop:
        return work()
    task = asyncio.ensure_future(meter.store.run_async(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if undo is not None:
            task.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo())
        raise
