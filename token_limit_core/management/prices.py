"""Prices that were wrong: recompute what calls cost, and book the difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..events import LLMEvent, made_of
from ..money import to_usd
from ..pricing import REPORTED, PriceBook, price_recorded
from ..stores.entries import Entry
from ..stores.queries import Cursor, EventQuery
from ..windows import parse_effective_date
from .parsing import When

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..stores.contract import Store

BATCH = 500

NOT_RECORDED = frozenset({"lost_attempts", "other_models"})
"""Tags of events whose fields do not say all that they cost."""


@dataclass(frozen=True)
class Repriced:
    """The calls of a model whose cost is another by today's prices, before and after."""

    provider: str
    model: str
    calls: int
    before_usd: Decimal
    after_usd: Decimal
    charge_before_usd: Decimal
    charge_after_usd: Decimal


class _Booked(NamedTuple):
    """What earlier corrections have added to a call (nano-dollars), and how many there are."""

    cost: int = 0
    charge: int = 0
    rows: int = 0

    def plus(self, row: Entry) -> _Booked:
        """Add another correction."""
        return _Booked(self.cost + row.spent, self.charge + row.charged, self.rows + 1)


NOTHING = (0, 0, 0, 0, 0)


def _add(sums: tuple[int, ...], entry: Entry, before: _Booked, correction: Entry) -> tuple[int, ...]:
    """Add a call to the sums of its model: calls, cost before and after, charge before and after."""
    cost, charge = entry.spent + before.cost, entry.charged + before.charge
    amounts = (1, cost, cost + correction.spent, charge, charge + correction.charged)
    return tuple(one + more for one, more in zip(sums, amounts, strict=True))


class ManagesPrices:
    """The part of a Meter that corrects prices."""

    if TYPE_CHECKING:
        config: MeterConfig

        @property
        def store(self) -> Store: ...

    def reprice(self, since: When, *, book: bool = False, by: str = "") -> list[Repriced]:
        """Recompute by today's prices what calls cost since a time; with `book` add the differences to the ledger.

        A difference is a row of its own, in the window of its call, so limits follow. Calls whose cost the provider or
        the application reported stay as they are. Doing it twice books nothing more. `by` goes into the history.
        Returns what differs by provider and model, the largest difference first.
        Raises `ConfigurationError` for a time that cannot be used.
        """
        now = self.config.clock()
        start = parse_effective_date(since, now, "since")
        prices = PriceBook(self.config.on_unpriced, self.config.fallback_price, self.config.prices)
        sums: dict[tuple[str, str], tuple[int, ...]] = {}
        for batch in self._batches(start, now):
            booked: dict[tuple[str, str], _Booked] = {}
            for entry in batch:
                if entry.kind == "reprice" and entry.corrects is not None:
                    key = (entry.event.tenant_id, entry.corrects)
                    booked[key] = booked.get(key, _Booked()).plus(entry)
            corrections = []
            for entry in batch:
                before = booked.get((entry.event.tenant_id, entry.event.event_id), _Booked())
                correction = self._correction(entry, before, prices)
                if correction is not None:
                    corrections.append(correction)
                    key = (entry.event.provider, entry.event.model)
                    sums[key] = _add(sums.get(key, NOTHING), entry, before, correction)
            if book and corrections:
                self.store.correct(corrections, now, by)
        found = [Repriced(*key, calls, *map(to_usd, nano)) for key, (calls, *nano) in sums.items()]
        return sorted(found, key=lambda row: -abs(row.after_usd - row.before_usd))

    def _batches(self, start: float, end: float) -> Iterator[list[Entry]]:
        """Read the ledger, newest first; what is of one time, such as a call and its corrections, stays together."""
        after: Cursor | None = None
        waiting: list[Entry] = []
        while rows := self.store.events(EventQuery(start=start, end=end, after=after, size=BATCH)):
            entries = [*waiting, *(row.entry for row in rows)]
            last = entries[-1].event.timestamp
            waiting = [entry for entry in entries if entry.event.timestamp == last]
            yield [entry for entry in entries if entry.event.timestamp != last]
            after = rows[-1].cursor
        yield waiting

    def _correction(self, entry: Entry, before: _Booked, prices: PriceBook) -> Entry | None:
        """Make the row that corrects a call; None where there is nothing to correct."""
        event = entry.event
        if entry.kind != "call" or event.price_source == REPORTED or not NOT_RECORDED.isdisjoint(event.tags):
            return None
        known = dict.fromkeys(("cost_usd", "charge_usd", "price_version", "price_source"))
        tags = {name: tag for name, tag in event.tags.items() if name not in ("unpriced", "price_assumed")}
        fields = {name: value for name, value in vars(event).items() if name not in known and value is not None}
        copy = made_of(LLMEvent, {**fields, "tags": tags})
        cost = price_recorded(copy, prices)
        same_list = copy.price_source == "list" and copy.price_version == event.price_version
        if cost is None or same_list or cost == entry.spent + before.cost:
            return None
        more, charge = cost - entry.spent - before.cost, None
        if entry.charge_nano is not None:  # what the markup was then
            charged = round(Decimal(entry.charge_nano) * cost / entry.spent) if entry.spent else entry.charge_nano
            charge = charged - entry.charged - before.charge
        named = {name: fields[name] for name in ("provider", "model", "user", "feature") if name in fields}
        correction = LLMEvent(
            f"{event.event_id}/reprice{before.rows + 1}",
            event.tenant_id,
            endpoint="reprice",
            timestamp=event.timestamp,
            price_version=copy.price_version,
            price_source=copy.price_source,
            tags={name: tags[name] for name in ("requested_model",) if name in tags},
            **named,
        )
        return Entry(correction, more, "reprice", event.event_id, charge)
