"""What a service may have done at its backend: the managing methods of a `Meter`, by name, with their keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from ..config import MeterConfig
from ..events import LLMEvent
from ..limits import EVERYONE, Limit, LimitStatus
from ..limits.filters import Filter
from ..limits.rows import limit_from, limit_row, status_row
from ..management import LIMIT_KEYWORDS, ManagesLimits, ManagesPlans, ManagesTenants
from ..management.limits import LimitPreview
from ..management.parsing import limits_of_plan, parse_markup, parse_payer, parse_plan
from ..management.tenants import ReportRow, check_named
from ..money import as_text
from ..runtime.faults import ConfigurationError, shown
from ..stores.contract import Store
from ..stores.plans import Plan
from .limits import plan_rows


class Management(ManagesLimits, ManagesPlans, ManagesTenants):
    """The managing methods of a Meter over any store, with those of a store that a Meter does not have."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.config = cast(MeterConfig, SimpleNamespace(clock=clock))  # the methods need nothing else of it
        self._store = store

    @property
    def store(self) -> Store:
        """The store."""
        return self._store

    def save_plan(self, plan: str, limits: Any, *, markup: Any = None, expected: Any = None, by: str = "") -> Plan:
        """Do what `set_plan` does; with `expected`, raise `LimitChanged` if the plan is another by now."""
        now, name = self.config.clock(), parse_plan(plan)
        read = None if expected is None else _plan_from(name, expected)
        given = limits_of_plan(name, limits, now)
        return self.store.set_plan(name, given, now, parse_markup(markup), by, expected=read)

    def remove_plan(self, plan: str, *, by: str = "") -> bool:
        """Remove a plan that no tenant is on; False where there is none."""
        return self.store.remove_plan(parse_plan(plan), self.config.clock(), by)

    def erase(self, tenant_id: str, *, anonymous_id: str | None = None, by: str = "") -> int:
        """Do what `erase_tenant` does; the caller makes the id up under which the amounts stay."""
        new_id = None if anonymous_id is None else check_named(anonymous_id, "anonymous_id")
        if new_id is not None and self.store.tenant(new_id) is not None:
            raise ConfigurationError(f"anonymous_id: invalid value {shown(new_id)}; expected an id that no tenant has")
        return self.store.erase_tenant(parse_payer(tenant_id), self.config.clock(), anonymous_id=new_id, by=by)


class Operation(NamedTuple):
    """A method and its keywords. `who` names what it is for; `of_all` tells that it concerns more than one tenant."""

    method: Callable[..., Any]
    keywords: tuple[str, ...] = ()
    who: str = "tenant_id"
    of_all: bool = False


OPERATIONS: dict[str, Operation] = {
    "set_limit": Operation(Management.set_limit, ("amount", "limit_usd", *LIMIT_KEYWORDS)),
    "remove_limit": Operation(Management.remove_limit, ("frequency", *Filter._fields)),
    "preview": Operation(Management.preview, ("amount", "since", *LIMIT_KEYWORDS)),
    "set_plan": Operation(Management.save_plan, ("limits", "markup", "expected"), "plan", of_all=True),
    "remove_plan": Operation(Management.remove_plan, who="plan", of_all=True),
    "assign_plan": Operation(Management.assign_plan, ("plan",)),
    "set_markup": Operation(Management.set_markup, ("markup",)),
    "suspend": Operation(Management.suspend, ("reason",)),
    "resume": Operation(Management.resume),
    "top_up": Operation(Management.top_up, ("usd", "frequency", "expires_at", *Filter._fields)),
    "adjust": Operation(Management.adjust, ("usd", "reason", "user", "feature")),
    "name_tenant": Operation(Management.name_tenant, ("name",)),
    "rename_tenant": Operation(Management.rename_tenant, ("new_id",), of_all=True),
    "merge_tenants": Operation(Management.merge_tenants, ("target",), "source", of_all=True),
    "erase_tenant": Operation(Management.erase, ("anonymous_id",), of_all=True),
}
"""What `POST manage` does, by the value of `do`. To rename, merge or erase takes a key for all tenants."""


class Command(NamedTuple):
    """What is to be done: `owner` is the tenant it is for, or `*` for what concerns all tenants."""

    owner: str
    run: Callable[..., Any]


def parse_command(document: Mapping[str, Any]) -> Command:
    """Read what a service sends. Raises `ConfigurationError` naming the field that is unknown, missing or invalid."""
    rest = dict(document)
    do = rest.pop("do", None)
    operation = OPERATIONS.get(do) if isinstance(do, str) else None
    if operation is None:
        raise ConfigurationError(f"do: invalid value {shown(do)}; expected {', '.join(OPERATIONS)}")
    who = operation.who
    if not isinstance(rest.get(who), str):
        raise ConfigurationError(f"{who}: missing or not a text; expected whom {do} is for")
    owner = EVERYONE if operation.of_all else parse_payer(rest[who])
    refuse_unknown(rest, (who, *operation.keywords, "by"), f"of {do}")
    who_does = rest.pop("by", "")
    defaults = {
        name: parameter.default is not parameter.empty
        for name, parameter in inspect.signature(operation.method).parameters.items()
        if name in (who, *operation.keywords)
    }
    given = {name: value for name, value in rest.items() if value is not None or not defaults.get(name, True)}
    for name, has_default in defaults.items():
        if not has_default and name not in given:
            raise ConfigurationError(f"{name}: missing; {do} needs it")
    return Command(owner, partial(_run, operation.method, given, who_does if isinstance(who_does, str) else ""))


def _run(method: Callable[..., Any], given: Mapping[str, Any], who: str, management: Management, key: str) -> Any:
    by = {"by": f"key {key}{f': {who}' if who else ''}"} if "by" in inspect.signature(method).parameters else {}
    return as_json(method(management, **given, **by))


def refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a field that this release does not know: to leave it out would do something else than was meant."""
    for name in given:
        if name not in known:
            raise ConfigurationError(f"{shown(name)}: unknown field {where}; expected {', '.join(known)}")


def as_json(result: Any) -> Any:
    """Write the result of a method."""
    if isinstance(result, Limit):
        return limit_row(result)
    if isinstance(result, LimitStatus):
        return status_row(result)
    if isinstance(result, Plan):
        return plan_rows([result])[0]
    if isinstance(result, LLMEvent):
        return result.to_dict()
    if isinstance(result, ReportRow):
        row = vars(result)
        return {**row, "cost_usd": as_text(result.cost_usd), "charge_usd": as_text(result.charge_usd)}
    if isinstance(result, LimitPreview):
        return {**vars(result), "saved_usd": as_text(result.saved_usd)}
    return result


def _plan_from(name: str, row: Any) -> Plan:
    try:
        return Plan(name, str(row.get("markup", "")), tuple(limit_from(limit) for limit in row["limits"]))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        raise ConfigurationError("expected: invalid value; expected the plan as `GET plans` has it") from None
