"""Limits and their states as JSON has them, by the keywords of `Meter.set_limit`; the wire of the remote backend.

An amount is a decimal text in US dollars, or a whole number of tokens or requests. Times are unix seconds. What has its
default value may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..money import as_text, to_nano, to_usd
from ..windows import FREQUENCIES, PER_MONTH, Window, parse_choice, parse_timezone
from .filters import Filter, filter_of, parse_filter
from .limit import BASES, CHARGE, ENFORCE, MODES, UNITS, USD, Limit
from .status import LimitStatus


def amount_row(amount: int, unit: str) -> str | int:
    """Write an amount that stores keep."""
    return as_text(to_usd(amount)) if unit == USD else amount


def amount_from(value: Any, unit: str) -> int:
    """Read an amount as stores keep it."""
    return to_nano(Decimal(value)) if unit == USD else int(value)


def limit_row(limit: Limit) -> dict[str, Any]:
    """Write a limit, with its id, its plan and its times."""
    row = {
        "tenant_id": limit.tenant_id,
        "amount": amount_row(limit.amount, limit.unit),
        "frequency": limit.frequency,
        "unit": limit.unit,
        "mode": limit.mode,
        "timezone": limit.timezone,
        "anchor": limit.anchor,
        "basis": None if limit.basis == CHARGE else limit.basis,
        "name": limit.name,
        "plan": limit.plan,
        "id": limit.id,
        "effective_from": limit.effective_from,
        "effective_until": limit.effective_until,
        **parse_filter(limit.filter)._asdict(),
    }
    return {name: value for name, value in row.items() if value not in (None, "")}


def limit_from(row: Mapping[str, Any]) -> Limit:
    """Read a limit. Raises `ValueError`, `TypeError`, `KeyError` or `ArithmeticError` for what no limit is like."""
    unit = parse_choice(row["unit"], UNITS, "unit")
    until = row.get("effective_until")
    return Limit(
        tenant_id=str(row.get("tenant_id", "")),
        amount=amount_from(row["amount"], unit),
        frequency=parse_choice(row.get("frequency", PER_MONTH), FREQUENCIES, "frequency"),
        mode=parse_choice(row.get("mode", ENFORCE), MODES, "mode"),
        filter=filter_of(**{name: row.get(name) for name in Filter._fields}),
        unit=unit,
        effective_from=float(row.get("effective_from", 0.0)),
        effective_until=None if until is None else float(until),
        id=int(row.get("id", 0)),
        timezone=parse_timezone(row.get("timezone")),
        anchor=str(row.get("anchor", "")),
        plan=str(row.get("plan", "")),
        basis=parse_choice(row.get("basis", CHARGE), BASES, "basis"),
        name=str(row.get("name", "")),
    )


def status_row(status: LimitStatus) -> dict[str, Any]:
    """Write a limit with what its window holds; `top_ups` are in the amount's unit."""
    unit = status.limit.unit
    amounts = {"spent": status.settled, "held": status.held, "top_ups": status.extra}
    return {
        "limit": limit_row(status.limit),
        "window": list(status.window),
        **{name: amount_row(amount, unit) for name, amount in amounts.items()},
        **({"user": status.subject} if status.subject else {}),
    }


def status_from(row: Mapping[str, Any]) -> LimitStatus:
    """Read the state of a limit. Raises what `limit_from` raises."""
    limit = limit_from(row["limit"])
    start, end = row["window"]
    settled, held, extra = (amount_from(row[name], limit.unit) for name in ("spent", "held", "top_ups"))
    return LimitStatus(limit, Window(int(start), int(end)), settled, held, extra, str(row.get("user", "")))
