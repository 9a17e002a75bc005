"""Amounts, windows and times as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
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
FREQUENCY_ADJECTIVES = {
    PER_MONTH: "monthly",
    PER_DAY: "daily",
    PER_WEEK: "weekly",
    PER_YEAR: "yearly",
    PER_HOUR: "hourly",
    PER_MINUTE: "per-minute",
    TOTAL: "total",
}
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
NEAR_PERCENT = 80

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


def exact_usd(nano: int) -> str:
    """Write an amount with all its digits."""
    return f"${editable_usd(nano):,f}"


def moment(seconds: float, timezone: str = UTC_ZONE) -> datetime:
    """Return a unix time on the clock of a time zone; the nearest one if no calendar has it, such as milliseconds."""
    return local_time(min(LATEST, max(EARLIEST, seconds)), timezone)


def clock_time(seconds: float, timezone: str = UTC_ZONE, precise: bool = False) -> str:
    """Write a unix time for people, with the name of the time zone; `precise` has the seconds."""
    at = moment(seconds, timezone)
    return f"{at:%d %b %Y}, {at:{'%H:%M:%S' if precise else '%H:%M'}} {timezone}"


def only_zone(timezones: Iterable[str]) -> str:
    """Return the time zone that all limits of a tenant have; UTC where they have several or there are none."""
    found = set(timezones)
    return found.pop() if len(found) == 1 else UTC_ZONE


def dollars(nano: int | None) -> str:
    """Write an amount; a call without a known price has none."""
    if nano is None:
        return "unpriced"
    size = abs(nano)
    shown = exact_usd(size) if size < SMALL else show_usd(to_usd(size))
    return f"-{shown}" if nano < 0 else shown


def rounded(nano: int) -> str:
    """Write a total for a column or a tile: cents, and less than one cent is not nothing."""
    size = abs(nano)
    shown = "<$0.01" if 0 < size < 5 * 10**6 else f"${to_usd(size):,.2f}"
    return f"-{shown}" if nano < 0 else shown


def column_usd(nano: int | None) -> str:
    """Write the cost of a call for a column, where all amounts have as many decimals; one without a price has none."""
    return "–" if nano is None else f"{'-' if nano < 0 else ''}${to_usd(abs(nano)):,.6f}"


def span(seconds: float) -> str:
    """Write a duration in its two largest units."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0 s"


def percent(part: int, whole: int) -> str:
    """Write a share; rounded down, so that 100 % is never shown before it is reached."""
    share = part * 100 // whole
    return "under 1 %" if part and not share else f"{share:,} %"


def signed_percent(now: int, before: int) -> str:
    """Write how much more or less than before something is, such as "+12 %"; empty where there was nothing before."""
    return f"{round((now - before) * 100 / before):+,} %" if before > 0 else ""


def calls_in_words(number: int) -> str:
    """Write a number of calls."""
    return f"{number:,} {translate('call' if number == 1 else 'calls')}"


def refused_by(limited_by: str) -> str:
    """Name the limit that refused a call by what a refusal keeps of it: its frequency and its filter."""
    frequency, _, filter = limited_by.partition(" ")
    details = filter_in_words(filter)
    return translate(FREQUENCY_LABELS.get(frequency, frequency)) + (f" ({details})" if details else "")


def quantity(amount: Decimal | int, unit: str) -> str:
    """Write an amount of a limit's unit: US dollars, tokens or requests."""
    if unit == "usd":
        return show_usd(Decimal(amount))
    return f"{amount:,} {unit if amount != 1 else unit.removesuffix('s')}"


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
    frequency: str | None, amount: str | None = None, filter: str = "", name: str = "", owner: str = ""
) -> str:
    """Name a limit within a sentence, such as "monthly limit of $5.00 (each user)"."""
    words = [owner, FREQUENCY_ADJECTIVES.get(frequency or "", "spend"), "limit"]
    text = " ".join(word for word in words if word)
    details = [detail for detail in (name, filter_in_words(filter)) if detail]
    return text + (f" of {amount}" if amount else "") + (f" ({', '.join(details)})" if details else "")


def limit_line(amount: int, unit: str, frequency: str, filter: str = "") -> str:
    """Write a limit in a line, such as "$5.00 per month (each user)"; the amount is as stores keep it."""
    details = filter_in_words(filter)
    each = translate(FREQUENCY_LABELS.get(frequency, frequency))
    return f"{exact(amount, unit)} {each}" + (f" ({details})" if details else "")


def filter_in_words(filter: str) -> str:
    """Write what a limit is for, such as "model gpt-4*, each user"; nothing where it is for all calls."""
    parts = [f"{field} {value}" for field, value in parse_qsl(filter)]
    return ", ".join("each user" if part == "user *" else part for part in parts)


def no_allowance(filter: str, everyone: bool) -> str:
    """Say that a limit of nothing refuses a call: it has no reset to wait for."""
    who = "service" if everyone else "account"
    details = filter_in_words(filter)
    return f"This {who} has no AI allowance{f' for {details}' if details else ''}."


def refusal(
    kind: str, limit: str, spent: str, resets_at: int | None, retry_after: int | None, timezone: str = UTC_ZONE
) -> str:
    """Say in one sentence why a call was refused and what to do; `resets_at` is unix seconds."""
    until = f"{moment(resets_at, timezone):%d %B %Y %H:%M} {timezone}" if resets_at else None
    reset = f" It resets on {until}." if until else ""
    if kind == "exhausted":
        return f"The {limit} is used up{spent}.{reset}"
    if kind == "does_not_fit":
        return f"This call may cost more than what is left of the {limit}{spent}.{reset}"
    if kind == "busy" and retry_after is not None and retry_after > 1:
        return f"The {limit} is used up{spent}; try again in {span(retry_after)}."
    if kind == "busy":
        return f"Calls in flight hold what is left of the {limit}; try again in a moment."
    if kind == "unverifiable":
        return "The spend limit cannot be checked right now; try again in a moment."
    if kind == "no_tenant":
        return "It is not known whose account would pay for this call; sign in or choose an account, and try again."
    if kind == "unpriced":
        return "It is not known what this call would cost, so it was not made; choose another model."
    if kind == "suspended":
        return "This account is suspended, so the call was not made."
    return "Admitted."


def notice(
    tenant: str, percent: int, recovered: bool, limit: str, spent: str, resets_at: int | None, timezone: str
) -> tuple[str, str]:
    """Say that a limit has crossed a threshold, as subject and text of a message; `resets_at` is unix seconds."""
    who = shown_id(tenant)
    subject = f"{who} is below its limit again" if recovered else f"{who} has used {percent} % of a limit"
    reset = f"\nIt resets at {clock_time(resets_at, timezone)}." if resets_at else ""
    return subject, f"{subject}.\n\nLimit: {limit}\nSpent: {spent}{reset}\n"
