"""The upgrade response: render a refusal as problem+json (RFC 9457) or as HTML, by the `Accept` header."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

from .limits import Decision
from .limits.references import URN, Reference, reference_of
from .money import MONEY, as_text, show_usd
from .runtime.faults import report
from .runtime.language import language as current_language
from .runtime.language import speaking, translate
from .runtime.links import check_support_url, check_upgrade_url, way_back
from .windows import PER_DAY, PER_HOUR, PER_MINUTE, PER_MONTH, PER_WEEK, PER_YEAR
from .wording import MONTHS, date_in_words, limit_name, moment, usd

JSON_TYPES = ("application/problem+json", "application/json")
HTML_TYPES = ("text/html", "application/xhtml+xml")


class Rendered(NamedTuple):
    """An HTTP response, independent of the framework."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Words(NamedTuple):
    title: str
    message: str


TEXTS = {
    "exhausted": _Words(
        "{limit} reached",
        "This account has used all of its AI allowance, so the request was not sent.",
    ),
    "does_not_fit": _Words(
        "Not enough left for this request",
        "It may cost more than what is left of the limit, so it was not sent. A shorter one may still fit.",
    ),
    "busy": _Words(
        "One moment, please",
        "Requests in progress have set aside what is left of the limit, so this one was not sent. Please try again.",
    ),
    "unverifiable": _Words(
        "Please try again in a moment",
        "The spend limit could not be checked just now, so the request was not sent and nothing was charged.",
    ),
    "no_tenant": _Words(
        "No account to charge",
        "It is not known whose account pays for this request, so it was not sent. Please sign in or choose an account.",
    ),
    "unpriced": _Words(
        "This model is not available",
        "The price of the model is not known, so the request was not sent. Another model may be used.",
    ),
    "suspended": _Words(
        "This account is suspended",
        "AI features are turned off for this account, so the request was not sent.",
    ),
    "no_allowance": _Words("No AI allowance", "This account has no AI allowance, so the request was not sent."),
}
"""The title and the message of each kind, and of a limit of nothing."""
PERIODS = {
    PER_MINUTE: "minute",
    PER_HOUR: "hour",
    PER_DAY: "day",
    PER_WEEK: "week",
    PER_MONTH: "month",
    PER_YEAR: "year",
}
LABELS = {
    "spent": "spent",
    "of": "of",
    "per": "per",
    "share": "of the limit is spent",
    "held": "Set aside for requests in progress",
    "left": "Left",
    "resets": "Resets",
    "upgrade": "Upgrade",
    "retry": "Try again",
    "back": "Back",
    "support": "Contact support",
    "reference": "Reference:",
}
"""The texts of the template that are the same for every refusal."""
_QVALUE = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def render(
    decision: Decision,
    accept: str | None,
    *,
    upgrade_url: str | None = None,
    support_url: str | None = None,
    back_url: str | None = None,
    page: Callable[[dict[str, Any]], str] | None = None,
    language: str | None = None,
) -> Rendered:
    """Render the answer to a refused request as the `Accept` header prefers; JSON if it prefers neither.

    `language` is that of the page, and of the title and detail of the problem document; English by default.
    `back_url` is the page that the person came from, as the `Referer` header has it; another site's is not linked to.
    `page` renders the HTML from `context()` and replaces the built-in template.
    Raises `ConfigurationError` for an upgrade URL that is not safe to link to.
    """
    headers = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Language"}
    if decision.retry_after is not None:
        headers["Retry-After"] = str(decision.retry_after)
    with speaking(language):
        headers["Content-Language"] = current_language()
        if prefers_html(accept):
            headers["Content-Type"] = "text/html; charset=utf-8"
            body = _page(page, context(decision, upgrade_url, support_url, back_url))
        else:
            headers["Content-Type"] = JSON_TYPES[0]
            body = json.dumps(problem(decision, upgrade_url, support_url))
    return Rendered(decision.status, headers, body.encode())


def _page(page: Callable[[dict[str, Any]], str] | None, values: dict[str, Any]) -> str:
    if page is not None:
        try:
            made = page(values)
            if not isinstance(made, str):
                raise TypeError(f"upgrade_page: invalid result {made!r}; expected a str")
            return made
        except Exception:
            report("rendering the upgrade page")
    return default_page(values)


def problem(decision: Decision, upgrade_url: str | None = None, support_url: str | None = None) -> dict[str, Any]:
    """Return the members of the problem document; unknown ones are left out."""
    members = {
        "type": f"urn:token-limit:{decision.kind}",
        "title": _words(decision).title,
        "status": decision.status,
        "detail": decision.explain(),
        "instance": f"{URN}{_reference(decision)}",
        "kind": decision.kind,
        "limit_usd": _decimal(decision.limit_usd),
        "spent_usd": _decimal(decision.spent_usd),
        "remaining_usd": _decimal(decision.remaining_usd),
        "frequency": decision.frequency,
        "resets_at": _iso(decision.resets_at),
        "retry_after": decision.retry_after,
        "upgrade_url": _linked(decision, upgrade_url),
        "support_url": None if support_url is None else check_support_url(support_url),
    }
    return {name: value for name, value in members.items() if value is not None}


def close_frame(decision: Decision, language: str | None = None) -> tuple[int, str]:
    """Give the code and the reason that close a WebSocket for a refusal.

    Codes from 4000 on are the application's; the reason has at most 123 bytes (RFC 6455, 7.4.2 and 5.5).
    """
    with speaking(language):
        return 4000 + decision.status, decision.explain().encode()[:123].decode(errors="ignore")


