"""Holds of the SQL stores: a row a call, and one for each counter that it holds on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select, update

from ...limits import EVERYONE, CounterKey
from ..columns import batched
from ..records import Counter, Hold
from ..transaction import Transaction
from .statements import key_row, listed, one_of, size_for
from .tables import hold, hold_item
from .upserts import filled

HOLD_COLUMNS = tuple(name for name in Hold._fields if name not in ("items", "amounts"))

_ITEM_COLUMNS = ("shared", "limit_id", "subject", "window_start", "amount")

_HOLDS = (
    select(*(hold.c[name] for name in HOLD_COLUMNS), *(hold_item.c[name] for name in _ITEM_COLUMNS))
    .select_from(hold.outerjoin(hold_item, hold.c.call_id == hold_item.c.call_id))
    .order_by(hold.c.created_at, hold.c.call_id, hold_item.c.limit_id)
)
_HOLD = _HOLDS.where(hold.c.call_id == bindparam("the_call"))
_INSERT_HOLD = filled(hold.insert())
_INSERT_ITEM = filled(hold_item.insert())
_CLOSE_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == bindparam("the_old_state"))
    .values(state=bindparam("the_state"))
)
_RENEW_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(expires_at=bindparam("the_expiry"))
)

_RENAME_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(call_id=bindparam("the_new_call"), expires_at=bindparam("the_expiry"))
)
_RENAME_ITEMS = (
    update(hold_item).where(hold_item.c.call_id == bindparam("the_call")).values(call_id=bindparam("the_new_call"))
)
_RAISE_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(amount=bindparam("the_amount"), tokens=bindparam("the_tokens"), charge=bindparam("the_charge"))
)
_RAISE_ITEM = (
    update(hold_item)
    .where(
        hold_item.c.call_id == bindparam("the_call"),
        hold_item.c.limit_id == bindparam("the_limit"),
        hold_item.c.window_start == bindparam("the_start"),
    )
    .values(amount=bindparam("the_amount"))
)


@cache
def _open_holds(of_tenant: bool, expired: bool) -> Select[Any]:
    """List the open holds: of one tenant, or those that have expired, or both."""
    found = _HOLDS.where(hold.c.state == "open")
    if of_tenant:
        found = found.where(hold.c.tenant_id == bindparam("the_tenant"))
    if expired:
        found = found.where(hold.c.expires_at <= bindparam("the_time"))
    return found


_HELD_ON = (
    select(func.coalesce(func.sum(hold_item.c.amount), 0))
    .join_from(hold_item, hold, hold.c.call_id == hold_item.c.call_id)
    .where(
        hold.c.state == "open",
        hold_item.c.limit_id == bindparam("the_limit"),
        hold_item.c.subject == bindparam("the_subject"),
        hold_item.c.window_start == bindparam("the_window"),
        or_(hold.c.tenant_id == bindparam("the_tenant"), hold_item.c.shared),
    )
)


@cache
def _held_calls(size: int) -> Select[Any]:
    """Find which calls of a list have a hold."""
    return select(hold.c.call_id).where(one_of(hold.c.call_id, "the_ids", size))


class SqlHolds(Transaction):
    """The primitives of holds on one cursor."""

    _rows: Callable[..., list[Any]]
    _run: Callable[..., Any]
    _changed: Callable[..., bool]

    def insert_hold(self, hold: Hold) -> None:
        self._run(_INSERT_HOLD, hold._asdict())
        for key, amount in hold.held_on():
            item = {"call_id": hold.call_id, "amount": amount, "shared": key.tenant_id == EVERYONE}
            self._run(_INSERT_ITEM, {**key._asdict(), **item})

    def hold(self, call_id: str) -> Hold | None:
        found = _holds(self._rows(_HOLD, {"the_call": call_id}))
        return found[0] if found else None

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        return self._changed(_CLOSE_HOLD, {"the_call": call_id, "the_state": state, "the_old_state": was})

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        return self._changed(_RENEW_HOLD, {"the_call": call_id, "the_expiry": expires_at})

    def rename_hold(self, call_id: str, new_id: str, expires_at: float) -> bool:
        row = {"the_call": call_id, "the_new_call": new_id, "the_expiry": expires_at}
        if not self._changed(_RENAME_HOLD, row):
            return False
        self._run(_RENAME_ITEMS, row)
        return True

    def update_hold(self, hold: Hold) -> bool:
        row = {"the_call": hold.call_id, "the_amount": hold.amount, "the_tokens": hold.tokens}
        row["the_charge"] = hold.charge
        if not self._changed(_RAISE_HOLD, row):
            return False
        for key, amount in hold.held_on():
            item = {"the_limit": key.limit_id, "the_start": key.window_start, "the_amount": amount}
            self._run(_RAISE_ITEM, {"the_call": hold.call_id, **item})
        return True

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        statement = _open_holds(tenant_id is not None, expired_at is not None)
        return _holds(self._rows(statement, {"the_tenant": tenant_id, "the_time": expired_at}))

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        held: set[str] = set()
        for some in batched(call_ids):
            found = self._rows(_held_calls(size_for(some)), listed("the_ids", some))
            held.update(call_id for (call_id,) in found)
        return held

    def balance(self, key: CounterKey) -> tuple[Counter | None, int]:
        [(held,)] = self._rows(_HELD_ON, key_row(key))
        return self.counter(key), int(held)


def _holds(rows: Iterable[Any]) -> list[Hold]:
    """Gather the rows of holds joined with their items."""
    holds: dict[str, Hold] = {}
    for *columns, shared, limit_id, subject, window_start, amount in rows:
        hold = holds.setdefault(columns[0], Hold(*columns))
        if limit_id is not None:
            key = CounterKey(EVERYONE if shared else hold.tenant_id, limit_id, subject, window_start)
            amounts = (*(hold.amounts or ()), amount)
            holds[hold.call_id] = hold._replace(items=(*hold.items, key), amounts=amounts)
    return list(holds.values())
