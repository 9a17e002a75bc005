"""The plain cases of admission and settlement: one round trip each on PostgreSQL, few statements on SQLite.

The steps are those of `ledger.py`. A case is plain when every window is open, the hold is open and every filter of the
tenant's limits is known here. In any other case these statements change nothing, and the steps are taken one by one.

On PostgreSQL the steps are common table expressions of one statement. It sees what was committed when it began, and
rows it has locked as they are now. So counters are locked first, in the order all transactions lock them, and the
verdict is of the locked rows. Which filters match a call is decided in Python, from the filters that this process has
met on the tenant's limits: the statement gets them as lists, and says which others there are.

On SQLite a case is plain where the tenant has no limits but its own, and those are on all calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...limits import (
    ADMITTED,
    EVERYONE,
    OBSERVE,
    REQUESTS,
    STRICT,
    TOKENS,
    USD,
    Decision,
    Limit,
    LimitStatus,
    judge,
)
from ...limits.filters import EACH, Facts, parse_filter
from ...windows import LONGEST_SECONDS, Window
from ..columns import WIDTHS, ledger_row, rollup_row, text, user_rollup_rows
from ..ledger import needed_on
from ..records import REQUESTS_OF, Call, Entry
from .statements import LIMIT_COLUMNS, LOCK_TENANT, add_to_totals, columns_of
from .tables import counter, delivery, hold, hold_item, ledger, limit, rollup, tenant, user_rollup

_TENANT = bindparam("the_tenant", type_=String)
_CALL = bindparam("the_call", type_=String)
_TIME = bindparam("the_time", type_=Double)
_USER = bindparam("the_user", type_=String)
_TOKENS = bindparam("the_tokens", type_=BigInteger)
_AMOUNT = bindparam("the_amount", type_=BigInteger)

MOST_TENANTS = 10_000
_filters: dict[str, frozenset[str]] = {}
"""The filters that were met on the limits of a tenant."""


def _listed(name: str) -> Any:
    return bindparam(name, type_=ARRAY(String))


def _is_listed(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    return column == func.any(_listed(name))


def _candidates() -> tuple[CTE, CTE]:
    """Find a tenant's state, and every limit that may be on its calls: whose it is, and whose counter."""
    state = select(tenant.c.plan, tenant.c.suspended_at).where(tenant.c.id == _TENANT).cte("state")
    plan = select(state.c.plan).where(state.c.plan != "").scalar_subquery()
    own = and_(limit.c.tenant_id.in_([_TENANT, literal(EVERYONE, String)]), limit.c.plan == "")
    subject = case((_is_listed(limit.c.filter, "the_each"), _USER), else_="").label("subject")
    owner = case((limit.c.tenant_id == EVERYONE, literal(EVERYONE, String)), else_=_TENANT).label("owner")
    columns = [limit.c[name] for name in LIMIT_COLUMNS]
    return state, select(*columns, owner, subject).where(or_(own, limit.c.plan == plan)).cte("candidates")


def _at_the_time(limits: Any, owner: Any, subject: Any) -> ColumnElement[bool]:
    """Find the counter of each limit whose window contains the time; by `window_start` the key's index is used."""
    seconds = {name: literal(longest, BigInteger) for name, longest in LONGEST_SECONDS.items()}
    longest = case(seconds, value=limits.c.frequency)
    return and_(
        counter.c.tenant_id == owner,
        counter.c.limit_id == limits.c.id,
        counter.c.subject == subject,
        counter.c.window_start > _TIME - longest,
        counter.c.window_start <= _TIME,
        counter.c.window_end > _TIME,
    )


def _locked(limits: Any, *further: Any) -> CTE:
    """Lock the counters of limits, in the order of `limits.lock_order`."""
    at_the_time = _at_the_time(limits, limits.c.owner, limits.c.subject)
    rows = select(counter, limits.c.unit).select_from(limits).join(counter, at_the_time).where(*further)
    return rows.order_by(counter.c.limit_id).with_for_update(key_share=True, of=counter).cte("locked")


def _is(locked: Any) -> ColumnElement[bool]:
    names = ("tenant_id", "limit_id", "subject", "window_start")
    return and_(*(counter.c[name] == locked.c[name] for name in names))


def _unknown(candidates: CTE) -> Any:
    """List the filters that this process has not met yet."""
    return select(func.array_agg(candidates.c.filter)).where(candidates.c.filter != func.all(_listed("the_known")))


