"""The plain cases of admission and settlement: one round trip each on PostgreSQL, few statements on SQLite.

The steps are those of `ledger.py`. A case is plain when every window is open and the hold is open. In any other case
these statements change nothing, and the steps are taken one by one.

On PostgreSQL the steps are common table expressions of one statement. It sees what was committed when it began, and
rows it has locked as they are now. So counters are locked first, in the order all transactions lock them, and the
verdict is of the locked rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...limits import ADMITTED, ENFORCE, Decision, Limit, LimitStatus, judge
from ...windows import LONGEST_SECONDS, Window
from ..columns import ledger_row, rollup_row
from ..records import Call, Entry
from .statements import LIMIT_COLUMNS, LOCK_TENANT, add_to_rollup, columns_of
from .tables import counter, delivery, hold, hold_item, ledger, limit, rollup, tenant

_TENANT = bindparam("the_tenant", type_=String)
_CALL = bindparam("the_call", type_=String)
_TIME = bindparam("the_time", type_=Double)
_AMOUNT = bindparam("the_amount", type_=BigInteger)


def _open_at_the_time(limits: Any) -> ColumnElement[bool]:
    """Find the counter of each limit whose window contains the time; by `window_start` the key's index is used."""
    seconds = {name: literal(longest, BigInteger) for name, longest in LONGEST_SECONDS.items()}
    longest = case(seconds, value=limits.c.frequency)
    return and_(
        counter.c.tenant_id == _TENANT,
        counter.c.limit_id == limits.c.id,
        counter.c.window_start > _TIME - longest,
        counter.c.window_start <= _TIME,
        counter.c.window_end > _TIME,
    )


def _locked(limits: Any, *further: Any) -> CTE:
    columns = (counter.c.limit_id, counter.c.window_start, counter.c.window_end, counter.c.settled, counter.c.held)
    rows = select(*columns).select_from(limits).join(counter, _open_at_the_time(limits)).where(*further)
    return rows.order_by(counter.c.limit_id).with_for_update(key_share=True, of=counter).cte("locked")


def _is(locked: CTE) -> ColumnElement[bool]:
    return and_(
        counter.c.tenant_id == _TENANT,
        counter.c.limit_id == locked.c.limit_id,
        counter.c.window_start == locked.c.window_start,
    )


def _admission() -> Any:
    matching = (
        select(*(limit.c[name] for name in LIMIT_COLUMNS))
        .where(
            limit.c.tenant_id == _TENANT,
            limit.c.effective_from <= _TIME,
            or_(limit.c.effective_until.is_(None), limit.c.effective_until > _TIME),
        )
        .cte("matching")
    )
    locked = _locked(matching)
    state = matching.outerjoin(locked, locked.c.limit_id == matching.c.id)
    fits = or_(matching.c.mode != ENFORCE, locked.c.settled + locked.c.held < matching.c.amount)
    # a window that is not open yet fits nothing: its counter is NULL
    verdict = select(func.bool_and(and_(locked.c.limit_id.is_not(None), fits)).label("fits")).select_from(state)
    fitting = verdict.cte("verdict")
    taken = (
        update(counter)
        .where(_is(locked), fitting.c.fits)
        .values(held=counter.c.held + _AMOUNT)
        .returning(counter.c.limit_id, counter.c.window_start)
        .cte("taken")
    )
    item = select(_CALL, taken.c.limit_id, taken.c.window_start, literal("usd", String), _AMOUNT)
    names = ["call_id", "limit_id", "window_start", "unit", "amount"]
    items = insert(hold_item).from_select(names, item).cte("items")
    header: dict[str, Any] = {
        "call_id": _CALL,
        "tenant_id": _TENANT,
        "amount": bindparam("the_estimate", type_=BigInteger),
        "created_at": _TIME,
        "expires_at": bindparam("the_expiry", type_=Double),
        "origin": bindparam("the_origin", type_=String),
        "state": literal("open", String),
    }
    head = insert(hold).from_select([*header], select(*header.values()).where(exists(select(taken)))).cte("head")
    window = (locked.c.window_start, locked.c.window_end, locked.c.settled, locked.c.held)
    rows = select(*(matching.c[name] for name in LIMIT_COLUMNS), *window).select_from(state)
    return rows.order_by(matching.c.id).add_cte(taken, items, head)


