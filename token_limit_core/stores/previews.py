"""What a limit would have done to the calls of the past, from the ledger.

The ledger is summed by quarters of an hour first (minutes, for a limit per minute). That tells which windows stay
within the limit, and in which quarter the others reach it: only those are read row by row. That is done for one part of
the time after another, so that a long preview can say how far it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from ..limits import EVERYONE, STRICT, Limit, subject_of
from ..limits.filters import EACH, parse_filter
from ..windows import DAY, PER_HOUR, PER_MINUTE, UTC_ZONE
from .plans import Preview, Progress, Total, TotalsQuery
from .transaction import Transaction

QUARTER = 900
"""Seconds. Every time zone is whole quarters of an hour off UTC (since 1972), so no window ends within one."""

MOST_PARTS = 100

Key = tuple[str, int]
"""A counter of the preview: the user of an each-user limit, and the start of the window."""


def preview(tx: Transaction, limit: Limit, since: float, now: float, progress: Progress | None = None) -> Preview:
    """Run a limit over a tenant's ledger rows of `since <= timestamp < now`; nothing is changed.

    What was spent before `since` in the same window counts, and is not refused.
    """
    found = parse_filter(limit.filter)
    by = tuple(name for name in ("provider", "model", "feature") if getattr(found, name) is not None)
    by, user = ((*by, "user"), None) if found.user == EACH else (by, found.user)
    payer = None if limit.tenant_id == EVERYONE else limit.tenant_id
    run, query = _Run(limit, since), TotalsQuery(payer, since, now, by, user)
    first = tx.first_entry_at(payer)
    begin = since if first is None else max(limit.window(since).start, first)

    def tell(until: float) -> None:
        if progress is not None:
            progress(run.looked_at, (until - begin) / (now - begin))

    for start, end in _parts(begin, since, run.length):
        for total in tx.totals(query._replace(start=start, end=end)):
            run.begin(total)
        tell(end)
    for start, end in _parts(max(begin, since), now, run.length):
        _run_part(tx, run, query._replace(start=start, end=end))
        tell(end)
    return run.result


def _run_part(tx: Transaction, run: _Run, part: TotalsQuery) -> None:
    for at, totals in groupby(tx.totals(part._replace(seconds=run.length)), key=attrgetter("start")):
        run.add(at, totals)
    for start, end in _joined(run.in_detail, run.length):
        for row in tx.rows_between(part._replace(start=max(start, part.start), end=min(end, part.end))):
            run.decide(row)
    run.finish_part()


def _parts(start: float, end: float, length: int) -> Iterator[tuple[float, float]]:
    """Divide a time between lengths, so that none of them is in two parts."""
    size = max(DAY, (end - start) / MOST_PARTS) // length * length
    border = start // length * length + size
    while border < end:
        yield start, border
        start, border = border, border + size
    if start < end:
        yield start, end


class _Run:
    """The counters of a limit on its way through the past: in each part first by lengths of time, then by rows."""

    def __init__(self, limit: Limit, since: float) -> None:
        self.limit = limit
        self.since = since
        self.length = _length_of(limit)
        self._calls = self._refused = self._saved_nano = 0
        self._first_at: float | None = None
        self.looked_at = 0
        """The calls of the ledger that were summed so far, also those that the limit is not for."""
        self.in_detail: set[float] = set()
        """The lengths of which rows have to be read."""
        self._spent: dict[Key, int] = {}
        self._refuses: set[Key] = set()
        """Counters that are used up once the rows of this part are read, whatever follows in it."""
        self._open: set[Key] = set()
        """Counters that only rows can decide about in the rest of this part."""
        self._read: set[tuple[Key, float]] = set()
        """What is left to the rows: counters with the lengths in question."""

    @property
    def result(self) -> Preview:
        """What came of the calls so far."""
        return Preview(self._calls, self._refused, self._saved_nano, self._first_at)

    def begin(self, total: Total) -> None:
        """Count what was spent before."""
        self.looked_at += total.calls
        key = self._key(total, self.since)
        if key is not None:
            self._spent[key] = self._spent.get(key, 0) + total.amount_on(self.limit)

    def add(self, start: float, totals: Iterable[Total]) -> None:
        """Take the sums of a length of time in whole, refuse them in whole, or leave them to their rows."""
        found: dict[Key, Total] = {}
        for total in totals:
            self.looked_at += total.calls
            key = self._key(total, max(start, self.since))
            if key is not None:
                found[key] = total if key not in found else found[key].plus(total)
        for key, total in found.items():
            self._add(key, total)

    def _add(self, key: Key, total: Total) -> None:
        self._calls += total.calls
        spent, amount = self._spent.get(key, 0), total.amount_on(self.limit)
        only_calls = total.rows == total.calls
        if key not in self._open and only_calls:
            if key in self._refuses or spent >= self.limit.amount:
                self._refuse(total)
                return
            if spent + amount < self.limit.amount:
                self._spent[key] = spent + amount
                return
        if only_calls and self.limit.mode != STRICT:
            self._refuses.add(key)
        else:
            self._open.add(key)
        self._read.add((key, total.start))
        self.in_detail.add(total.start)

    def finish_part(self) -> None:
        """Go on with the next part: the rows of this one have been read, so all counters are known again."""
        for known in (self._refuses, self._open, self._read, self.in_detail):
            known.clear()

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
        self._refused += total.calls
        self._saved_nano += total.cost_nano
        self._first_at = total.first_at if self._first_at is None else min(self._first_at, total.first_at)


def _length_of(limit: Limit) -> int:
    """Choose the lengths to sum by: short ones leave few rows to read, but most have only one row of each user."""
    if limit.frequency == PER_MINUTE:
        return 60
    return DAY if limit.each_user and limit.timezone == UTC_ZONE and limit.frequency != PER_HOUR else QUARTER


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
