"""Opening the counters of windows: what the ledger says was already spent, and what top-ups add.

A window opens with the first call in it. Its counter starts from the ledger, so a limit may be made, changed or
removed in the middle of a window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..limits import COST, EVERYONE, TOKENS, USD, CounterKey, Item, Limit, LimitStatus, items_for, keys_for
from ..limits.filters import EACH, Facts, Filter, parse_filter
from ..limits.notices import next_threshold
from ..windows import RATES, TOTAL, Window
from . import notices
from .entries import NO_SPEND, Entry, Spend, add_spends, day_of
from .plans import TopUp, TotalsQuery
from .records import Call, Counter
from .transaction import Transaction


def status_of(tx: Transaction, item: Item, tenant_id: str, now: float) -> LimitStatus:
    """Read a limit's counter; a window that was not opened yet stands at what the ledger says."""
    counter = tx.counter(item.key)
    if counter is None or counter.ends(now):
        counter = _brought_up(tx, item, tenant_id, now, counter)[0]
    return LimitStatus(item.limit, item.window, counter.settled, counter.held, counter.extra, item.key.subject)


def open_windows(tx: Transaction, call: Call, now: float) -> None:
    """Open the counters that a call is held on, and take out of them what expired top-ups have left."""
    tx.lock_tenant(call.tenant_id, now)  # no settle may fall between the sum and the new counter
    items = items_for(tx.rules(call.tenant_id).limits, call.tenant_id, now, call.facts)
    if any(item.key.tenant_id == EVERYONE for item in items):
        tx.lock_tenant(EVERYONE, now)
    for item in items:
        open_window(tx, item, call.tenant_id, now)


def open_window(tx: Transaction, item: Item, tenant_id: str, now: float) -> Counter:
    """Return a counter of a tenant that is locked, opened and without expired top-ups."""
    counter = tx.counter(item.key)
    if counter is not None and not counter.ends(now):
        return counter
    fresh, burnt = _brought_up(tx, item, tenant_id, now, counter)
    for top_up in burnt:
        tx.update_top_up(top_up)
    if counter is None:
        ceiling = item.limit.amount + fresh.extra
        fresh = fresh._replace(notify_at=next_threshold(tx.thresholds, 0, ceiling))
        tx.open_counter(item.key, item.window.end, fresh)
        if item.limit.frequency in RATES:  # what came late may still be in the one before
            tx.drop_earlier(item.key, 2 * item.window.start - item.window.end)
    else:
        tx.credit(item.key, fresh.extra, fresh.extra_until)
    return fresh


def _brought_up(
    tx: Transaction, item: Item, tenant_id: str, now: float, counter: Counter | None
) -> tuple[Counter, list[TopUp]]:
    """Return the counter as it has to be at `now`, and the top-ups that this changes."""
    if counter is None:
        counter = Counter(spent_in(tx, item, tenant_id), tx.held_on(item.key))
    if item.limit.unit != USD:
        return counter, []
    top_ups = top_ups_of(tx, item)
    burnt = burn(top_ups, counter.settled, now)
    extra, extra_until = extra_of({row.id: row for row in (*top_ups, *burnt)}.values())
    return counter._replace(extra=extra, extra_until=extra_until), burnt


def notice(tx: Transaction, key: CounterKey, limit: Limit, now: float) -> None:
    """Make the notices of a counter as it stands now; nothing where it is not open."""
    counter = tx.counter(key) if tx.thresholds else None
    if counter is not None:
        window = limit.window(key.window_start)
        status = LimitStatus(limit, window, counter.settled, counter.held, counter.extra, key.subject)
        notices.review(tx, key, limit, status, now)


def notice_entry(tx: Transaction, entry: Entry, now: float) -> None:
    """Make the notices of every counter that an entry was charged to."""
    event = entry.event
    tx.lock_tenant(event.tenant_id, now)
    for limit, key in keys_for(tx.rules(event.tenant_id).limits, event.tenant_id, event.timestamp, entry.facts):
        notice(tx, key, limit, now)