_HELD = (
    select(hold_item.c.amount)
    .where(
        hold_item.c.call_id == _CALL,
        hold_item.c.limit_id == counter.c.limit_id,
        hold_item.c.window_start == counter.c.window_start,
    )
    .correlate(counter)
    .scalar_subquery()
)
_CHARGED = {"settled": counter.c.settled + _AMOUNT, "held": counter.c.held - func.coalesce(_HELD, 0)}


def _entry(insert: Any) -> Any:
    """Append the entry, unless it is there, its tenant is new, or it has a hold that is not open or of another time."""
    other_hold = or_(hold.c.state != "open", hold.c.tenant_id != _TENANT, hold.c.created_at != _TIME)
    values = {name: bindparam(name, type_=ledger.c[name].type) for name in columns_of(ledger)}
    plain = select(*values.values()).where(
        exists(select(tenant.c.id).where(tenant.c.id == _TENANT)),
        ~exists(select(hold.c.call_id).where(hold.c.call_id == _CALL, other_hold)),
    )
    return insert(ledger).from_select([*values], plain, include_defaults=False).on_conflict_do_nothing()


def _settlement() -> Any:
    """Append the entry and do what follows from it."""
    entry = _entry(postgresql.insert).returning(ledger.c.id).cte("entry")
    added = {name: bindparam(f"more_{name}", type_=rollup.c[name].type) for name in columns_of(rollup)}
    total = select(*added.values()).select_from(entry)
    totals = add_to_rollup(postgresql.insert(rollup).from_select([*added], total, include_defaults=False)).cte("totals")
    copy = {
        "destination": func.unnest(bindparam("the_destinations", type_=ARRAY(String))),
        "tenant_id": _TENANT,
        "event_id": bindparam("event_id", type_=String),
        "claimed_until": cast(0, Double),
        "parked": literal(False),
    }
    copies = insert(delivery).from_select([*copy], select(*copy.values()).select_from(entry), include_defaults=False)
    locked = _locked(limit, limit.c.tenant_id == _TENANT, exists(select(entry)))
    charged = update(counter).where(_is(locked)).values(_CHARGED).cte("charged")
    closed = update(hold).where(hold.c.call_id == _CALL, exists(select(entry))).values(state="settled").cte("closed")
    return select(entry.c.id).add_cte(totals, copies.cte("copies"), charged, closed)


ADMIT = _admission()
SETTLE = (LOCK_TENANT, _settlement())
"""For PostgreSQL. The second statement begins when the tenant is locked, and sees what was committed until then."""

SETTLE_ENTRY = _entry(sqlite.insert)
SETTLE_COUNTERS = update(counter).where(limit.c.tenant_id == _TENANT, _open_at_the_time(limit)).values(_CHARGED)
"""For SQLite: the entry, and if it was appended, the counters."""


def admission_row(call: Call, now: float) -> dict[str, Any]:
    """Return the parameters of `ADMIT`."""
    return {
        "the_tenant": call.tenant_id,
        "the_call": call.call_id,
        "the_time": now,
        "the_expiry": now + call.hold_seconds,
        "the_origin": call.origin,
        "the_estimate": call.estimate,
        "the_amount": 0 if call.estimate is None else call.estimate,
    }


def settlement_row(call_id: str, entry: Entry) -> dict[str, Any]:
    """Return the parameters of `SETTLE_ENTRY` and `SETTLE_COUNTERS`."""
    row = ledger_row(entry)
    row["the_tenant"] = entry.event.tenant_id
    row["the_call"] = call_id
    row["the_time"] = entry.event.timestamp
    row["the_amount"] = entry.charged
    return row


def message_row(call_id: str, entry: Entry, destinations: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of `SETTLE`."""
    added = {f"more_{name}": value for name, value in rollup_row(entry).items()}
    return {**settlement_row(call_id, entry), **added, "the_destinations": list(destinations)}


def decide(rows: Sequence[Any]) -> Decision | None:
    """Read the verdict from the rows of `ADMIT`: each limit, and its window before the call; None: one is not open."""
    statuses = []
    for *columns, start, end, settled, held in rows:
        if start is None:
            return None
        statuses.append(LimitStatus(Limit(*columns), Window(start, end), settled, held))
    observed: list[str] = []
    for status in statuses:
        decision = judge(status)
        if decision is not None and status.limit.mode == ENFORCE:
            return decision
        if decision is not None:
            observed.append(decision.kind)
    return replace(ADMITTED, observed=tuple(observed)) if observed else ADMITTED
