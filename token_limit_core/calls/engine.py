"""Recording: what a Meter writes down of calls, and what it counts and warns of on the way."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import StoreError, log_fault
from ..limits import Limit
from ..money import parse_amount
from ..runtime.log_throttle import Seldom
from .listeners import Listener, tell, tell_refusal

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..limits import Decision
    from ..stores.contract import Store
    from ..stores.records import Recorded
    from .settlement import Request, Settlement
    from .settler import Settler

logger = logging.getLogger("token_limit")

MAX_TOLD = 1000
"""Unguarded paths that are remembered: they are few, but what an application puts into paths is not known."""


class Recording:
    """The part of a Meter that settles calls."""

    config: MeterConfig
    store: Store
    settler: Settler
    listeners: list[Listener]

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._events = 0
        self._unanswered = Seldom()
        self._told: set[str] = set()
        self._welcomed: set[str] = set()

    def welcome(self, tenant_id: str, now: float) -> None:
        """Give a tenant the default limit, if there is one, when it is first heard of: here, or in the ledger."""
        if self.config.default_limit_usd is None or not tenant_id or tenant_id in self._welcomed:
            return
        amount = parse_amount(self.config.default_limit_usd)
        self.store.welcome(Limit(tenant_id, amount, effective_from=now), now)
        self._welcomed.add(tenant_id)

    def settle(self, settlement: Settlement | None) -> None:
        """Write a settled call to the store; when the store is away, keep it and try again later.

        None, a call that told nothing, leaves no trace, and neither does what was recorded before.
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
            tell(self.listeners, settlement[1])

    def _write(self, settlement: Settlement, now: float) -> Recorded:
        call_id, event, cost_nano, released = settlement
        if self.config.default_limit_usd is not None:
            self.welcome(event.tenant_id, now)
        recorded = self.store.settle(call_id, event, cost_nano, now)
        if released is not None:
            self.store.release(released, now)
        return recorded

    def refused(self, decision: Decision, request: Request) -> None:
        """Count a refusal, and tell it to those who listen."""
        self.count("refused")
        tell_refusal(self.listeners, decision, request)

    def count(self, what: str) -> None:
        """Count something `status()` shows; a lost update between threads is of no consequence."""
        self._counts[what] += 1

    def unanswered(self, error: StoreError, so: str) -> None:
        """Log that the store cannot be asked for a limit, and what follows: at once, then at most once a minute."""
        times = self._unanswered.due()
        if times:
            logger.error(
                "the store cannot be asked for a limit; %s (%d times since this was last said): %s", so, times, error
            )

    def first_time(self, what: str) -> bool:
        """Tell whether something is to be warned about, which is once; `status()` lists it as unguarded."""
        if what in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(what)
        return True

    def told(self) -> dict[str, Any]:
        """Give `status()` what was counted and warned of."""
        return {"unguarded": sorted(self._told), "counts": dict(self._counts + Counter(events=self._events))}