def sse_error(decision: Decision, upgrade_url: str | None = None, language: str | None = None) -> bytes:
    """Return the problem document as a server-sent event of type `error`, to end a stream that has begun.

    `language` is that of its title and detail; English by default.
    """
    with speaking(language):
        return b"event: error\ndata: " + json.dumps(problem(decision, upgrade_url)).encode() + b"\n\n"


def context(
    decision: Decision, upgrade_url: str | None = None, support_url: str | None = None, back_url: str | None = None
) -> dict[str, Any]:
    """Return the values of the template: formatted texts, shares of the bar in percent, None for unknown values.

    `lang` is the language of the texts; the names of `LABELS` with `_label` are the texts of every refusal. `retry` is
    true if a retry can succeed. `upgrade_url` is None if an upgrade cannot help: under `retry`, and for a call without
    a tenant or without a price. `reference` is what support finds the refusal by.
    """
    words = _words(decision)
    period = PERIODS.get(decision.frequency or "")
    retry = decision.kind in ("busy", "unverifiable")
    spent_percent = _percent(decision.spent_usd, decision.limit_usd)
    held_percent = _percent(decision.held_usd, decision.limit_usd)
    linked = _linked(decision, upgrade_url)
    return {
        "kind": decision.kind,
        "status": decision.status,
        "title": words.title,
        "message": words.message,
        "detail": decision.explain(),
        "limit": _shown(decision.limit_usd),
        "spent": _shown(decision.spent_usd),
        "held": _shown(decision.held_usd),
        "remaining": _shown(decision.remaining_usd),
        "spent_percent": spent_percent,
        "held_percent": None if spent_percent is None else min(held_percent or 0, 100 - spent_percent),
        "period": period and translate(period),
        "resets": _readable(decision.resets_at, decision.timezone),
        "resets_at": _iso(decision.resets_at),
        "retry": retry,
        "retry_after": decision.retry_after,
        "upgrade_url": None if retry else linked,
        "support_url": None if support_url is None else check_support_url(support_url),
        "back_url": way_back(back_url),
        "reference": str(_reference(decision)),
        "style": _file("upgrade.css"),
        "lang": current_language(),
        **{f"{name}_label": translate(text) for name, text in LABELS.items()},
    }


def default_page(values: dict[str, Any]) -> str:
    """Render the built-in page; it needs no template engine."""
    hidden = {
        "bar_hidden": values["spent_percent"] is None,
        "period_hidden": values["period"] is None,
        "held_hidden": not values["held_percent"],
        "remaining_hidden": values["remaining"] is None,
        "resets_hidden": values["resets"] is None or values["retry"],
        "upgrade_hidden": values["upgrade_url"] is None,
        "retry_hidden": not values["retry"],
        "support_hidden": values["support_url"] is None,
        "back_hidden": values["back_url"] is None,
    }
    hidden["facts_hidden"] = hidden["held_hidden"] and hidden["remaining_hidden"] and hidden["resets_hidden"]
    attributes = {name: "hidden" if yes else "" for name, yes in hidden.items()}
    texts = {name: "" if value is None else html.escape(str(value)) for name, value in values.items()}
    return Template(_file("plain.html")).substitute(texts | attributes, style=values["style"])


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath("templates/token_limit", name).read_text(encoding="utf-8")


def _words(decision: Decision) -> _Words:
    """Return the words of a kind; a limit of nothing is no limit that could be reached."""
    is_nothing = decision.kind == "exhausted" and decision.limit is not None and not decision.limit
    words = TEXTS["no_allowance" if is_nothing else decision.kind]
    title = translate(words.title).format(limit=limit_name(decision.frequency))
    return _Words(title[0].upper() + title[1:], translate(words.message))


def _reference(decision: Decision) -> Reference:
    return reference_of(decision.kind, decision.tenant_id, time.time())


def _linked(decision: Decision, upgrade_url: str | None) -> str | None:
    """Return the checked URL; None without a URL, and if an upgrade cannot help."""
    checked = None if upgrade_url is None else check_upgrade_url(upgrade_url)
    return None if decision.kind in ("no_tenant", "unpriced") else checked


def prefers_html(accept: str | None) -> bool:
    """Return whether an `Accept` header prefers HTML to JSON; False on a tie."""
    ranges = _media_ranges(accept or "")
    return _quality(HTML_TYPES, ranges) > _quality(JSON_TYPES, ranges)


def _media_ranges(accept: str) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
        valid = all(_QVALUE.fullmatch(weight) for weight in weights)
        ranges[name] = float((weights or ["1"])[0]) if valid else 0.0
    return ranges


def _quality(types: tuple[str, ...], ranges: dict[str, float]) -> float:
    def of(media_type: str) -> float:
        group = media_type.partition("/")[0] + "/*"
        return next((ranges[name] for name in (media_type, group, "*/*") if name in ranges), 0.0)

    return max(map(of, types))


def _decimal(amount: Decimal | None) -> str | None:
    return None if amount is None else as_text(amount)


def _shown(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    return usd(show_usd(amount.quantize(Decimal("0.01"), context=MONEY) if amount >= 1 else amount))


def _percent(part: Decimal | None, whole: Decimal | None) -> int | None:
    if part is None or whole is None:
        return None
    return 100 if part >= whole else int(part * 100 / whole)


def _iso(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _readable(at: int | None, timezone: str) -> str | None:
    if at is None:
        return None
    local = moment(at, timezone)
    return f"{date_in_words(local, MONTHS).removeprefix('0')}, {local:%H:%M} {timezone}"
