"""The Store contract: Ledger (limits, holds, events), Plans, Tenants, Reports (lists), Services (keys, deliveries).

A store is synchronous and may be used from any thread. It never reads the clock: `now` is an argument.
Matching, windows and money are pure functions in `limits.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from ..events import LLMEvent
from ..limits import OBSERVE, CounterKey, Decision, Limit, LimitStatus, judge
from ..limits.filters import NO_FACTS, Facts
from ..limits.notices import Notice
from ..runtime.executor import executor
from ..runtime.faults import StoreError
from .entries import Spend
from .leases import Lease
from .notices import NoticeRow
from .plans import Plans, Rules
from .records import Call, Drift, Hold, Pruned, Recorded, Refusal
from .reports import Reports
from .services import Services
from .tenants import Tenants

T = TypeVar("T")


class Ledger(ABC):
    """Limits, holds and events; each operation is atomic.

    Operations raise `StoreError` when the store cannot answer, and its subclass `StoreBusy` when locks of other
    transactions did not go away in time. A row that the engine refuses raises the engine's own exception: a retry
    would not help.
    """

    @abstractmethod
    def limits(self, tenant_id: str) -> list[Limit]:
        """List every limit of a tenant's own, those that begin later included."""

    def rules(self, tenant_id: str) -> Rules:
        """Return what decides on a tenant's calls: its own limits, its plan's and those on all tenants together."""
        return Rules(self.limits(tenant_id))

    @abstractmethod
    def set_limit(self, limit: Limit, now: float, by: str = "", expected: Collection[Limit] | None = None) -> Limit:
        """Create the limit, or update the row of its identity. Return it with its id.

        Counters stay, unless the unit or the windows change: then they start from the ledger.
        `by` goes into the history. With `expected`, raise `LimitChanged` and change nothing when the rows of this
        identity are others by now.
        """

    @abstractmethod
    def welcome(self, limit: Limit, now: float) -> bool:
        """Give a tenant that was never seen its first limit; False, and nothing done, for any other."""

    @abstractmethod
    def remove_limit(
        self, tenant_id: str, frequency: str | None, now: float, by: str = "", filter: str | None = None
    ) -> int:
        """Remove a tenant's limits (of one frequency, of one filter, or all); return how many."""

    @abstractmethod
    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        """Remove one limit and its counters; the one that a limit still to begin would have ended goes on.

        Raises `LimitChanged`, and changes nothing, when the limit is not as given any more.
        """

    @abstractmethod
    def admit(self, call: Call, now: float) -> Decision:
        """Set what the call may cost aside on every limit that matches, or on none; atomic."""

    @abstractmethod
    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        """Close the call's hold and record the event, once, however often it is called.

        The event's id is the call id. Valid with an open, an expired (the estimate is corrected), a released or no
        hold.
        """

    @abstractmethod
    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        """Record events that had no admission; one result per event."""

    @abstractmethod
    def renew(self, call_id: str, expires_at: float) -> bool:
        """Let an open hold live until `expires_at`; False when it is no longer open."""

    @abstractmethod
    def raise_hold(self, call_id: str, amount: int | None, tokens: int, now: float) -> Decision | None:
        """Let an open hold hold at least `amount` (nano-dollars) and `tokens` on each of its limits, whatever is left.

        Return a refusal if that uses a limit up, else `ADMITTED`; None when there is no open hold.
        """

    def keep(self, call_id: str, new_id: str, now: float, expires_at: float) -> bool:
        """Let an open hold wait, until `expires_at`, for the event of another id that settles it; False if none does.

        A store that cannot do that holds nothing for work in the background.
        """
        return False

    @abstractmethod
    def release(self, call_id: str, now: float, by: str | None = None) -> bool:
        """Give an open hold back without a charge; False when it is no longer open.

        `by` names who does it by hand, for the history; None is the call itself, which was never made.
        """

    def lease(self, call: Call, now: float, seconds: float, kept: Collection[CounterKey] = ()) -> Lease | None:
        """Hold a slice of what is left of each limit that matches a call, to admit calls from for so many seconds.

        Counters in `kept` are left out. The lease holds nothing where that is not worth it, or a limit is strict; None
        where the tenant's calls cannot be leased. A store without leases has none.
        """
        return None

    def resize(self, lease_id: str, amounts: Sequence[int], now: float, expires_at: float) -> Decision | None:
        """Let an open lease hold other amounts, whatever is left, until `expires_at`.

        Return a refusal if a limit is used up by now, else `ADMITTED`; None when the lease is not open.
        """
        return None

    def hold_anyway(self, hold: Hold, now: float) -> bool:
        """Insert the hold of a call that was admitted from a lease, whatever is left; False where that cannot be."""
        return False

    @abstractmethod
    def expire(self, now: float, tenant_id: str | None = None) -> int:
        """Settle expired holds at their held amount, marked `estimated`, and give expired leases back.

        Return how many there were.
        """

    @abstractmethod
    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        """List open holds, oldest first."""

    @abstractmethod
    def usage(self, tenant_id: str, now: float, user: str | None = None, everyone: bool = False) -> list[LimitStatus]:
        """Give the state of each limit of a tenant or its plan that is in force, in its current window.

        A limit on each user is given for `user`, or without one for the users that have spent most of it. With
        `everyone` those on all tenants together are given, too.
        """

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        """Say how a call of the tenant would be refused now, or None; nothing is held."""
        for status in self.usage(tenant_id, now):
            decision = judge(status, tenant_id, now) if status.limit.mode != OBSERVE else None
            if decision is not None:
                return decision
        return None

    @abstractmethod
    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        """Sum the ledger of a tenant over `start <= timestamp < end`."""

    def reconcile(self, now: float, tenant_id: str | None = None, fix: bool = False) -> list[Drift]:
        """List the counters of current windows that differ from ledger and holds; with `fix` correct them.

        Raises `StoreError` where the store has no counters.
        """
        raise StoreError(f"{type(self).__name__} keeps no counters that could be compared here")

    @abstractmethod
    def prune(self, before: float, now: float) -> Pruned:
        """Delete rows older than `before`, never of an open window nor younger than 35 days."""


