"""A model of limits, plans, filters and top-ups in plain Python: no windows in keys, no counters, only sums of lists.

It keeps every call and decides from scratch. Amounts are as stores keep them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl

from token_limit_core.limits import ENFORCE, EVERYONE, OBSERVE, STRICT, Limit
from token_limit_core.stores.records import Call
from token_limit_core.windows import TOTAL, window_of


@dataclass
class Row:
    """A call in flight (cost None) or one that has ended."""

    call: Call
    at: float
    cost: int | None = None
    tokens: int | None = None
    held_on: dict[int, int] = field(default_factory=dict)
    """What limits hold for it, by their generation."""


@dataclass
class Added:
    tenant: str
    frequency: str
    filter: str
    user: str
    amount: int
    at: float


@dataclass
class Model:
    own: dict[str, list[Limit]] = field(default_factory=dict)
    plans: dict[str, list[Limit]] = field(default_factory=dict)
    on: dict[str, str] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)
    top_ups: list[Added] = field(default_factory=list)
    adjustments: list[tuple[str, str | None, float, int]] = field(default_factory=list)
    numbers: int = 0

    generations: dict[tuple[str, ...], tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Limits of one generation share counters, with what these hold: by identity, a number and what is measured."""

    def set_limit(self, limit: Limit) -> None:
        mine = self.own.setdefault(limit.tenant_id, [])
        mine[:] = [row for row in mine if row.identity != limit.identity] + [limit]
        self.renew(limit)

    def remove_limit(self, limit: Limit) -> None:
        self.own[limit.tenant_id] = [row for row in self.own[limit.tenant_id] if row.identity != limit.identity]
        del self.generations[limit.identity]

    def set_plan(self, name: str, limits: list[Limit]) -> None:
        kept = {limit.identity for limit in limits}
        for gone in self.plans.get(name, []):
            if gone.identity not in kept:
                del self.generations[gone.identity]
        self.plans[name] = limits
        for limit in limits:
            self.renew(limit)

    def assign_plan(self, tenant: str, plan: str | None) -> None:
        if self.on.get(tenant, "") != (plan or ""):
            left = {self.generations[row.identity][0] for row in self.plans.get(self.on.get(tenant, ""), [])}
            for row in self.rows:
                if row.call.tenant_id == tenant:
                    row.held_on = {number: amount for number, amount in row.held_on.items() if number not in left}
        self.on[tenant] = plan or ""

    def renew(self, limit: Limit) -> None:
        """Begin a new generation where a limit is new, or measures something else."""
        before = self.generations.get(limit.identity)
        if before is None or before[1] != limit.measure:
            self.numbers += 1
            self.generations[limit.identity] = (self.numbers, limit.measure)

    def admitted(self, call: Call, at: float) -> Row:
        limits = [limit for limit in self.limits_of(call.tenant_id) if matches(limit, call)]
        held_on = {self.generations[limit.identity][0]: self.amount(limit, call, at) for limit in limits}
        row = Row(call, at, held_on=held_on)
        self.rows.append(row)
        return row

    def amount(self, limit: Limit, call: Call, at: float) -> int:
        """Return what a limit holds: near its end what the call costs at the most, or its part of what is unspent."""
        least, ceiling = held(limit, call), most(limit, call)
        if 64 * ceiling <= self.room(limit, call, at):
            return least
        spent, _ = self.state(limit, call.tenant_id, call.user, at)
        unspent = limit.amount + self.added(limit, call.tenant_id, call.user, at) - spent
        return max(least, min(ceiling, unspent // call.together))

    def limits_of(self, tenant: str) -> list[Limit]:
        own = self.own.get(tenant, [])
        taken = {(row.frequency, row.filter) for row in own}
        plan = [row for row in self.plans.get(self.on.get(tenant, ""), []) if (row.frequency, row.filter) not in taken]
        return own + plan + self.own.get(EVERYONE, [])

    def decide(self, call: Call, at: float) -> bool:
        """Tell whether a call fits every limit that matches it."""
        if call.tenant_id in self.suspended:
            return False
        return all(
            limit.mode == OBSERVE or self.room(limit, call, at) >= self.needed(limit, call)
            for limit in self.limits_of(call.tenant_id)
            if matches(limit, call)
        )

    def needed(self, limit: Limit, call: Call) -> int:
        return max(1, held(limit, call)) if limit.mode == STRICT else 1

    def room(self, limit: Limit, call: Call, at: float) -> int:
        spent, in_flight = self.state(limit, call.tenant_id, call.user, at)
        return limit.amount + self.added(limit, call.tenant_id, call.user, at) - spent - in_flight

    def state(self, limit: Limit, tenant: str, user: str | None, at: float) -> tuple[int, int]:
        """Sum what was spent and what is in flight on a limit, in the window of `at`."""
        window = window_of(limit.frequency, at, limit.timezone, limit.anchor)
        spent = in_flight = 0
        for row in self.rows:
            same = limit.tenant_id == EVERYONE or row.call.tenant_id == tenant
            its = not each_user(limit) or row.call.user == user
            if same and its and matches(limit, row.call) and window.start <= row.at < window.end:
                if row.cost is None:
                    in_flight += row.held_on.get(self.generations[limit.identity][0], 0)
                else:
                    spent += {"usd": row.cost, "tokens": row.tokens or 0, "requests": 1}[limit.unit]
        if limit.unit == "usd":
            for whose, of_user, when, amount in self.adjustments:
                same = limit.tenant_id == EVERYONE or whose == tenant
                probe = Call("", whose, 0, user=of_user, provider="adjustment")
                its = not each_user(limit) or of_user == user
                if same and its and matches(limit, probe) and window.start <= when < window.end:
                    spent += amount
        return spent, in_flight

    def added(self, limit: Limit, tenant: str, user: str | None, at: float) -> int:
        if limit.unit != "usd":
            return 0
        window = window_of(limit.frequency, at, limit.timezone, limit.anchor)
        owner, subject = EVERYONE if limit.tenant_id == EVERYONE else tenant, (user or "") if each_user(limit) else ""
        return sum(
            one.amount
            for one in self.top_ups
            if (one.tenant, one.frequency, one.filter, one.user) == (owner, limit.frequency, limit.filter, subject)
            and (limit.frequency == TOTAL or window.start <= one.at < window.end)
        )


def each_user(limit: Limit) -> bool:
    return dict(parse_qsl(limit.filter)).get("user") == "*"


def held(limit: Limit, call: Call) -> int:
    strict = limit.mode == STRICT
    if limit.unit == "requests":
        return 1
    if limit.unit == "tokens":
        return (call.worst_tokens if strict else call.tokens) or 0
    return (call.worst_case if strict else call.estimate) or 0


def most(limit: Limit, call: Call) -> int:
    """Return what an enforced limit holds near its end."""
    if limit.mode != ENFORCE or limit.unit == "requests":
        return 0
    return (call.ceiling_tokens if limit.unit == "tokens" else call.ceiling) or 0


def matches(limit: Limit, call: Call) -> bool:
    known = {"model": call.model, "provider": call.provider, "feature": call.feature, "user": call.user}
    for name, pattern in parse_qsl(limit.filter):
        value = known[name]
        if name == "user" and pattern != "*":
            if value != pattern:
                return False
        elif not value or not fnmatchcase(value.lower(), pattern.lower()):
            return False
    return True
