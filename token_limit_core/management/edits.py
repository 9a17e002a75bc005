"""Editing a limit: the one use case under Django's admin, the console, the command line and the ingest API.

`draft` checks what was typed, all fields at once, against the limits as they are now. `save` writes the draft only if
nobody has changed these limits in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from ..errors import LimitChanged
from ..limits import CHARGE, ENFORCE, EVERYONE, USD, Limit
from ..limits.filters import Filter, parse_filter
from ..money import to_usd
from ..runtime.faults import ConfigurationError
from ..runtime.language import translate
from ..stores.contract import Store
from ..stores.queries import TenantQuery
from ..windows import PER_MONTH, UTC_ZONE
from ..wording import FREQUENCY_LABELS, editable_usd, exact, moment
from .parsing import limit_of

WHOLE = "limit"
"""The key of an error that belongs to no single field."""

IDENTITY = ("tenant_id", "frequency", *Filter._fields)
"""The keywords of `set_limit` that tell limits apart; a change cannot change them."""

_VALID = {"tenant_id": "-", "amount": 0, "frequency": PER_MONTH, "unit": USD, "mode": ENFORCE}
"""What stands in for an invalid value while the other fields are checked; for any other field None does."""


@dataclass(frozen=True)
class Draft:
    """A limit as typed. With `errors`, by keyword of `set_limit` or `WHOLE`, it cannot be saved.

    `before` is the row that is changed, None for a new limit. `rows` are all rows of the limit's identity, ended and
    future ones included. `new_tenant` tells that nothing is known of the tenant yet.
    """

    limit: Limit | None
    errors: dict[str, str]
    rows: tuple[Limit, ...] = ()
    before: Limit | None = None
    new_tenant: bool = False

    @property
    def version(self) -> str:
        """The version of the rows: a form sends it along, and another version means a concurrent change."""
        return version_of(self.rows)


def draft(store: Store, given: Mapping[str, Any], now: float, before: Limit | None = None) -> Draft:
    """Check a new limit, or with `before` a change of that row; nothing is saved.

    `given` has keywords of `set_limit`, as texts or values; an empty text stands for None. A change keeps what is not
    given.
    """
    if before is not None:
        known = keywords_of(before, now)
        given = {**known, **given, **{name: known[name] for name in IDENTITY}}
    limit, errors = parse_limit(given, now)
    if limit is None or not errors.keys().isdisjoint(IDENTITY):
        return Draft(limit, errors, before=before)
    if "effective_date" not in errors:
        errors |= _date_problem(limit, given.get("effective_date"), now, before)
    rows = rows_of(store, limit)
    if before is not None:
        return Draft(limit, errors, rows, before)
    if not all(row.ended(now) for row in rows):
        every = translate(FREQUENCY_LABELS[limit.frequency])
        errors["tenant_id"] = translate("This tenant already has a limit {every}. Change that one.").format(every=every)
    return Draft(limit, errors, rows, None, not knows_tenant(store, limit.tenant_id, now))


def save(store: Store, drafted: Draft, now: float, by: str) -> Limit:
    """Save a draft without errors; return the limit with its id.

    Raises `LimitChanged`, and saves nothing, if the rows of the limit have changed since the draft was made.
    """
    if drafted.limit is None or drafted.errors:
        raise ConfigurationError("; ".join(f"{name}: {message}" for name, message in drafted.errors.items()))
    return store.set_limit(drafted.limit, now, by, expected=drafted.rows)


def cancel(store: Store, limit: Limit, version: str, now: float, by: str) -> None:
    """Remove one row with its counters; the limit that it would have replaced stays in force.

    Raises `LimitChanged`, and removes nothing, if the row is not of this version any more.
    """
    if version_of([limit]) != version:
        raise LimitChanged("the limit was changed since it was shown")
    store.cancel_limit(limit, now, by=by)


def find_limit(store: Store, tenant_id: str, number: int | str) -> Limit | None:
    """Return the row with this id among a tenant's own limits."""
    return next((row for row in store.limits(tenant_id) if str(row.id) == str(number)), None)


