"""What a transaction changes in Redis once it has committed.

Before its commit a transaction leaves a mark, and reads the ids of the counters that it will change. It does that with
their tenant locked: a counter that is absent then, or has another id later, is summed from the ledger with this
transaction's rows in it, and must not be charged again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ...runtime.ids import new_id
from . import scripts
from .slots import Slots


@dataclass
class Effects:
    """The changes of one slot."""

    charges: dict[str, int] = field(default_factory=dict)
    """What is settled on counters, by name."""
    credits: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    """What top-ups add to counters, by name."""
    closed: list[str] = field(default_factory=list)
    """Calls whose holds end."""
    dropped: list[int] = field(default_factory=list)
    """Limits whose counters go, with what holds hold on them."""
    moved_in: list[tuple[str, str]] = field(default_factory=list)
    """Holds that come from another slot."""
    stripped: bool = False
    """Whether all counters go, with what holds hold on them."""
    emptied: bool = False
    """Whether everything goes."""


class Pending:
    """The effects of a transaction, by tenant."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._effects: dict[str, Effects] = {}
        self._mark = ""
        self._ids: dict[str, dict[str, str]] = {}

    def __contains__(self, tenant_id: str) -> bool:
        return tenant_id in self._effects

    def of(self, tenant_id: str) -> Effects:
        """Return the effects on a tenant's slot, to add to them."""
        return self._effects.setdefault(tenant_id, Effects())

    def targets(self) -> list[str]:
        """Name the tenants whose slots change."""
        return list(self._effects)

    def announce(self) -> None:
        """Leave a mark in each slot."""
        self._mark = new_id() if self._effects else ""
        for tenant_id, effects in self._effects.items():
            names = [*effects.charges, *effects.credits]
            ids = self._slots.run(scripts.MARK, tenant_id, self._mark, json.dumps(names), json.dumps(effects.closed))
            self._ids[tenant_id] = dict(zip(names, ids, strict=True))

    def withdraw(self) -> None:
        """Take the marks back, as nothing was committed."""
        if self._mark:
            for tenant_id, effects in self._effects.items():
                self._slots.run(scripts.UNMARK, tenant_id, self._mark, *effects.closed)

    def apply(self) -> None:
        """Make the changes, and take the marks away."""
        for tenant_id, effects in self._effects.items():
            self._slots.run(scripts.APPLY, tenant_id, self._mark, json.dumps(self._work(tenant_id, effects)))
            for call_id in effects.closed:
                self._slots.forget_owner(call_id)

    def _work(self, tenant_id: str, effects: Effects) -> dict[str, Any]:
        ids = self._ids[tenant_id]
        ends = {name: "" if until is None else repr(until) for name, (_, until) in effects.credits.items()}
        return {
            "charges": [[name, ids[name], str(amount)] for name, amount in effects.charges.items() if ids[name]],
            "credits": [
                [name, ids[name], str(extra), ends[name]] for name, (extra, _) in effects.credits.items() if ids[name]
            ],
            "closed": effects.closed,
            "dropped": [str(limit_id) for limit_id in effects.dropped],
            "moved_in": effects.moved_in,
            "stripped": effects.stripped,
            "emptied": effects.emptied,
        }
