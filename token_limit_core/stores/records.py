"""The rows of a store: admitted calls, holds, ledger entries and their sums, API keys, deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from ..events import LLMEvent
from ..limits import CounterKey

HOLD_SECONDS = 900.0
"""A hold expires after 15 minutes: longer than SDK time-outs, short enough to free a crashed call's money."""

KEEP_SECONDS = 35 * 86400
"""Pruning never touches younger rows: the longest window plus the age at which late events are still taken."""

Recorded = Literal["stored", "duplicate"]

INGEST, CHECK, SET_LIMIT = "ingest", "check", "set-limit"
PERMISSIONS = (INGEST, CHECK, SET_LIMIT)
DEFAULT_PERMISSIONS = (INGEST, CHECK)


class Call(NamedTuple):
    """What admission knows of a call: who pays, and how much to set aside (nano-dollars; None is unpriced)."""

    call_id: str
    tenant_id: str
    estimate: int | None
    hold_seconds: float = HOLD_SECONDS
    origin: str = "call"
    tokens: int = 0
    """The same estimate in tokens, for a backend that counts those."""


call_of = partial(tuple.__new__, Call)
"""Make a Call of its six parts in half the time of `Call(...)`."""


class Hold(NamedTuple):
    """Money set aside for a call in flight (nano-dollars), and the counters it is held on."""

    call_id: str
    tenant_id: str
    amount: int | None
    created_at: float
    expires_at: float
    origin: str = "call"
    state: str = "open"
    items: tuple[CounterKey, ...] = ()

    @property
    def held(self) -> int:
        """What each counter holds for the call (nano-dollars); an unpriced call holds nothing."""
        return 0 if self.amount is None else self.amount


hold_of = partial(tuple.__new__, Hold)
"""Make a Hold of its eight parts."""


class Entry(NamedTuple):
    """One row of the append-only ledger: the event plus the signed nano-dollars it adds (None is unpriced)."""

    event: LLMEvent
    cost_nano: int | None
    kind: str = "call"
    corrects: str | None = None

    @property
    def charged(self) -> int:
        """What the row adds to a counter (nano-dollars); an unpriced one adds nothing."""
        return 0 if self.cost_nano is None else self.cost_nano


entry_of = partial(tuple.__new__, Entry)
"""Make an Entry of its four parts."""


class Spend(NamedTuple):
    """Totals of a tenant over a span of time; `unpriced` counts events without a known cost."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    unpriced: int


NO_SPEND = Spend(0, 0, 0, 0, 0)


def add_spends(one: Spend, other: Spend) -> Spend:
    """Add two totals."""
    return Spend(*(a + b for a, b in zip(one, other, strict=True)))


class Pruned(NamedTuple):
    """How many rows a prune removed, and how many expired holds it settled first."""

    events: int
    holds: int
    counters: int
    expired: int


def expiry_of(hold: Hold) -> Entry:
    """Make the ledger row of a hold that expired: charged at what it held, in the window it was admitted in."""
    event = LLMEvent(
        event_id=f"{hold.call_id}/expired",
        tenant_id=hold.tenant_id,
        timestamp=hold.created_at,
        error="HoldExpired",
        tags={"estimated": True},
    )
    return Entry(event, hold.amount, kind="expiry")


def correction_of(hold: Hold) -> Entry:
    """Make the row that takes an expiry back when the real settle arrives after all."""
    event = LLMEvent(event_id=f"{hold.call_id}/correction", tenant_id=hold.tenant_id, timestamp=hold.created_at)
    amount = None if hold.amount is None else -hold.amount
    return Entry(event, amount, kind="correction", corrects=f"{hold.call_id}/expired")


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
        total.cost_nano + entry.charged,
        total.unpriced + (is_call and entry.cost_nano is None),
    )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is stored: `public_id` finds it, `digest` is the hash of its token, the token is not stored.

    `tenants` are ids, or prefixes of ids that end in `*`. Times are unix seconds.
    """

    public_id: str
    digest: str
    account: str
    name: str = ""
    tenants: tuple[str, ...] = ()
    permissions: tuple[str, ...] = DEFAULT_PERMISSIONS
    created_at: float = 0.0
    revoked_at: float | None = None

    def allows(self, permission: str) -> bool:
        """Return whether the key has this permission."""
        return permission in self.permissions

    def covers(self, tenant_id: str) -> bool:
        """Return whether the key may act for this tenant."""
        return any(
            tenant_id.startswith(name[:-1]) if name.endswith("*") else tenant_id == name for name in self.tenants
        )


class Claim(NamedTuple):
    """A delivery that a sender has claimed: the number of its row, and the entry to deliver."""

    id: int
    entry: Entry
