"""Money, times and bars as people read them. No inline style or script: a strict Content-Security-Policy holds."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from token_limit_core.console.gauges import gauge
from token_limit_core.limits import LimitStatus
from token_limit_core.wording import moment, shown_id

NOTHING = "-"


def when(seconds: float | None, *, precise: bool = False) -> str:
    """Write a unix time in UTC; date and time stay whole where a column is narrow."""
    if seconds is None:
        return NOTHING
    at = moment(seconds)
    return format_html(
        '<time class="token-limit-time" datetime="{}"><span>{},</span> <span>{} UTC</span></time>',
        at.isoformat(timespec="seconds"),
        f"{at:%d %b %Y}",
        f"{at:%H:%M:%S}" if precise else f"{at:%H:%M}",
    )


def tenant_label(tenant_id: str, name: str) -> str:
    """Write who pays: the name, if there is one, over the id."""
    if not tenant_id:
        return format_html('<span class="quiet">{}</span>', "(no tenant)")
    if not name:
        return shown_id(tenant_id)
    return two_lines(name, shown_id(tenant_id))


def two_lines(first: str, second: str) -> SafeString:
    """Write what matters over what belongs to it."""
    return format_html(
        '<span class="token-limit-whole">{}</span><br><span class="small quiet">{}</span>', first, second
    )


def link(text: str, page: str, *args: Any, **query: str) -> SafeString:
    """Link to one of our pages."""
    url = reverse(f"admin:token_limit_{page}", args=args)
    return format_html('<a href="{}{}">{}</a>', url, f"?{urlencode(query)}" if query else "", text)


def bar(status: LimitStatus, at: float) -> SafeString:
    """Draw a window as of `at`; the text below the bar says the same."""
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