def rows_of(store: Store, limit: Limit) -> tuple[Limit, ...]:
    """Return all rows of a limit's identity: in force, future and ended."""
    return tuple(row for row in store.limits(limit.tenant_id) if row.identity == limit.identity)


def version_of(rows: Sequence[Limit]) -> str:
    """Return a version of some rows, whatever their order."""
    return sha256(repr(sorted(map(astuple, rows), key=repr)).encode()).hexdigest()[:24]


def knows_tenant(store: Store, tenant_id: str, now: float) -> bool:
    """Return whether a tenant has an event, a limit or a name; True where only a remote backend could tell."""
    if tenant_id in ("", EVERYONE) or store.backend is not None:
        return True
    return bool(store.tenants(TenantQuery(tenant_id=tenant_id), now).rows)


def changed(rows: Sequence[Limit], now: float) -> str:
    """Say what a limit is by now, to a person whose form is out of date."""
    shown = ", ".join(
        f"{exact(row.amount, row.unit)} ({translate(row.mode)})" for row in rows if row.in_force(now)
    ) or translate("gone")
    text = translate("Another person has changed this limit: it is {shown} now. Save again to replace it.")
    return text.format(shown=shown)


# -- from and to the texts of a form ------------------------------------------------------------


def parse_limit(given: Mapping[str, Any], now: float) -> tuple[Limit | None, dict[str, str]]:
    """Make a limit of keywords of `set_limit`, and collect the error of each invalid one.

    Default values stand in for invalid ones in the limit; it is None if the values do not go together at all.
    """
    keywords = {name: value for name, value in given.items() if value not in ("", None)}
    errors: dict[str, str] = {}
    keywords["tenant_id"] = given.get("tenant_id", "")
    if "amount" not in keywords:
        errors["amount"] = translate("Expected an amount, for example 25 or 9.99. 0 refuses every call.")
        keywords["amount"] = 0
    while True:
        try:
            return _exactly(limit_of(now=now, **keywords), keywords["amount"]), errors
        except ConfigurationError as error:
            names, _, message = str(error).partition(": ")
            found = ["amount" if name == "limit_usd" else name for name in names.split(", ")]
            if not set(found) <= keywords.keys() - errors.keys():
                return None, {**errors, WHOLE: message}
            errors |= dict.fromkeys(found, message)
            keywords |= {name: _VALID.get(name) for name in found}


def _exactly(limit: Limit, typed: object) -> Limit:
    """Reject an amount that was rounded: a person means what is typed."""
    if limit.unit == USD and isinstance(typed, (str, Decimal)) and to_usd(limit.amount) != Decimal(typed):
        raise ConfigurationError("amount: give at most nine digits after the point")
    return limit


def _date_problem(limit: Limit, typed: object, now: float, before: Limit | None) -> dict[str, str]:
    """Return the error of a date in the past, which would apply to spend that is counted already, or of a lost one."""
    if typed not in ("", None) and limit.effective_from <= now:
        return {
            "effective_date": translate(
                "This is in the past. Enter a time in the future, or leave it empty to begin now."
            )
        }
    if typed in ("", None) and before is not None and before.effective_from > now:
        message = translate(
            "This limit has not begun yet: enter its date. To change the limit in force, open that one."
        )
        return {"effective_date": message}
    return {}


def keywords_of(limit: Limit, now: float) -> dict[str, str]:
    """Return a limit as the texts of a form, by keyword of `set_limit`; a limit that has begun has no date."""
    return {
        "tenant_id": limit.tenant_id,
        "amount": f"{editable_usd(limit.amount):f}" if limit.unit == USD else str(limit.amount),
        "frequency": limit.frequency,
        "unit": limit.unit,
        "mode": limit.mode,
        "timezone": "" if limit.timezone == UTC_ZONE else limit.timezone,
        "anchor": limit.anchor,
        "basis": "" if limit.basis == CHARGE else limit.basis,
        "name": limit.name,
        **{name: value or "" for name, value in parse_filter(limit.filter)._asdict().items()},
        "effective_date": f"{moment(limit.effective_from):%Y-%m-%dT%H:%M}" if limit.effective_from > now else "",
    }
