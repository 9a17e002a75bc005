"""What the admin pages and the management commands share.

The readings for many tenants at once take a fixed number of queries on the project's own tables, however many rows
are asked for; for one tenant the Store has the same answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any

from django.db.models import Sum

from token_limit_core import limits as core
from token_limit_core.limits import PER_MONTH, LimitStatus, Window, items_for, window_of
from token_limit_core.stores.records import Spend, day_of

from .meter import get_meter
from .models import Counter, Limit, Rollup

_LIMIT_COLUMNS = tuple(field.name for field in fields(core.Limit))
_NOTHING = Spend(0, 0, 0, 0, 0)


def now() -> float:
    """Return the time by the Meter's clock (unix seconds)."""
    return get_meter().config.clock()


def limit_of(row: Limit) -> core.Limit:
    """Return the value object of a limit's row."""
    return core.Limit(**{name: getattr(row, name) for name in _LIMIT_COLUMNS})


def statuses(rows: Iterable[Limit], at: float) -> dict[int, LimitStatus]:
    """Read the current windows of many limits, by limit id; those not in force at `at` have none."""
    items = items_for(map(limit_of, rows), at)
    counters = Counter.objects.filter(
        tenant_id__in={item.key.tenant_id for item in items},
        limit_id__in=[item.key.limit_id for item in items],
        window_start__in={item.key.window_start for item in items},
    ).values_list("limit_id", "window_start", "settled", "held")
    found = {(limit_id, start): (settled, held) for limit_id, start, settled, held in counters}
    unopened: dict[Window, set[str]] = {}  # stand at what was spent in their window, whoever limited it then
    for item in items:
        if (item.limit.id, item.window.start) not in found:
            unopened.setdefault(item.window, set()).add(item.limit.tenant_id)
    spent = {window: spend(tenants, window) for window, tenants in unopened.items()}
    result = {}
    for item in items:
        state = found.get((item.limit.id, item.window.start))
        if state is None:
            state = (spent[item.window].get(item.limit.tenant_id, _NOTHING).cost_nano, 0)
        result[item.limit.id] = LimitStatus(item.limit, item.window, *state)
    return result


def spend(tenant_ids: Collection[str], window: Window) -> dict[str, Spend]:
    """Sum a window's days by tenant; tenants that have no event in it are left out."""
    rows: Iterable[Mapping[str, Any]] = (
        Rollup.objects.filter(tenant_id__in=tenant_ids, day__gte=day_of(window.start), day__lt=day_of(window.end))
        .values("tenant_id")
        .annotate(**{f"sum_{name}": Sum(name) for name in Spend._fields})
        .order_by()
    )
    return {row["tenant_id"]: Spend(*(row[f"sum_{name}"] for name in Spend._fields)) for row in rows}


def month_spend(tenant_ids: Collection[str], at: float) -> dict[str, Spend]:
    """Sum the calendar month of `at` by tenant."""
    return spend(tenant_ids, window_of(PER_MONTH, at))
