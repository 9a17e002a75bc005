"""A tenant's own usage: page, JSON, fragment and headers. The tenant comes from the request, never a parameter.

Templates in `templates/own/` keep to what Jinja2 and Django both read, so that Django needs no Jinja2.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..calls.engine import Engine
from ..cli.output import spend_dict, status_dict
from ..errors import KeptElsewhere
from ..limits import USD, LimitStatus
from ..money import as_text, to_usd
from ..runtime.faults import StoreError, internal_errors
from ..stores.records import Spend
from ..stores.reports import DaySpend
from ..windows import PER_MONTH, window_of
from ..wording import FREQUENCY_LABELS, counted, exact, percent, quantity, utc
from .charts import chart_of, shown
from .gauges import gauge

logger = logging.getLogger("token_limit")

DAY = 86400
PAGE = "own/usage.html"
FRAGMENT = "own/fragment.html"


class Usage(NamedTuple):
    """What a tenant may see: its limits, and its spend of this calendar month by day and model."""

    tenant_id: str
    limits: list[LimitStatus]
    days: list[DaySpend]
    start: int
    end: int
    at: float

    @property
    def month(self) -> Spend:
        """The totals of the month."""
        sums = zip(*(row.total for row in self.days), strict=True) if self.days else ((0,),) * 5
        return Spend(*map(sum, sums))


def usage_of(engine: Engine, tenant_id: str) -> Usage:
    """Read a tenant's usage. Raises `StoreError` when the store cannot answer."""
    at = engine.config.clock()
    start, end = window_of(PER_MONTH, at).start, (int(at // DAY) + 1) * DAY
    days = engine.store.rollup(tenant_id, start, end)
    return Usage(tenant_id, engine.store.usage(tenant_id, at), days, start, end, at)


def usage_if_known(engine: Engine, tenant_id: str | None) -> Usage | None:
    """Return a tenant's usage for the fragment; None, with a log message, if the store cannot answer."""
    try:
        return None if tenant_id is None else usage_of(engine, tenant_id)
    except StoreError as error:
        engine.access.log(error, "the fragment of a tenant's usage stays empty")
        return None


def why_not(error: StoreError) -> tuple[int, str]:
    """Log a store error, and return the status and text of the response."""
    logger.error("a tenant's usage cannot be read: %s", error)
    if isinstance(error, KeptElsewhere):  # the backend's host name is internal, so only the log has it
        return 501, "Your usage is not kept here."
    return 503, "Your usage cannot be read at the moment. Try again later."


def as_json(usage: Usage) -> dict[str, Any]:
    """Return the usage for JSON; money is US dollars as text."""
    return {
        "tenant": usage.tenant_id,
        "month": spend_dict(usage.month),
        "limits": [status_dict(status) for status in usage.limits],
        "days": [
            {
                "day": f"{datetime.fromtimestamp(row.day * DAY, UTC):%Y-%m-%d}",
                "provider": row.provider,
                "model": row.model,
                **spend_dict(row.total),
            }
            for row in usage.days
        ],
    }


def context(usage: Usage) -> dict[str, Any]:
    """Return the values of the templates: texts, and the shares of the bars in percent."""
    rows = [_window(status, usage.at) for status in usage.limits]
    shown_usage = {"tenant_id": usage.tenant_id, "limits": rows, "month": shown(usage.month)}
    return {"usage": shown_usage, "chart": chart_of(usage.days, usage.start, usage.end)}


def headers(engine: Engine, tenant_id: str | None) -> dict[str, str]:
    """Return headers about the limit with the least left: US dollars, and the unix time of its reset."""
    if tenant_id is None:
        return {}
    with internal_errors("reading what is left of a limit"):
        try:
            states = engine.store.usage(tenant_id, engine.config.clock())
        except StoreError as error:
            engine.access.log(error, "the response does not tell what is left of it")
            return {}
        money = [status for status in states if status.limit.unit == USD]
        if money:
            least = min(money, key=lambda status: status.left)
            told = {
                "X-Token-Limit-Limit": as_text(to_usd(least.ceiling)),
                "X-Token-Limit-Remaining": as_text(to_usd(max(0, least.ceiling - least.settled - least.held))),
            }
            return told if least.resets_at is None else {**told, "X-Token-Limit-Reset": str(least.resets_at)}
    return {}


def _window(status: LimitStatus, at: float) -> dict[str, str]:
    drawn, amount, unit = gauge(status, at), status.ceiling, status.limit.unit
    return {
        "level": drawn.level,
        "settled": drawn.settled,
        "held": drawn.held,
        "share": percent(max(0, status.settled), amount) if amount else "all",
        "spent": counted(status.settled, unit),
        "limit": exact(amount, unit),
        "remaining": quantity(status.left, unit),
        "period": FREQUENCY_LABELS[status.limit.frequency],
        "resets": utc(status.window.end),
        "resets_at": datetime.fromtimestamp(status.window.end, UTC).isoformat(),
    }
