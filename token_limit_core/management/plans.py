"""Plans, suspension, top-ups and corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..events import LLMEvent
from ..limits import LimitStatus
from ..limits.filters import EACH, NO_FACTS, filter_of
from ..money import Money, parse_amount
from ..runtime.faults import ConfigurationError, shown
from ..scope import check_payer
from ..stores.plans import Plan
from ..windows import FREQUENCIES, PER_MONTH, TOTAL, parse_choice, parse_effective_date
from .parsing import When, limits_of_plan, parse_line, parse_markup, parse_payer, parse_plan, parse_signed_usd

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..stores.contract import Store


class ManagesPlans:
    """The part of a Meter that manages plans and money. `by` names who does it in the history."""

    if TYPE_CHECKING:
        config: MeterConfig

        @property
        def store(self) -> Store: ...

    def set_plan(
        self, name: str, limits: Sequence[Mapping[str, Any]], *, markup: Money | None = None, by: str = ""
    ) -> Plan:
        """Create or replace a plan; it holds for all tenants on it at their next call.

        Each limit is a dict with the keywords of `set_limit`, such as `{"amount": 5, "user": "*"}`. `markup` is the
        percent that is added to what the provider takes.
        Raises `ConfigurationError` naming the argument that cannot be used; then nothing is saved.
        """
        now = self.config.clock()
        plan = parse_plan(name)
        return self.store.set_plan(plan, limits_of_plan(plan, limits, now), now, parse_markup(markup), by)

    def assign_plan(self, tenant_id: str, plan: str | None, *, by: str = "") -> bool:
        """Put a tenant on a plan, or on none (None); False where it was so already.

        A limit of the tenant's own replaces the plan's of the same frequency and filter.
        Raises `ConfigurationError` for a plan that is not known.
        """
        name = None if plan is None else parse_plan(plan)
        return self.store.assign_plan(check_payer(tenant_id), name, self.config.clock(), by)

    def set_markup(self, tenant_id: str, markup: Money | None, *, by: str = "") -> bool:
        """Set the percent that a tenant is billed above what the provider takes, instead of its plan's.

        0 is no markup; None lets the plan's hold again. False where it was so already. It holds for the tenant's next
        call; a function in the setting `markup` comes first.
        Raises `ConfigurationError` for a percentage that cannot be used.
        """
        percent = None if markup is None else parse_markup(markup)
        return self.store.set_markup(check_payer(tenant_id), percent, self.config.clock(), by)

    def suspend(self, tenant_id: str, *, reason: str = "", by: str = "") -> bool:
        """Refuse every call of a tenant from now on, with 402; False where it was so already."""
        return self.store.suspend(check_payer(tenant_id), self.config.clock(), parse_line(reason, "reason"), by)

    def resume(self, tenant_id: str, *, by: str = "") -> bool:
        """Let a suspended tenant call again; False where it was not suspended."""
        return self.store.resume(check_payer(tenant_id), self.config.clock(), by)

    def top_up(
        self,
        tenant_id: str,
        usd: Money,
        frequency: str = PER_MONTH,
        *,
        expires_at: When = None,
        user: str | int | None = None,
        model: str | None = None,
        provider: str | None = None,
        feature: str | None = None,
        by: str = "",
    ) -> LimitStatus:
        """Raise the ceiling of the current window of a limit; on a total it stays, or until `expires_at`.

        What is unspent at `expires_at` is lost, and what expires first is spent first. The filter names the limit; of
        a limit on each user, `user` is the one to top up.
        Raises `ConfigurationError` naming the argument that cannot be used.
        """
        now = self.config.clock()
        nano = parse_amount(usd, "usd")
        if not nano:
            raise ConfigurationError(f"usd: invalid value {shown(usd)}; expected US dollars above 0, for example 10")
        parse_choice(frequency, FREQUENCIES, "frequency")
        ends = None if expires_at is None else parse_effective_date(expires_at, now, "expires_at")
        if ends is not None and (frequency != TOTAL or ends <= now):
            raise ConfigurationError(
                f"expires_at: invalid value {str(expires_at)!r}; expected a time to come, only for a 'total': "
                "any other top-up ends with its window"
            )
        payer = parse_payer(tenant_id)
        others = {"model": model, "provider": provider, "feature": feature}
        filter, subject = filter_of(user=user, **others), ""
        if user is not None and user != EACH:
            each = filter_of(user=EACH, **others)
            known = {limit.filter for limit in self.store.rules(payer).limits if limit.frequency == frequency}
            if filter not in known and each in known:
                filter, subject = each, str(user)
        return self.store.top_up(payer, frequency, nano, now, filter=filter, user=subject, expires_at=ends, by=by)

    def adjust(
        self,
        tenant_id: str,
        usd: Money,
        *,
        reason: str = "",
        user: str | int | None = None,
        feature: str | None = None,
        by: str = "",
    ) -> LLMEvent:
        """Book a correction of what a tenant has spent: negative gives money back, positive takes more.

        It is a row of the ledger and counts in the windows that now falls into, those of `user` and `feature` too.
        Raises `ConfigurationError` naming the argument that cannot be used.
        """
        filter_of(user=user, feature=feature)
        facts = NO_FACTS._replace(user=None if user is None else str(user), feature=feature)
        now, nano = self.config.clock(), parse_signed_usd(usd)
        entry = self.store.adjust(check_payer(tenant_id), nano, now, parse_line(reason, "reason"), by, facts)
        return entry.event