def notice_unopened(
    tx: Transaction, limits: Iterable[Limit], entry: Entry, absent: Collection[CounterKey], now: float
) -> None:
    """Open the counters of an entry that nobody was admitted on, and make their notices."""
    event = entry.event
    for item in items_for(limits, event.tenant_id, event.timestamp, entry.facts):
        if item.key in absent and item.window.start <= now < item.window.end:
            open_window(tx, item, event.tenant_id, now)
            notice(tx, item.key, item.limit, now)


def notice_limits(tx: Transaction, limits: Iterable[Limit], now: float, tenant_id: str | None = None) -> None:
    """Make the notices of the open counters of limits that have changed, of one tenant or all."""
    known = {limit.id: limit for limit in limits} if tx.thresholds else {}
    for key in tx.counter_keys(now, tenant_id) if known else ():
        if key.limit_id in known:
            notice(tx, key, known[key.limit_id], now)


# -- what was spent -----------------------------------------------------------------------------


def spent_in(tx: Transaction, item: Item, tenant_id: str) -> int:
    """Sum what the ledger has for a counter; days that were pruned come from the roll-up."""
    limit, window = item.limit, item.window
    payer = None if limit.tenant_id == EVERYONE else tenant_id
    found = parse_filter(limit.filter)
    user = item.key.subject if found.user == EACH else found.user
    by = tuple(name for name in ("provider", "model", "feature") if getattr(found, name) is not None)
    totals = tx.totals(TotalsQuery(payer, window.start, window.end, by, user))
    spent = sum(total.amount_on(limit) for total in totals if found.matches(total.facts))
    return spent + (_pruned(tx, limit, window, payer, found, user) if limit.frequency == TOTAL else 0)


def _pruned(tx: Transaction, limit: Limit, window: Window, payer: str | None, found: Filter, user: str | None) -> int:
    """Sum the days of a total that the ledger does not have any more; a roll-up has no model beside a user."""
    if payer is None or (found.model or found.provider) and (user or found.feature):
        return 0
    oldest = tx.first_entry_at(payer)
    last = day_of(window.end if oldest is None else oldest)
    days = range(-(-window.start // 86400), min(last, window.end // 86400))
    total = NO_SPEND
    if user or found.feature:
        for row in tx.user_rollup(payer, days):
            if found.matches(Facts(user=row.user, feature=row.feature)):
                total = add_spends(total, row.total)
    else:
        for day in tx.rollup(payer, days):
            if found.matches(Facts(day.provider, day.model)):
                total = add_spends(total, day.total)
    return amount_of(limit, total)


def amount_of(limit: Limit, total: Spend) -> int:
    """Return what a total is on a counter of a limit, in the limit's unit."""
    if limit.unit == USD:
        return total.cost_nano if limit.basis == COST else total.charge_nano
    return total.input_tokens + total.output_tokens if limit.unit == TOKENS else total.calls


# -- top-ups ------------------------------------------------------------------------------------


def top_ups_of(tx: Transaction, item: Item) -> list[TopUp]:
    """Read the top-ups of a counter: those of the limit's identity that were made in its window."""
    key, limit = item.key, item.limit
    rows = tx.top_ups(key.tenant_id, limit.frequency, limit.filter, key.subject)
    return [row for row in rows if item.window.start <= row.at < item.window.end]


def burn(top_ups: Iterable[TopUp], settled: int, now: float) -> list[TopUp]:
    """Take what was spent since they were last looked at out of top-ups that expire, the earliest first.

    What is left of one at its end is lost. Returns those that change.
    """
    live = sorted((row for row in top_ups if row.expires_at is not None and row.left > 0), key=_end)
    spent = max(0, settled - live[0].seen) if live else 0
    changed = []
    for row in live:
        used = min(row.left, spent)
        spent -= used
        left, lost = row.left - used, 0
        if _end(row) <= now:
            left, lost = 0, left
        changed.append(row._replace(left=left, lost=lost, seen=settled))
    return changed


def extra_of(top_ups: Iterable[TopUp]) -> tuple[int, float | None]:
    """Return what top-ups add to a limit, and when the next of them ends; None if none does."""
    rows: Sequence[TopUp] = list(top_ups)
    ends = [_end(row) for row in rows if row.expires_at is not None and row.left > 0]
    return sum(row.amount - row.lost for row in rows), min(ends, default=None)


def _end(top_up: TopUp) -> float:
    assert top_up.expires_at is not None
    return top_up.expires_at
