"""The Tenants contract: the state of tenants, their names, and what becomes of their rows."""

from __future__ import annotations

from abc import abstractmethod

from ..runtime.faults import StoreError
from .records import Tenant
from .reports import ReportsTransaction


class Unmanaged:
    """A store that keeps no rows of its own, and says so with `StoreError` to who would manage them."""

    def _no_rows(self) -> StoreError:
        return StoreError(f"{type(self).__name__} keeps no rows that could be managed here")


class Tenants(Unmanaged):
    """The part of a Store that manages tenants. `by` names who does it; empty is the application's code."""

    def tenant(self, tenant_id: str) -> Tenant | None:
        """Return the state of a tenant, or None for one that was never seen."""
        raise self._no_rows()

    def name_tenant(self, tenant_id: str, name: str, now: float, by: str = "") -> bool:
        """Set the name that people read; False where it was so already."""
        raise self._no_rows()

    def rename_tenant(self, tenant_id: str, new_id: str, now: float, by: str = "") -> None:
        """Give a tenant another id, with all its rows. Raises `ConfigurationError` where one of them is wrong."""
        raise self._no_rows()

    def merge_tenants(self, source: str, target: str, now: float, by: str = "") -> None:
        """Move the ledger, holds and top-ups of one tenant to another, whose limits and plan stay."""
        raise self._no_rows()

    def erase_tenant(self, tenant_id: str, now: float, *, anonymous_id: str | None = None, by: str = "") -> int:
        """Delete every row of a tenant, or with `anonymous_id` keep amounts under that id without what names anyone.

        Returns how many ledger rows there were.
        """
        raise self._no_rows()

    def suspend(self, tenant_id: str, now: float, reason: str = "", by: str = "") -> bool:
        """Refuse every call of a tenant from now on; False where it was so already."""
        raise self._no_rows()

    def resume(self, tenant_id: str, now: float, by: str = "") -> bool:
        """Let a suspended tenant call again; False where it was not suspended."""
        raise self._no_rows()


class TenantsTransaction(ReportsTransaction):
    """The primitives of tenants on an engine."""

    @abstractmethod
    def tenant(self, tenant_id: str) -> Tenant | None: ...

    @abstractmethod
    def update_tenant(self, tenant: Tenant) -> None:
        """Write the name, plan, suspension and markup of a tenant that is there."""

    @abstractmethod
    def move_counters(self, source: str, target: str) -> None:
        """Give the counters of a tenant to another, which has none."""

    @abstractmethod
    def drop_hold_items(self, tenant_id: str) -> None:
        """Delete what a tenant's holds hold, but on the counters of all tenants."""

    @abstractmethod
    def move_rows(self, source: str, target: str) -> None:
        """Give the ledger, the roll-ups, the holds, the top-ups, the deliveries and the history to another tenant."""

    @abstractmethod
    def delete_tenant(self, tenant_id: str) -> int:
        """Delete every row of a tenant, its history included; return how many ledger rows there were."""

    @abstractmethod
    def anonymise_rows(self, tenant_id: str) -> int:
        """Take everything but amounts, counts, models and times out of a tenant's ledger; return how many rows it has.

        Its history, its top-ups and its totals by user are deleted.
        """
