"""Spend as charts: texts, and shares and heights in percent, for the SVG in the templates.

Amounts are nano-dollars until they are written out; templates of either engine then have nothing to compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ..runtime.language import translate
from ..stores.entries import NO_SPEND, Spend, add_spends
from ..stores.reports import DaySpend, ReportRow
from ..wording import calls_in_words, count, date_in_words, rounded


class Shown(NamedTuple):
    """Totals as text: `calls` with the word, `number` without it; `unpriced` is empty if there is none.

    `billed` is what the tenant is billed, with the word; empty where that is the cost.
    """

    spent: str
    calls: str
    number: str
    input_tokens: str
    output_tokens: str
    unpriced: str
    billed: str


class DayBar(NamedTuple):
    """A day's total and its bar."""

    day: str
    total: Shown
    any: bool
    x: str
    width: str
    height: str
    top: str


class ModelBar(NamedTuple):
    """A model's total over all days and its share of the largest."""

    provider: str
    model: str
    total: Shown
    width: str


class Bar(NamedTuple):
    """The total of one key of a report and its share of the largest."""

    key: str
    total: Shown
    width: str


class Chart(NamedTuple):
    """The spend of a tenant by day and by model, with totals."""

    days: list[DayBar]
    models: list[ModelBar]
    total: Shown
    any: bool
    highest: str
    first: str
    last: str


def chart_of(rows: Iterable[DaySpend], start: float, end: float) -> Chart:
    """Draw the days of `start <= t < end` (unix seconds), including days without a call."""
    by_day: dict[int, Spend] = {}
    by_model: dict[tuple[str, str], Spend] = {}
    everything = NO_SPEND
    for row in rows:
        by_day[row.day] = add_spends(by_day.get(row.day, NO_SPEND), row.total)
        by_model[row.provider, row.model] = add_spends(by_model.get((row.provider, row.model), NO_SPEND), row.total)
        everything = add_spends(everything, row.total)
    days = range(int(start // 86400), int(end // 86400))
    highest = max((total.cost_nano for total in by_day.values()), default=0)
    bars = [_day_bar(place, len(days), day, by_day.get(day, NO_SPEND), highest) for place, day in enumerate(days)]
    models = sorted(by_model.items(), key=lambda item: (-item[1].cost_nano, item[0]))
    largest = models[0][1].cost_nano if models else 0
    drawn = [ModelBar(*key, shown(total), _share(total.cost_nano, largest)) for key, total in models]
    any_at_all = everything != NO_SPEND
    return Chart(bars, drawn, shown(everything), any_at_all, rounded(max(0, highest)), bars[0].day, bars[-1].day)


def bars_of(rows: Sequence[ReportRow]) -> list[Bar]:
    """Draw the rows of a report, dearest first."""
    largest = max((row.total.cost_nano for row in rows), default=0)
    return [Bar(str(row.key), shown(row.total), _share(row.total.cost_nano, largest)) for row in rows]


def shown(total: Spend) -> Shown:
    """Return totals as text."""
    unpriced = f"{count(total.unpriced)} {translate('without a price')}" if total.unpriced else ""
    return Shown(
        rounded(total.cost_nano),
        calls_in_words(total.calls),
        count(total.calls),
        count(total.input_tokens),
        count(total.output_tokens),
        unpriced,
        billed_in_words(total),
    )


def billed_in_words(total: Spend) -> str:
    """Write what a tenant is billed, such as "billed $12.00"; nothing where that is what the providers took."""
    return "" if total.charge_nano == total.cost_nano else f"{translate('billed')} {rounded(total.charge_nano)}"


def _day_bar(place: int, number: int, day: int, total: Spend, highest: int) -> DayBar:
    height = float(_share(total.cost_nano, highest))
    if total.cost_nano > 0:
        height = max(height, 1.0)  # a small cost must not look like no cost
    step = 100 / number
    when = date_in_words(datetime.fromtimestamp(day * 86400, UTC))
    left, width = f"{place * step + step * 0.1:.3f}", f"{step * 0.8:.3f}"
    return DayBar(when, shown(total), total != NO_SPEND, left, width, f"{height:.2f}", f"{100 - height:.2f}")


def _share(part: int, whole: int) -> str:
    """Return a share in percent. A day with a negative total, after a correction, has no bar."""
    return f"{max(0, part) * 100 / whole:.2f}" if whole > 0 else "0.00"
