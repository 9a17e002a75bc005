"""Holds of the memory store, and what a tenant's next calls are held on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...limits import CounterKey
from ..records import Hold
from ..transaction import Transaction


@dataclass(slots=True)
class Ground:
    """What a tenant's calls are held on from `start` until `end` (unix seconds), while its limits stay as they are.

    Made only where every limit is on all calls, in dollars, not strict, in force and its counter open, which is nearly
    always.
    """

    start: float
    end: float
    keys: tuple[CounterKey, ...]
    counters: list[tuple[list[int], int]]
    """Each counter with the amount of its limit and its top-ups."""


class MemoryHolds(Transaction):
    """The holds by call id."""

    holds: dict[str, Hold]

    def insert_hold(self, hold: Hold) -> None:
        self.holds[hold.call_id] = hold

    def hold(self, call_id: str) -> Hold | None:
        return self.holds.get(call_id)

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        hold = self.holds.get(call_id)
        if hold is None or hold.state != was:
            return False
        if state == "expired":
            self.holds[call_id] = hold._replace(state=state)  # a late settle still has to find it
        else:
            del self.holds[call_id]
        return True

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        hold = self.holds.get(call_id)
        if hold is None or hold.state != "open":
            return False
        self.holds[call_id] = hold._replace(expires_at=expires_at)
        return True

    def rename_hold(self, call_id: str, new_id: str, expires_at: float) -> bool:
        if not self.renew_hold(call_id, expires_at):
            return False
        self.holds[new_id] = self.holds.pop(call_id)._replace(call_id=new_id)
        return True

    def update_hold(self, hold: Hold) -> bool:
        held = self.holds.get(hold.call_id)
        if held is None or held.state != "open":
            return False
        self.holds[hold.call_id] = hold._replace(expires_at=held.expires_at)
        return True

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        return sorted(
            (
                hold
                for hold in self.holds.values()
                if hold.state == "open"
                and tenant_id in (None, hold.tenant_id)
                and (expired_at is None or hold.expires_at <= expired_at)
            ),
            key=lambda hold: hold.created_at,
        )

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        return self.holds.keys() & set(call_ids)
