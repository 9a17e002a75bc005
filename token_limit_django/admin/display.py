"""Money, times and bars as people read them. No inline style or script: a strict Content-Security-Policy holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from token_limit_core.limits import LimitStatus, show_usd, to_usd
from token_limit_core.wording import exact_usd

NOTHING = "-"
NEAR_PERCENT = 80

SMALL = 10**6
"""Below a tenth of a cent (in nano-dollars) amounts are written out, lest calls seem to be free."""


def dollars(nano: int | None) -> str:
    """Write an amount; a call without a known price has none."""
    if nano is None:
        return "unpriced"
    size = abs(nano)
    shown = exact_usd(size) if size < SMALL else show_usd(to_usd(size))
    return f"-{shown}" if nano < 0 else shown


def when(seconds: float | None, *, precise: bool = False) -> str:
    """Write a unix time in UTC; date and time stay whole where a column is narrow."""
    if seconds is None:
        return NOTHING
    moment = datetime.fromtimestamp(seconds, UTC)
    return format_html(
        '<time class="token-limit-time" datetime="{}"><span>{},</span> <span>{} UTC</span></time>',
        moment.isoformat(timespec="seconds"),
        f"{moment:%d %b %Y}",
        f"{moment:%H:%M:%S}" if precise else f"{moment:%H:%M}",
    )


def span(seconds: float) -> str:
    """Write a duration in its two largest units."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0 s"


def tenant_label(tenant_id: str, name: str) -> str:
    """Write who pays: the name, if there is one, over the id."""
    if not tenant_id:
        return format_html('<span class="quiet">{}</span>', "(no tenant)")
    if not name:
        return tenant_id
    return two_lines(name, tenant_id)


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
    """Draw a window as of `at`: settled solid, held shaded; the text below it says the same."""
    amount, settled, held = status.limit.amount, max(0, status.settled), max(0, status.held)
    level = "reached" if settled >= amount else "near" if (settled + held) * 100 >= amount * NEAR_PERCENT else "fine"
    full = min(100.0, settled * 100 / amount) if amount else 100.0
    shaded = min(100.0 - full, held * 100 / amount) if amount else 0.0
    return format_html(
        '<div class="token-limit-window"><svg class="token-limit-bar {}" viewBox="0 0 100 8" width="160" height="8" '
        'preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/>'
        '<rect class="settled" width="{}" height="8"/><rect class="held" x="{}" width="{}" height="8"/></svg>{}</div>',
        level,
        f"{full:.2f}",
        f"{full:.2f}",
        f"{shaded:.2f}",
        two_lines(
            f"{dollars(status.settled)} of {exact_usd(amount)}" + (f" ({_percent(settled, amount)})" if amount else ""),
            (f"{dollars(held)} held, " if held else "") + f"resets in {span(status.window.end - at)}",
        ),
    )


def _percent(part: int, whole: int) -> str:
    """Round down, so that 100 % is never shown before it is reached."""
    percent = part * 100 // whole
    return "under 1 %" if part and not percent else f"{percent:,} %"
