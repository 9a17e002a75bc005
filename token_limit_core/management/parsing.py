"""From the arguments of an application to the value objects of stores. Every error names the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ..limits import BASES, CHARGE, ENFORCE, EVERYONE, MODES, UNITS, USD, Limit
from ..limits.filters import filter_of
from ..money import MAX_LIMIT_USD, MONEY, Money, parse_amount, to_nano
from ..runtime.faults import ConfigurationError, shown
from ..scope import check_payer
from ..stores.columns import PLAN_WIDTH
from ..windows import (
    FREQUENCIES,
    PER_MONTH,
    Anchor,
    parse_anchor,
    parse_choice,
    parse_effective_date,
    parse_timezone,
)

When = date | datetime | str | None
"""What a time may be given as: a date, a datetime or an ISO string; without a time zone it is in UTC."""

MOST_COUNTED = 10**15
"""The largest limit in tokens or requests."""

TEXT_WIDTH = 255
"""Characters that stores keep of a name or a reason."""


def limit_of(
    tenant_id: str,
    amount: Money | None,
    frequency: str = PER_MONTH,
    *,
    now: float,
    unit: str = USD,
    mode: str = ENFORCE,
    timezone: str | None = None,
    anchor: Anchor = None,
    user: str | int | None = None,
    model: str | None = None,
    provider: str | None = None,
    feature: str | None = None,
    effective_date: When = None,
    basis: str | None = None,
    name: str | None = None,
    plan: str = "",
) -> Limit:
    """Make a limit of the keywords of `Meter.set_limit`; one of a plan has no tenant.

    Raises `ConfigurationError` naming the argument that cannot be used.
    """
    parse_choice(unit, UNITS, "unit")
    parse_choice(frequency, FREQUENCIES, "frequency")
    if basis is not None:
        parse_choice(basis, BASES, "basis")
        if unit != USD:
            raise ConfigurationError(f"basis: invalid value {basis!r}; only a limit in 'usd' has a basis, leave it out")
    return Limit(
        tenant_id="" if plan else parse_payer(tenant_id),
        amount=parse_quantity(amount, unit),
        frequency=frequency,
        mode=parse_choice(mode, MODES, "mode"),
        filter=filter_of(user=user, model=model, provider=provider, feature=feature),
        unit=unit,
        effective_from=parse_effective_date(effective_date, now),
        timezone=parse_timezone(timezone),
        anchor=parse_anchor(anchor, frequency),
        plan=plan,
        basis=CHARGE if basis is None else basis,
        name=parse_line(name, "name"),
    )


def limits_of_plan(plan: str, given: Sequence[Mapping[str, Any]], now: float) -> list[Limit]:
    """Make the limits of a plan, each of the keywords of `Meter.set_limit`; they hold from now on.

    Raises `ConfigurationError` naming the argument that cannot be used, and which limit it is of.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise ConfigurationError(
            f"limits: invalid value {shown(given)}; expected a list of dicts, for example [{{'amount': 25}}]"
        )
    limits: dict[tuple[str, ...], Limit] = {}
    for place, keywords in enumerate(given):
        try:
            limit = _limit_of_plan(plan, keywords, now)
        except ConfigurationError as error:
            raise ConfigurationError(f"limits[{place}].{error}") from None
        if limit.identity in limits:
            raise ConfigurationError(
                f"limits[{place}].frequency: the plan has a limit {limit.frequency!r} of this filter already; "
                "give each frequency and filter once"
            )
        limits[limit.identity] = limit
    return list(limits.values())


def _limit_of_plan(plan: str, keywords: Mapping[str, Any], now: float) -> Limit:
    if not isinstance(keywords, Mapping):
        raise ConfigurationError(f"amount: missing in {shown(keywords)}; expected a dict, for example {{'amount': 25}}")
    known = {**keywords}
    amount = known.pop("amount", known.pop("limit_usd", None))
    for name in known:
        if name not in PLAN_KEYWORDS:
            raise ConfigurationError(f"{name}: unknown; expected amount, {', '.join(PLAN_KEYWORDS)}")
    return limit_of("", amount, now=now, plan=plan, **known)


PLAN_KEYWORDS = (
    "frequency", "unit", "mode", "timezone", "anchor", "user", "model", "provider", "feature", "basis", "name",
)  # fmt: skip
"""What a limit of a plan may be given, beside its amount."""

LIMIT_KEYWORDS = (*PLAN_KEYWORDS, "effective_date")
"""What a limit of a tenant may be given, beside its amount."""


def parse_payer(tenant_id: object) -> str:
    """Return whom a limit is on: a tenant, `""` for the calls of nobody, or `"*"` for all tenants together."""
    return EVERYONE if tenant_id == EVERYONE else check_payer(tenant_id)


def parse_quantity(amount: Money | None, unit: str) -> int:
    """Return an amount as stores keep it: nano-dollars, or a whole number of tokens or requests."""
    if unit == USD:
        if amount is None:
            raise ConfigurationError("limit_usd: missing; expected US dollars, for example 25")
        return parse_amount(amount)
    number = _number(amount)
    if not number.is_finite() or not 0 <= number <= MOST_COUNTED or number != int(number):
        raise ConfigurationError(
            f"amount: invalid value {shown(amount)}; expected a whole number up to 10^15, for example 100000"
        )
    return int(number)


def _number(value: object) -> Decimal:
    """Return a number as given, a float as it prints; NaN for anything else, such as the list that JSON may have."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return Decimal("NaN")
    try:
        return Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, ValueError):
        return Decimal("NaN")


def parse_signed_usd(amount: Money, name: str = "usd") -> int:
    """Return signed US dollars as nano-dollars."""
    number = _number(amount)
    if not number.is_finite() or abs(number) > MAX_LIMIT_USD or not to_nano(number):
        raise ConfigurationError(
            f"{name}: invalid value {shown(amount)}; expected US dollars other than 0, from -10^9 to 10^9, "
            "for example -3.50"
        )
    return to_nano(number)


def parse_plan(name: object) -> str:
    """Return the name of a plan: 1 to 64 printable characters."""
    usable = isinstance(name, str) and name == name.strip() and name.isprintable() and 1 <= len(name) <= PLAN_WIDTH
    if not usable:
        raise ConfigurationError(
            f"plan: invalid value {shown(name)}; expected a name of 1 to {PLAN_WIDTH} characters, for example 'pro'"
        )
    return str(name)


def parse_markup(markup: Money | None) -> str:
    """Return a markup in percent as decimal text; None is no markup."""
    if markup is None:
        return ""
    percent = _number(markup)
    if not percent.is_finite() or not -100 <= percent <= 10_000:
        raise ConfigurationError(
            f"markup: invalid value {shown(markup)}; expected percent from -100 to 10000, for example 20"
        )
    return f"{percent.normalize(MONEY):f}"[:32]


def parse_line(value: str | None, name: str) -> str:
    """Return a line of text that people read; None is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > TEXT_WIDTH or not value.isprintable():
        raise ConfigurationError(
            f"{name}: invalid value {shown(value)}; expected a line of at most {TEXT_WIDTH} characters"
        )
    return value