class Store(Ledger, Plans, Tenants, Reports, Services):
    """All of these contracts in one object, and its life cycle."""

    default_plan: Callable[[str], str | None] | None = None
    """Names the plan of a tenant that was never assigned one; an `Engine` sets it."""

    thresholds: tuple[int, ...] = ()
    """The percents of a limit that make notices; an `Engine` sets them."""

    delivers_notices: bool = False
    """Whether notices are kept until they are delivered; an `Engine` sets it."""

    on_notices: Callable[[list[Notice]], None] | None = None
    """Gets the notices of each transaction after its commit; an `Engine` sets it."""

    durable: bool = True
    """Whether what was settled survives the end of the process."""

    backend: str | None = None
    """URL, without secrets, of the remote backend that keeps limits and ledger; None if this store keeps them."""

    location: str | None = None
    """What all processes call this store: the absolute path of its file, or its URL without a password.

    None: nothing names it, so that no other process can take over what it still has to be given.
    """

    leaves_loop: bool = True
    """Whether operations do I/O and must not run on an event loop."""

    def __str__(self) -> str:
        """Name the store and its place, for people."""
        return type(self).__name__

    def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        """Add the counts of refusals to those of their key; a store that keeps no rows of its own drops them."""

    def check(self) -> None:
        """Open the store, for checks at start-up; raises `ConfigurationError` or `StoreError` when it cannot work."""

    def exists(self) -> bool:
        """Return False if the first operation would create the database file of this store."""
        return True

    def schema(self) -> str | None:
        """Name the version of the tables, for people; None for a store without tables."""
        return None

    def flush(self, timeout: float | None = None) -> bool:
        """Block until everything is where it belongs (seconds; None is for ever); False if the time was not enough."""
        return True

    def claim_notices(self, now: float, until: float, most: int) -> list[NoticeRow]:
        """Claim the oldest notices to deliver; the claims end at `until` (unix seconds)."""
        return []

    def reschedule_notices(self, ids: Sequence[int], due: float) -> None:
        """Let notices be due at another time (unix seconds); negative is never again."""

    def health(self) -> dict[str, Any]:
        """Give what `Meter.status()` shows of this store beyond its class."""
        return {}

    async def run_async(self, work: Callable[[], T]) -> T:
        """Run an operation of this store off the event loop."""
        return await executor.run(work)

    def close(self) -> None:
        """Release connections; the store may be used again afterwards."""
