"""The memory store: one process, nothing kept. For tests, demos and single-process tools.

A plain call goes straight to the dictionaries, as its budget is a few microseconds. All other operations use
the ledger algorithm that all stores share.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from ...events import LLMEvent
from ...limits import ADMITTED, Decision
from ...runtime.ids import process_name
from .. import counters
from ..entries import entry_of
from ..records import NEAR, Call, Recorded, hold_of
from ..transaction import Transaction
from ..transactional import TransactionalStore
from .tables import Tables

T = TypeVar("T")


class MemoryStore(TransactionalStore):
    """Keep everything in dictionaries behind one lock."""

    durable = False
    leaves_loop = False

    def __init__(self) -> None:
        self._tables = Tables()

    def begin(self) -> Tables:
        return self._tables

    def admit(self, call: Call, now: float) -> Decision:
        """Set the estimate aside at once where no limit is near; any other case takes its way."""
        tenant_id, estimate, ceiling = call[1], call[2], call[12]
        room = NEAR * ceiling - 1 if ceiling else 0
        tables = self._tables
        with tables.lock:
            ground = tables.grounds.get(tenant_id)
            if ground is None or not ground.start <= now < ground.end:
                ground = tables.ground(tenant_id, now, self.default_plan is not None)
            if ground is not None and call[14] is None:
                for counter, amount in ground.counters:
                    if counter[0] + counter[1] + room >= amount:
                        break
                else:
                    if estimate is not None:
                        for counter, _ in ground.counters:
                            counter[1] += estimate
                    if ground.keys:
                        hold = (call[0], tenant_id, estimate, now, now + call[3], call[4], "open", *call[5:10])
                        tables.holds[call[0]] = hold_of((*hold, process_name(), None, ground.keys, None))
                    return ADMITTED
        return super().admit(call, now)

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        """Close a hold at once whose counters are still those to charge; any other case takes its way."""
        tables, tenant_id, event_id = self._tables, event.tenant_id, event.event_id
        entry, crosses = None, False
        with tables.lock:
            hold, ground = tables.holds.get(call_id), tables.grounds.get(tenant_id)
            if hold is not None and ground is not None and hold[14] is ground.keys and not self.destinations:
                ledger, amount = tables.ledger[tenant_id], hold[2]
                plain = hold[6] == "open" and hold[3] == event.timestamp and vars(event).get("charge_usd") is None
                if plain and event_id not in ledger:
                    ledger[event_id] = entry = entry_of((event, cost_nano, "call", None, None))
                    tables.not_added.append(entry)
                    del tables.holds[call_id]
                    for counter, _ in ground.counters:
                        if cost_nano is not None:
                            counter[0] += cost_nano
                            crosses |= counter[0] >= counter[4]
                        if amount is not None:
                            counter[1] -= amount
        if entry is None:
            return super().settle(call_id, event, cost_nano, now)
        if crosses:
            self._run(partial(counters.notice_entry, entry=entry, now=now))
        return "stored"

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        with self._tables.lock:  # nothing conflicts here, so there is nothing to try again
            self._watch(self._tables)
            result = work(self._tables)
            notices = self._tables.notices
        self._publish(notices)
        return result
