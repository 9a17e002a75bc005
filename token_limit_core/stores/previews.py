"""What a limit would have done to the calls of the past, from the ledger.

The ledger is summed by quarters of an hour first (minutes, for a limit per minute). That tells which windows stay
within the limit, and in which quarter the others reach it: only those are read row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from ..limits import EVERYONE, STRICT, Limit, subject_of
from ..limits.filters import EACH, parse_filter
from ..windows import PER_MINUTE
from .plans import Preview, Total, TotalsQuery
from .transaction import Transaction

QUARTER = 900
"""Seconds. Every time zone is whole quarters of an hour off UTC (since 1972), so no window ends within one."""

Key = tuple[str, int]
"""A counter of the preview: the user of an each-user limit, and the start of the window."""


def preview(tx: Transaction, limit: Limit, since: float, now: float) -> Preview:
    """Run a limit over a tenant's ledger rows of `since <= timestamp < now`; nothing is changed.

    What was spent before `since` in the same window counts, and is not refused.
    """
    found = parse_filter(limit.filter)
    by = tuple(name for name in ("provider", "model", "feature") if getattr(found, name) is not None)
    by, user = ((*by, "user"), None) if found.user == EACH else (by, found.user)
    payer = None if limit.tenant_id == EVERYONE else limit.tenant_id
    query = TotalsQuery(payer, since, now, by, user)
    run = _Run(limit, since)
    for total in tx.totals(query._replace(start=limit.window(since).start, end=since)):
        run.begin(total)
    for start, totals in groupby(tx.totals(query._replace(seconds=run.length)), key=attrgetter("start")):
        run.add(start, totals)
    for start, end in _joined(run.in_detail, run.length):
        for row in tx.rows_between(query._replace(start=max(start, since), end=min(end, now))):
            run.decide(row)
    return run.result


class _Run:
    """The counters of a limit on its way through the past: first by lengths of time, then by rows."""

    def __init__(self, limit: Limit, since: float) -> None:
        self.limit = limit
        self.since = since
        self.length = 60 if limit.frequency == PER_MINUTE else QUARTER
        self.result = Preview(0, 0, 0, None)
        self.in_detail: set[float] = set()
        """The lengths of which rows have to be read."""
        self._spent: dict[Key, int] = {}
        self._refuses: set[Key] = set()
        """Counters that are used up, whatever follows."""
        self._open: set[Key] = set()
        """Counters that only rows can decide about from now on."""
        self._read: set[tuple[Key, float]] = set()
        """What is left to the rows: counters with the lengths in question."""

    def begin(self, total: Total) -> None:
        """Count what was spent before."""
        key = self._key(total, self.since)
        if key is not None:
            self._spent[key] = self._spent.get(key, 0) + total.amount_on(self.limit)

    def add(self, start: float, totals: Iterable[Total]) -> None:
        """Take the sums of a length of time in whole, refuse them in whole, or leave them to their rows."""
        found: dict[Key, Total] = {}
        for total in totals:
            key = self._key(total, max(start, self.since))
            if key is not None:
                found[key] = total if key not in found else found[key].plus(total)
        for key, total in found.items():
            self._add(key, total)

    def _add(self, key: Key, total: Total) -> None:
        self.result = self.result._replace(calls=self.result.calls + total.calls)
        spent, amount = self._spent.get(key, 0), total.amount_on(self.limit)
        only_calls = total.rows == total.calls
        if key not in self._open and only_calls:
            if key in self._refuses:
                self._refuse(total)
                return
            if spent + amount < self.limit.amount:
                self._spent[key] = spent + amount
                return
        if only_calls and self.limit.mode != STRICT:
            self._refuses.add(key)  # once its rows are read
        else:
            self._open.add(key)
        self._read.add((key, total.start))
        self.in_detail.add(total.start)

    def decide(self, row: Total) -> None:
        """Take or refuse one row."""
        key = self._key(row, row.start)
        if key is None or (key, row.start // self.length * self.length) not in self._read:
            return
        spent, amount = self._spent.get(key, 0), row.amount_on(self.limit)
        needed = max(1, amount) if self.limit.mode == STRICT else 1
        if row.calls and spent + needed > self.limit.amount:
            self._refuse(row)
        else:
            self._spent[key] = spent + amount

    def _key(self, total: Total, at: float) -> Key | None:
        subject = subject_of(self.limit, total.facts)
        return None if subject is None else (subject, self.limit.window(at).start)

    def _refuse(self, total: Total) -> None:
        before = self.result
        first_at = total.first_at if before.first_at is None else min(before.first_at, total.first_at)
        refused, saved_nano = before.refused + total.calls, before.saved_nano + total.cost_nano
        self.result = Preview(before.calls, refused, saved_nano, first_at)


def _joined(starts: Iterable[float], length: int) -> Iterator[tuple[float, float]]:
    """Join lengths of time that follow each other."""
    begin = end = None
    for start in sorted(starts):
        if begin is not None and end == start:
            end = start + length
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin, end = start, start + length
    if begin is not None and end is not None:
        yield begin, end
