"""Decision: the answer of an admission, in words and figures that a client may see."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from .. import wording
from ..money import MONEY
from ..runtime.language import translate
from ..windows import UTC_ZONE

Kind = Literal["admitted", "exhausted", "does_not_fit", "busy", "unverifiable", "no_tenant", "unpriced", "suspended"]
REFUSALS = tuple(kind for kind in get_args(Kind) if kind != "admitted")
"""The kinds of refusals."""

Amount = Decimal | int
"""An amount at the interface: US dollars, or a number of tokens or requests."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of an admission, with the facts a client needs.

    `kind` is "admitted" or why the call was refused: "exhausted" (the limit is spent), "does_not_fit" (what is left
    does not pay for the call's worst case), "busy" (calls in flight are in the way, or a minute or hour that ends
    soon), "unverifiable" (the store cannot be asked), "no_tenant" (nobody is known to pay), "unpriced" (no price is
    known) or "suspended" (the tenant is).

    `limit`, `spent`, `held` and `needed` are in the limit's `unit` ("usd", "tokens" or "requests"); the same in US
    dollars are None for the other units. `resets_at` is unix seconds, None for a total; `retry_after` is seconds.
    `filter`, `plan`, `name` and `timezone` are the limit's; `user` is whose counter of an each-user limit it was;
    `everyone` tells a limit on all tenants together, whose figures are no tenant's business.
    """

    kind: Kind
    tenant_id: str = ""
    limit_usd: Decimal | None = None
    spent_usd: Decimal | None = None
    held_usd: Decimal | None = None
    needed_usd: Decimal | None = None
    frequency: str | None = None
    resets_at: int | None = None
    retry_after: int | None = None
    observed: tuple[str, ...] = field(default=())
    unit: str = "usd"
    limit: Amount | None = None
    spent: Amount | None = None
    held: Amount | None = None
    needed: Amount | None = None
    filter: str = ""
    plan: str = ""
    name: str = ""
    user: str = ""
    everyone: bool = False
    timezone: str = UTC_ZONE

    def __post_init__(self) -> None:
        for name in ("limit", "spent", "held", "needed") if self.unit == "usd" else ():
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self, f"{name}_usd"))

    @property
    def admitted(self) -> bool:
        """True when the call may go out."""
        return self.kind == "admitted"

    @property
    def left(self) -> Amount | None:
        """What is left of the limit in its unit, never negative; None when no limit is known."""
        if self.limit is None or self.spent is None:
            return None
        held = 0 if self.held is None else self.held
        if self.unit != "usd":
            return max(0, int(self.limit - self.spent - held))
        left = MONEY.subtract(MONEY.subtract(self.limit, self.spent), held)  # the application's context may be short
        return max(Decimal(0), left)

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left of a limit in US dollars, never negative; None for other units or when no limit is known."""
        left = self.left
        return left if isinstance(left, Decimal) else None

    @property
    def status(self) -> int:
        """The HTTP status of the refusal: 402, 403 (no tenant), 429 (busy) or 503 (unverifiable)."""
        return {"busy": 429, "unverifiable": 503, "no_tenant": 403}.get(self.kind, 402)

    def explain(self) -> str:
        """Say in one sentence what happened and what to do."""
        if self.kind == "exhausted" and self.limit is not None and not self.limit:
            return wording.no_allowance(self.filter, self.everyone)
        if self.everyone:
            limit, spent = wording.limit_in_words(self.frequency, everyone=True), ""
        else:
            amount = None if self.limit is None else wording.exact_quantity(self.limit, self.unit)
            limit = wording.limit_in_words(self.frequency, amount, self.filter, self.name)
            spent = "" if self.spent is None else f"{wording.quantity(self.spent, self.unit)} {translate('spent')}"
            if self.kind == "does_not_fit" and self.left is not None:
                spent = f"{wording.quantity(self.left, self.unit)} {translate('left')}"
        return wording.refusal(self.kind, limit, spent, self.resets_at, self.retry_after, self.timezone)


ADMITTED = Decision("admitted")
