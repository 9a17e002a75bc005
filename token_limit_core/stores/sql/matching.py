"""The limits of a call and their counters, as parts of the statements in `at_once.py` and `settlement.py`.

Python decides which filters match a call. A statement gets the known filters of the tenant's limits as lists, and
returns those that are not known yet. Python adds the markup, too: a statement gets the marked-up amounts and the markup
that is known, and does nothing where the tenant has another one.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    exists,
    func,
    literal,
    or_,
    select,
)

from ...limits import EVERYONE
from ...limits.filters import EACH, Facts, parse_filter
from ...runtime.text import storable
from ...windows import LONGEST_SECONDS
from ..columns import WIDTHS
from .statements import LIMIT_COLUMNS, MARKUP
from .tables import counter, limit, tenant
from .tables import plan as plans

THE_TENANT = bindparam("the_tenant", type_=String)
THE_CALL = bindparam("the_call", type_=String)
THE_TIME = bindparam("the_time", type_=Double)
THE_USER = bindparam("the_user", type_=String)
THE_TOKENS = bindparam("the_tokens", type_=BigInteger)
THE_SPENT = bindparam("the_spent", type_=BigInteger)
THE_CHARGED = bindparam("the_charged", type_=BigInteger)
THE_MARKUP = bindparam("the_markup", type_=String)

MOST_TENANTS = 10_000
_filters: dict[str, frozenset[str]] = {}
"""The known filters on the limits of a tenant."""

_markups: dict[str, str] = {}
"""The known markups of tenants that have one."""


def array(name: str) -> Any:
    """Make a parameter that is a list of strings."""
    return bindparam(name, type_=ARRAY(String))


def is_in(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Test whether the list of a parameter contains the column's value."""
    return column == func.any(array(name))


def candidate_limits() -> tuple[CTE, CTE]:
    """Find a tenant's state, and every limit that may be on its calls: whose it is, and whose counter."""
    with_plan = tenant.outerjoin(plans, plans.c.name == tenant.c.plan)
    columns = (tenant.c.plan, tenant.c.suspended_at, MARKUP.label("markup"))
    state = select(*columns).select_from(with_plan).where(tenant.c.id == THE_TENANT).cte("state")
    plan = select(state.c.plan).where(state.c.plan != "").scalar_subquery()
    own = and_(limit.c.tenant_id.in_([THE_TENANT, literal(EVERYONE, String)]), limit.c.plan == "")
    subject = case((is_in(limit.c.filter, "the_each"), THE_USER), else_="").label("subject")
    owner = case((limit.c.tenant_id == EVERYONE, literal(EVERYONE, String)), else_=THE_TENANT).label("owner")
    known = [limit.c[name] for name in LIMIT_COLUMNS]
    return state, select(*known, owner, subject).where(or_(own, limit.c.plan == plan)).cte("candidates")


def open_at_the_time(limits: Any, owner: Any, subject: Any) -> ColumnElement[bool]:
    """Find the counter of each limit whose window contains the time. `window_start` is there for the key's index."""
    seconds = {name: literal(longest, BigInteger) for name, longest in LONGEST_SECONDS.items()}
    longest = case(seconds, value=limits.c.frequency)
    return and_(
        counter.c.tenant_id == owner,
        counter.c.limit_id == limits.c.id,
        counter.c.subject == subject,
        counter.c.window_start > THE_TIME - longest,
        counter.c.window_start <= THE_TIME,
        counter.c.window_end > THE_TIME,
    )


def in_force(limits: Any) -> ColumnElement[bool]:
    """Test whether limits are in force at the time."""
    ends_later = or_(limits.c.effective_until.is_(None), limits.c.effective_until > THE_TIME)
    return and_(limits.c.effective_from <= THE_TIME, ends_later)


def lock_counters(limits: Any, *further: Any) -> CTE:
    """Lock the counters of limits, in the order of `limits.lock_order`."""
    at_the_time = open_at_the_time(limits, limits.c.owner, limits.c.subject)
    rows = select(counter, limits.c.unit, limits.c.basis).select_from(limits).join(counter, at_the_time).where(*further)
    return rows.order_by(counter.c.limit_id).with_for_update(key_share=True, of=counter).cte("locked")


def is_locked(locked: Any) -> ColumnElement[bool]:
    """Test whether a counter is one of those that are locked."""
    names = ("tenant_id", "limit_id", "subject", "window_start")
    return and_(*(counter.c[name] == locked.c[name] for name in names))


def unknown_filters(candidates: CTE) -> Any:
    """List the filters that this process does not know yet."""
    return select(func.array_agg(candidates.c.filter)).where(candidates.c.filter != func.all(array("the_known")))


def filter_row(tenant_id: str, facts: Facts) -> dict[str, Any]:
    """Return the parameters with the known and the matching filters of a call."""
    known = _filters.get(tenant_id, frozenset()) | {""}
    matching = [text for text in known if not text or parse_filter(text).matches(facts)]
    each = [text for text in matching if text and parse_filter(text).user == EACH]
    return {
        "the_known": list(known),
        "the_matching": matching,
        "the_each": each,
        "the_user": None if facts.user is None else storable(facts.user)[: WIDTHS["user"]],
    }


def has_other_markup(state: CTE) -> ColumnElement[bool]:
    """Test whether the tenant has another markup than the known one; NULL is for charges that need none."""
    return exists(select(state).where(state.c.markup != THE_MARKUP))


def known_markup(tenant_id: str) -> str:
    """Return the markup that this process knows of a tenant."""
    return _markups.get(tenant_id, "")


def remember_markup(tenant_id: str, markup: str) -> None:
    """Set the known markup of a tenant."""
    if len(_markups) >= MOST_TENANTS:
        _markups.clear()
    if markup:
        _markups[tenant_id] = markup
    else:
        _markups.pop(tenant_id, None)


def remember_filters(tenant_id: str, filters: Iterable[str]) -> None:
    """Add filters to the known ones of a tenant."""
    if len(_filters) >= MOST_TENANTS:
        _filters.clear()
    _filters[tenant_id] = _filters.get(tenant_id, frozenset()).union(filters)
