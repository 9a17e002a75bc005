"""What tenants are billed where the application says it itself: the function of the setting `markup`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from ..events import LLMEvent, own_copy, parse_cost
from ..money import Money
from ..runtime.faults import internal_errors

Markup = Callable[[LLMEvent], Money | None]
"""Returns what the tenant is billed for an event in US dollars; None: the markup of the tenant or its plan decides."""


def mark_up(markup: Markup, event: LLMEvent) -> None:
    """Set the charge of an event by the application's function, unless the event has one."""
    if "charge_usd" not in vars(event):
        charge = charge_of(markup, own_copy(event))
        if charge is not None:
            event.charge_usd = charge


def charge_of(markup: Markup, event: LLMEvent) -> Decimal | None:
    """Ask the application's function; None where it does not say, or fails."""
    charge = None
    with internal_errors("calling markup"):
        given = markup(event)
        charge = None if given is None else parse_cost(given, "markup")
    return charge
