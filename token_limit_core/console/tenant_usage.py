"""A tenant's own usage: page, JSON, fragment and headers. The tenant comes from the request, never a parameter.

Templates in `templates/own/` keep to what Jinja2 and Django both read, so that Django needs no Jinja2.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..calls.engine import Engine
from ..cli.output import spend_dict, status_dict
from ..errors import KeptElsewhere
from ..limits import OBSERVE, USD, LimitStatus
from ..money import as_text, to_usd
from ..runtime.faults import StoreError, internal_errors
from ..runtime.language import translate as _
from ..runtime.links import check_support_url, check_upgrade_url
from ..stores.entries import NO_SPEND, Spend, add_spends
from ..stores.records import Tenant
from ..stores.reports import DaySpend
from ..windows import DAY, PER_MONTH, Window, window_of
from ..wording import (
    FREQUENCY_LABELS,
    NEAR_PERCENT,
    SHORT_MONTHS,
    clock_time,
    counted,
    exact,
    filter_in_words,
    limit_in_words,
    percent,
    quantity,
)
from .charts import chart_of, shown
from .gauges import gauge

logger: logging.Logger = logging.getLogger("token_limit")

PAGE = "own/usage.html"
FRAGMENT = "own/fragment.html"
MONTHS = 6
"""Calendar months that the page offers, this one included."""


class Links(NamedTuple):
    """Where the page sends people: `upgrade_url` and `support_url` of the settings. Raises `ConfigurationError`."""

    upgrade_url: str | None = None
    support_url: str | None = None

    def checked(self) -> dict[str, str | None]:
        """Return the URLs if they are safe to link to."""
        upgrade, support = self
        return {
            "upgrade_url": None if upgrade is None else check_upgrade_url(upgrade),
            "support_url": None if support is None else check_support_url(support),
        }


NO_LINKS = Links()
LEVELS = ("", "fine", "near", "reached")


class Usage(NamedTuple):
    """What a tenant may see: its limits, and what it was billed in a calendar month (UTC) by day and model.

    The amounts of `days` are what the tenant is billed, never what providers take.
    """

    tenant_id: str
    limits: list[LimitStatus]
    days: list[DaySpend]
    start: int
    end: int
    at: float
    name: str = ""
    is_suspended: bool = False

    @property
    def month(self) -> Spend:
        """The totals of the month."""
        total = NO_SPEND
        for row in self.days:
            total = add_spends(total, row.total)
        return total


def usage_of(engine: Engine, tenant_id: str, month: str = "") -> Usage:
    """Read a tenant's usage of a month such as `2027-01`; anything else is this month.

    Raises `StoreError` when the store cannot answer.
    """
    at, store = engine.config.clock(), engine.store
    chosen = next((window for window in months_of(at) if month_key(window) == month), window_of(PER_MONTH, at))
    start, end = chosen.start, min(chosen.end, (int(at // DAY) + 1) * DAY)
    days = [row._replace(total=billed(row.total)) for row in store.rollup(tenant_id, start, end)]
    tenant = store.tenant(tenant_id) or Tenant(tenant_id)
    is_suspended = tenant.suspended_at is not None
    return Usage(tenant_id, store.usage(tenant_id, at), days, start, end, at, tenant.name, is_suspended)


def billed(total: Spend) -> Spend:
    """Return totals with what the tenant is billed in place of what providers took."""
    return total._replace(cost_nano=total.charge_nano)


def months_of(at: float) -> list[Window]:
    """Return the months that the page offers, newest first."""
    found = [window_of(PER_MONTH, at)]
    while len(found) < MONTHS:
        found.append(window_of(PER_MONTH, found[-1].start - 1))
    return found


def month_key(window: Window) -> str:
    """Return a month as text for an address."""
    return f"{datetime.fromtimestamp(window.start, UTC):%Y-%m}"


def month_name(window: Window) -> str:
    """Return a month for people, such as "Dec 2026"."""
    begins = datetime.fromtimestamp(window.start, UTC)
    return f"{_(SHORT_MONTHS[begins.month - 1])} {begins.year}"


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
        "name": usage.name,
        "suspended": usage.is_suspended,
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


def context(usage: Usage, links: Links = NO_LINKS) -> dict[str, Any]:
    """Return the values of the templates: texts, and the shares of the bars in percent.

    `upgrade_url` is None where no limit is near or used up.
    """
    rows = [_window(status, usage.at) for status in usage.limits]
    notice, is_close = _notice(usage), any(row["level"] != "fine" for row in rows)
    shown_usage = {
        "tenant_id": usage.tenant_id,
        "name": usage.name or usage.tenant_id,
        "limits": rows,
        "month": shown(usage.month),
        "notice": notice,
        "level": "reached" if usage.is_suspended else max((row["level"] for row in rows), default="", key=LEVELS.index),
    }
    chosen = month_key(Window(usage.start, usage.end))
    months = [{"key": month_key(window), "name": month_name(window)} for window in months_of(usage.at)]
    urls = links.checked()
    urls["upgrade_url"] = urls["upgrade_url"] if is_close and not usage.is_suspended else None
    return {
        "usage": shown_usage,
        "chart": chart_of(usage.days, usage.start, usage.end),
        "months": months,
        "chosen": chosen,
        **urls,
    }


def _notice(usage: Usage) -> str:
    """Say what the tenant should know first: suspended, without an allowance, used up, or nearly so."""
    if usage.is_suspended:
        return _("This account is suspended. AI features are turned off.")
    enforced = [status for status in usage.limits if status.limit.mode != OBSERVE]
    full = [status for status in enforced if status.settled >= status.ceiling]
    if any(not status.ceiling for status in full):
        return _("This account has no AI allowance.")
    if full:
        return _named(_("Your {limit} is used up."), full)
    near = [status for status in enforced if status.settled * 100 >= status.ceiling * NEAR_PERCENT]
    return _named(_("You have used more than 80 % of your {limit}."), near) if near else ""


def _named(text: str, statuses: Sequence[LimitStatus]) -> str:
    limit = statuses[0].limit
    return text.format(limit=limit_in_words(limit.frequency, exact(statuses[0].ceiling, limit.unit), limit.filter))


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
    ends = status.resets_at
    return {
        "level": drawn.level,
        "settled": drawn.settled,
        "held": drawn.held,
        "share": percent(max(0, status.settled), amount) if amount else _("all"),
        "spent": counted(status.settled, unit),
        "limit": exact(amount, unit),
        "remaining": quantity(status.left, unit),
        "period": _(FREQUENCY_LABELS[status.limit.frequency]),
        "about": ", ".join(filter(None, (status.limit.name, filter_in_words(status.limit.filter), status.subject))),
        "resets": "" if ends is None or not amount else clock_time(ends, status.limit.timezone),
        "resets_at": "" if ends is None else datetime.fromtimestamp(ends, UTC).isoformat(),
    }
