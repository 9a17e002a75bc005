"""What the lists of consoles ask a store for: filters, orders and places in a list."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Sort = Literal["id", "name", "spend", "calls", "share"]
SORTS: tuple[Sort, ...] = get_args(Sort)
Standing = Literal["near", "over", "unlimited", "suspended"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)


class TenantQuery(NamedTuple):
    """Filter and order of a list of tenants.

    `search` matches a part of the id or name; `tenant_id` matches one id exactly. `standing` keeps those near a limit
    (from 80 percent on), over one, without one, or suspended; `plan` those on a plan. The order is ascending by
    id or by name, those without one last, and descending by this month's spend or calls or by the share of the limit.
    """

    search: str = ""
    sort: Sort = "id"
    offset: int = 0
    size: int = 50
    tenant_id: str | None = None
    standing: Standing | None = None
    plan: str | None = None


class Cursor(NamedTuple):
    """A position in a list that is ordered by time, newest first."""

    time: float
    id: int


class EventQuery(NamedTuple):
    """Filter of the ledger: `start <= timestamp < end`, all conditions combined, newest first, after a cursor."""

    tenant_id: str | None = None
    provider: str | None = None
    model: str | None = None
    failed: bool = False
    unpriced: bool = False
    estimated: bool = False
    start: float | None = None
    end: float | None = None
    after: Cursor | None = None
    size: int = 50
    call: str | None = None
    """The id of an event, with its expiry and correction, or the provider's id of a request."""

    assumed: bool = False
    unverified: bool = False
    kind: str | None = None
    """The kind of `Entry`; None is all of them."""


class RefusalQuery(NamedTuple):
    """Filter of the refusals: the minutes of `start <= minute < end`, all conditions combined, newest first."""

    tenant_id: str | None = None
    start: float = 0.0
    end: float | None = None
    kind: str | None = None
    limited_by: str | None = None
    user: str | None = None
    offset: int = 0
    size: int = 50
