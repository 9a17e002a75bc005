"""Leases: admit the calls of hot tenants in this process, from slices that the store has set aside (`lease_seconds`).

A plain call costs the store two transactions, admit and settle. Once a tenant has made `WORTH` calls within
`lease_seconds`, this process takes a lease: one hold in the store, with a slice of each limit that matches (`SHARE`).
Until the lease ends, calls are admitted against its slices without I/O. They settle one by one, as all calls do.

Why no limit is exceeded. A slice is taken where settled + held + slice <= limit, so it is room that nobody else has.
Of a slice, `flying` is what calls in flight hold and `left` what is free; their sum falls by the cost of each call that
has settled, which the counter has by then. A call is admitted where it fits into `left`, so all that is admitted from a
slice fits into it. What a call costs above its hold is excess, as it is of a plain call. A call takes its ceiling, as
plain calls do near a limit's end: how near that is, a process with a lease cannot see.

Why little is lost. What was spent of a slice is counted twice until the lease ends. A slice is 1/300 of what was left,
and a process has at most one slice of each counter. So eight processes keep at most 8/300 from each other, less as the
limit nears its end. A slice of fewer than `WORTH` calls, or one ceiling, is not taken: the last 2,400 calls
are plain ones, or more.

How it ends. `lease_seconds` after it was taken, or when it is used up, a lease admits no more. Then its hold shrinks to
what is in flight, and with the last call that lands it is released. The settler's thread does that, and so do `flush`,
`close` and the end of the interpreter. Until then the hold is renewed. Of a killed process it expires a minute after
its end and is given back without a charge: what its calls in flight have cost is lost with the process.

What falls back to plain holds: strict limits, whose worst case must not depend on a process that may be killed; a call
that does not fit into a slice; a counter of which this process has no slice. What is not admitted here is asked of the
store, which refuses. When it says busy, this process gives its own slices back and asks once more.

What changes meanwhile. Windows, users and limits that begin or end are in the key of a counter, which a call computes
anew; a new one has no slice. Rules are read with each lease: limits, plans, markups and suspensions that change, in
whatever process, hold at the latest when the lease ends. A lease ends with a top-up that expires.

A forked child has no leases. It may end a call of its parent: that settles as one without a hold, and the parent's
lease shrinks at its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial

from ..events import LLMEvent
from ..limits import ADMITTED, CounterKey, Decision, items_for
from ..runtime.deadline import deadline
from ..runtime.faults import StoreError, internal_errors, logger
from ..runtime.forks import after_fork
from ..stores.contract import Store
from ..stores.leases import GRACE, WORTH, Lease, amount_on
from ..stores.plans import Rules
from ..stores.records import Call
from .settler import Settler
from .slices import HeldLease, Slice, Taken, View

MOST_KEYS = 10_000
"""Tenants, and sets of counters, whose calls are counted to find the hot ones."""


class Leases:
    """The leases of this process. Methods that may ask the store say so; the others only compute.

    Times are unix seconds of the store's calls; `timeout` is how long the store may take to change a lease.
    """

    def __init__(self, store: Store, seconds: float, timeout: float, clock: Callable[[], float], work: Settler) -> None:
        self._store, self._seconds, self._timeout, self._clock, self._settler = store, seconds, timeout, clock, work
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's leases in a forked child: the parent gives them back."""
        self._lock = threading.Lock()
        self._rules: dict[str, tuple[Rules, float]] = {}
        self._slices: dict[CounterKey, Slice] = {}
        self._leases: set[HeldLease] = set()
        self._taken: dict[str, Taken] = {}
        self._heat: dict[tuple[object, ...], tuple[float, int]] = {}

    def __len__(self) -> int:
        """Count the leases whose holds are open."""
        return len(self._leases)

    def __contains__(self, call_id: object) -> bool:
        """Tell whether a call in flight was admitted here."""
        return call_id in self._taken

    # -- admission ------------------------------------------------------------------------------

    def knows(self, tenant_id: str) -> bool:
        """Tell whether calls of a tenant may be admitted here, as a lease was taken."""
        return tenant_id in self._rules

    def admit(self, call: Call, now: float) -> bool:
        """Admit a call against the slices of this process; False: the store has to be asked."""
        with self._lock:
            view = self._view(call, now)
            if view is None or view.missing or view.full:
                return False
            if view.amounts:
                self._taken[call.call_id] = Taken(view.call, view.amounts, now)
            return True

    def take(self, call: Call, now: float) -> bool:
        """Take a lease for a call that found none, if its tenant is hot; asks the store and raises its `StoreError`.

        A slice that has served few calls is not replaced before its end: the call is only too large for what is left.
        """
        with self._lock:
            view = self._view(call, now)
            if view is not None and not view.missing and not view.full:
                return True  # another thread has taken one
            full = [] if view is None else view.full
            if any(slice.served < WORTH for slice in full):
                return False
            if not full and not self._is_hot(_heat_of(call, view), now):
                return False
            ended = self._end({slice.lease for slice in full})
            view = self._view(call, now)
            # nobody else takes one meanwhile, nor soon after there was none
            self._heat[_heat_of(call, view)] = (now + self._seconds, 0)
            kept = () if view is None else tuple(slice.key for slice in view.amounts)
        for lease in ended:
            self._settler.put(partial(self._sync, lease))
        granted = self._store.lease(call, now, self._seconds, kept)
        if granted is not None:
            self._adopt(call.tenant_id, granted, now)
        return granted is not None

    def _view(self, call: Call, now: float) -> View | None:
        """Find the slices for a call; None where the rules of its tenant are not known."""
        rules, since = self._rules.get(call.tenant_id, (None, 0.0))
        if rules is None or not since <= now < since + self._seconds:
            return None
        view = View(call.marked_up(rules.markup), {}, [], [])
        for item in items_for(rules.limits, call.tenant_id, now, call.facts):
            slice, amount = self._slices.get(item.key), amount_on(view.call, item.limit)
            if slice is None or now >= slice.end:
                view.missing.append(item.key)
            elif slice.left < max(1, amount):
                view.full.append(slice)
            else:
                view.amounts[slice] = amount
        return view

    def _is_hot(self, key: tuple[object, ...], now: float) -> bool:
        """Count a call; tell whether there were many within `lease_seconds`."""
        start, calls = self._heat.get(key, (now, 0))
        if now < start <= now + self._seconds:
            return False
        if not start <= now < start + self._seconds:
            start, calls = now, 0
        if len(self._heat) >= MOST_KEYS:
            self._heat.clear()
        self._heat[key] = (start, calls + 1)
        return calls >= WORTH

    def _adopt(self, tenant_id: str, granted: Lease, now: float) -> None:
        """Begin to admit calls from a lease."""
        rules, hold = granted.rules, granted.hold
        with self._lock:
            if len(self._rules) >= MOST_KEYS:
                self._rules.clear()
            self._rules[tenant_id] = (rules, now)
            if hold is None:
                return
            lease, limits = HeldLease(hold.call_id), {limit.id: limit for limit in rules.limits}
            ended = self._end({self._slices[key].lease for key in hold.items if key in self._slices})
            for key, amount in hold.held_on():
                lease.slices[key] = Slice(lease, key, limits[key.limit_id], granted.end, amount)
            self._slices |= lease.slices
            self._leases.add(lease)
        self._settler.start()
        for other in ended:
            self._settler.put(partial(self._sync, other))
        self._settler.put_later(self._seconds, partial(self._review, lease))

    # -- calls in flight ------------------------------------------------------------------------

    def landed(self, call_id: str, event: LLMEvent | None = None, cost_nano: int | None = None) -> None:
        """Give back what a call held and did not cost, once the store has its settle; may ask the store."""
        if call_id not in self._taken:
            return
        with self._lock:
            taken = self._taken.pop(call_id, None)
            if taken is None:
                return
            taken.end(event, cost_nano)
            over = [lease for lease in taken.leases() if lease.ended and not lease.calls]
        for lease in over:
            self._sync(lease)

    def raise_hold(self, call_id: str, amount: int | None, tokens: int) -> Decision | None:
        """Do what `Ledger.raise_hold` does; asks the store where a slice has no room."""
        with self._lock:
            taken = self._taken.get(call_id)
            if taken is None:
                return None
            taken.rise(amount, tokens)
            short = {slice.lease for slice in taken.amounts if slice.left < 0}
        decisions = [self._sync(lease) for lease in short]
        return next((found for found in decisions if found is not None and not found.admitted), ADMITTED)

    def renew(self, call_id: str, expires_at: float) -> None:
        """Do what `Ledger.renew` does."""
        taken = self._taken.get(call_id)
        if taken is not None:
            taken.expires_at = expires_at

    def keep(self, call_id: str, event_id: str, now: float, expires_at: float) -> None:
        """Do what `Ledger.keep` does: give a call a hold of its own; asks the store.

        Until the lease ends, its slices hold the same once more.
        """
        taken = self._taken.get(call_id)
        if taken is not None and self._store.hold_anyway(taken.own_hold(event_id, now, expires_at), now):
            with self._lock:
                for slice, amount in taken.amounts.items():
                    slice.left -= amount

    # -- the end --------------------------------------------------------------------------------

    def give_back(self) -> None:
        """End all leases, and tell the store."""
        with self._lock:
            self._rules.clear()
            self._end(self._leases)
            open_now = list(self._leases)
        for lease in open_now:
            with internal_errors("giving a lease back"):
                self._sync(lease)

    def give_way(self, call: Call, now: float) -> bool:
        """End the leases that are on the counters of a call, and tell the store; False where there are none."""
        with self._lock:
            view = self._view(call, now)
            ended = [] if view is None else self._end({slice.lease for slice in (*view.full, *view.amounts)})
        for lease in ended:
            self._sync(lease)
        return bool(ended)

    def _end(self, leases: Collection[HeldLease]) -> list[HeldLease]:
        """Admit no more calls from leases; return those that had not ended."""
        ended = [lease for lease in leases if not lease.ended]
        for lease in ended:
            lease.ended = True
            for key, slice in lease.slices.items():
                if self._slices.get(key) is slice:
                    del self._slices[key]
        return ended

    def _review(self, lease: HeldLease) -> None:
        """End a lease whose time is over; while calls are in flight, shrink and renew its hold again and again."""
        now = self._clock()
        with self._lock:
            if lease not in self._leases:
                return
            self._end((lease,))
            expired = [id for id, taken in self._taken.items() if taken.expires_at <= now and lease in taken.leases()]
            for call_id in expired:
                self._taken.pop(call_id).end(None, None)
        self._sync(lease)
        if not lease.released:
            self._settler.put_later(self._seconds, partial(self._review, lease))

    def _sync(self, lease: HeldLease) -> Decision | None:
        """Let the store hold what a lease needs by now, or release it.

        A store that does not answer is asked again by the next review. In the worst case the hold expires.
        """
        with lease.lock, deadline(self._timeout):
            with self._lock:
                amounts, over = lease.needs(), lease.ended and not lease.calls
            now = self._clock()
            try:
                if not over:
                    return self._store.resize(lease.id, amounts, now, now + self._seconds + GRACE)
                if not lease.released:
                    self._store.release(lease.id, now)
                lease.released = True
            except StoreError as error:
                logger.debug("a lease is not given back yet: %s", error)
                return None
        with self._lock:
            self._leases.discard(lease)
        return None


def _heat_of(call: Call, view: View | None) -> tuple[object, ...]:
    """Say by what calls are counted: the counters they have no slice of, or their tenant while nothing is known."""
    return (call.tenant_id,) if view is None else tuple(view.missing)
