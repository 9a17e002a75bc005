"""Settlement in the plain cases of `at_once.py`: two statements in one round trip on PostgreSQL, few on SQLite.

On SQLite a case is plain when the tenant has only limits of its own, they are on all calls, and it has no markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Double,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...limits import COST, EVERYONE, REQUESTS, TOKENS, USD
from ..columns import ledger_row, rollup_row, user_rollup_rows
from ..entries import REQUESTS_OF, Entry
from .matching import (
    THE_CALL,
    THE_CHARGED,
    THE_SPENT,
    THE_TENANT,
    THE_TIME,
    THE_TOKENS,
    array,
    candidate_limits,
    filter_row,
    has_other_markup,
    in_force,
    is_in,
    is_locked,
    known_markup,
    lock_counters,
    open_at_the_time,
    unknown_filters,
)
from .statements import LOCK_TENANT
from .tables import counter, delivery, hold, hold_item, ledger, limit, rollup, tenant, user_rollup
from .upserts import add_to_totals, columns_of

_HELD = (
    select(hold_item.c.amount)
    .where(
        hold_item.c.call_id == THE_CALL,
        hold_item.c.limit_id == counter.c.limit_id,
        hold_item.c.subject == counter.c.subject,
        hold_item.c.window_start == counter.c.window_start,
    )
    .correlate(counter)
    .scalar_subquery()
)


def _charged(limits: Any) -> dict[str, Any]:
    """Add what the entry settles to a counter, in its limit's unit, and take away what its hold holds."""
    usd = case((limits.c.basis == COST, THE_SPENT), else_=THE_CHARGED)
    amounts = {USD: usd, TOKENS: THE_TOKENS, REQUESTS: bindparam("the_requests", type_=BigInteger)}
    return {
        "settled": counter.c.settled + case(amounts, value=limits.c.unit),
        "held": counter.c.held - func.coalesce(_HELD, 0),
    }


_HAS_HOLD = exists(select(hold.c.call_id).where(hold.c.call_id == THE_CALL))
_CROSSES = (counter.c.settled >= counter.c.notify_at).label("crosses")


def _append(insert: Any, *plain: Any) -> Any:
    """Append the entry, unless it is there, its tenant is new, or it has a hold that is not open or of another time."""
    other_hold = or_(hold.c.state != "open", hold.c.tenant_id != THE_TENANT, hold.c.created_at != THE_TIME)
    values = {name: bindparam(name, type_=ledger.c[name].type) for name in columns_of(ledger)}
    row = select(*values.values()).where(
        exists(select(tenant.c.id).where(tenant.c.id == THE_TENANT)),
        ~exists(select(hold.c.call_id).where(hold.c.call_id == THE_CALL, other_hold)),
        *plain,
    )
    return insert(ledger).from_select([*values], row, include_defaults=False).on_conflict_do_nothing()


def _settlement() -> Any:
    """Write the entry, unless it is there or the hold is not the plain open one, and all that follows from it."""
    state, candidates = candidate_limits()
    matching = select(candidates).where(is_in(candidates.c.filter, "the_matching")).cte("matching")
    at_the_time = open_at_the_time(matching, matching.c.owner, matching.c.subject)
    keys = select(*(counter.c[name] for name in _KEY)).select_from(matching).join(counter, at_the_time).cte("keys")
    entry = _entry(state, candidates, matching, keys)
    totals = [_total(rollup, "more", entry), _total(user_rollup, "user", entry)]
    locked = lock_counters(matching, exists(select(entry)))
    charged = update(counter).where(is_locked(locked)).values(_charged(locked)).returning(_CROSSES).cte("charged")
    closed = update(hold).where(hold.c.call_id == THE_CALL, exists(select(entry))).values(state="settled").cte("closed")
    crosses = func.coalesce(select(func.bool_or(charged.c.crosses)).scalar_subquery(), false())
    return select(entry.c.id, crosses).add_cte(*totals, _copies(entry), closed)


_KEY = ("tenant_id", "limit_id", "subject", "window_start")


