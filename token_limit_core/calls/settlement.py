"""From the end of a call to the event that records it: pure, no I/O."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..events import LLMEvent, made_of
from ..hosts import REPORT_COSTS
from ..money import to_usd
from ..pricing import ASSUMED, first_price, price_event
from ..usage import BASE_COUNTS, OTHER_COUNTS, Usage
from .failures import describe_error, may_be_billed

if TYPE_CHECKING:
    from ..usage import Part
    from .flight import Flight
    from .request import Outcome, Settlement


def conclude(flight: Flight, outcome: Outcome) -> Settlement | None:
    """Turn the end of a call into its event and its cost.

    None when it only asked what an earlier call has cost, and was not told, or when it has made a batch.
    """
    request, usage, estimated = flight.request, outcome.usage, outcome.estimated
    if outcome.event_id is None and (request.later or (request.batch is not None and outcome.kept_as is not None)):
        return None
    if outcome.service_tier is not None:
        request.service_tier = outcome.service_tier  # the tier that answered is the one that is billed
    if outcome.fields:
        request.provider = outcome.fields.get("provider", request.provider)
    if outcome.unreported is not None:
        usage, estimated = _assume_batch(flight, outcome, outcome.unreported)
    elif usage is None:
        usage, estimated = _assume(flight, outcome)
    elif usage.input_tokens is None and usage.output_tokens and not outcome.extracted:
        usage.input_tokens, usage.total_tokens, estimated = flight.estimate[0], None, True  # no output comes of nothing
    counts = vars(usage)
    event = _event(flight, outcome, counts)
    received = usage.received() if "cache_outside_input" in counts else event.input_tokens
    certain = False
    if estimated:
        event.tags["estimated"] = True
    elif usage is outcome.usage and outcome.error is None and not request.later and "estimated" not in event.tags:
        flight.habit.learn(request.size, received, event.output_tokens, request.unseen)
        certain = True
    cost = _price(flight, event, usage, outcome)
    if request.later and request.batch is not None and cost and not estimated:
        flight.learn_batch(event, cost, received)
    if certain and not flight.lost_attempts:
        flight.learn_cost(event, cost, received)
    if outcome.event_id is None:
        return flight.call_id, event, cost, None
    event.event_id = outcome.event_id
    return event.event_id, event, cost, None if request.later else flight.call_id


def _event(flight: Flight, outcome: Outcome, counts: dict[str, Any]) -> LLMEvent:
    """Make the event of a call, with all but its cost."""
    request, scope = flight.request, flight.scope
    model = request.model if outcome.model is None else outcome.model
    tags = flight.tags if outcome.tags is None else {**flight.tags, **outcome.tags}
    if model != request.model and request.model:
        tags["requested_model"] = request.model
    received, generated = counts.get("input_tokens"), counts.get("output_tokens")
    if received is None:
        received = 0  # the base counts have no None on an event
    if generated is None:
        generated = 0
    total, cached = counts.get("total_tokens"), counts.get("cached_tokens")
    row = {
        "event_id": flight.call_id,
        "tenant_id": flight.tenant_id,
        "session_id": None if scope is None else scope.session_id,
        "provider": request.provider,
        "model": model,
        "endpoint": request.endpoint,
        "input_tokens": received,
        "output_tokens": generated,
        "total_tokens": received + generated if total is None else total,
        "cached_tokens": 0 if cached is None else cached,
        "duration_ms": ((time.perf_counter() if flight.ended is None else flight.ended) - flight.started) * 1000,
        "timestamp": flight.started_at,
        "request_id": outcome.request_id,
        "stream": request.stream,
        "error": None if outcome.error is None else describe_error(outcome.error),
        "service_tier": request.service_tier,
        "tags": tags,
    }
    if not OTHER_COUNTS.isdisjoint(counts):
        row.update((name, count) for name, count in counts.items() if count is not None and name in OTHER_COUNTS)
    if scope is not None and scope.attributes:
        _attribute(row, scope.attributes)
    for fields in (request.fields, outcome.fields):
        if fields:
            row.update(fields)
    return made_of(LLMEvent, row)


def _price(flight: Flight, event: LLMEvent, usage: Usage, outcome: Outcome) -> int | None:
    """Set the event's cost, with that of its parts; nano-dollars, None when no price is known."""
    cost_usd = flight.cost_usd if outcome.cost_usd is None else outcome.cost_usd
    if cost_usd or (cost_usd is not None and (outcome.extracted or flight.request.provider in REPORT_COSTS)):
        event.cost_usd = cost_usd
    request, billed = flight.request, usage if outcome.billed is None else outcome.billed
    names = request.priced_as, event.model, request.model or None
    engine = flight.engine
    cost = price_event(event, billed, engine.prices, names, outcome.parts, request)
    if cost is None and event.error is None and not request.later and not any(billed.billable().values()):
        cost = _price_unmeasured(flight, event, names)
    if cost is None or "price_assumed" in event.tags:
        engine.count("unpriced" if cost is None else "assumed")
    for part in outcome.parts:
        _add(event, part)
    return _add_lost_attempts(flight, event, billed, names, cost) if flight.lost_attempts else cost


