"""The limits of tenants: set, remove, list, preview."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..delivery.transport import TooOld
from ..limits import ENFORCE, EVERYONE, USD, Limit, LimitStatus, in_force
from ..limits.filters import filter_of
from ..money import Money, to_usd
from ..runtime.faults import ConfigurationError
from ..windows import FREQUENCIES, PER_MONTH, Anchor, is_date, parse_choice, parse_effective_date
from .parsing import When, limit_of, parse_payer

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..stores.contract import Store
    from ..stores.plans import Progress


@dataclass(frozen=True)
class LimitPreview:
    """What a limit would have done: calls refused of all it was asked for, what they cost, when the first was.

    `first_at` is unix seconds, None where none was refused.
    """

    calls: int
    refused: int
    saved_usd: Decimal
    first_at: float | None


class ManagesLimits:
    """The part of a Meter that manages limits."""

    if TYPE_CHECKING:
        config: MeterConfig

        @property
        def store(self) -> Store: ...

    def set_limit(
        self,
        tenant_id: str,
        limit_usd: Money | None = None,
        frequency: str | date = PER_MONTH,
        effective_date: When = None,
        *,
        amount: Money | None = None,
        unit: str = USD,
        mode: str = ENFORCE,
        timezone: str | None = None,
        anchor: Anchor = None,
        user: str | int | None = None,
        model: str | None = None,
        provider: str | None = None,
        feature: str | None = None,
        basis: str | None = None,
        name: str | None = None,
        by: str = "",
    ) -> Limit:
        """Create a limit, or replace the one of this tenant, frequency and filter; its counters stay.

        The amount is in the `unit`: US dollars (which may be given as `limit_usd`), tokens or requests. The tenant
        `""` is the calls without a tenant, `"*"` all tenants together. `user="*"` is a limit on each user on its own;
        `model`, `provider` and `feature` take a name, or a pattern with `*`. `timezone` moves the calendar; `anchor`
        is where a month or year starts: a day of the month, or a date. A limit that is made in the middle of a window,
        or whose unit or windows change, starts from what the ledger says.
        With an `effective_date` in the future the earlier limit holds until then. `name` is what people call it; `by`
        names who did it in the history of changes, empty is the application's code.
        Raises `ConfigurationError` naming the argument that cannot be used.
        """
        now = self.config.clock()
        if is_date(frequency):  # the older package has the date there
            frequency, effective_date = PER_MONTH if effective_date is None else str(effective_date), frequency
        limit = limit_of(
            tenant_id,
            limit_usd if amount is None else amount,
            str(frequency),
            now=now,
            unit=unit,
            mode=mode,
            timezone=timezone,
            anchor=anchor,
            user=user,
            model=model,
            provider=provider,
            feature=feature,
            effective_date=effective_date,
            basis=basis,
            name=name,
        )
        return self.store.set_limit(limit, now, by)

    def remove_limit(
        self,
        tenant_id: str,
        frequency: str | None = None,
        *,
        user: str | int | None = None,
        model: str | None = None,
        provider: str | None = None,
        feature: str | None = None,
        by: str = "",
    ) -> int:
        """Remove a tenant's own limits: of one frequency, of one filter, or all; return how many.

        `by` goes into the history.
        """
        if frequency is not None:
            parse_choice(frequency, FREQUENCIES, "frequency")
        filter = filter_of(user=user, model=model, provider=provider, feature=feature)
        return self.store.remove_limit(tenant_id, frequency, self.config.clock(), by, filter or None)

    def limits(self, tenant_id: str) -> list[Limit]:
        """List the limits that hold for a tenant: its own, those that begin later included, and its plan's.

        A plan's limit that the tenant's own replaces is left out. Of limits at a remote backend that is older than this
        release only that one is known which its answer to a check tells: of those that are enforced now, the one that
        leaves the least. Raises `StoreError` when there is no answer to go by.
        """
        try:
            known = sorted(self.store.rules(tenant_id).limits, key=lambda row: row.id)
        except TooOld:
            return [status.limit for status in self.usage(tenant_id)]
        rows = [row for row in known if row.tenant_id != EVERYONE or tenant_id == EVERYONE]
        effective = in_force(rows, self.config.clock())
        return [row for row in rows if not row.plan or row in effective]

    def usage(self, tenant_id: str, *, user: str | None = None) -> list[LimitStatus]:
        """Give the state of each limit of a tenant, and of its plan, in its current window.

        A limit on each user has a state for each of the users that have spent most of it; with `user`, that one's.
        """
        return self.store.usage(tenant_id, self.config.clock(), user)

    def preview(
        self,
        tenant_id: str,
        amount: Money,
        frequency: str = PER_MONTH,
        *,
        since: When = None,
        on_progress: Progress | None = None,
        **keywords: Any,
    ) -> LimitPreview:
        """Tell what a limit would have done to the calls since a date, from the ledger; nothing is saved.

        `since` is a date, a datetime or an ISO string; None is the start of the current window. `keywords` are those of
        `set_limit`. A million calls take some seconds: `on_progress(calls, share)` gets how many have been looked at,
        and the share of the time that this is, from 0 to 1.
        Raises `ConfigurationError` naming the argument that cannot be used.
        """
        now = self.config.clock()
        limit = limit_of(parse_payer(tenant_id), amount, frequency, now=now, **keywords)
        start = parse_effective_date(since, float(limit.window(now).start), "since")
        if start > now:
            raise ConfigurationError(f"since: invalid value {str(since)!r}; expected a time in the past")
        found = self.store.preview(limit, start, now, on_progress)
        return LimitPreview(found.calls, found.refused, to_usd(found.saved_nano), found.first_at)
