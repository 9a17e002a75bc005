"""The rows of a store but the ledger's: admitted calls, holds, counters, tenants, API keys, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Literal, NamedTuple, TypeAlias

from ..limits import COST, ENFORCE, REQUESTS, STRICT, TOKENS, CounterKey, Limit
from ..limits.filters import Facts
from ..limits.notices import NEVER
from ..money import add_percent
from ..windows import Window

HOLD_SECONDS = 900.0
"""A hold expires after 15 minutes: longer than SDK time-outs, short enough to free a crashed call's money."""

LEASE = "lease"
"""The origin of a hold that is a lease."""

NEAR = 64
"""An enforced limit is near its end while this many ceilings of a call do not fit into what is left of it."""

KEEP_SECONDS = 35 * 86400
"""Pruning never touches younger rows: the longest window plus the age at which late events are still taken."""

Recorded = Literal["stored", "duplicate"]

INGEST, CHECK, SET_LIMIT = "ingest", "check", "set-limit"
PERMISSIONS = (INGEST, CHECK, SET_LIMIT)
DEFAULT_PERMISSIONS = (INGEST, CHECK)


Charges: TypeAlias = tuple[int | None, int | None, int | None]
"""What a tenant is billed for the estimate, the worst case and the ceiling of a call (nano-dollars)."""


class Call(NamedTuple):
    """What admission knows of a call: who pays, how much to set aside, and what the filters of limits look at.

    `estimate`, `worst_case` and `ceiling` are nano-dollars; `tokens`, `worst_tokens` and `ceiling_tokens` are the same
    in tokens. The estimate is None for a call without a price. A strict limit holds the worst case, and refuses a call
    without one as "unpriced". An enforced limit holds the estimate; near its end it holds the `ceiling`, which is what
    the call may cost. So many calls as `together` are let in at once however little is left: the ceiling counts for no
    more than that part of what is not spent. `charges` is what the tenant is billed for the estimate, the
    worst case and the ceiling, where that is not the cost.
    """

    call_id: str
    tenant_id: str
    estimate: int | None
    hold_seconds: float = HOLD_SECONDS
    origin: str = "call"
    tokens: int = 0
    provider: str = ""
    model: str = ""
    user: str | None = None
    feature: str | None = None
    worst_case: int | None = None
    worst_tokens: int | None = None
    ceiling: int | None = None
    ceiling_tokens: int | None = None
    charges: Charges | None = None
    together: int = 1

    @property
    def facts(self) -> Facts:
        """What filters look at."""
        return Facts(self.provider, self.model, self.user, self.feature)

    def marked_up(self, percent: str) -> Call:
        """Add a markup, unless the application says itself what the tenant is billed."""
        if not percent or self.charges is not None:
            return self
        estimate, worst_case, ceiling = (
            None if cost is None else add_percent(cost, percent)
            for cost in (self.estimate, self.worst_case, self.ceiling)
        )
        return self._replace(charges=(estimate, worst_case, ceiling))

    def amounts(self, basis: str) -> Charges:
        """Return the estimate, the worst case and the ceiling that limits of a basis count."""
        if self.charges is None or basis == COST:
            return self.estimate, self.worst_case, self.ceiling
        return self.charges

    def amount_on(self, limit: Limit) -> int | None:
        """Return what a limit holds for the call, in the limit's unit; None where that is not known."""
        if limit.unit == REQUESTS:
            return 1
        if limit.unit == TOKENS:
            return self.worst_tokens if limit.mode == STRICT else self.tokens
        estimate, worst_case, _ = self.amounts(limit.basis)
        return worst_case if limit.mode == STRICT else estimate

    def ceiling_on(self, limit: Limit) -> int | None:
        """Return what the call may take of an enforced limit, in its unit; None where nobody knows."""
        if limit.mode != ENFORCE or limit.unit == REQUESTS:
            return None
        return self.ceiling_tokens if limit.unit == TOKENS else self.amounts(limit.basis)[2]


call_of = partial(tuple.__new__, Call)
"""Make a Call of its sixteen parts in half the time of `Call(...)`."""


