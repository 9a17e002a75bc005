"""The remote store: limits and ledger live at a backend, and this process keeps only events it has not delivered.

Admission asks the backend at most once per tenant and `limit_check_cache_ttl`. Between two answers it counts the spend
of this process: its holds, and its events that the last answer does not include. So a burst inside the TTL is refused,
too. The spend of other services counts from the next answer. docs/remote.md states the bound that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import EventsLost
from ..events import LLMEvent
from ..limits import ADMITTED, EVERYONE, Decision, Limit, LimitStatus
from ..limits.filters import NO_FACTS, Facts
from ..runtime.faults import StoreError, internal_errors, logger
from ..runtime.forks import after_fork
from ..runtime.log_throttle import LogThrottle
from ..stores.contract import Store
from ..stores.entries import Entry, Spend
from ..stores.records import Call, Hold, Pruned, Recorded
from .queue import DeliveryRefused, EventQueue
from .remote_answers import BackendAnswers
from .remote_management import ManagedElsewhere
from .remote_tenant import Cost, facts_of
from .spool import Spool
from .transport import Transport

CLOSE_SECONDS = 10.0


class RemoteStore(ManagedElsewhere, Store):
    """Limits and spend at a backend (`MeterConfig(url=..., api_key=...)`). Raises `StoreError` when it cannot answer.

    While the backend is away, its last answer stays in force until its window ends. The spend of this process counts
    against it. Without any answer, `on_store_error` decides.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        ttl: float = 5.0,
        spool: Spool | None = None,
        on_flush_error: Callable[[Exception], None] | None = None,
        **queue: Any,
    ) -> None:
        super().__init__(transport, BackendAnswers(transport, spool, ttl))
        self.backend: str = transport.url
        self._spool = spool
        self._on_flush_error = on_flush_error
        self._overflow = LogThrottle()
        self.queue: EventQueue = EventQueue(
            self._deliver, buffer=spool, on_flush_error=on_flush_error, on_dropped=self._give_up, **queue
        )
        after_fork(self._tenants.reset)

    @property
    def durable(self) -> bool:  # type: ignore[override]
        """Whether an event that is not delivered yet survives the end of this process."""
        return self._spool is not None

    # -- admission and settling -----------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        state = self._tenants.refresh(call.tenant_id, now, call.user)
        with state.lock:
            refused = state.decide(call, now)
            if refused is not None and refused.kind == "busy" and state.expire(now):
                refused = state.decide(call, now)
            if refused is not None:
                return refused
            expires_at = now + call.hold_seconds
            state.take(
                Hold(
                    call.call_id, call.tenant_id, call.estimate, now, expires_at, call.origin, tokens=call.tokens,
                    provider=call.provider, model=call.model, user=call.user, feature=call.feature,
                )
            )  # fmt: skip
        return ADMITTED

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        state = self._tenants.state(event.tenant_id)
        with state.lock:
            held = state.release(call_id) is not None
            if event.event_id in state.waiting or not (held or state.count_once(event.event_id)):
                return "duplicate"
            entry = Entry(event, cost_nano)
            state.spend(event.event_id, Cost(entry.facts, entry.spent, event.total_tokens))
        try:
            self.queue.put(event)
        except StoreError:  # the spool cannot be written; a later try must not find the event counted
            with state.lock:
                state.forget(event.event_id)
            raise
        return "stored"

    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        return [self.settle(event.event_id, event, cost, now) for event, cost in entries]

    def renew(self, call_id: str, expires_at: float) -> bool:
        for state in self._tenants.states():
            with state.lock:
                if call_id in state.holds:
                    hold, cost = state.holds[call_id]
                    state.holds[call_id] = (hold._replace(expires_at=expires_at), cost)
                    return True
        return False

    def raise_hold(self, call_id: str, amount: int | None, tokens: int, now: float) -> Decision | None:
        for state in self._tenants.states():
            with state.lock:
                hold = state.release(call_id)
                if hold is not None:
                    most = hold.amount if amount is None else max(hold.held, amount)
                    higher = hold._replace(amount=most, tokens=max(hold.tokens, tokens))
                    state.take(higher)
                    return state.decide(_asking(hold.tenant_id, facts_of(hold)), now, needed=0) or ADMITTED
        return None

    def keep(self, call_id: str, new_id: str, now: float, expires_at: float) -> bool:
        for state in self._tenants.states():
            with state.lock:
                held = state.holds.pop(call_id, None)
                if held is not None:
                    state.holds[new_id] = (held[0]._replace(call_id=new_id, expires_at=expires_at), held[1])
                    return True
        return False

    def release(self, call_id: str, now: float, by: str | None = None) -> bool:
        for state in self._tenants.states():
            with state.lock:
                if state.release(call_id) is not None:
                    return True
        return False

    def expire(self, now: float, tenant_id: str | None = None) -> int:
        expired = 0
        for state in self._tenants.states(tenant_id):
            with state.lock:
                expired += state.expire(now)
        return expired

    # -- limits and queries ---------------------------------------------------------------------

    def welcome(self, limit: Limit, now: float) -> bool:
        return False  # only the backend knows who is new

    def usage(self, tenant_id: str, now: float, user: str | None = None, everyone: bool = False) -> list[LimitStatus]:
        state = self._tenants.refresh(tenant_id, now, user)
        with state.lock:
            found = state.states(now, user)
        with_all = everyone or tenant_id == EVERYONE
        return [status for status in found if with_all or status.limit.tenant_id != EVERYONE]

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        state = self._tenants.refresh(tenant_id, now, facts.user)
        with state.lock:
            return state.decide(_asking(tenant_id, facts), now, needed=1)

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        found = [hold for state in self._tenants.states(tenant_id) for hold, _ in list(state.holds.values())]
        return sorted(found, key=lambda hold: hold.created_at)

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        raise self._no_rows()

    def prune(self, before: float, now: float) -> Pruned:
        return Pruned(0, 0, 0, self.expire(now))

    def _services(self, work: object) -> NoReturn:
        raise self._no_rows()

    # -- delivery -------------------------------------------------------------------------------

    def _deliver(self, batch: list[LLMEvent]) -> None:
        try:
            self._transport.deliver(batch)
        except DeliveryRefused:
            self._tenants.acknowledge(batch)
            raise
        self._tenants.acknowledge(batch)

    def _give_up(self, gone: Sequence[LLMEvent]) -> None:
        """Report events that a full queue has dropped for newer ones (`EventsLost`)."""
        self._tenants.acknowledge(gone)
        lost = self._overflow.due(len(gone))
        if lost:
            error = EventsLost(lost)
            logger.error("%s", error)
            if self._on_flush_error is not None:
                with internal_errors("calling on_flush_error"):
                    self._on_flush_error(error)

    @property
    def parked(self) -> int:
        """The number of events in the spool that the backend refused; without a spool 0."""
        return 0 if self._spool is None else self._spool.parked

    def unpark(self) -> int:
        """Deliver events again that the backend refused, as after a wrong key was corrected; return how many."""
        parked = 0 if self._spool is None else self._spool.unpark()
        if parked:
            self.queue.wake()
        return parked

    def check(self) -> None:
        if self._spool is not None:
            self._spool.check()

    def flush(self, timeout: float | None = None) -> bool:
        return self.queue.flush_now(timeout)

    def health(self) -> dict[str, Any]:
        return self.queue.health()

    def close(self) -> None:
        try:
            delivered = self.queue.close(CLOSE_SECONDS)
        except StoreError:
            logger.exception("the events that wait cannot be delivered")
            return
        if delivered:
            return
        left = self.queue.pending
        if self.durable:
            logger.warning("%d events are not delivered yet; they wait in the spool", left)
        else:
            logger.error("%d events could not be delivered and are lost; set `spool` to keep them", left)


def _asking(tenant_id: str, facts: Facts) -> Call:
    """Make a call that is only asked about."""
    provider, model, user, feature, _ = facts
    return Call("", tenant_id, None, provider=provider, model=model, user=user, feature=feature)