def _entry(state: CTE, candidates: CTE, matching: CTE, keys: CTE) -> CTE:
    """Append the entry in a plain case: its hold is on counters that are charged, filters and markup are known.

    A counter of all tenants that is not open is left to the steps, which wait for it. So is one of a call that nobody
    was admitted for, which opens it.
    """
    charged = and_(hold_item.c.limit_id == keys.c.limit_id, hold_item.c.window_start == keys.c.window_start)
    other_item = and_(hold_item.c.call_id == THE_CALL, ~exists(select(keys).where(charged)))
    opened = exists(select(keys).where(keys.c.limit_id == matching.c.id))
    appended = _append(
        postgresql.insert,
        ~exists(select(hold_item.c.call_id).where(other_item)),
        ~exists(select(matching.c.id).where(matching.c.owner == EVERYONE, ~opened)),
        unknown_filters(candidates).scalar_subquery().is_(None),
        ~has_other_markup(state),
        or_(_HAS_HOLD, ~exists(select(matching.c.id).where(in_force(matching), ~opened))),
    )
    entry: CTE = appended.returning(ledger.c.id).cte("entry")
    return entry


def _total(table: Any, prefix: str, entry: CTE) -> CTE:
    """Add the entry to a roll-up."""
    added = {name: bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in columns_of(table)}
    rows = select(*added.values()).select_from(entry).where(added["tenant_id"].is_not(None))
    total: CTE = add_to_totals(postgresql.insert(table).from_select([*added], rows, include_defaults=False)).cte(
        f"{prefix}_total"
    )
    return total


def _copies(entry: CTE) -> CTE:
    copy = {
        "destination": func.unnest(array("the_destinations")),
        "tenant_id": THE_TENANT,
        "event_id": bindparam("event_id", type_=String),
        "claimed_until": cast(0, Double),
        "parked": false(),
    }
    rows = select(*copy.values()).select_from(entry)
    return postgresql.insert(delivery).from_select([*copy], rows, include_defaults=False).cte("copies")


SETTLE = (LOCK_TENANT, _settlement())
"""For PostgreSQL. The second statement begins when the tenant is locked, and sees what was committed until then."""

_OPENED = exists(select(counter.c.limit_id).where(open_at_the_time(limit, THE_TENANT, "")).correlate(limit))
_UNOPENED = and_(limit.c.tenant_id == THE_TENANT, limit.c.plan == "", in_force(limit), ~_OPENED)
_FILTERED = and_(limit.c.tenant_id == THE_TENANT, limit.c.plan == "", limit.c.filter != "")
_OF_ALL = and_(limit.c.tenant_id == EVERYONE, limit.c.plan == "")
SETTLE_ENTRY = _append(
    sqlite.insert,
    # one EXISTS with an OR would make SQLite read the limits of all tenants
    ~exists(select(limit.c.id).where(_FILTERED)),
    ~exists(select(limit.c.id).where(_OF_ALL)),
    or_(_HAS_HOLD, ~exists(select(limit.c.id).where(_UNOPENED))),
    ~exists(select(tenant.c.id).where(tenant.c.id == THE_TENANT, or_(tenant.c.plan != "", tenant.c.markup != ""))),
)
SETTLE_COUNTERS = (
    update(counter)
    .where(limit.c.tenant_id == THE_TENANT, limit.c.plan == "", open_at_the_time(limit, THE_TENANT, ""))
    .values(_charged(limit))
    .returning(_CROSSES)
)
"""For SQLite: the entry, and if it was appended, the counters."""


def settlement_row(call_id: str, entry: Entry) -> dict[str, Any]:
    """Return the parameters of `SETTLE_ENTRY` and `SETTLE_COUNTERS` for an entry with its markup."""
    row = ledger_row(entry)
    row["the_tenant"] = entry.event.tenant_id
    row["the_call"] = call_id
    row["the_time"] = entry.event.timestamp
    row["the_spent"], row["the_charged"] = entry.spent, entry.charged
    row["the_tokens"] = entry.event.total_tokens
    row["the_requests"] = REQUESTS_OF.get(entry.kind, 0)
    return row


def message_row(call_id: str, entry: Entry, destinations: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of `SETTLE`."""
    markup = None if entry.charge_nano is not None else known_markup(entry.event.tenant_id)
    entry = entry.marked_up(markup or "")
    by_user = user_rollup_rows((entry,)) or [dict.fromkeys(columns_of(user_rollup))]
    return {
        **settlement_row(call_id, entry),
        **{f"more_{name}": value for name, value in rollup_row(entry).items()},
        **{f"user_{name}": value for name, value in by_user[0].items()},
        **filter_row(entry.event.tenant_id, entry.facts),
        "the_destinations": list(destinations),
        "the_markup": markup,
    }
