"""HTML for money, times and bars. It has no inline style or script, so a strict Content-Security-Policy allows it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from token_limit_core.console.gauges import gauge
from token_limit_core.limits import LimitStatus
from token_limit_core.windows import UTC_ZONE
from token_limit_core.wording import clock_time, moment, shown_id

NOTHING = "-"


def when(seconds: float | None, *, precise: bool = False, zone: str = UTC_ZONE) -> str:
    """Format a unix time on the clock of a time zone; a narrow column breaks the line only between date and time."""
    if seconds is None:
        return NOTHING
    day, time = clock_time(seconds, zone, precise).split(", ")
    return format_html(
        '<time class="token-limit-time" datetime="{}"><span>{},</span> <span>{}</span></time>',
        moment(seconds, zone).isoformat(timespec="seconds"),
        day,
        time,
    )


def tenant_label(tenant_id: str, name: str) -> str:
    """Format a tenant: the name over the id, or the id alone."""
    if not tenant_id:
        return format_html('<span class="quiet">{}</span>', "(no tenant)")
    if not name:
        return shown_id(tenant_id)
    return two_lines(name, shown_id(tenant_id))


def two_lines(first: str, second: str) -> SafeString:
    """Format a main line with a smaller line below it."""
    return format_html(
        '<span class="token-limit-whole">{}</span><br><span class="small quiet">{}</span>', first, second
    )


def link(text: str, page: str, *args: Any, **query: str) -> SafeString:
    """Link to an admin page of this app."""
    url = reverse(f"admin:token_limit_{page}", args=args)
    return format_html('<a href="{}{}">{}</a>', url, f"?{urlencode(query)}" if query else "", text)


def bar(status: LimitStatus, at: float) -> SafeString:
    """Draw the state of a window at `at` (unix seconds) as a bar, with the same data as text below it."""
    drawn = gauge(status, at)
    return format_html(
        '<div class="token-limit-window"><svg class="token-limit-bar {}" viewBox="0 0 100 8" width="160" height="8" '
        'preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/>'
        '<rect class="settled" width="{}" height="8"/><rect class="held" x="{}" width="{}" height="8"/></svg>{}</div>',
        drawn.level,
        drawn.settled,
        drawn.settled,
        drawn.held,
        two_lines(drawn.text, drawn.note),
    )
