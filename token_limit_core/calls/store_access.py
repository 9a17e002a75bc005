"""How calls reach the store: at once while it answers, by a bounded policy while it does not, and after an outage.

While the store does not answer, calls go out unverified up to `outage_allowance_usd` (or are refused, by
`on_store_error`), and settled calls wait in the backlog. A store that is only busy is waited for, `store_timeout` long.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..limits import ADMITTED, Decision, Limit
from ..limits.filters import NO_FACTS, Facts
from ..money import parse_amount
from ..runtime.breaker import Breaker
from ..runtime.deadline import deadline
from ..runtime.faults import StoreBlocked, StoreBusy, StoreError, logger, report
from ..runtime.log_throttle import LogThrottle
from .allowance import Allowance
from .backlog import AT_ONCE, RETRY_SECONDS, Backlog, Release
from .leases import Leases

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..delivery.journal import Kept
    from ..stores.contract import Store
    from ..stores.records import Call, Recorded
    from .request import Settlement

T = TypeVar("T")

UNVERIFIED = Decision("admitted")
"""The decision on a call that goes out although the store did not answer. Compare it by identity."""

RETRY_AFTER_SECONDS = 5
BACKGROUND_SECONDS, BATCH_SECONDS = 86400.0, 30 * 86400.0
"""How long the hold of work in the background, and of a batch, waits for the result; it is billed after that.

