"""Notices: what people are told when the spend of a limit crosses a threshold. Arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from ..money import as_text, to_usd
from .limit import USD, Limit
from .status import LimitStatus

FULL = 100
"""The percent at which a limit is used up."""

NEVER = 2**62
"""The amount that no counter reaches."""

NoticeKind = Literal["threshold", "recovered"]


@dataclass(frozen=True, slots=True)
class Notice:
    """A threshold that a limit has crossed in its current window.

    `kind` is "threshold", or "recovered" when a limit that was used up has room again; `percent` is 100 then.
    `tenant_id` is `"*"` for a limit on all tenants together. `at` is unix seconds. `id` is the same at each delivery.
    """

    id: str
    kind: NoticeKind
    tenant_id: str
    percent: int
    status: LimitStatus
    at: float

    @property
    def limit(self) -> Limit:
        """The limit."""
        return self.status.limit

    @property
    def limit_usd(self) -> Decimal | None:
        """The amount with its top-ups in US dollars; None where the unit is another."""
        return to_usd(self.status.ceiling) if self.limit.unit == USD else None

    @property
    def spent_usd(self) -> Decimal | None:
        """What was spent in the window in US dollars; None where the unit is another."""
        return self.status.spent_usd

    @property
    def resets_at(self) -> int | None:
        """When the window ends (unix seconds); None for a total."""
        return self.status.resets_at

    @property
    def user(self) -> str:
        """Whose counter it is, for a limit on each user; else empty."""
        return self.status.subject

    def to_dict(self) -> dict[str, Any]:
        """Return the notice for JSON; dollars are decimal strings."""
        usd, limit, status = self.limit.unit == USD, self.limit, self.status
        amounts = {"limit": status.ceiling, "spent": status.settled}
        in_unit = {f"{name}_usd": as_text(to_usd(one)) for name, one in amounts.items()} if usd else amounts
        return {
            "id": self.id,
            "kind": self.kind,
            "tenant_id": self.tenant_id,
            "percent": self.percent,
            **in_unit,
            "unit": limit.unit,
            "frequency": limit.frequency,
            "filter": limit.filter,
            "plan": limit.plan,
            "name": limit.name,
            "user": self.user,
            "resets_at": self.resets_at,
            "at": self.at,
        }


def threshold_at(ceiling: int, percent: int) -> int:
    """Return the smallest amount that is at least a percentage of a limit."""
    return -(-ceiling * percent // 100)


def passed(thresholds: Iterable[int], settled: int, ceiling: int) -> set[int]:
    """Return the thresholds that an amount has reached; a limit of nothing has none."""
    return {percent for percent in thresholds if ceiling > 0 and settled >= threshold_at(ceiling, percent)}


def next_threshold(thresholds: Sequence[int], settled: int, ceiling: int) -> int:
    """Return the lowest amount above `settled` that is a threshold, or `NEVER`."""
    amounts = (threshold_at(ceiling, percent) for percent in thresholds)
    return min((amount for amount in amounts if amount > settled), default=NEVER)
