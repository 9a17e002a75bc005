"""Transaction: the primitives that the ledger algorithm of every store is written in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from enum import Enum, auto

from ..limits import CounterKey, Decision, Limit
from .entries import Entry, Spend
from .notices import NoticesTransaction
from .plans import PlansTransaction
from .records import Call, Counter, Hold
from .services import ServicesTransaction


class Retry(Enum):
    """What an admission needs before another attempt."""

    WINDOWS = auto()
    """A window is not open yet, or a top-up has expired."""

    PLAN = auto()
    """The tenant was never assigned a plan."""

    NOTHING = auto()
    """Nothing is in the way any more: a hold was freed or a limit raised meanwhile."""


class Transaction(ServicesTransaction, PlansTransaction, NoticesTransaction):
    """One atomic unit of work on an engine: the primitives the shared algorithm is written in.

    All row locks are taken in the order of tenants, then in `limits.lock_order`.
    """

    def held_on(self, key: CounterKey) -> int:
        """Sum what open holds hold on a counter that is not open: nothing, but where counters may be lost."""
        return 0

    def admit_at_once(self, call: Call, now: float, assigns_plans: bool) -> Decision | Retry | None:
        """Admit or refuse in one round trip where the engine can; None: nothing was done, take the steps one by one.

        With `assigns_plans` that is left to the steps for a tenant that was never assigned a plan.
        """
        return None

    def settle_at_once(self, call_id: str, entry: Entry, destinations: Sequence[str]) -> bool | None:
        """Settle a plain call in few statements where the engine can; None: nothing was done, take the steps.

        Return whether a counter has reached its next threshold.
        """
        return None

    def take_all(self, hold: Hold, now: float, limits: Sequence[int] | None) -> bool:
        """Take what a hold holds on its counters, and insert it; False, and nothing done, where a counter is absent.

        With `limits`, the amounts of the limits of its counters, all of it must fit.
        """
        for done, (key, amount) in enumerate(hold.held_on()):
            if not self.take(key, amount, None if limits is None else amount, now):
                for taken, amount in tuple(hold.held_on())[:done]:
                    self.charge(taken, 0, -amount)
                return False
        self.insert_hold(hold)
        return True

    @abstractmethod
    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        """Create the tenant if it is new, and keep other writers of its ledger out until the end.

        False when it surely was there already; of two that create it at once both may be told True.
        """

    @abstractmethod
    def limits(self, tenant_id: str) -> list[Limit]: ...

    @abstractmethod
    def insert_limit(self, limit: Limit) -> Limit: ...

    @abstractmethod
    def update_limit(self, limit: Limit) -> None: ...

    @abstractmethod
    def delete_limits(self, ids: Sequence[int]) -> None:
        """Delete limits and their counters."""

    @abstractmethod
    def counter(self, key: CounterKey) -> Counter | None:
        """Read a counter, or None where its window was not opened yet."""

    @abstractmethod
    def open_counter(self, key: CounterKey, window_end: int, counter: Counter) -> None:
        """Insert the counter if it is absent."""

    @abstractmethod
    def drop_earlier(self, key: CounterKey, before: int) -> None:
        """Delete the limit's counters of the same tenant and subject whose windows ended by `before`."""

    @abstractmethod
    def take(self, key: CounterKey, amount: int, needed: int | None, now: float) -> bool:
        """Add to `held` in one conditional UPDATE: if settled + held + `needed` is within the limit and its top-ups.

        Without `needed` it always fits. Nothing is done where the counter is absent or a top-up of it has expired.
        """

    @abstractmethod
    def charge(self, key: CounterKey, settled: int, held: int) -> bool:
        """Add the signed amounts to a counter; False, and nothing done, where it is absent."""

    @abstractmethod
    def counter_keys(self, now: float, tenant_id: str | None = None) -> list[CounterKey]:
        """List the counters, of one tenant or all, whose window has not ended by `now`."""

    @abstractmethod
    def lock_counters(self, keys: Sequence[CounterKey]) -> None:
        """Keep calls off the counters of a tenant that is locked, until the end; `keys` are in the order of locks."""

    @abstractmethod
    def balance(self, key: CounterKey) -> tuple[Counter | None, int]:
        """Read a counter, and the sum of what open holds hold on it."""

    @abstractmethod
    def reset_counter(self, key: CounterKey, settled: int, held: int) -> None:
        """Set the amounts of a counter that is locked."""

    @abstractmethod
    def charge_below(self, key: CounterKey, settled: int, held: int) -> bool:
        """Do what `charge` does if the counter stays below its next threshold; else False, and nothing done."""

    @abstractmethod
    def insert_hold(self, hold: Hold) -> None: ...

    @abstractmethod
    def hold(self, call_id: str) -> Hold | None: ...

    @abstractmethod
    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        """Change the state in one conditional UPDATE; False when the state was another."""

    @abstractmethod
    def renew_hold(self, call_id: str, expires_at: float) -> bool: ...

    @abstractmethod
    def rename_hold(self, call_id: str, new_id: str, expires_at: float) -> bool:
        """Give an open hold another id and another end; False where it is not open."""

    @abstractmethod
    def update_hold(self, hold: Hold) -> bool:
        """Write the amounts of a hold where it is still open; False where it is not."""

    @abstractmethod
    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        """List open holds, oldest first; with `expired_at`, those that expired by then."""

    @abstractmethod
    def insert_entry(self, entry: Entry) -> bool:
        """Append to the ledger; False when the (tenant, event_id) is there already."""

    @abstractmethod
    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        """Tell which of these ids the tenant's ledger has already."""

    @abstractmethod
    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        """Tell which of these calls have a hold, in whatever state."""

    @abstractmethod
    def insert_entries(self, entries: Sequence[Entry]) -> None:
        """Append entries that the ledger is known not to have."""

    @abstractmethod
    def roll_up(self, entry: Entry) -> None:
        """Add the entry to the total of its (tenant, day, provider, model)."""

    @abstractmethod
    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        """Add many entries, each total once."""

    @abstractmethod
    def spend(self, tenant_id: str, start: float, end: float) -> Spend: ...

    @abstractmethod
    def prune(self, before: float) -> tuple[int, int, int]:
        """Delete ledger rows and closed holds older than `before`, and counters whose window ended by then."""