def _amount(limits: Any) -> ColumnElement[Any]:
    """Give what each limit holds for a call: `Call.amount_on`."""
    parameters = {(USD, False): "the_estimate", (USD, True): "the_worst_case"}
    parameters |= {(TOKENS, False): "the_tokens", (TOKENS, True): "the_worst_tokens"}
    amounts = [
        (and_(limits.c.unit == unit, (limits.c.mode == STRICT) == literal(strict)), bindparam(name, type_=BigInteger))
        for (unit, strict), name in parameters.items()
    ]
    return case(*amounts, else_=1)


def _admission() -> Any:
    state, candidates = _candidates()
    in_force = and_(
        candidates.c.effective_from <= _TIME,
        or_(candidates.c.effective_until.is_(None), candidates.c.effective_until > _TIME),
    )
    other = candidates.alias("other")
    replaced = exists(
        select(other.c.id).where(
            other.c.plan == "",
            other.c.owner != EVERYONE,
            other.c.frequency == candidates.c.frequency,
            other.c.filter == candidates.c.filter,
            other.c.effective_from <= _TIME,
            or_(other.c.effective_until.is_(None), other.c.effective_until > _TIME),
        )
    )
    matching = (
        select(candidates, _amount(candidates).label("more"))
        .where(in_force, _is_listed(candidates.c.filter, "the_matching"), or_(candidates.c.plan == "", ~replaced))
        .cte("matching")
    )
    locked = _locked(matching)
    both = matching.outerjoin(locked, locked.c.limit_id == matching.c.id)
    needed = case((matching.c.mode == STRICT, func.greatest(matching.c.more, 1)), else_=1)
    within = locked.c.settled + locked.c.held + needed <= matching.c.amount + locked.c.extra
    lasts = or_(locked.c.extra_until.is_(None), locked.c.extra_until > _TIME)
    # a window that is not open yet fits nothing: its counter is NULL
    fits = and_(locked.c.limit_id.is_not(None), lasts, or_(matching.c.mode == OBSERVE, within))
    refused = or_(
        exists(select(state).where(state.c.suspended_at.is_not(None))),
        _unknown(candidates).scalar_subquery().is_not(None),
        and_(bindparam("the_assigns", type_=Boolean), ~exists(select(state).where(state.c.plan.is_not(None)))),
        and_(
            bindparam("the_unpriced", type_=Boolean),
            exists(select(matching.c.id).where(matching.c.mode == STRICT, matching.c.unit == USD)),
        ),
    )
    verdict = select(and_(func.coalesce(func.bool_and(fits), true()), ~refused).label("fits")).select_from(both)
    fitting = verdict.cte("verdict")
    taken = (
        update(counter)
        .where(_is(locked), locked.c.limit_id == matching.c.id, fitting.c.fits)
        .values(held=counter.c.held + matching.c.more)
        .returning(counter.c.tenant_id, counter.c.limit_id, counter.c.subject, counter.c.window_start, matching.c.more)
        .cte("taken")
    )
    shared = taken.c.tenant_id == EVERYONE
    item = select(_CALL, taken.c.limit_id, taken.c.subject, taken.c.window_start, taken.c.more, shared)
    names = ["call_id", "limit_id", "subject", "window_start", "amount", "shared"]
    items = postgresql.insert(hold_item).from_select(names, item).cte("items")
    rows = select(
        _unknown(candidates).scalar_subquery().label("unknown"),
        state.c.plan,
        state.c.suspended_at,
        *(matching.c[name] for name in LIMIT_COLUMNS),
        *(locked.c[name] for name in _STATE),
    ).select_from(fitting.outerjoin(state, true()).outerjoin(both, true()))
    return rows.order_by(matching.c.id).add_cte(taken, items, _header(matching, taken))


_STATE = ("subject", "window_start", "window_end", "settled", "held", "extra", "extra_until")


def _header(matching: CTE, taken: CTE) -> CTE:
    """Insert the hold; if the call never ends, it is billed the most that a limit holds for it."""

    def most(unit: str, worst: str, estimate: str) -> ColumnElement[Any]:
        strict = exists(select(matching.c.id).where(matching.c.mode == STRICT, matching.c.unit == unit))
        return case((strict, bindparam(worst, type_=BigInteger)), else_=bindparam(estimate, type_=BigInteger))

    header: dict[str, Any] = {
        "call_id": _CALL,
        "tenant_id": _TENANT,
        "amount": most(USD, "the_billed_worst", "the_billed"),
        "created_at": _TIME,
        "expires_at": bindparam("the_expiry", type_=Double),
        "origin": bindparam("the_origin", type_=String),
        "state": literal("open", String),
        "tokens": most(TOKENS, "the_worst_tokens", "the_tokens"),
        "provider": bindparam("the_provider", type_=String),
        "model": bindparam("the_model", type_=String),
        "user": _USER,
        "feature": bindparam("the_feature", type_=String),
    }
    return (
        postgresql.insert(hold)
        .from_select([*header], select(*header.values()).where(exists(select(taken))))
        .cte("head")
    )


