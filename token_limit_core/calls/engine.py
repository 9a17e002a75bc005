"""Engine: what a Meter runs on. It holds the store, the settler, the cost estimates, the listeners and the counters."""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from ..delivery.configured import outbox_of, store_of
from ..limits import Limit
from ..money import parse_amount
from ..pricing import PriceBook
from ..runtime.faults import StoreError, log_fault
from ..runtime.log_throttle import LogThrottle
from .estimates import Habits
from .listeners import listeners_of, notify, notify_refusal
from .settler import Settler

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..limits import Decision
    from ..stores.contract import Store
    from ..stores.records import Recorded
    from .request import Request, Settlement

logger = logging.getLogger("token_limit")

MAX_WARNINGS = 1000
"""Unguarded paths to remember: there are few, but an application may put anything into a path."""


class Engine:
    """Everything that the flow of a call and the patches need from a Meter.

    Raises `ConfigurationError` for settings that cannot work.
    """

    def __init__(self, config: MeterConfig) -> None:
        self.config = config
        self.store: Store = store_of(config)
        self.outbox = outbox_of(config, self.store)
        self.prices = PriceBook(config.on_unpriced, config.fallback_price)
        self.habits = Habits()
        self.settler = Settler(config.max_queue_size)
        self.listeners = listeners_of(config, self.outbox)
        self._counts: Counter[str] = Counter()
        self._events = 0
        self._store_errors = LogThrottle()
        self._unattributed = LogThrottle()
        self._warned: set[str] = set()
        self._welcomed: set[str] = set()

    def welcome(self, tenant_id: str, now: float) -> None:
        """Give a tenant the default limit, if one is configured, when this process first meets the tenant."""
        if self.config.default_limit_usd is None or not tenant_id or tenant_id in self._welcomed:
            return
        amount = parse_amount(self.config.default_limit_usd)
        self.store.welcome(Limit(tenant_id, amount, effective_from=now), now)
        self._welcomed.add(tenant_id)

    def payer(self, tenant_id: str | None) -> str:
        """Return who is billed: the tenant, or by `on_no_tenant` another one or `""` for a call without a tenant."""
        if tenant_id is not None:
            return tenant_id
        policy = self.config.on_no_tenant
        return "" if policy in ("allow", "refuse") else policy

    def settle(self, settlement: Settlement | None) -> None:
        """Write a settled call to the store; when the store is away, keep the call and try again later.

        Do nothing for None (a poll that reported no cost) and for an event that is recorded already.
        """
        if settlement is None:
            return
        now = self.config.clock()
        try:
            if self._write(settlement, now) == "duplicate":
                return
        except StoreError:
            log_fault("the store did not take a settled call; it will be tried again")
            self.settler.retry_later(partial(self._write, settlement, now))
        self._events += 1
        if self.listeners:
            notify(self.listeners, settlement[1])

    def _write(self, settlement: Settlement, now: float) -> Recorded:
        call_id, event, cost_nano, released = settlement
        if self.config.default_limit_usd is not None:
            self.welcome(event.tenant_id, now)
        recorded = self.store.settle(call_id, event, cost_nano, now)
        if released is not None:
            self.store.release(released, now)
        return recorded

    def refused(self, decision: Decision, request: Request) -> None:
        """Count a refusal and notify the listeners."""
        self.count("refused")
        notify_refusal(self.listeners, decision, request)

    def count(self, name: str) -> None:
        """Add one to a counter of `status()`; threads may lose an update, which only makes the number less exact."""
        self._counts[name] += 1

    def unattributed(self) -> None:
        """Count a call without a tenant, and log how many there were; at most once a minute."""
        self.count("unattributed")
        times = self._unattributed.due()
        if times:
            logger.info(
                "a call has no tenant and is billed to %r (%d times since the last message); wrap it in "
                "meter.for_tenant(...), or set on_no_tenant to 'refuse' or to a tenant",
                self.payer(None),
                times,
            )

    def store_failed(self, error: StoreError, consequence: str) -> None:
        """Log that the store cannot be asked for a limit, and the consequence; at most once a minute."""
        times = self._store_errors.due()
        if times:
            logger.error(
                "the store cannot be asked for a limit; %s (%d times since the last message): %s",
                consequence,
                times,
                error,
            )

    def first_time(self, path: str) -> bool:
        """Return True the first time an unguarded path is seen; `status()` lists these paths."""
        if path in self._warned or len(self._warned) >= MAX_WARNINGS:
            return False
        self._warned.add(path)
        return True

    def status(self) -> dict[str, Any]:
        """Return what this process has counted and how store and delivery are."""
        return {
            "store": type(self.store).__name__,
            "durable": self.store.durable,
            "unguarded": sorted(self._warned),
            "counts": dict(self._counts + Counter(events=self._events)),
            "settles_waiting": self.settler.waiting,
            "settles_lost": self.settler.lost,
            **self.store.health(),
            **({} if self.outbox is None else self.outbox.queue.health()),
        }

    def flush(self, timeout: float | None = None) -> bool:
        """Block until everything captured so far is stored or delivered; return whether all of it is.

        `timeout` is seconds; None waits without a limit.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        settled = self.settler.flush(timeout)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        deliver = self.store.flush if self.outbox is None else self.outbox.queue.flush_now
        return deliver(left) and settled

    def close(self) -> None:
        """Flush and release the store."""
        self.settler.stop(timeout=10.0)
        if self.outbox is not None:
            self.outbox.queue.close(timeout=5.0)  # deliveries that are still waiting stay in the store
        self.store.close()
