"""Notices of the SQL stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Update, and_, bindparam, select, update

from ...limits import CounterKey
from ..notices import NoticeRow, NoticesTransaction
from . import statements as sql
from .statements import listed, one_of, size_for
from .tables import counter, notice
from .upserts import Upserts

_NOTICED = select(notice.c.round, notice.c.percent).where(
    notice.c.tenant_id == bindparam("the_tenant"),
    notice.c.limit_id == bindparam("the_limit"),
    notice.c.subject == bindparam("the_subject"),
    notice.c.window_start == bindparam("the_window"),
)
_NOTIFY_AT = update(counter).where(sql.AT_KEY).values(notify_at=bindparam("the_amount"))
_IS_DUE = and_(notice.c.due >= 0, notice.c.due <= bindparam("the_time"))
_DUE = (
    select(*(notice.c[name] for name in NoticeRow._fields))
    .where(_IS_DUE)
    .order_by(notice.c.id)
    .limit(bindparam("the_most"))
)
_CLAIM = update(notice).where(notice.c.id == bindparam("the_id"), _IS_DUE).values(due=bindparam("the_end"))


@cache
def _reschedule(size: int) -> Update:
    return update(notice).where(one_of(notice.c.id, "the_ids", size)).values(due=bindparam("the_end"))


class SqlNotices(NoticesTransaction):
    """The primitives of notices on one cursor."""

    _rows: Callable[..., list[Any]]
    _run: Callable[..., Any]
    _changed: Callable[..., bool]
    _upserts: Upserts

    def noticed(self, key: CounterKey) -> list[tuple[int, int]]:
        return [(round, percent) for round, percent in self._rows(_NOTICED, sql.key_row(key))]

    def insert_notice(self, row: NoticeRow) -> bool:
        return self._changed(self._upserts.notice, row._asdict())

    def notify_at(self, key: CounterKey, amount: int) -> None:
        self._run(_NOTIFY_AT, {**sql.key_row(key), "the_amount": amount})

    def claim_notices(self, now: float, until: float, most: int) -> list[NoticeRow]:
        rows = [NoticeRow(*row) for row in self._rows(_DUE, {"the_time": now, "the_most": most})]
        return [row for row in rows if self._changed(_CLAIM, {"the_id": row.id, "the_time": now, "the_end": until})]

    def reschedule_notices(self, ids: Sequence[int], due: float) -> None:
        if ids:
            self._run(_reschedule(size_for(ids)), {**listed("the_ids", ids), "the_end": due})