def _add_lost_attempts(
    flight: Flight, event: LLMEvent, billed: Usage, names: Sequence[str | None], cost: int | None
) -> int | None:
    """Bill each attempt that got no answer at the input of the one that did, or at the estimate of it."""
    event.tags |= {"lost_attempts": flight.lost_attempts, "estimated": True}
    price = first_price(event, flight.engine.prices, names) or flight.price  # which may be an assumed one
    if price is None or cost is None:
        event.tags.setdefault("unpriced", []).append("lost_attempts")
        return cost
    cost += flight.lost_attempts * price.of_tokens(billed.received() or flight.estimate[0], 0)
    event.cost_usd, event.price_version = to_usd(cost), price.version
    event.price_source = event.price_source or price.source
    return cost


def _price_unmeasured(flight: Flight, event: LLMEvent, names: Sequence[str | None]) -> int | None:
    """Bill a call that does not say what it used by its estimate, if prices are assumed; else it has no cost."""
    if flight.engine.config.on_unpriced != "assume":
        return None
    received, generated = flight.estimate
    usage = Usage(input_tokens=received, output_tokens=generated)
    event.tags["estimated"] = True
    return price_event(event, usage, flight.engine.prices, names, (), flight.request)


def _add(event: LLMEvent, part: Part) -> None:
    """Add the counts of a part to an event."""
    for name in (*BASE_COUNTS, *OTHER_COUNTS) if part.counted else ():
        more, counted = getattr(part.usage, name), getattr(event, name)
        if more is not None:
            setattr(event, name, more if counted is None else counted + more)
    if part.model is not None and part.model != event.model:
        event.tags.setdefault("other_models", []).append(part.model)


def _assume(flight: Flight, outcome: Outcome) -> tuple[Usage, bool]:
    """Return the usage to bill where the provider did not say, and whether it is our estimate.

    An HTTP error costs nothing; an answer that broke off, or a connection lost after sending, costs the input
    and what was seen of the output.
    """
    if outcome.extracted:  # it said all it knows
        return Usage(), False
    if outcome.unsent or (outcome.error is not None and not outcome.answered and not may_be_billed(outcome.error)):
        return Usage(input_tokens=0, output_tokens=0), False
    return Usage(input_tokens=flight.estimate[0], output_tokens=outcome.observed_output), True


def _assume_batch(flight: Flight, outcome: Outcome, requests: int) -> tuple[Usage, bool]:
    """Return the usage of a batch that has ended without reporting any, and set its cost: its estimate, unless free."""
    outcome.tags = {**(outcome.tags or {}), "unpriced": ["batch"]}
    free = flight.engine.config.on_unpriced == "free"
    cost = None if free else flight.estimate_unreported(outcome.model, requests)
    price = flight.price
    if cost is None or price is None:
        return Usage(), False
    outcome.cost_usd = to_usd(cost)
    outcome.fields = {"price_source": price.source, "price_version": price.version}
    if price.source == ASSUMED:
        outcome.tags["price_assumed"] = price.version
    received, generated = flight.estimate
    return Usage(input_tokens=received, output_tokens=generated), True


def _attribute(row: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Put a Scope's attributes on the event: `user` and `feature` have fields, the rest are tags."""
    for name, value in attributes.items():
        if name in ("user", "feature"):
            row[name] = None if value is None else str(value)
        else:
            row["tags"][name] = value
