"""READ FIRST. What happens to a metered call:

    depart   who pays (Scope), what it will probably cost (Habit), is there money left (Store.admit)
             refused -> LimitExceededException before any traffic is sent
    ...      the SDK's own call or stream, untouched
    land     what it used (Usage), what that costs (pricing), record it and free the hold (Store.settle)

`depart`/`land` are for synchronous calls, and for those on an event loop that need no storage (`at_once`),
`adepart`/`aland` do the same with storage off the loop, and `hand_over` is `land` for places that may not do I/O
(finalisers, cancelled tasks). A flight lands exactly once.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .. import pricing
from .. import scope as scopes
from ..errors import LimitExceededException, refusal
from ..limits import ADMITTED, Decision
from ..runtime.executor import executor
from ..runtime.faults import report
from ..runtime.ids import new_id
from .flight import Flight
from .refusals import raised
from .request import Outcome, Request, Settlement
from .settlement import conclude
from .store_access import BACKGROUND_SECONDS, BATCH_SECONDS, UNVERIFIED
from .strict import admit_strictly

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two attempts of a call that waits for calls in flight."""

LEFT = (asyncio.CancelledError, GeneratorExit)
"""How an awaiting caller is told to leave: its task was cancelled, or its coroutine dropped."""


def depart(engine: Engine, request: Request) -> Flight | None:
    """Admit a call or raise its refusal; None when we failed and the call goes out unmetered."""
    scope = scopes.current()
    try:
        tenant_id = None if scope is None else scope.tenant_id or scope.tenant()
        flight = Flight(engine, request, scope, _nobody(engine, request, scope) if tenant_id is None else tenant_id)
        decision = _admit(flight)
        if decision.kind == "busy":
            for pause in _pauses(engine):
                time.sleep(pause)
                flight.start_again()
                decision = _admit(flight)
                if decision.kind != "busy":
                    break
    except LimitExceededException:
        raise
    except Exception:
        report("admitting a call")
        return None
    flight.started = time.perf_counter()  # admission is no part of the call's duration
    return flight if decision is ADMITTED else _board(flight, scope, decision)


def at_once(engine: Engine) -> bool:
    """Tell whether a call on an event loop departs and lands without waiting: no storage, tenant and prices known.

    Then `depart` and `land` do for it, which saves making coroutines; what is handed over finds its thread started.
    """
    if engine.store.leaves_loop or engine.config.busy_wait or not pricing.is_loaded():
        return False
    scope = scopes.current()
    if scope is not None and scope.tenant_id is None:
        return False
    if engine.settler.thread is None:
        engine.settler.start()
    return True


async def adepart(engine: Engine, request: Request) -> Flight | None:
    """Do what `depart` does, with storage off the event loop."""
    scope = scopes.current()
    try:
        engine.settler.start()
        if not pricing.is_loaded():
            await executor.run(pricing.load)
        tenant_id = None if scope is None else scope.tenant_id or await scope.atenant()
        flight = Flight(engine, request, scope, _nobody(engine, request, scope) if tenant_id is None else tenant_id)
        admit = _admit_off_loop if engine.store.leaves_loop else _admit_on_loop
        decision = await admit(flight)
        if decision.kind == "busy":
            for pause in _pauses(engine):
                await asyncio.sleep(pause)
                flight.start_again()
                decision = await admit(flight)
                if decision.kind != "busy":
                    break
    except LimitExceededException:
        raise
    except Exception:
        report("admitting a call")
        return None
    flight.started = time.perf_counter()  # admission is no part of the call's duration
    return flight if decision is ADMITTED else _board(flight, scope, decision)


def land(flight: Flight | None, outcome: Outcome) -> None:
    """Settle a flight, once."""
    if flight is not None and flight.claim():
        try:
            if flight.unresolved:
                _await_payer(flight, outcome)
            else:
                _conclude(flight, outcome)
        except Exception:
            report("settling a call")


async def aland(flight: Flight | None, outcome: Outcome) -> None:
    """Do what `land` does, with storage off the event loop."""
    if flight is None or flight.landed:
        return
    if flight.unresolved or not flight.engine.store.leaves_loop:
        land(flight, outcome)
        return
    try:
        settle = partial(_settle, flight, conclude(flight, outcome), outcome)
        try:
            await _off_loop(flight.engine, settle)
        except LEFT:  # the loop may be closing, and the work may never have started
            flight.engine.settler.put(settle)
            raise
    except Exception:
        report("settling a call")


def hand_over(flight: Flight | None, outcome: Outcome) -> None:
    """Settle a flight from the settler's thread; does no I/O and takes no lock."""
    if flight is not None and flight.claim():
        flight.engine.settler.put(partial(_conclude_late, flight, outcome))


def again(flight: Flight) -> Flight:
    """Make the flight of one of several answers to a call: the first takes over its hold, the others have none."""
    further = copy.copy(flight)
    further.answer = None
    further.request = copy.copy(flight.request)
    further.tags = dict(flight.tags)
    further._open = True
    further.lost_attempts, flight.lost_attempts = flight.lost_attempts, 0
    if not flight.claim():
        further.call_id = new_id()
    return further