_HELD = (
    select(hold_item.c.amount)
    .where(
        hold_item.c.call_id == _CALL,
        hold_item.c.limit_id == counter.c.limit_id,
        hold_item.c.subject == counter.c.subject,
        hold_item.c.window_start == counter.c.window_start,
    )
    .correlate(counter)
    .scalar_subquery()
)


def _charged(unit: ColumnElement[str]) -> dict[str, Any]:
    """Add what the entry settles to a counter, in its limit's unit, and take away what its hold holds."""
    amounts = {USD: _AMOUNT, TOKENS: _TOKENS, REQUESTS: bindparam("the_requests", type_=BigInteger)}
    return {
        "settled": counter.c.settled + case(amounts, value=unit),
        "held": counter.c.held - func.coalesce(_HELD, 0),
    }


def _append(insert: Any, *plain: Any) -> Any:
    """Append the entry, unless it is there, its tenant is new, or it has a hold that is not open or of another time."""
    other_hold = or_(hold.c.state != "open", hold.c.tenant_id != _TENANT, hold.c.created_at != _TIME)
    values = {name: bindparam(name, type_=ledger.c[name].type) for name in columns_of(ledger)}
    row = select(*values.values()).where(
        exists(select(tenant.c.id).where(tenant.c.id == _TENANT)),
        ~exists(select(hold.c.call_id).where(hold.c.call_id == _CALL, other_hold)),
        *plain,
    )
    return insert(ledger).from_select([*values], row, include_defaults=False).on_conflict_do_nothing()


def _settlement() -> Any:
    """Write the entry, unless it is there or the hold is not the plain open one, and all that follows from it."""
    _, candidates = _candidates()
    matching = select(candidates).where(_is_listed(candidates.c.filter, "the_matching")).cte("matching")
    at_the_time = _at_the_time(matching, matching.c.owner, matching.c.subject)
    keys = select(*(counter.c[name] for name in _KEY)).select_from(matching).join(counter, at_the_time).cte("keys")
    entry = _entry(candidates, matching, keys)
    totals = [_total(rollup, "more", entry), _total(user_rollup, "user", entry)]
    locked = _locked(matching, exists(select(entry)))
    charged = update(counter).where(_is(locked)).values(_charged(locked.c.unit)).cte("charged")
    closed = update(hold).where(hold.c.call_id == _CALL, exists(select(entry))).values(state="settled").cte("closed")
    return select(entry.c.id).add_cte(*totals, _copies(entry), charged, closed)


_KEY = ("tenant_id", "limit_id", "subject", "window_start")


def _entry(candidates: CTE, matching: CTE, keys: CTE) -> CTE:
    """Append the entry in a plain case: its hold is on counters that are charged, and all filters are known.

    A counter of all tenants that is not open is left to the steps, which wait for it.
    """
    charged = and_(hold_item.c.limit_id == keys.c.limit_id, hold_item.c.window_start == keys.c.window_start)
    other_item = and_(hold_item.c.call_id == _CALL, ~exists(select(keys).where(charged)))
    opened = exists(select(keys).where(keys.c.limit_id == matching.c.id))
    appended = _append(
        postgresql.insert,
        ~exists(select(hold_item.c.call_id).where(other_item)),
        ~exists(select(matching.c.id).where(matching.c.owner == EVERYONE, ~opened)),
        _unknown(candidates).scalar_subquery().is_(None),
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
        "destination": func.unnest(_listed("the_destinations")),
        "tenant_id": _TENANT,
        "event_id": bindparam("event_id", type_=String),
        "claimed_until": cast(0, Double),
        "parked": false(),
    }
    rows = select(*copy.values()).select_from(entry)
    return postgresql.insert(delivery).from_select([*copy], rows, include_defaults=False).cte("copies")


ADMIT = _admission()
SETTLE = (LOCK_TENANT, _settlement())
"""For PostgreSQL. The second statement begins when the tenant is locked, and sees what was committed until then."""

