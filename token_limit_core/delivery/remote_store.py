"""The remote store: limits and ledger live at a backend, this process keeps only what it has not told it yet.

Admission asks the backend once per tenant and `limit_check_cache_ttl`. Between two answers it counts what this process
spends: the cost of its own events that the last answer cannot have had in it, and its holds, stand against the
remainder, so that a burst inside the TTL trips too. What other services spend meanwhile shows at the next answer; the
page "Several services, one ledger" (docs/remote.md) has the bound that follows.
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
from ..stores.records import Call, Hold, Pruned, Recorded, Spend
from .queue import DeliveryRefused, EventQueue
from .remote_account import Account, Cost, answer_of
from .spool import Spool
from .transport import CheckRefused, Transport, number

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""After a check that failed, no call waits for another one for so long."""

CLOSE_SECONDS = 10.0


class RemoteStore(Store):
    """Limits and spend at a backend (`MeterConfig(url=..., api_key=...)`); raises `StoreError` when it cannot answer.

    A backend that is away does not stop calls: what it last said stays in force, with everything spent here since
    counted against it, until its window ends; without any answer the call goes out unverified.
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
        self.backend = transport.url
        self._ttl = ttl
        self._spool = spool
        self._on_flush_error = on_flush_error
        self._overflow = LogThrottle()
        self.queue = EventQueue(
            self._deliver, buffer=spool, on_flush_error=on_flush_error, on_dropped=self._give_up, **queue
        )
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's calls in a forked child: the parent tells the backend about them."""
        self._accounts: dict[str, Account] = {}
        self._pause = self._not_before = 0.0

    @property
    def durable(self) -> bool:  # type: ignore[override]
        """Whether an event outlives this process before it is delivered."""
        return self._spool is not None

    # -- admission and settling -----------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        if not call.tenant_id:
            return ADMITTED  # backends know tenants only
        account = self._account(call.tenant_id)
        self._ask_if_stale(account, call.tenant_id, now)
        with account.lock:
            refused = account.decide(call, now)
            if refused is not None and refused.kind == "busy" and account.expire(now):
                refused = account.decide(call, now)
            if refused is not None:
                return refused
            expires_at = now + call.hold_seconds
            hold = Hold(call.call_id, call.tenant_id, call.estimate, now, expires_at, call.origin, tokens=call.tokens)
            account.take(hold, Cost(hold.held, call.tokens))
        return ADMITTED

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        account = self._account(event.tenant_id)
        with account.lock:
            held = account.free(call_id) is not None
            if event.event_id in account.waiting or not (held or account.tells_anew(event.event_id)):
                return "duplicate"
            cost = account.waiting[event.event_id] = Cost(0 if cost_nano is None else cost_nano, event.total_tokens)
            account.unsynced = account.unsynced.plus(cost)
        try:
            self.queue.put(event)
        except StoreError:  # the spool cannot be written: whoever tries again must not find it counted
            with account.lock:
                account.forget(event.event_id)
            raise
        return "stored"

    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        return [self.settle(event.event_id, event, cost, now) for event, cost in entries]

    def renew(self, call_id: str, expires_at: float) -> bool:
        for account in list(self._accounts.values()):
            with account.lock:
                if call_id in account.holds:
                    hold, cost = account.holds[call_id]
                    account.holds[call_id] = (hold._replace(expires_at=expires_at), cost)
                    return True
        return False

    def raise_hold(self, call_id: str, amount: int | None, tokens: int, now: float) -> Decision | None:
        for tenant_id, account in list(self._accounts.items()):
            with account.lock:
                hold = account.free(call_id)
                if hold is not None:
                    most = hold.amount if amount is None else max(hold.held, amount)
                    higher = hold._replace(amount=most, tokens=max(hold.tokens, tokens))
                    account.take(higher, Cost(higher.held, higher.tokens))
                    return account.decide(Call("", tenant_id, None), now, needed=0) or ADMITTED
        return None

    def release(self, call_id: str, now: float, by: str | None = None) -> bool:
        for account in list(self._accounts.values()):
            with account.lock:
                if account.free(call_id) is not None:
                    return True
        return False

    def expire(self, now: float, tenant_id: str | None = None) -> int:
        expired = 0
        for name, account in list(self._accounts.items()):
            if tenant_id in (None, name):
                with account.lock:
                    expired += account.expire(now)
        return expired

    # -- the backend's answers ------------------------------------------------------------------

    def _account(self, tenant_id: str) -> Account:
        account = self._accounts.get(tenant_id)
        return self._accounts.setdefault(tenant_id, Account()) if account is None else account

    def _ask_if_stale(self, account: Account, tenant_id: str, now: float) -> None:
        """Make sure there is an answer to go by. Raises `StoreError` when there is none."""
        if self._is_fresh(account, now):
            return
        with account.checking:
            if self._is_fresh(account, now):
                return
            try:
                if now < max(self._not_before, account.not_before):
                    raise StoreError("the backend did not answer a moment ago")
                known = self._known_to_backend(account)
                answer = answer_of(tenant_id, self._transport.check(tenant_id), now)
            except StoreError as error:
                self._go_on_without(account, error, now)
                return
            self._pause = 0.0
            with account.lock:
                account.answer = answer
                account.unsynced = account.unsynced.minus(known)
                account.delivered = account.delivered.minus(known)

    def _known_to_backend(self, account: Account) -> Cost:
        """Sum what an answer from now on has in it: what was delivered, also by others who share the spool."""
        if self._spool is not None:
            with account.lock:
                waiting = list(account.waiting)
            gone = self._spool.gone(waiting)
            with account.lock:
                account.acknowledge(gone)
        with account.lock:
            return account.delivered

    def _is_fresh(self, account: Account, now: float) -> bool:
        return account.answer is not None and 0 <= now - account.answer.at < self._ttl

    def _go_on_without(self, account: Account, error: StoreError, now: float) -> None:
        """Keep to the last answer while its window lasts, and leave the backend alone for a while."""
        if isinstance(error, CheckRefused):  # the others' checks may well be answered
            account.not_before = now + LONGEST_PAUSE_SECONDS
            logger.warning("%s", error)
        elif now >= max(self._not_before, account.not_before):
            self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, self._ttl, self._pause * 2))
            self._not_before = now + self._pause
            logger.warning("%s; what it last said of a tenant stays in force", error)
        answer = account.answer
        if answer is None or (answer.status is not None and now >= answer.status.window.end):
            account.answer = None
            raise error

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
        self._forget(limit.tenant_id)
        return limit

    def remove_limit(
        self, tenant_id: str, frequency: str | None, now: float, by: str = "", filter: str | None = None
    ) -> int:
        removed = self._transport.remove_limit(tenant_id, frequency)
        self._forget(tenant_id)
        return removed

    def welcome(self, limit: Limit, now: float) -> bool:
        return False  # only the backend knows who is new

    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        self.remove_limit(limit.tenant_id, limit.frequency, now)

    def limits(self, tenant_id: str) -> list[Limit]:
        account = self._account(tenant_id)
        status = account.status()
        return [] if status is None else [status.limit]

    def usage(self, tenant_id: str, now: float, user: str | None = None) -> list[LimitStatus]:
        account = self._account(tenant_id)
        self._ask_if_stale(account, tenant_id, now)
        with account.lock:
            status = account.status()
        return [] if status is None else [status]

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        account = self._account(tenant_id)
        self._ask_if_stale(account, tenant_id, now)
        with account.lock:
            return account.decide(Call("", tenant_id, None), now)

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        found = [
            hold
            for name, account in list(self._accounts.items())
            if tenant_id in (None, name)
            for hold, _ in list(account.holds.values())
        ]
        return sorted(found, key=lambda hold: hold.created_at)

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        raise self._no_rows()

    def prune(self, before: float, now: float) -> Pruned:
        return Pruned(0, 0, 0, self.expire(now))

    def _services(self, work: object) -> NoReturn:
        raise self._no_rows()

    def _no_rows(self) -> KeptElsewhere:
        return KeptElsewhere(self._transport.url)

    def _forget(self, tenant_id: str) -> None:
        account = self._account(tenant_id)
        with account.checking, account.lock:  # an answer that is under way is of before
            account.answer, account.not_before = None, 0.0

    # -- delivery -------------------------------------------------------------------------------

    def _deliver(self, batch: list[LLMEvent]) -> None:
        try:
            self._transport.deliver(batch)
        except DeliveryRefused:
            self._acknowledge(batch)
            raise
        self._acknowledge(batch)

    def _acknowledge(self, batch: Sequence[LLMEvent]) -> None:
        """Count events no longer as waiting; the next check's answer has them, or never will."""
        for event in batch:
            account = self._account(event.tenant_id)
            with account.lock:
                account.acknowledge((event.event_id,))

    def _give_up(self, gone: Sequence[LLMEvent]) -> None:
        """Tell of events that gave way to younger ones; nobody waits for them any more."""
        self._acknowledge(gone)
        lost = self._overflow.due(len(gone))
        if lost:
            error = EventsLost(lost)
            logger.error("%s", error)
            if self._on_flush_error is not None:
                with internal_errors("calling on_flush_error"):
                    self._on_flush_error(error)

    @property
    def parked(self) -> int:
        """How many events the backend refused for good; in memory none is kept."""
        return 0 if self._spool is None else self._spool.parked

    def unpark(self) -> int:
        """Let events that the backend refused be tried again, say after a wrong key was mended; return how many."""
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