class Hold(NamedTuple):
    """What is set aside for a call in flight, and the counters it is held on.

    `amount` (nano-dollars, None for a call without a price) and `tokens` are what the call costs if it never ends, and
    `charge` what the tenant is billed then, None where that is the amount.
    `process` is where the call is made, as `host:pid`; empty is not known.
    `amounts` are what each of the `items` holds, in its limit's unit; None says that each holds the amount.
    """

    call_id: str
    tenant_id: str
    amount: int | None
    created_at: float
    expires_at: float
    origin: str = "call"
    state: str = "open"
    tokens: int = 0
    provider: str = ""
    model: str = ""
    user: str | None = None
    feature: str | None = None
    process: str = ""
    charge: int | None = None
    items: tuple[CounterKey, ...] = ()
    amounts: tuple[int, ...] | None = None

    @property
    def held(self) -> int:
        """The amount (nano-dollars); a call without a price holds none."""
        return 0 if self.amount is None else self.amount

    def charge_for(self, amount: int | None) -> int | None:
        """Return what the tenant would be billed for another amount, in proportion and rounded up."""
        if self.charge is None or not self.amount or amount is None:
            return self.charge
        return -(-amount * self.charge // self.amount)

    def held_on(self) -> Iterator[tuple[CounterKey, int]]:
        """Yield each counter with what it holds for the call, in its limit's unit."""
        return zip(self.items, repeat(self.held) if self.amounts is None else self.amounts, strict=False)


hold_of = partial(tuple.__new__, Hold)
"""Make a Hold of its sixteen parts."""


class Counter(NamedTuple):
    """What a counter holds. `extra` is what top-ups add to the limit; some of that ends at `extra_until`.

    `notify_at` is the amount of the next threshold.
    """

    settled: int
    held: int = 0
    extra: int = 0
    extra_until: float | None = None
    notify_at: int = NEVER

    def ends(self, now: float) -> bool:
        """Return whether a top-up has expired that the counter still has."""
        return self.extra_until is not None and self.extra_until <= now


class Drift(NamedTuple):
    """A counter that differs from what it sums up, in its limit's unit as stores keep it.

    `settled` and `held` are what the counter says, `spent` is what the ledger says and `in_flight` what holds say.
    """

    limit: Limit
    window: Window
    key: CounterKey
    settled: int
    held: int
    spent: int
    in_flight: int

    @property
    def tenant_id(self) -> str:
        """Whose counter it is; `*` is all tenants together."""
        return self.key.tenant_id

    @property
    def subject(self) -> str:
        """The user of a limit on each user, else empty."""
        return self.key.subject


class Tenant(NamedTuple):
    """The state of a tenant. `plan` is empty without a plan, and None where none was ever assigned.

    `suspended_at` is unix seconds, None for a tenant that may call. `markup` is percent as decimal text, None where the
    plan's holds.
    """

    tenant_id: str
    name: str = ""
    plan: str | None = None
    suspended_at: float | None = None
    first_seen: float = 0.0
    markup: str | None = None


class Pruned(NamedTuple):
    """How many rows a prune removed, and how many expired holds it settled first."""

    events: int
    holds: int
    counters: int
    expired: int


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


class KeptFigures(NamedTuple):
    """Figures that take long to add up, as text, and their time; who adds up newer ones has claimed that.

    Times are unix seconds. `failure` says why the last attempt failed, and is empty after one that did not.
    """

    name: str
    body: str = ""
    at: float = 0.0
    claimed_until: float = 0.0
    failure: str = ""


class Refusal(NamedTuple):
    """Calls of a tenant that were refused in one minute for one reason.

    `minute` and `last_at` are unix seconds. `limited_by` is the frequency and the filter of the limit, empty if
    there is none. The fields after `last_at` are those of the last call.
    """

    tenant_id: str
    minute: int
    kind: str
    limited_by: str
    calls: int
    last_at: float
    model: str = ""
    endpoint: str = ""
    user: str | None = None
    feature: str | None = None

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What the refusals that are counted together have in common."""
        return self[:4]

    def plus(self, later: Refusal) -> Refusal:
        """Add refusals of the same key to these; the last call is the later one."""
        last = later if later.last_at >= self.last_at else self
        return last._replace(calls=self.calls + later.calls)
