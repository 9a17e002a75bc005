"""The remote store: limits and ledger live at a backend, and this process keeps only events it has not delivered.

Admission asks the backend at most once per tenant and `limit_check_cache_ttl`. Between two answers it counts the spend
of this process: its holds, and its events that the last answer does not include. So a burst inside the TTL is refused,
too. The spend of other services counts from the next answer. docs/remote.md states the bound that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from ..errors import EventsLost, KeptElsewhere
from ..events import LLMEvent
from ..limits import ADMITTED, ENFORCE, Decision, Limit, LimitStatus
from ..limits.filters import NO_FACTS, Facts
from ..money import to_usd
from ..runtime.faults import ConfigurationError, StoreError, internal_errors, logger
from ..runtime.forks import after_fork
from ..runtime.log_throttle import LogThrottle
from ..stores.contract import Store
from ..stores.entries import Spend
from ..stores.records import Call, Hold, Pruned, Recorded
from .queue import DeliveryRefused, EventQueue
from .remote_answers import BackendAnswers
from .remote_tenant import Cost
from .spool import Spool
from .transport import Transport, number

CLOSE_SECONDS = 10.0


class RemoteStore(Store):
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
        self._transport = transport
        self.backend: str = transport.url
        self._spool = spool
        self._tenants = BackendAnswers(transport, spool, ttl)
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
        if not call.tenant_id:
            return ADMITTED  # a backend has limits of tenants only
        state = self._tenants.refresh(call.tenant_id, now)
        with state.lock:
            refused = state.decide(call, now)
            if refused is not None and refused.kind == "busy" and state.expire(now):
                refused = state.decide(call, now)
            if refused is not None:
                return refused
            expires_at = now + call.hold_seconds
            hold = Hold(call.call_id, call.tenant_id, call.estimate, now, expires_at, call.origin, tokens=call.tokens)
            state.take(hold, Cost(hold.held, call.tokens))
        return ADMITTED

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        state = self._tenants.state(event.tenant_id)
        with state.lock:
            held = state.release(call_id) is not None
            if event.event_id in state.waiting or not (held or state.count_once(event.event_id)):
                return "duplicate"
            cost = state.waiting[event.event_id] = Cost(0 if cost_nano is None else cost_nano, event.total_tokens)
            state.unsynced = state.unsynced.plus(cost)
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
                    state.take(higher, Cost(higher.held, higher.tokens))
                    return state.decide(Call("", hold.tenant_id, None), now, needed=0) or ADMITTED
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

    def set_limit(self, limit: Limit, now: float, by: str = "", expected: Collection[Limit] | None = None) -> Limit:
        plain = Limit(limit.tenant_id, limit.amount, limit.frequency, limit.mode, effective_from=limit.effective_from)
        if limit != plain:
            raise ConfigurationError(
                f"limit: the backend {self.backend} takes an amount in US dollars, a frequency, a mode and a date from "
                "here; set anything else there"
            )
        later = limit.effective_from > now
        body: dict[str, Any] = {
            "tenant_id": limit.tenant_id,
            "limit_usd": number(to_usd(limit.amount)),
            "frequency": limit.frequency,
        }
        if later:
            body["effective_date"] = _iso(limit.effective_from)
        if limit.mode != ENFORCE:
            body["mode"] = limit.mode
        self._transport.set_limit(body)
        self._tenants.forget(limit.tenant_id)
        return limit

    def remove_limit(
        self, tenant_id: str, frequency: str | None, now: float, by: str = "", filter: str | None = None
    ) -> int:
        removed = self._transport.remove_limit(tenant_id, frequency)
        self._tenants.forget(tenant_id)
        return removed

    def welcome(self, limit: Limit, now: float) -> bool:
        return False  # only the backend knows who is new

    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        self.remove_limit(limit.tenant_id, limit.frequency, now)

    def limits(self, tenant_id: str) -> list[Limit]:
        status = self._tenants.state(tenant_id).status()
        return [] if status is None else [status.limit]

    def usage(self, tenant_id: str, now: float, user: str | None = None) -> list[LimitStatus]:
        state = self._tenants.refresh(tenant_id, now)
        with state.lock:
            status = state.status()
        return [] if status is None else [status]

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        state = self._tenants.refresh(tenant_id, now)
        with state.lock:
            return state.decide(Call("", tenant_id, None), now)

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        found = [hold for state in self._tenants.states(tenant_id) for hold, _ in list(state.holds.values())]
        return sorted(found, key=lambda hold: hold.created_at)

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        raise self._no_rows()

    def prune(self, before: float, now: float) -> Pruned:
        return Pruned(0, 0, 0, self.expire(now))

    def _services(self, work: object) -> NoReturn:
        raise self._no_rows()

    def _no_rows(self) -> KeptElsewhere:
        return KeptElsewhere(self._transport.url)

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


def _iso(seconds: float) -> str:
    """Write a time as an ISO date, and as a date with a time where it is not midnight in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.date().isoformat() if seconds % 86400 == 0 else moment.isoformat()
