"""Names of tenants, tenants that change, and reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ..money import to_usd
from ..runtime.faults import ConfigurationError
from ..runtime.ids import new_id
from ..scope import check_payer, check_tenant
from ..stores.reports import BY, By
from ..windows import PER_MONTH, parse_choice, parse_effective_date, window_of
from .parsing import When, parse_line

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..stores.contract import Store


@dataclass(frozen=True)
class ReportRow:
    """A line of a report. `key` is an ISO date for days, else a name; empty is what has none.

    `cost_usd` is what providers took, `charge_usd` what tenants are billed. `unpriced` counts calls without a known
    price.
    """

    key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unpriced: int
    charge_usd: Decimal


class ManagesTenants:
    """The part of a Meter that manages tenants. `by` names who does it in the history."""

    if TYPE_CHECKING:
        config: MeterConfig

        @property
        def store(self) -> Store: ...

    def name_tenant(self, tenant_id: str, name: str, *, by: str = "") -> bool:
        """Set the name of a tenant that people read; False where it was so already."""
        return self.store.name_tenant(check_payer(tenant_id), parse_line(name, "name"), self.config.clock(), by)

    def rename_tenant(self, tenant_id: str, new_id: str, *, by: str = "") -> None:
        """Give a tenant another id, with its ledger, limits, plan and history.

        Do it while no call of the tenant is in flight: one that is would be billed to the old id.
        Raises `ConfigurationError` for an unknown tenant, and for an id that is taken.
        """
        self.store.rename_tenant(check_payer(tenant_id), check_named(new_id, "new_id"), self.config.clock(), by)

    def merge_tenants(self, source: str, target: str, *, by: str = "") -> None:
        """Move what a tenant has spent to another, whose limits and plan hold for both; the source is gone then.

        Raises `ConfigurationError` for an unknown tenant.
        """
        self.store.merge_tenants(check_payer(source), check_payer(target), self.config.clock(), by)

    def erase_tenant(self, tenant_id: str, *, anonymise: bool = False, by: str = "") -> int:
        """Delete every row of a tenant; return how many events it had.

        With `anonymise` the amounts, counts, models and times stay for the totals, under an id that is made up.
        Raises `ConfigurationError` for an unknown tenant.
        """
        anonymous_id = f"erased-{new_id()}" if anonymise else None
        return self.store.erase_tenant(check_payer(tenant_id), self.config.clock(), anonymous_id=anonymous_id, by=by)

    def report(
        self, by: By = "day", *, tenant_id: str | None = None, since: When = None, until: When = None
    ) -> list[ReportRow]:
        """Sum calls, tokens and cost by day, model, provider, user, feature or session, of one tenant or all.

        Whole days in UTC: from `since` (None: the start of the month) to before `until` (None: now). Days come in
        their order, anything else the dearest first.
        Raises `ConfigurationError` naming the argument that cannot be used.
        """
        now = self.config.clock()
        parse_choice(by, BY, "by")
        start = parse_effective_date(since, float(window_of(PER_MONTH, now).start), "since")
        end = parse_effective_date(until, now, "until")
        if start >= end:
            raise ConfigurationError(f"since: invalid value {str(since)!r}; expected a time before `until`")
        payer = None if tenant_id is None else check_payer(tenant_id)
        return [
            ReportRow(
                _day(row.key) if isinstance(row.key, int) else row.key,
                row.total.calls,
                row.total.input_tokens,
                row.total.output_tokens,
                to_usd(row.total.cost_nano),
                row.total.unpriced,
                to_usd(row.total.charge_nano),
            )
            for row in self.store.report(by, start, end, payer)
        ]


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86400, UTC).date().isoformat()


def check_named(tenant_id: object, name: str) -> str:
    """Return a usable id of a tenant; the error names the argument."""
    try:
        return check_tenant(tenant_id)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {str(error).partition(': ')[2]}") from None
