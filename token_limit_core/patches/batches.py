"""Batches: what one holds until its end is retrieved, and what it has cost by then.

Most batches name only a file. Their hold is a guess, which is replaced by what the tenant's batches have used where a
provider reports that. A batch that ends without a report is billed by the guess for as many requests as it answered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ..calls.estimates import measure
from ..calls.request import Outcome, Request
from ..usage import Part, Usage
from .chat import read_answer
from .reading import count, event_id_of, fields_of, text
from .surfaces import Plan, max_output

logger: logging.Logger = logging.getLogger("token_limit")

REQUESTS, CHARACTERS = 100, 4_000
"""Requests that a batch is guessed to have, and characters in each of them."""

ENDED = re.compile(r"(complete|completed|success|succeeded|expired|timeout_exceeded|cancell?ed|failed)$", re.IGNORECASE)
"""How the statuses of batches that have ended end, at every provider; usage is zero or growing until then."""

FAILED = re.compile(r"failed$", re.IGNORECASE)

TIER = "batch"

Bound = Callable[[Mapping[str, Any]], int | None]


def guess(plan: Request) -> None:
    """Assume the usual number of requests for a batch that does not say it."""
    plan.batch, plan.size, plan.max_output, plan.service_tier = REQUESTS, REQUESTS * CHARACTERS, None, TIER


def count_requests(plan: Request, asked: Sequence[Mapping[str, Any]], bound: Bound) -> None:
    """Count the requests in the body of a batch. Each is priced by its own model, else by that of the batch."""
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in asked:
        models.setdefault(str(row.get("model") or plan.model), []).append(row)
    plan.batch, plan.service_tier, plan.max_output = len(asked), TIER, _bound_together(asked, bound)
    plan.model = next(iter(models), plan.model)
    if len(models) > 1:
        plan.shares = tuple(_share(plan, model, rows, bound) for model, rows in models.items())


def _share(plan: Request, model: str, rows: list[Mapping[str, Any]], bound: Bound) -> Request:
    size, unseen = measure(rows)
    share = Request(plan.provider, model, plan.endpoint, size=size, unseen=unseen, service_tier=TIER, host=plan.host)
    share.batch, share.max_output = len(rows), _bound_together(rows, bound)
    return share


def _bound_together(rows: Iterable[Mapping[str, Any]], bound: Bound) -> int | None:
    bounds = [bound(row) for row in rows]
    return None if None in bounds else sum(most for most in bounds if most is not None)


def count_messages(plan: Plan) -> None:
    """Count the requests in the body of a batch of Anthropic's."""
    rows = plan.body.get("requests")
    asked = [fields_of(fields_of(row).get("params")) for row in (rows if isinstance(rows, list) else ())]
    count_requests(plan, asked, lambda row: max_output(row, ("max_tokens",)))


def id_of(batch: Any) -> str:
    """Return the id of the event that tells what a batch has cost."""
    return event_id_of("batch", str(batch))


def read_queued(answer: Any) -> Outcome:
    """Read a batch that was made: its hold is kept for its end."""
    row = fields_of(answer)
    row = fields_of(row.get("job", row.get("batch", row)))
    return Outcome(kept_as=id_of(row.get("id", row.get("job_id", row.get("name")))))


def read_batch(answer: Any) -> Outcome:
    """Read a batch of OpenAI's protocol: the usage of all its requests, where it reports one."""
    row = fields_of(answer)
    outcome = read_answer(row)
    outcome.model = outcome.model or text(row.get("model_id")) or text(row.get("x_model_id"))
    answered = count(fields_of(row.get("request_counts")).get("completed"))
    return ended(outcome, row.get("id"), row.get("status"), answered, row.get("output_file_id"))


def ended(outcome: Outcome, batch: Any, status: Any, answered: int | None, output: Any) -> Outcome:
    """Complete the outcome of a batch whose state was retrieved. Only one that has ended leaves an event.

    One that has answered nothing gives its hold back. `output` is where the answers are, None where there are none.
    """
    if not ENDED.search(str(status)):
        return outcome
    if outcome.usage is None:
        if answered == 0 or (answered is None and not output and FAILED.search(str(status))):
            return Outcome(freed=id_of(batch))
        outcome.usage, outcome.unreported = Usage(), REQUESTS if answered is None else answered
        _warn_of_batch()
    outcome.event_id, outcome.service_tier = id_of(batch), TIER
    return outcome


def sum_of_answers(outcomes: Sequence[Outcome]) -> Outcome:
    """Add up the answers that a batch contains; without a usage where one of them reports none."""
    usages = [outcome.usage for outcome in outcomes]
    told = [usage for usage in usages if usage is not None]
    if not told or len(told) < len(usages):
        return Outcome()
    first, *others = outcomes
    return Outcome(told[0], first.model, parts=tuple(map(Part, (other.model for other in others), told[1:])))


@cache
def _warn_of_batch() -> None:
    logger.warning(
        "a batch has ended without reporting its usage, so it is billed by an estimate, or not at all with on_unpriced="
        "'free'; correct it with meter.adjust(...) (the events have 'batch' in tags['unpriced'])"
    )