_OTHERS = or_(limit.c.tenant_id == EVERYONE, and_(limit.c.tenant_id == _TENANT, limit.c.filter != ""))
SETTLE_ENTRY = _append(
    sqlite.insert,
    ~exists(select(limit.c.id).where(limit.c.tenant_id.in_([_TENANT, literal(EVERYONE)]), limit.c.plan == "", _OTHERS)),
    ~exists(select(tenant.c.id).where(tenant.c.id == _TENANT, tenant.c.plan != "")),
)
SETTLE_COUNTERS = (
    update(counter)
    .where(limit.c.tenant_id == _TENANT, limit.c.plan == "", _at_the_time(limit, _TENANT, ""))
    .values(_charged(limit.c.unit))
)
"""For SQLite: the entry, and if it was appended, the counters."""


def _filter_row(tenant_id: str, facts: Facts) -> dict[str, Any]:
    """Return the parameters that tell which filters match a call."""
    known = _filters.get(tenant_id, frozenset()) | {""}
    matching = [text for text in known if not text or parse_filter(text).matches(facts)]
    each = [text for text in matching if text and parse_filter(text).user == EACH]
    return {
        "the_known": list(known),
        "the_matching": matching,
        "the_each": each,
        "the_user": None if facts.user is None else text(facts.user)[: WIDTHS["user"]],
    }


def admission_row(call: Call, now: float, assigns_plans: bool) -> dict[str, Any]:
    """Return the parameters of `ADMIT`."""
    worst_case = call.estimate if call.worst_case is None else call.worst_case
    worst_tokens = call.tokens if call.worst_tokens is None else call.worst_tokens
    return {
        **_filter_row(call.tenant_id, call.facts),
        "the_tenant": call.tenant_id,
        "the_call": call.call_id,
        "the_time": now,
        "the_expiry": now + call.hold_seconds,
        "the_origin": call.origin,
        "the_billed": call.estimate,
        "the_billed_worst": worst_case,
        "the_estimate": 0 if call.estimate is None else call.estimate,
        "the_worst_case": 0 if worst_case is None else worst_case,
        "the_tokens": call.tokens,
        "the_worst_tokens": worst_tokens,
        "the_unpriced": worst_case is None,
        "the_assigns": assigns_plans,
        "the_provider": call.provider,
        "the_model": call.model,
        "the_feature": call.feature,
    }


def settlement_row(call_id: str, entry: Entry) -> dict[str, Any]:
    """Return the parameters of `SETTLE_ENTRY` and `SETTLE_COUNTERS`."""
    row = ledger_row(entry)
    row["the_tenant"] = entry.event.tenant_id
    row["the_call"] = call_id
    row["the_time"] = entry.event.timestamp
    row["the_amount"] = entry.charged
    row["the_tokens"] = entry.event.total_tokens
    row["the_requests"] = REQUESTS_OF.get(entry.kind, 0)
    return row


def message_row(call_id: str, entry: Entry, destinations: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of `SETTLE`."""
    by_user = user_rollup_rows((entry,)) or [dict.fromkeys(columns_of(user_rollup))]
    return {
        **settlement_row(call_id, entry),
        **{f"more_{name}": value for name, value in rollup_row(entry).items()},
        **{f"user_{name}": value for name, value in by_user[0].items()},
        **_filter_row(entry.event.tenant_id, entry.facts),
        "the_destinations": list(destinations),
    }


def decide(rows: Sequence[Any], call: Call, now: float, assigns_plans: bool) -> Decision | None:
    """Read the verdict from the rows of `ADMIT`: the tenant's state, each limit, and its window before the call.

    None: the steps have to be taken.
    """
    unknown, plan, suspended_at = rows[0][:3]
    if unknown:
        if len(_filters) >= MOST_TENANTS:
            _filters.clear()
        _filters[call.tenant_id] = _filters.get(call.tenant_id, frozenset()).union(unknown)
        return None
    if suspended_at is not None:
        return Decision("suspended", call.tenant_id)
    if assigns_plans and plan is None:
        return None
    observed: list[str] = []
    for row in rows if rows[0][3] is not None else ():
        limit, (subject, start, end, settled, held, extra, extra_until) = Limit(*row[3 : -len(_STATE)]), row[-7:]
        amount = call.amount_on(limit)
        if start is None or (extra_until is not None and extra_until <= now) or amount is None and limit.mode == STRICT:
            return None
        needed = needed_on(limit, 0 if amount is None else amount)
        status = LimitStatus(limit, Window(start, end), settled, held, extra, subject)
        decision = judge(status, call.tenant_id, now, 1 if needed is None else needed)
        if decision is not None and limit.mode != OBSERVE:
            return decision
        if decision is not None:
            observed.append(decision.kind)
    return replace(ADMITTED, observed=tuple(observed)) if observed else ADMITTED
