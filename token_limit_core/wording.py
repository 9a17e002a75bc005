"""Amounts, windows and times as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import parse_qsl

from .money import MONEY, show_usd, to_nano, to_usd
from .runtime.language import translate
from .windows import PER_DAY, PER_HOUR, PER_MINUTE, PER_MONTH, PER_WEEK, PER_YEAR, TOTAL, UTC_ZONE, local_time

FREQUENCY_LABELS = {
    PER_MONTH: "per month",
    PER_DAY: "per day",
    PER_WEEK: "per week",
    PER_YEAR: "per year",
    PER_HOUR: "per hour",
    PER_MINUTE: "per minute",
    TOTAL: "in total",
}
LIMIT_NAMES = {
    PER_MONTH: "monthly limit",
    PER_DAY: "daily limit",
    PER_WEEK: "weekly limit",
    PER_YEAR: "yearly limit",
    PER_HOUR: "hourly limit",
    PER_MINUTE: "per-minute limit",
    TOTAL: "total limit",
}
ANY_LIMIT = "spend limit"
MODE_LABELS = {
    "enforce": "Enforce: refuse calls once it is spent",
    "strict": "Strict: refuse calls that may cost more than what is left",
    "observe": "Observe: only record, never refuse",
}
UNIT_LABELS = {"usd": "US dollars", "tokens": "Tokens", "requests": "Requests"}
PERMISSION_LABELS = {"ingest": "Report events", "check": "Ask for limits", "set-limit": "Set and remove limits"}
STANDING_LABELS = {
    "near": "Near a limit (80 %)",
    "over": "Over a limit",
    "unlimited": "Without a limit",
    "suspended": "Suspended",
}
REFUSAL_LABELS = {
    "exhausted": "Limit used up",
    "does_not_fit": "More than what is left",
    "busy": "Calls in flight, or too many at once",
    "unverifiable": "Limit could not be checked",
    "no_tenant": "No tenant",
    "unpriced": "No price known",
    "suspended": "Tenant suspended",
}
REFUSALS = {
    "exhausted": "The {limit} is used up{amount}.",
    "does_not_fit": "This call may cost more than what is left of the {limit}{amount}.",
    "wait": "The {limit} is used up{amount}; try again in {wait}.",
    "busy": "Calls in flight hold what is left of the {limit}; try again in a moment.",
    "unverifiable": "The spend limit cannot be checked right now; try again in a moment.",
    "no_tenant": "It is not known whose account would pay for this call; sign in or choose an account, and try again.",
    "unpriced": "It is not known what this call would cost, so it was not made; choose another model.",
    "suspended": "This account is suspended, so the call was not made.",
    "admitted": "Admitted.",
}
NEAR_PERCENT = 80
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
SHORT_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NUMBER = "1,234.5"
"""How English writes a number; the translation shows the separators of its language."""
DATE = "{day} {month} {year}"
MONEY_FORMAT = "${amount}"

_TYPED = re.compile(r"""([^;'"“]*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|“.*”)(.*)""", re.DOTALL)
"""An error message about a value: what is before it, the value, and what is after it."""

EARLIEST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

SMALL = 10**6
"""Below a tenth of a cent (in nano-dollars) amounts are written out, lest calls seem to be free."""


def shown_id(tenant_id: str) -> str:
    """Write a tenant's id; one with spaces around it, or with what cannot be seen, is not to look like another's."""
    return tenant_id if tenant_id == tenant_id.strip() and tenant_id.isprintable() else repr(tenant_id)


def editable_usd(nano: int) -> Decimal:
    """Return an amount as one would type it: at least cents, no further zeros."""
    amount = to_usd(nano)
    return amount.quantize(Decimal("0.01"), context=MONEY) if nano % 10**7 == 0 else amount.normalize(MONEY)


def number(text: str) -> str:
    """Write an English number, such as "1,234.5", with the separators of the language in force."""
    example = translate(NUMBER)
    return text.translate(str.maketrans(",.", example[1] + example[5]))


def count(whole: int) -> str:
    """Write a whole number."""
    return number(f"{whole:,}")


def usd(text: str) -> str:
    """Write an English amount, such as "$1,234.50" or "1,234.50", in the language in force."""
    return translate(MONEY_FORMAT).format(amount=number(text.removeprefix("$")))


def exact_usd(nano: int) -> str:
    """Write an amount with all its digits."""
    return usd(f"{editable_usd(nano):,f}")


def moment(seconds: float, timezone: str = UTC_ZONE) -> datetime:
    """Return a unix time on the clock of a time zone; the nearest one if no calendar has it, such as milliseconds."""
    return local_time(min(LATEST, max(EARLIEST, seconds)), timezone)


def clock_time(seconds: float, timezone: str = UTC_ZONE, precise: bool = False) -> str:
    """Write a unix time for people, with the name of the time zone; `precise` has the seconds."""
    at = moment(seconds, timezone)
    return f"{date_in_words(at)}, {at:{'%H:%M:%S' if precise else '%H:%M'}} {timezone}"


def date_in_words(at: date, months: Sequence[str] = SHORT_MONTHS) -> str:
    """Write a date, such as "01 Dec 2026"; `MONTHS` has the whole names."""
    return translate(DATE).format(day=f"{at:%d}", month=translate(months[at.month - 1]), year=at.year)


def only_zone(timezones: Iterable[str]) -> str:
    """Return the time zone that all limits of a tenant have; UTC where they have several or there are none."""
    found = set(timezones)
    return found.pop() if len(found) == 1 else UTC_ZONE


def dollars(nano: int | None) -> str:
    """Write an amount; a call without a known price has none."""
    if nano is None:
        return translate("unpriced")
    size = abs(nano)
    shown = exact_usd(size) if size < SMALL else usd(show_usd(to_usd(size)))
    return f"-{shown}" if nano < 0 else shown


def rounded(nano: int) -> str:
    """Write a total for a column or a tile: cents, and less than one cent is not nothing."""
    size = abs(nano)
    shown = f"<{usd('0.01')}" if 0 < size < 5 * 10**6 else usd(f"{to_usd(size):,.2f}")
    return f"-{shown}" if nano < 0 else shown


def column_usd(nano: int | None) -> str:
    """Write the cost of a call for a column, where all amounts have as many decimals; one without a price has none."""
    return "–" if nano is None else f"{'-' if nano < 0 else ''}{usd(f'{to_usd(abs(nano)):,.6f}')}"


def span(seconds: float) -> str:
    """Write a duration in its two largest units."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    shown = [f"{number} {translate(unit)}" for number, unit in parts if number][:2]
    return " ".join(shown) or f"0 {translate('s')}"


def percent(part: int, whole: int) -> str:
    """Write a share; rounded down, so that 100 % is never shown before it is reached."""
    share = part * 100 // whole
    return translate("under 1 %") if part and not share else f"{count(share)} %"


def signed_percent(now: int, before: int) -> str:
    """Write how much more or less than before something is, such as "+12 %"; empty where there was nothing before."""
    return number(f"{round((now - before) * 100 / before):+,} %") if before > 0 else ""


def calls_in_words(calls: int) -> str:
    """Write a number of calls."""
    return f"{count(calls)} {translate('call' if calls == 1 else 'calls')}"


def refused_by(limited_by: str) -> str:
    """Name the limit that refused a call by what a refusal keeps of it: its frequency and its filter."""
    frequency, _, filter = limited_by.partition(" ")
    details = filter_in_words(filter)
    return translate(FREQUENCY_LABELS.get(frequency, frequency)) + (f" ({details})" if details else "")


def quantity(amount: Decimal | int, unit: str) -> str:
    """Write an amount of a limit's unit: US dollars, tokens or requests."""
    if unit == "usd":
        return usd(show_usd(Decimal(amount)))
    return f"{number(f'{amount:,}')} {translate(unit if amount != 1 else unit.removesuffix('s'))}"


def exact_quantity(amount: Decimal | int, unit: str) -> str:
    """Write an amount of a limit's unit with all its digits."""
    return exact_usd(to_nano(Decimal(amount))) if unit == "usd" else quantity(amount, unit)


def exact(stored: int, unit: str) -> str:
    """Write an amount as stores keep it, with all its digits."""
    return exact_usd(stored) if unit == "usd" else quantity(stored, unit)


def counted(stored: int | None, unit: str) -> str:
    """Write an amount as stores keep it: nano-dollars, tokens or requests."""
    return dollars(stored) if stored is None or unit == "usd" else quantity(stored, unit)


def limit_in_words(
    frequency: str | None, amount: str | None = None, filter: str = "", name: str = "", everyone: bool = False
) -> str:
    """Name a limit within a sentence, such as "monthly limit of $5.00 (each user)"."""
    text = limit_name(frequency)
    if everyone:
        text = translate("service's {limit}").format(limit=text)
    if amount:
        text = translate("{limit} of {amount}").format(limit=text, amount=amount)
    details = [detail for detail in (name, filter_in_words(filter)) if detail]
    return text + (f" ({', '.join(details)})" if details else "")


def limit_name(frequency: str | None) -> str:
    """Name a limit by its frequency, such as "monthly limit"."""
    return translate(LIMIT_NAMES.get(frequency or "", ANY_LIMIT))


def limit_line(amount: int, unit: str, frequency: str, filter: str = "") -> str:
    """Write a limit in a line, such as "$5.00 per month (each user)"; the amount is as stores keep it."""
    details = filter_in_words(filter)
    each = translate(FREQUENCY_LABELS.get(frequency, frequency))
    return f"{exact(amount, unit)} {each}" + (f" ({details})" if details else "")


def filter_in_words(filter: str) -> str:
    """Write what a limit is for, such as "model gpt-4*, each user"; nothing where it is for all calls."""
    return ", ".join(
        translate("each user") if (field, value) == ("user", "*") else f"{translate(field)} {value}"
        for field, value in parse_qsl(filter)
    )


def fault_in_words(message: str) -> str:
    """Write the error of a typed value, such as "invalid value 'x'; expected ...", in the language in force."""
    found = _TYPED.match(message)
    if found is None:
        return translate(message)
    before, value, after = found.groups()
    return translate(f"{before}{{value}}{after}").replace("{value}", value)


def no_allowance(filter: str, everyone: bool) -> str:
    """Say that a limit of nothing refuses a call: it has no reset to wait for."""
    details = filter_in_words(filter)
    if everyone:
        text = "This service has no AI allowance for {details}." if details else "This service has no AI allowance."
    else:
        text = "This account has no AI allowance for {details}." if details else "This account has no AI allowance."
    return translate(text).format(details=details)


def refusal(
    kind: str, limit: str, amount: str, resets_at: int | None, retry_after: int | None, timezone: str = UTC_ZONE
) -> str:
    """Say in one sentence why a call was refused and what to do; `resets_at` is unix seconds.

    `amount` is what is spent or left of the limit, in words.
    """
    waits = kind == "busy" and retry_after is not None and retry_after > 1
    facts = {"limit": limit, "amount": f" ({amount})" if amount else "", "wait": span(retry_after or 0)}
    text = translate(REFUSALS["wait" if waits else kind]).format(**facts)
    if resets_at and kind in ("exhausted", "does_not_fit"):
        at = moment(resets_at, timezone)
        until = f"{date_in_words(at, MONTHS)} {at:%H:%M} {timezone}"
        text += " " + translate("It resets on {time}.").format(time=until)
    return text


def notice(
    tenant: str, percent: int, recovered: bool, limit: str, spent: str, resets_at: int | None, timezone: str
) -> tuple[str, str]:
    """Say that a limit has crossed a threshold, as subject and text of a message; `resets_at` is unix seconds."""
    crossed = "{tenant} is below its limit again" if recovered else "{tenant} has used {percent} % of a limit"
    subject = translate(crossed).format(tenant=shown_id(tenant), percent=percent)
    facts = [translate("Limit: {limit}").format(limit=limit), translate("Spent: {amount}").format(amount=spent)]
    if resets_at:
        facts.append(translate("It resets on {time}.").format(time=clock_time(resets_at, timezone)))
    return subject, "\n".join([f"{subject}.", "", *facts, ""])
