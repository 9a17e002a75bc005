"""What a remote store has its backend do: limits, plans, top-ups and the state of tenants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from ..errors import KeptElsewhere
from ..events import LLMEvent
from ..limits import EVERYONE, Limit, LimitStatus
from ..limits.filters import NO_FACTS, Facts, parse_filter
from ..limits.rows import limit_from, limit_row, status_from
from ..money import as_text, to_nano, to_usd
from ..runtime.faults import StoreError
from ..stores.contract import Ledger
from ..stores.entries import Entry, Spend
from ..stores.plans import Plan, Plans, Preview, Progress, Rules
from ..stores.reports import By, ReportRow
from ..stores.tenants import Tenants
from ..windows import PER_DAY, PER_MONTH
from .remote_answers import BackendAnswers
from .transport import Transport, number

T = TypeVar("T")

FIRST_DAY = date(1970, 1, 1).toordinal()
NOT_SENT = ("id", "plan", "effective_from", "effective_until")


class ManagedElsewhere(Ledger, Plans, Tenants):
    """The managing part of a store whose limits and plans live at a backend.

    What the published client sends goes to the published endpoint. Anything more goes to one that an older backend
    does not have, so that no field is lost without a word.
    """

    def __init__(self, transport: Transport, answers: BackendAnswers) -> None:
        self._transport = transport
        self._tenants = answers

    # -- limits ---------------------------------------------------------------------------------

    def set_limit(self, limit: Limit, now: float, by: str = "", expected: Collection[Limit] | None = None) -> Limit:
        keywords = _keywords_of(limit, now)
        plain = Limit(limit.tenant_id, limit.amount, limit.frequency, effective_from=limit.effective_from)
        if limit == plain and limit.frequency in (PER_DAY, PER_MONTH) and limit.tenant_id not in ("", EVERYONE):
            names = ("tenant_id", "frequency", "effective_date")
            body = {name: keywords[name] for name in names if name in keywords}
            self._transport.set_limit({**body, "limit_usd": number(to_usd(limit.amount))})
        else:
            limit = self._read(limit_from, self._transport.manage("set_limit", **keywords, by=by))
        self._changed(limit.tenant_id)
        return limit

    def remove_limit(
        self, tenant_id: str, frequency: str | None, now: float, by: str = "", filter: str | None = None
    ) -> int:
        removed = self._do("remove_limit", tenant_id, by, frequency=frequency, **_parts(filter or ""))
        return removed if isinstance(removed, int) else 0

    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        raise self._no_rows()

    def limits(self, tenant_id: str) -> list[Limit]:
        return [limit for limit in self.rules(tenant_id).limits if limit.tenant_id == tenant_id and not limit.plan]

    def rules(self, tenant_id: str) -> Rules:
        row = self._transport.usage(tenant_id)
        limits = [self._read(limit_from, one) for one in _rows(row, "limits")]
        return Rules(limits, row.get("plan"), row.get("suspended") is True, str(row.get("markup", "")))

    # -- plans ----------------------------------------------------------------------------------

    def plans(self) -> list[Plan]:
        return [self._read(_plan_from, row) for row in _rows(self._transport.plans(), "plans")]

    def set_plan(
        self,
        name: str,
        limits: Sequence[Limit],
        now: float,
        markup: str = "",
        by: str = "",
        expected: Plan | None = None,
    ) -> Plan:
        given = [{name: value for name, value in _keywords_of(limit, now).items() if name != "tenant_id"}
                 for limit in limits]  # fmt: skip
        read = None if expected is None else {"markup": expected.markup, "limits": [*map(limit_row, expected.limits)]}
        row = self._transport.manage("set_plan", plan=name, limits=given, markup=markup or None, expected=read, by=by)
        self._changed(None)
        return self._read(_plan_from, row)

    def remove_plan(self, name: str, now: float, by: str = "") -> bool:
        removed = self._transport.manage("remove_plan", plan=name, by=by)
        self._changed(None)
        return removed is True

    def assign_plan(self, tenant_id: str, plan: str | None, now: float, by: str = "", *, first: bool = False) -> bool:
        return self._do("assign_plan", tenant_id, by, plan=plan) is True

    def set_markup(self, tenant_id: str, markup: str | None, now: float, by: str = "") -> bool:
        return self._do("set_markup", tenant_id, by, markup=markup) is True

    # -- tenants and money ----------------------------------------------------------------------

    def suspend(self, tenant_id: str, now: float, reason: str = "", by: str = "") -> bool:
        return self._do("suspend", tenant_id, by, reason=reason) is True

    def resume(self, tenant_id: str, now: float, by: str = "") -> bool:
        return self._do("resume", tenant_id, by) is True

    def name_tenant(self, tenant_id: str, name: str, now: float, by: str = "") -> bool:
        return self._do("name_tenant", tenant_id, by, name=name) is True

    def rename_tenant(self, tenant_id: str, new_id: str, now: float, by: str = "") -> None:
        self._do("rename_tenant", tenant_id, by, new_id=new_id)
        self._changed(new_id)

    def merge_tenants(self, source: str, target: str, now: float, by: str = "") -> None:
        self._transport.manage("merge_tenants", source=source, target=target, by=by)
        self._changed(source)
        self._changed(target)

    def erase_tenant(self, tenant_id: str, now: float, *, anonymous_id: str | None = None, by: str = "") -> int:
        erased = self._do("erase_tenant", tenant_id, by, anonymous_id=anonymous_id)
        return erased if isinstance(erased, int) else 0

    def report(
        self, by: By, start: float, end: float, tenant_id: str | None = None, size: int | None = None
    ) -> list[ReportRow]:
        whose = {} if tenant_id is None else {"tenant_id": tenant_id}
        told = self._transport.report(by=by, since=_iso(start), until=_iso(end), **whose)
        rows = [self._read(partial(_report_row_from, by), row) for row in _rows(told, "rows")]
        if size is None or by == "day":
            return rows
        return [row for row in rows if row.key != ""][:size]

    def top_up(
        self,
        tenant_id: str,
        frequency: str,
        amount: int,
        now: float,
        *,
        filter: str = "",
        user: str = "",
        expires_at: float | None = None,
        by: str = "",
    ) -> LimitStatus:
        parts = _parts(filter) | ({"user": user} if user else {})
        ends = {} if expires_at is None else {"expires_at": _iso(expires_at)}
        usd = as_text(to_usd(amount))
        return self._read(status_from, self._do("top_up", tenant_id, by, usd=usd, frequency=frequency, **ends, **parts))

    def adjust(
        self, tenant_id: str, amount: int, now: float, reason: str = "", by: str = "", facts: Facts = NO_FACTS
    ) -> Entry:
        fields = {"reason": reason, "user": facts.user, "feature": facts.feature}
        row = self._do("adjust", tenant_id, by, usd=as_text(to_usd(amount)), **fields)
        return Entry(self._read(_event_from, row), amount, kind="adjustment")

    def preview(self, limit: Limit, since: float, now: float, progress: Progress | None = None) -> Preview:
        keywords = {name: value for name, value in _keywords_of(limit, now).items() if name != "effective_date"}
        found = self._read(_preview_from, self._transport.manage("preview", **keywords, since=_iso(since)))
        if progress is not None:
            progress(found.calls, 1.0)
        return found

    # -- the wire -------------------------------------------------------------------------------

    def _do(self, do: str, tenant_id: str, by: str, **fields: Any) -> Any:
        result = self._transport.manage(do, tenant_id=tenant_id, by=by, **fields)
        self._changed(tenant_id)
        return result

    def _changed(self, tenant_id: str | None) -> None:
        """Forget the answers of a tenant, or of all where a plan or a limit on all has changed."""
        self._tenants.forget(None if tenant_id == EVERYONE else tenant_id)

    def _read(self, parse: Callable[[Any], T], row: Any) -> T:
        try:
            return parse(row)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the answer of the backend {self._transport.url} is not understood") from error

    def _no_rows(self) -> KeptElsewhere:
        return KeptElsewhere(self._transport.url)


def _keywords_of(limit: Limit, now: float) -> dict[str, Any]:
    """Return a limit by the keywords of `set_limit`."""
    row = {name: value for name, value in limit_row(limit).items() if name not in NOT_SENT}
    later = {"effective_date": _iso(limit.effective_from)} if limit.effective_from > now else {}
    return {"tenant_id": limit.tenant_id, **row, **later}


def _parts(filter: str) -> dict[str, str]:
    return {name: value for name, value in parse_filter(filter)._asdict().items() if value is not None}


def _rows(answer: Mapping[str, Any], name: str) -> list[Any]:
    rows = answer.get(name)
    if not isinstance(rows, list):
        raise StoreError(f"the backend's answer has no {name}")
    return rows


def _plan_from(row: Mapping[str, Any]) -> Plan:
    limits = tuple(map(limit_from, row["limits"]))
    return Plan(str(row["plan"]), str(row["markup"]), limits, int(row["tenants"]))


def _report_row_from(by: By, row: Mapping[str, Any]) -> ReportRow:
    calls, received, generated = (int(row[name]) for name in ("calls", "input_tokens", "output_tokens"))
    cost, charge = (to_nano(Decimal(row[name])) for name in ("cost_usd", "charge_usd"))
    key = str(row["key"])
    day_or_name: int | str = date.fromisoformat(key).toordinal() - FIRST_DAY if by == "day" else key
    return ReportRow(day_or_name, Spend(calls, received, generated, cost, int(row["unpriced"]), charge))


def _event_from(row: Mapping[str, Any]) -> LLMEvent:
    names = ("event_id", "tenant_id", "provider", "model", "user", "feature", "endpoint", "timestamp", "tags")
    return LLMEvent(**{name: row[name] for name in names if name in row})


def _preview_from(row: Mapping[str, Any]) -> Preview:
    return Preview(int(row["calls"]), int(row["refused"]), to_nano(Decimal(row["saved_usd"])), row["first_at"])


def _iso(seconds: float) -> str:
    """Write a time as an ISO date, and as a date with a time where it is not midnight in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.date().isoformat() if seconds % 86400 == 0 else moment.isoformat()
