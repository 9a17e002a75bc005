"""Notices over the dictionaries of the memory store."""

from __future__ import annotations

from collections.abc import Sequence

from ...limits import CounterKey
from ..notices import NoticeRow, NoticesTransaction

NoticeKey = tuple[CounterKey, int, int]


class MemoryNotices(NoticesTransaction):
    """The primitives on dictionaries."""

    _counters: dict[CounterKey, list[int]]
    _notices: dict[NoticeKey, NoticeRow]

    def noticed(self, key: CounterKey) -> list[tuple[int, int]]:
        return [(round, percent) for other, round, percent in self._notices if other == key]

    def insert_notice(self, row: NoticeRow) -> bool:
        key = (CounterKey(*row[:4]), row.round, row.percent)
        new = key not in self._notices
        if new:
            self._notices[key] = row._replace(id=1 + max((row.id for row in self._notices.values()), default=0))
        return new

    def notify_at(self, key: CounterKey, amount: int) -> None:
        self._counters[key][4] = amount

    def claim_notices(self, now: float, until: float, most: int) -> list[NoticeRow]:
        due = sorted((row for row in self._notices.values() if 0 <= row.due <= now), key=lambda row: row.id)[:most]
        self._set_due([row.id for row in due], until)
        return due

    def reschedule_notices(self, ids: Sequence[int], due: float) -> None:
        self._set_due(ids, due)

    def move_notices(self, source: str, target: str | None) -> None:
        """Give the notices of a tenant to another, or delete them."""
        for key in [key for key in self._notices if key[0].tenant_id == source]:
            row = self._notices.pop(key)
            if target is not None:
                self._notices[key[0]._replace(tenant_id=target), *key[1:]] = row._replace(tenant_id=target)

    def _set_due(self, ids: Sequence[int], due: float) -> None:
        for key, row in self._notices.items():
            if row.id in ids:
                self._notices[key] = row._replace(due=due)