def unadmitted(engine: Engine, request: Request) -> Flight:
    """Make a flight of something already sent: it can only be recorded."""
    scope = scopes.current()
    tenant_id = None if scope is None else scope.tenant()
    return Flight(engine, request, scope, engine.payer(tenant_id))


def _settle(flight: Flight, settlement: Settlement | None, outcome: Outcome) -> None:
    if flight.claim():
        _write(flight, settlement, outcome)


def _conclude_late(flight: Flight, outcome: Outcome) -> None:
    if flight.unresolved:
        _await_payer(flight, outcome)
    else:
        _conclude(flight, outcome)


def _await_payer(flight: Flight, outcome: Outcome) -> None:
    """Settle when the resolver, which has failed, has found who pays."""
    flight.engine.unresolved.add(flight, partial(_conclude, flight, outcome))


def _conclude(flight: Flight, outcome: Outcome) -> None:
    settlement: Settlement | None = None
    try:
        settlement = conclude(flight, outcome)
    finally:
        _write(flight, settlement, outcome)


def _write(flight: Flight, settlement: Settlement | None, outcome: Outcome) -> None:
    access, request = flight.engine.access, flight.request
    try:
        if outcome.freed is not None:
            access.release(outcome.freed)
        if outcome.kept_as is not None and not request.later:
            seconds = BACKGROUND_SECONDS if request.batch is None else BATCH_SECONDS
            access.keep(flight.call_id, outcome.kept_as, seconds)
        flight.engine.settle(settlement)
    finally:
        flight.done = True


def _nobody(engine: Engine, request: Request, scope: scopes.Scope | None) -> str:
    """Handle a call without a tenant: refuse it if `on_no_tenant` says so, else return who is billed.

    A call whose tenant can never be resolved is refused. A poll for an earlier call is never refused.
    """
    resolvable = scope is None or not scope.unresolved or scope.request.resolvable
    if not request.later and (engine.config.on_no_tenant == "refuse" or not resolvable):
        decision = Decision("no_tenant" if resolvable else "unverifiable")
        if scope is not None:
            scope.deny(decision)
        engine.refused(decision, request, scope)
        raise raised(refusal(decision))
    if scope is None or not scope.unresolved:
        engine.unattributed()
    return engine.payer(None)


def _admit(flight: Flight) -> Decision:
    engine, request = flight.engine, flight.request
    if request.later:
        return ADMITTED
    flight.price = flight.find_price()
    if flight.price is None and engine.config.on_unpriced == "refuse":
        return Decision("unpriced", flight.tenant_id)
    call = flight.call()
    if flight.unresolved:
        return engine.access.unverified(call)
    if flight.tenant_id not in engine.strict_tenants:
        decision = engine.access.admit(call, flight.started_at)
        if decision.kind != "unpriced":
            return decision
        engine.remember_strict(flight.tenant_id)
    return admit_strictly(flight, call)


def _board(flight: Flight, scope: scopes.Scope | None, decision: Decision) -> Flight:
    if decision.kind != "admitted":
        flight.done = True
        if scope is not None:
            scope.deny(decision)
        flight.engine.refused(decision, flight.request, scope)
        raise raised(refusal(decision))
    if decision is UNVERIFIED:
        flight.engine.count("unverified")
        flight.tags["unverified"] = True
    if decision.observed:
        flight.tags["would_refuse"] = decision.observed[0]
    return flight


def _pauses(engine: Engine) -> Iterator[float]:
    """Yield the pauses between the attempts of a call that only calls in flight are in the way of (`busy_wait`)."""
    end = time.monotonic() + engine.config.busy_wait
    pause = FIRST_PAUSE
    while (left := end - time.monotonic()) > 0:
        yield min(left, pause * random.uniform(0.5, 1))
        pause = min(LONGEST_PAUSE, pause * 1.5)


async def _admit_on_loop(flight: Flight) -> Decision:
    return _admit(flight)


async def _admit_off_loop(flight: Flight) -> Decision:
    """Admit; when the caller leaves meanwhile, the hold is given back by whoever comes second, it or the thread."""
    if _is_leased(flight):
        return ADMITTED
    try:
        return await _off_loop(flight.engine, partial(_admit_unless_left, flight))
    except LEFT:
        flight.claim()
        flight.engine.settler.put(partial(_give_back, flight))
        raise


def _is_leased(flight: Flight) -> bool:
    """Admit a call from a lease of this process, which needs no storage; False where that cannot be."""
    engine, leases = flight.engine, flight.engine.access.leases
    if leases is None or flight.unresolved or flight.request.later or not leases.knows(flight.tenant_id):
        return False
    flight.price = flight.find_price()
    if flight.price is None and engine.config.on_unpriced == "refuse":
        return False
    return leases.admit(flight.call(), flight.started_at)


def _admit_unless_left(flight: Flight) -> Decision:
    decision = _admit(flight)
    if flight.landed:
        _give_back(flight)
    return decision


def _give_back(flight: Flight) -> None:
    flight.engine.access.release(flight.call_id)
    flight.done = True


async def _off_loop(engine: Engine, work: Callable[[], T]) -> T:
    """Run a store operation off the loop; a cancelled caller does not stop what has started."""
    return await asyncio.shield(engine.store.run_async(work))