Anthropic keeps the results of a batch for 29 days.
"""

LONGEST_WAIT_SECONDS = 0.05
"""Between two attempts at a busy store: a random wait of up to this, so that the callers do not meet again."""


_CONSEQUENCES = {
    "allow": "a call goes out unverified, up to outage_allowance_usd, and its settle is kept and will be tried again",
    "refuse": "a call is refused, and the settle of an earlier one is kept and will be tried again",
}


class StoreAccess:
    """What the flow of a call asks of the store. No method raises `StoreError` but `reached` under "refuse"."""

    def __init__(self, config: MeterConfig, store: Store, backlog: Backlog) -> None:
        self._config, self._store = config, store
        self.backlog: Backlog = backlog
        self._breaker = Breaker(self._answers_again)
        self._allowance = Allowance(parse_amount(config.outage_allowance_usd, "outage_allowance_usd"))
        self._log_throttle = LogThrottle()
        self._logged = False
        self._welcomed: set[str] = set()
        self.leases: Leases | None = None
        """What admits calls of hot tenants without asking the store; set by the Engine with `lease_seconds`."""

        self.watch: Callable[[], None] = lambda: None
        """Has `recover` called until it returns None; set by the Engine."""

    @property
    def away_since(self) -> float | None:
        """When the store stopped to answer (unix seconds); None while it answers."""
        return self._breaker.since

    def welcome(self, tenant_id: str, now: float) -> None:
        """Give a tenant the default limit, if one is configured, when this process first meets the tenant."""
        if self._config.default_limit_usd is None or not tenant_id or tenant_id in self._welcomed:
            return
        amount = parse_amount(self._config.default_limit_usd)
        self._store.welcome(Limit(tenant_id, amount), now)
        self._welcomed.add(tenant_id)

    # -- admission ------------------------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        """Admit a call from a lease, or ask the store; return `UNVERIFIED` or a refusal when it cannot be asked."""
        if self.leases is not None and self.leases.admit(call, now):
            return ADMITTED
        try:
            return self._ask_patiently(self._admit, call, now)
        except StoreBlocked:
            return ADMITTED
        except StoreError as error:
            self._failed(error)
        except Exception:
            report("asking the store to admit a call")
        return self.unverified(call)

    def unverified(self, call: Call) -> Decision:
        """Return `UNVERIFIED` or a refusal for a call whose limits cannot be checked, by `on_store_error`."""
        allowed = self._config.on_store_error == "allow" and not self.backlog.full and self._allowance.take(call)
        return UNVERIFIED if allowed else _unverifiable(call.tenant_id)

    def _admit(self, call: Call, now: float) -> Decision:
        if self._config.default_limit_usd is not None:
            self.welcome(call.tenant_id, now)
        leases = self.leases
        if leases is not None and leases.take(call, now) and leases.admit(call, now):
            return ADMITTED
        decision = self._store.admit(call, now)
        if decision.kind == "busy" and leases is not None and leases.give_way(call, now):
            decision = self._store.admit(call, now)
        return decision

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        """Return how a call of the tenant would be refused now, None if it would not; nothing is held."""
        try:
            return self._ask_patiently(self._store.reached, tenant_id, now, facts)
        except StoreBlocked:
            return None
        except StoreError as error:
            self._failed(error)
        except Exception:
            report("asking the store for a limit")
        return self.unchecked(tenant_id)

    def unchecked(self, tenant_id: str) -> Decision | None:
        """Return how a call would be refused now whose limits cannot be checked, None if it would not."""
        allowed = self._config.on_store_error == "allow" and self._allowance.is_left(tenant_id)
        return None if allowed else _unverifiable(tenant_id)

    def _ask_patiently(self, operation: Callable[..., T], *args: Any) -> T:
        """Run an operation of the store, again while the store is busy. Raises `StoreError`."""
        started = time.monotonic()
        while True:
            try:
                result: T = self._ask(self._in_time, operation, *args)
                return result
            except StoreBusy:
                left = started + self._config.store_timeout - time.monotonic()
                if left <= 0:
                    raise
            time.sleep(min(left, random.uniform(0, LONGEST_WAIT_SECONDS)))

    def _ask(self, operation: Callable[..., T], *args: Any, patient: bool = True) -> T:
        if self._store.backend is not None:  # a remote store has a breaker of its own, and answers it remembers
            return operation(*args)
        return self._breaker.call(operation, *args, patient=patient)

    def _in_time(self, operation: Callable[..., T], *args: Any) -> T:
        """Run an operation of the store, whose connection may hang, until `store_timeout` at most."""
        if not self._store.leaves_loop:
            return operation(*args)
        with deadline(self._config.store_timeout):
            return operation(*args)

    # -- settling -------------------------------------------------------------------------------

    def settle(self, settlement: Settlement) -> Recorded:
        """Write a settled call to the store, or keep it until the store takes it."""
        try:
            recorded: Recorded = self._ask(self._in_time, self._write, settlement)
            return recorded
        except StoreBlocked:
            return "stored"
        except StoreError as error:
            self._keep(settlement, error)
            return "stored"

    def release(self, call_id: str) -> None:
        """Give back the hold of a call that was never made, now or when the store takes it."""
        if self.leases is not None and call_id in self.leases:
            self.leases.landed(call_id)
            return
        try:
            self._ask(self._in_time, self._write, (call_id, None, None, call_id))
        except StoreBlocked:
            return
        except StoreError as error:
            self._keep((call_id, None, None, call_id), error)

    def give_back(self) -> None:
        """Give what is left of leases back to the store."""
        if self.leases is not None:
            self.leases.give_back()

    def raise_hold(self, call_id: str, amount: int | None, tokens: int) -> Decision | None:
        """Raise the hold of a call that grows; say whether that uses a limit up, None where nothing is held."""
        if self.leases is not None and call_id in self.leases:
            return self.leases.raise_hold(call_id, amount, tokens)
        try:
            found: Decision | None = self._ask(
                self._in_time, self._store.raise_hold, call_id, amount, tokens, self._config.clock()
            )
            return found
        except StoreBlocked:
            return None
        except StoreError as error:
            self._failed(error)
            return ADMITTED

    def renew(self, call_id: str, expires_at: float) -> None:
        """Let the hold of a call that goes on live longer."""
        if self.leases is not None and call_id in self.leases:
            self.leases.renew(call_id, expires_at)
            return
        try:
            self._ask(self._in_time, self._store.renew, call_id, expires_at)
        except StoreBlocked:
            return
        except StoreError as error:
            self._failed(error)

    def keep(self, call_id: str, event_id: str, seconds: float) -> None:
        """Keep the hold of work in the background for the event that will tell what it has cost."""
        now = self._config.clock()
        leased = self.leases is not None and call_id in self.leases
        keep = self.leases.keep if self.leases is not None and leased else self._store.keep
        try:
            self._ask(self._in_time, keep, call_id, event_id, now, now + seconds)
        except StoreBlocked:
            return
        except StoreError as error:
            self._failed(error)

    def _write(self, kept: Settlement | Release | Kept) -> Recorded:
        call_id, event, cost_nano, released = kept
        now = self._config.clock()
        recorded: Recorded = "stored"
        if event is not None:
            if self._config.default_limit_usd is not None:
                self.welcome(event.tenant_id, now)
            recorded = self._store.settle(call_id, event, cost_nano, now)
        if released is not None and (self.leases is None or released not in self.leases):
            self._store.release(released, now)
        if self.leases is not None:
            self.leases.landed(call_id if released is None else released, event, cost_nano)
        self._allowance.settled(call_id)
        return recorded

    def _keep(self, settlement: Settlement | Release, error: StoreError) -> None:
        call_id, _, cost_nano, _ = settlement
        self._allowance.ended(call_id, cost_nano)
        self.backlog.add(settlement)
        self._failed(error)

    # -- outages --------------------------------------------------------------------------------

    def recover(self) -> float | None:
        """Try to reach a store that does not answer, and give it the backlog.

        Return the seconds until the next attempt; None when nothing waits and the store answers.
        """
        try:
            if self.backlog.look():
                at_once = AT_ONCE if self.away_since is None else 1  # settles wait while the journal is read
                return self._ask(self.backlog.drain, partial(self._in_time, self._write), at_once, patient=False)
            if self.away_since is not None:
                self._ask(self._in_time, self._store.limits, "", patient=False)
        except StoreError as error:
            self.log(error)
            return RETRY_SECONDS
        return None

    def _failed(self, error: StoreError) -> None:
        self.log(error)
        self.watch()

    def log(self, error: StoreError, consequence: str | None = None) -> None:
        """Log that the store does not answer, and the consequence; at most once a minute."""
        times = self._log_throttle.due()
        if times:
            self._logged = True
            logger.error(
                "the store cannot be asked for a limit; %s (%d times since the last message): %s",
                _CONSEQUENCES[self._config.on_store_error] if consequence is None else consequence,
                times,
                error,
            )

    def _answers_again(self, since: float) -> None:
        if self._logged:
            self._logged = False
            logger.warning("the store answers again, after %.0f s", max(0.0, time.time() - since))


def _unverifiable(tenant_id: str) -> Decision:
    return Decision("unverifiable", tenant_id, retry_after=RETRY_AFTER_SECONDS)
