"""Batches: what one holds until its end is retrieved, and what it has cost by then.

A batch of OpenAI's names only a file. Its hold is a guess, which is replaced by what the tenant's batches have used.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from ..calls.request import Outcome
from ..usage import Usage
from .chat import read_answer
from .reading import count, event_id_of, fields_of
from .surfaces import Plan

logger: logging.Logger = logging.getLogger("token_limit")

REQUESTS, CHARACTERS = 100, 4_000
"""Requests that a batch is guessed to have, and characters in each of them."""

DONE = frozenset({"completed", "expired", "cancelled", "failed"})
"""How a batch of OpenAI's ends; its usage is zero or growing until then."""

TIER = "batch"


def guess(plan: Plan) -> None:
    """Assume the usual number of requests for a batch that does not say it."""
    plan.batch, plan.size, plan.max_output, plan.service_tier = REQUESTS, REQUESTS * CHARACTERS, None, TIER


def count_requests(plan: Plan) -> None:
    """Count the requests in the body of a batch, which is priced by the model of the first."""
    requests = plan.body.get("requests")
    asked = [fields_of(fields_of(row).get("params")) for row in (requests if isinstance(requests, list) else ())]
    bounds = [count(row.get("max_tokens")) for row in asked]
    plan.batch, plan.service_tier = len(asked), TIER
    plan.model = str(asked[0].get("model", "")) if asked else ""
    plan.max_output = None if None in bounds else sum(bound for bound in bounds if bound is not None)


def id_of(batch: Any) -> str:
    """Return the id of the event that tells what a batch has cost."""
    return event_id_of("batch", str(batch))


def read_queued(answer: Any) -> Outcome:
    """Read a batch that was made: its hold is kept for its end."""
    row = fields_of(answer)
    return Outcome(kept_as=id_of(fields_of(row.get("job", row)).get("id")))


def read_batch(answer: Any) -> Outcome:
    """Read a batch: the usage of all its requests, at the price of a batch. One that has ended leaves an event."""
    row = fields_of(answer)
    outcome = read_answer(row)
    if str(row.get("status")).lower() not in DONE:
        return outcome
    if outcome.usage is None and fields_of(row.get("request_counts")).get("completed") == 0:
        return Outcome(freed=id_of(row.get("id")))
    if outcome.usage is None:
        outcome.usage, outcome.tags = Usage(), {"unpriced": ["batch"]}
        _warn_of_batch()
    outcome.event_id, outcome.service_tier = id_of(row.get("id")), TIER
    return outcome


@cache
def _warn_of_batch() -> None:
    logger.warning(
        "a batch has ended without reporting its usage, so its cost is unknown and counts against no limit; record it "
        "with meter.track_manually(...) (the events have 'batch' in tags['unpriced'])"
    )
