"""The overview: what is spent, who is near a limit, what was refused, what is not known, and who spends most.

Every number comes from roll-ups and counters, in a number of statements that does not depend on the data. Those of a
large store are kept (`kept.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from markupsafe import Markup

from ..runtime.language import translate as _
from ..stores.contract import Store
from ..stores.entries import NO_SPEND, Spend, add_spends
from ..stores.queries import TenantQuery
from ..stores.reports import By, DaySpend, Refused, ReportRow, Standings
from ..windows import DAY, PER_MONTH, Window, window_of
from ..wording import calls_in_words, clock_time, rounded, signed_percent
from .charts import bars_of, chart_of
from .context import Context
from .kept import is_fresh, kept
from .web import Response

TOP = 5
CHART_DAYS = 30
TOPS: tuple[tuple[By, str], ...] = (("model", "Models"), ("user", "Users"), ("feature", "Features"))


class Pace(NamedTuple):
    """What all tenants have spent (nano-dollars), against the same days of last month.

    `forecast` is what the month comes to at its pace so far, None on its first day. `change` compares the month with
    the same days of last month; it is empty where there is nothing to compare with.
    """

    today: Spend
    month: Spend
    same_days: Spend
    last_month: Spend
    forecast: int | None
    change: str
    until: str


class Doubt(NamedTuple):
    """Something that is not known: how much of it there was, what follows from it, and what cures it."""

    name: str
    found: str
    meaning: str
    cure: Markup
    mark: str


class TopTenant(NamedTuple):
    """A tenant that spends most, and its totals of this month."""

    tenant_id: str
    name: str
    month: Spend


class Figures(NamedTuple):
    """What all tenants come to, read from a store: totals by day, and the rest of this calendar month (UTC).

    `unpriced` are the models that calls without a price were made of.
    """

    by_day: dict[int, Spend]
    unpriced: list[ReportRow]
    nobody: Spend
    standings: Standings
    refused: list[Refused]
    tenants: list[TopTenant]
    tops: dict[By, list[ReportRow]]


def overview(ctx: Context) -> Response:
    """Show how all tenants stand."""
    found = kept(ctx.store, _NAME, ctx.now, lambda store, now: json.dumps(figures_of(store, now)))
    if found is not None and not found.body:
        return _wait(ctx, found.failure)
    figures, now = (figures_of(ctx.store, ctx.now), ctx.now) if found is None else (read(found.body), found.at)
    month, before, end = _times(now)
    first = end // DAY - CHART_DAYS
    recent = [DaySpend(day, "", "", total) for day, total in figures.by_day.items() if day >= first]
    return ctx.page(
        "overview.html",
        as_of=None if found is None else clock_time(now, precise=True),
        is_fresh=found is None or is_fresh(found, ctx.now),
        failure="" if found is None else found.failure,
        pace=pace_of(figures.by_day, month, before, now),
        chart=chart_of(recent, first * DAY, end),
        standings=figures.standings,
        refused=figures.refused,
        since=_date(now - DAY),
        month_start=_date(month.start),
        doubts=doubts_of(ctx, figures),
        tenants=figures.tenants,
        tops=[(by, name, bars_of(figures.tops[by])) for by, name in TOPS],
    )


def figures_of(store: Store, now: float) -> Figures:
    """Read what the overview shows."""
    month, before, end = _times(now)
    models = store.report("model", month.start, end)
    return Figures(
        {int(row.key): row.total for row in store.report("day", min(before.start, end - CHART_DAYS * DAY), end)},
        [row for row in models if row.total.unpriced],
        _sum([row.total for row in store.report("provider", month.start, end, "")]),
        store.standings(now),
        store.refused(now - DAY),
        [TopTenant(*row[:3]) for row in store.tenants(TenantQuery(sort="spend", size=TOP), now).rows],
        {by: models[:TOP] if by == "model" else store.report(by, month.start, end, size=TOP) for by, _ in TOPS},
    )


_NAME = "overview 1"
"""The name of the figures in the store; another number for each change of `Figures`."""


def read(body: str) -> Figures:
    """Read figures that were kept as JSON."""
    by_day, unpriced, nobody, standings, refused, tenants, tops = json.loads(body)

    def rows(found: list[tuple[str, list[int]]]) -> list[ReportRow]:
        return [ReportRow(key, Spend(*total)) for key, total in found]

    return Figures(
        {int(day): Spend(*total) for day, total in by_day.items()},
        rows(unpriced),
        Spend(*nobody),
        Standings(*standings),
        [Refused(*row) for row in refused],
        [TopTenant(tenant_id, name, Spend(*total)) for tenant_id, name, total in tenants],
        {by: rows(tops[by]) for by, _ in TOPS},
    )


def _wait(ctx: Context, failure: str) -> Response:
    """Show that the first figures are being added up, or why they are not; the browser asks again."""
    text = _("The figures are being added up for the first time. This page then shows them.")
    if failure:
        text = _("The figures could not be added up: {failure}. There is another attempt within five minutes.")
    answer = ctx.page("message.html", heading=_("Overview"), message=text.format(failure=failure))
    answer.headers["Refresh"] = "5"
    return answer


def _times(now: float) -> tuple[Window, Window, int]:
    """Return the month, the one before it, and the end of the day (UTC)."""
    month = window_of(PER_MONTH, now)
    return month, window_of(PER_MONTH, month.start - 1), (int(now // DAY) + 1) * DAY


def pace_of(by_day: dict[int, Spend], month: Window, before: Window, now: float) -> Pace:
    """Compare a month so far with the same days of the month before it. Windows are calendar months in UTC."""

    def total(first: int, last: int) -> Spend:
        return _sum([spend for day, spend in by_day.items() if first <= day < last])

    today, first = int(now // DAY), month.start // DAY
    days = today + 1 - first
    first_before, end_before = before.start // DAY, before.end // DAY
    so_far = total(first, today + 1)
    same_days = total(first_before, min(first_before + days, end_before))
    elapsed = int(now) - month.start
    forecast = so_far.cost_nano * (month.end - month.start) // elapsed if elapsed >= DAY else None
    return Pace(
        by_day.get(today, NO_SPEND),
        so_far,
        same_days,
        total(first_before, end_before),
        forecast,
        signed_percent(so_far.cost_nano, same_days.cost_nano),
        _date(month.end - 1),
    )


def doubts_of(ctx: Context, figures: Figures) -> list[Doubt]:
    """List what is not known: of this month from the roll-ups, and of this process from its counters."""
    counts, unpriced, nobody = ctx.meter.status()["counts"], figures.unpriced, figures.nobody
    here = _("{calls} since this process started")
    name_price = _with_code(_("Name the price: {setting}"), setting='prices={"model": "gpt-5"}')
    found = []
    if unpriced:
        models_shown = ", ".join(str(row.key) or _("(unknown)") for row in unpriced[:TOP])
        text = _("{calls} this month: {models}").format(
            calls=calls_in_words(sum(row.total.unpriced for row in unpriced)), models=models_shown
        )
        found.append(Doubt(_("No price"), text, _("They count as $0 in every limit."), name_price, "unpriced"))
    if counts.get("assumed"):
        text, meaning = (
            here.format(calls=calls_in_words(counts["assumed"])),
            _("They are charged at the price of a similar model."),
        )
        found.append(Doubt(_("Assumed price"), text, meaning, name_price, "assumed"))
    if nobody.calls:
        text = _("{calls} this month, {amount}").format(
            calls=calls_in_words(nobody.calls), amount=rounded(nobody.cost_nano)
        )
        cure = _("Wrap them in {call}, or set {setting}")
        cure = _with_code(cure, call="meter.for_tenant(...)", setting='on_no_tenant="refuse"')
        found.append(Doubt(_("No tenant"), text, _("No tenant pays for them."), cure, "unattributed"))
    if counts.get("unverified"):
        text = here.format(calls=calls_in_words(counts["unverified"]))
        meaning = _("The store did not answer, so no limit was checked.")
        cure = _("Check that the store is reachable, or set {setting}")
        cure = _with_code(cure, setting='on_store_error="refuse"')
        found.append(Doubt(_("Not checked"), text, meaning, cure, "unverified"))
    return found


def _with_code(text: str, **code: str) -> Markup:
    return Markup(text).format(**{name: Markup("<code>{}</code>").format(value) for name, value in code.items()})


def _sum(totals: Sequence[Spend]) -> Spend:
    found = NO_SPEND
    for total in totals:
        found = add_spends(found, total)
    return found


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
