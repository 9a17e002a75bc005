"""Engine: what a Meter runs on. It holds the store, the settler, the cost estimates, the listeners and the counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..delivery.configured import journal_of, outbox_of, store_of, webhook_of
from ..delivery.webhooks import Webhook
from ..pricing import PriceBook
from ..runtime.faults import StoreError, internal_errors, logger
from ..runtime.log_throttle import LogThrottle
from ..runtime.text import storable
from .backlog import Backlog
from .estimates import Habits
from .leases import Leases
from .listeners import Listener, listeners_of, notify, notify_refusal, notify_threshold
from .markup import mark_up
from .refusal_log import RefusalLog, refusal_of
from .settler import Settler
from .store_access import StoreAccess
from .unresolved import Unresolved

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..delivery.outbox import Outbox
    from ..events import LLMEvent
    from ..limits import Decision
    from ..limits.notices import Notice
    from ..scope import Scope
    from ..stores.contract import Store
    from .request import Request, Settlement

CLOSE_SECONDS = 10.0
MOST_NAMES = 10_000
"""Tenants whose names a process remembers to have written."""

TEXT_WIDTH = 255
"""Characters that stores keep of a name."""

MAX_WARNINGS = 1000
"""Unguarded paths to remember: there are few, but an application may put anything into a path."""


class Engine:
    """Everything that the flow of a call and the patches need from a Meter.

    Raises `ConfigurationError` for settings that cannot work.
    """

    def __init__(self, config: MeterConfig) -> None:
        self.config = config
        self.store: Store = store_of(config)
        self.outbox: Outbox | None = outbox_of(config, self.store)
        self.prices: PriceBook = PriceBook(config.on_unpriced, config.fallback_price, config.prices)
        self.access: StoreAccess = StoreAccess(config, self.store, Backlog(partial(journal_of, config, self.store)))
        self.habits: Habits = Habits()
        self.batches: Habits = Habits()
        """What the batches of tenants have been like whose models are not known."""

        self.settler: Settler = Settler(self.access.recover)
        self.access.watch = self.settler.watch
        if config.lease_seconds and self.store.leaves_loop and self.store.backend is None:
            timing = config.lease_seconds, config.store_timeout, config.clock
            self.access.leases = Leases(self.store, *timing, self.settler)
        self.unresolved: Unresolved = Unresolved()
        self.refusals: RefusalLog = RefusalLog(self.store, self.settler)
        self.listeners: list[Listener] = listeners_of(config, self.outbox)
        self.in_daemon_threads: WeakSet[Any] = WeakSet()
        """The flights of daemon threads, which the end of the process stops in the middle."""

        self.notice_hooks: list[Callable[[Notice], object]] = []
        if config.on_threshold is not None:
            self.notice_hooks.append(config.on_threshold)
        self.webhook: Webhook | None = webhook_of(config, self.store)
        self.store.thresholds, self.store.on_notices = tuple(sorted(set(config.thresholds))), self._notice
        if config.default_plan is not None:
            self.store.default_plan = self._default_plan
        self.strict_tenants: set[str] = set()
        """Tenants that have had a strict limit: the worst case of their calls is worked out before the store asks."""

        self._names: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._events = 0
        self._unattributed = LogThrottle()
        self.resolver_failures: LogThrottle = LogThrottle()
        self._warned: set[str] = set()
        self._begun = False

    def begin(self) -> None:
        """Look for a journal that a killed process has left, the first time that this process needs the store."""
        if not self._begun:
            self._begun = True
            if self.webhook is not None:
                self.webhook.wake()  # for what a killed process has left
            with internal_errors("looking for a journal"):
                journal = self.access.backlog.journal
                if journal is not None and journal.exists:
                    self.settler.watch()

    def _default_plan(self, tenant_id: str) -> str | None:
        """Return the plan of a tenant that was never assigned one."""
        plan = self.config.default_plan
        if plan is None or isinstance(plan, str):
            return plan
        found = None
        with internal_errors("calling default_plan"):
            found = plan(tenant_id)
        return found

    def name_tenant(self, tenant_id: str, name: str) -> None:
        """Write the name of a tenant that the application gives, a moment later, where this process knows another."""
        if self._names.get(tenant_id) == name or self.store.backend is not None:
            return
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        self._names[tenant_id] = name
        self.settler.start()
        self.settler.put(partial(self._write_name, tenant_id, storable(name)[:TEXT_WIDTH]))

    def _write_name(self, tenant_id: str, name: str) -> None:
        try:
            self.store.name_tenant(tenant_id, name, self.config.clock())
        except StoreError as error:
            self._names.pop(tenant_id, None)
            self.access.log(error, "the name of a tenant is not written yet")

    def remember_strict(self, tenant_id: str) -> None:
        """Remember that a tenant has a strict limit."""
        if len(self.strict_tenants) >= MOST_NAMES:
            self.strict_tenants.clear()
        self.strict_tenants.add(tenant_id)

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
        if not self._begun:
            self.begin()
        self.mark_up(settlement[1])
        if self.access.settle(settlement) == "duplicate":
            return
        self._events += 1
        if self.listeners:
            notify(self.listeners, settlement[1])

    def mark_up(self, event: LLMEvent | None) -> None:
        """Set what the tenant is billed for an event, where the application has a function for that."""
        if self.config.markup is not None and event is not None:
            mark_up(self.config.markup, event)

    def refused(self, decision: Decision, request: Request, scope: Scope | None) -> None:
        """Count a refusal, here and in the store, and notify the listeners."""
        self.count("refused")
        if self.store.backend is None:
            with internal_errors("counting a refusal"):
                attributes = None if scope is None else scope.attributes
                self.refusals.add(refusal_of(decision, request, attributes, self.config.clock()))
        notify_refusal(self.listeners, decision, request)

    def _notice(self, notices: list[Notice]) -> None:
        """Pass on the notices of a transaction that was committed."""
        for notice in notices:
            notify_threshold(self.notice_hooks, notice)
        if self.webhook is not None:
            self.webhook.wake()

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
            "tenants_unresolved": len(self.unresolved),
            "store_away_since": self.access.away_since,
            "settles_waiting": len(self.access.backlog),
            "settles_lost": self.access.backlog.lost,
            **self.store.health(),
            **({} if self.outbox is None else self.outbox.queue.health()),
            **({} if self.webhook is None else {"webhooks_failed": self.webhook.failed}),
        }

    def flush(self, timeout: float | None = None) -> bool:
        """Block until everything captured so far is stored or delivered; return whether all of it is.

        `timeout` is seconds; None waits without a limit.
        """
        self.begin()
        deadline = None if timeout is None else time.monotonic() + timeout
        self.refusals.write()
        settled = self.settler.flush(timeout)
        self.access.give_back()
        settled = self.unresolved.retry() and settled
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        deliver = self.store.flush if self.outbox is None else self.outbox.queue.flush_now
        settled = (self.webhook is None or self.webhook.flush()) and settled
        return deliver(left) and settled

    def close(self) -> None:
        """Flush and release the store."""
        self.begin()
        self.refusals.write()
        self.settler.stop(timeout=CLOSE_SECONDS)
        self.unresolved.retry(last=True)
        self.access.give_back()
        self.access.backlog.close()
        if self.webhook is not None:
            self.webhook.close()
        if self.outbox is not None:
            self.outbox.queue.close(timeout=5.0)  # deliveries that are still waiting stay in the store
        self.store.close()
