"""The cost of a call that the answer itself reports: it wins over any price list.

Each shape is read wherever it is found, as gateways pass on what the provider behind them has reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ..money import MAX_COST_USD
from .reading import count, fields_of

COST_HEADER = "x-litellm-response-cost"
"""LiteLLM's proxy, and what reports to it (docs.litellm.ai, "Response Headers")."""

TICKS = "cost_in_usd_ticks"
TICK = Decimal("1e-10")

NAMES = frozenset({"cost", TICKS, "pydantic_ai_gateway"})
"""Fields of a usage object, one of which reports a cost."""


def reported_cost(usage: Mapping[str, Any]) -> Decimal | None:
    """Return the US dollars that a usage object reports, or None.

    xAI counts ticks, of which 0 means that it does not say (as on Azure). Perplexity has the total among other costs;
    OpenRouter, Vercel, Avian and LiteLLM have one number, the gateway's charge. With the account's own key at the
    provider (`is_byok`) that is only the gateway's fee.
    """
    if NAMES.isdisjoint(usage):
        return None
    ticks = count(usage.get(TICKS))
    if ticks:
        return ticks * TICK
    cost = usage.get("cost")
    if cost is None:
        return _usd(fields_of(usage.get("pydantic_ai_gateway")).get("cost_estimate"))
    details = fields_of(cost)
    if details:
        return _usd(details.get("total_cost")) if details.get("currency", "USD") == "USD" else None
    charged = _usd(cost)
    return _with_upstream(charged, usage) if charged is not None and usage.get("is_byok") is True else charged


def cost_in_headers(headers: Mapping[str, str]) -> Decimal | None:
    """Return the US dollars that a gateway reports in a header; 0 means that it knows no price."""
    return _usd(headers.get(COST_HEADER)) or None


def _with_upstream(fee: Decimal, usage: Mapping[str, Any]) -> Decimal | None:
    """Add the provider's charge to the gateway's fee; OpenRouter fills it in without an own key too (recorded)."""
    upstream = _usd(fields_of(usage.get("cost_details")).get("upstream_inference_cost"))
    return None if upstream is None else fee + upstream


def _usd(value: Any) -> Decimal | None:
    """Return an amount of US dollars that is given as a number or text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= MAX_COST_USD else None
