"""Queries that the admin pages and the management commands share.

Each reads many tenants in a fixed number of queries on the project's database. The Store has the same queries for one
tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from typing import TypeVar

from token_limit_core import limits as core
from token_limit_core.limits import Item, LimitStatus, key_of
from token_limit_core.stores import transactional_reports as listing
from token_limit_core.stores.entries import Spend
from token_limit_core.stores.reports import current_days
from token_limit_core.stores.transaction import Transaction

from .databases import store_alias
from .meter import get_meter
from .models import Limit

T = TypeVar("T")
LIMIT_COLUMNS = tuple(field.name for field in fields(core.Limit))


def now() -> float:
    """Return the time by the Meter's clock (unix seconds)."""
    return get_meter().config.clock()


def limit_of(row: Limit) -> core.Limit:
    """Convert a row into core's Limit."""
    return core.Limit(**{name: getattr(row, name) for name in LIMIT_COLUMNS})


def statuses(rows: Iterable[Limit], at: float) -> dict[int, LimitStatus]:
    """Read the current windows of tenants' own limits, by limit id.

    Limits that are not in force at `at`, and limits per user, are left out.
    """
    limits = [limit for limit in map(limit_of, rows) if limit.in_force(at) and not limit.each_user]
    items = [
        (limit.tenant_id, Item(limit, limit.window(at), key_of(limit, limit.tenant_id, "", at))) for limit in limits
    ]
    return {status.limit.id: status for _, status in _read(lambda tx: list(listing.statuses(tx, items, at)))}


def month_spend(tenant_ids: Collection[str], at: float) -> dict[str, Spend]:
    """Sum the calendar month of `at` by tenant."""
    return _read(lambda tx: tx.spends(tenant_ids, current_days(at)[0]))


def _read(work: Callable[[Transaction], T]) -> T:
    from .store import DjangoStore  # imports SQLAlchemy, which start-up does not need

    with DjangoStore(store_alias()).begin_reading() as tx:
        return work(tx)
