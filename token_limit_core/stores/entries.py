"""The entries of the ledger, and the totals of what they add up to."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from ..events import LLMEvent
from ..limits import COST, REQUESTS, TOKENS, Limit
from ..limits.filters import Facts
from ..money import add_percent, to_nano, to_usd
from .records import Hold


class Entry(NamedTuple):
    """One row of the append-only ledger: the event plus the signed nano-dollars it adds (None is unpriced).

    `charge_nano` is what the tenant is billed, None where that is the cost.
    `kind` is "call", or "expiry", "correction", "adjustment" and "reprice" for what only moves amounts.
    """

    event: LLMEvent
    cost_nano: int | None
    kind: str = "call"
    corrects: str | None = None
    charge_nano: int | None = None

    def marked_up(self, percent: str) -> Entry:
        """Add a markup to what the tenant is billed for a call, unless that is given; the event says it, too."""
        if self.charge_nano is not None or self.cost_nano is None:
            return self
        if not percent:
            vars(self.event).pop("charge_usd", None)
            return self
        charge_nano = add_percent(self.cost_nano, percent)
        self.event.charge_usd = to_usd(charge_nano)
        return self._replace(charge_nano=charge_nano)

    @property
    def spent(self) -> int:
        """What the provider takes (nano-dollars); nothing is known of an unpriced row."""
        return 0 if self.cost_nano is None else self.cost_nano

    @property
    def charged(self) -> int:
        """What the tenant is billed (nano-dollars); an unpriced row adds nothing."""
        return self.spent if self.charge_nano is None else self.charge_nano

    @property
    def facts(self) -> Facts:
        """What filters look at."""
        event = self.event
        return Facts(event.provider, event.model, event.user, event.feature, event.tags.get("requested_model"))

    def amount_on(self, limit: Limit) -> int:
        """Return what the row adds to a counter of a limit, in the limit's unit."""
        if limit.unit == TOKENS:
            return self.event.total_tokens
        if limit.unit == REQUESTS:
            return REQUESTS_OF.get(self.kind, 0)
        return self.spent if limit.basis == COST else self.charged


REQUESTS_OF = {"call": 1, "expiry": 1, "correction": -1}
"""How many requests a row of each kind counts as: a call whose hold expired counts, once."""

entry_of = partial(tuple.__new__, Entry)
"""Make an Entry of its five parts."""


def entry_for(event: LLMEvent, cost_nano: int | None) -> Entry:
    """Make the row of an event, with the charge that the application gave it, if it did."""
    given = vars(event).get("charge_usd")
    return Entry(event, cost_nano, charge_nano=None if given is None else to_nano(given))


class Spend(NamedTuple):
    """Totals of a tenant over a span of time: what providers took, and what the tenant is billed (nano-dollars).

    `unpriced` counts events without a known cost.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    unpriced: int
    charge_nano: int


NO_SPEND = Spend(0, 0, 0, 0, 0, 0)


def add_spends(one: Spend, other: Spend) -> Spend:
    """Add two totals."""
    return Spend(*(a + b for a, b in zip(one, other, strict=True)))


def expiry_of(hold: Hold) -> Entry:
    """Make the ledger row of a hold that expired: charged at what it held, in the window it was admitted in."""
    event = _event_of(hold, "expired", hold.tokens)
    event.error, event.tags = "HoldExpired", {"estimated": True}
    return Entry(event, hold.amount, kind="expiry", charge_nano=hold.charge)


def correction_of(hold: Hold) -> Entry:
    """Make the row that takes an expiry back when the real settle arrives after all."""
    amount, charge = (None if held is None else -held for held in (hold.amount, hold.charge))
    event = _event_of(hold, "correction", -hold.tokens)
    return Entry(event, amount, "correction", f"{hold.call_id}/expired", charge)


def rows_of_call(call_id: str) -> list[str]:
    """Return the event ids of a call, of its expiry and of the correction of that."""
    return [call_id, f"{call_id}/expired", f"{call_id}/correction"]


def _event_of(hold: Hold, name: str, tokens: int) -> LLMEvent:
    return LLMEvent(
        event_id=f"{hold.call_id}/{name}",
        tenant_id=hold.tenant_id,
        provider=hold.provider or LLMEvent.provider,
        model=hold.model,
        user=hold.user,
        feature=hold.feature,
        total_tokens=tokens,
        timestamp=hold.created_at,
    )


def day_of(timestamp: float) -> int:
    """Return the UTC day of a unix time as days since 1970."""
    return int(timestamp // 86400)


def add_to_spend(total: Spend, entry: Entry) -> Spend:
    """Add one ledger row to a total; only calls count as calls, corrections only move money."""
    event, is_call = entry.event, entry.kind == "call"
    return Spend(
        total.calls + is_call,
        total.input_tokens + event.input_tokens,
        total.output_tokens + event.output_tokens,
        total.cost_nano + entry.spent,
        total.unpriced + (is_call and entry.cost_nano is None),
        total.charge_nano + entry.charged,
    )


class Claim(NamedTuple):
    """A delivery that a sender has claimed: the number of its row, and the entry to deliver."""

    id: int
    entry: Entry
