"""Forms that create, change and remove limits. A form is saved only if it is valid and its row is unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from hashlib import sha256
from typing import TypeVar

from ..errors import LimitChanged
from ..limits import ENFORCE, MODES, Limit
from ..money import parse_typed_amount
from ..runtime.faults import ConfigurationError
from ..scope import check_tenant
from ..stores.reports import TenantQuery
from ..windows import FREQUENCIES, PER_MONTH, parse_choice, parse_effective_date
from ..wording import FREQUENCY_LABELS, editable_usd, exact_usd, moment
from .context import Context
from .pages import unknown_tenant
from .web import Response, redirect

T = TypeVar("T")
MOST_TEXT = 300
FIELDS = ("tenant", "frequency", "amount", "mode", "effective_date", "id", "version", "new_tenant")
WHOLE = "form"
"""The key of an error that belongs to no single field."""


@dataclass
class LimitForm:
    """A limit as typed: the texts of the fields, their errors, and the row that is edited."""

    fields: dict[str, str]
    rows: Sequence[Limit] = ()
    before: Limit | None = None
    errors: dict[str, str] = field(default_factory=dict)
    offer_new_tenant: bool = False

    @property
    def version(self) -> str:
        """The version of the rows that the form was made from. Another version means a concurrent change."""
        return version_of(self.rows)


def version_of(rows: Sequence[Limit]) -> str:
    """Return a version of some rows."""
    return sha256(repr(sorted(map(astuple, rows), key=repr)).encode()).hexdigest()[:24]


def limit(ctx: Context) -> Response:
    """Show the form of a new limit, or of a limit to edit."""
    tenant_id, number = ctx.params.get("tenant", ""), ctx.params.get("id", "")
    fields = dict.fromkeys(FIELDS, "") | {"tenant": tenant_id, "frequency": PER_MONTH, "mode": ENFORCE}
    form = LimitForm(fields)
    if number:
        _look(ctx, form, number)
        if form.before is None:
            return _gone(ctx)
        waits = form.before.effective_from > ctx.now
        fields |= {
            "id": number,
            "frequency": form.before.frequency,
            "amount": f"{editable_usd(form.before.amount):f}",
            "mode": form.before.mode,
            "effective_date": _typed(form.before.effective_from) if waits else "",
        }
    return ctx.page("limit.html", form=form)


def save_limit(ctx: Context) -> Response:
    """Save a limit, or show the form again with its errors and everything that was typed."""
    posted = ctx.request.form
    form = LimitForm({name: posted.get(name, "").strip()[:MOST_TEXT] for name in FIELDS})
    form.fields["tenant"] = posted.get("tenant", "")[:MOST_TEXT]  # spaces may be part of an id
    new = _checked(ctx, form)
    if new is None or form.errors:
        return ctx.page("limit.html", 409 if WHOLE in form.errors else 400, form=form)
    try:
        ctx.store.set_limit(new, ctx.now, by=ctx.actor, expected=form.rows)
    except LimitChanged:
        form.rows = _rows(ctx, new.tenant_id, new.frequency)
        form.errors[WHOLE] = _changed(form.rows, ctx.now)
        return ctx.page("limit.html", 409, form=form)
    return redirect(ctx.url("tenant", id=new.tenant_id, said="saved"))


def confirm_removal(ctx: Context) -> Response:
    """Ask for confirmation before a limit is removed."""
    found = _by_number(ctx.store.limits(ctx.params.get("tenant", "")), ctx.params.get("id", ""))
    if found is None:
        return _gone(ctx)
    return ctx.page("remove.html", limit=found, state=version_of([found]))


def remove_limit(ctx: Context) -> Response:
    """Remove a limit if it is unchanged since it was shown."""
    posted = ctx.request.form
    found = _by_number(ctx.store.limits(posted.get("tenant", "")), posted.get("id", ""))
    if found is None:
        return _gone(ctx)
    try:
        if version_of([found]) != posted.get("version"):
            raise LimitChanged
        ctx.store.cancel_limit(found, ctx.now, by=ctx.actor)
    except LimitChanged:
        hint = "Another person has changed this limit since the page was shown."
        return ctx.message(409, "Nothing was removed", hint)
    return redirect(ctx.url("tenant", id=found.tenant_id, said="removed"))


def _checked(ctx: Context, form: LimitForm) -> Limit | None:
    """Validate every field; return None if there is no limit to save."""
    fields, errors = form.fields, form.errors
    tenant_id = _attempt(errors, "tenant", lambda: check_tenant(fields["tenant"]))
    frequency = _attempt(errors, "frequency", lambda: parse_choice(fields["frequency"], FREQUENCIES, "Window"))
    amount = _attempt(errors, "amount", lambda: _amount(fields["amount"]))
    mode = _attempt(errors, "mode", lambda: parse_choice(fields["mode"], MODES, "Mode"))
    begins = _attempt(errors, "effective_date", lambda: _begins(fields["effective_date"], ctx.now))
    if tenant_id is None or frequency is None:
        return None
    if fields["id"]:
        _look(ctx, form, fields["id"])
        if form.before is None:
            errors[WHOLE] = "This limit was removed since the form was shown. Save again to create it."
            fields["id"] = ""
        elif form.version != fields["version"]:
            errors[WHOLE] = _changed(form.rows, ctx.now)
        elif form.before.effective_from > ctx.now and not fields["effective_date"]:
            errors["effective_date"] = (
                "This limit begins later, so it needs a date. The limit in force has a page of its own."
            )
    else:
        form.rows = _rows(ctx, tenant_id, frequency)
        if not all(row.ended(ctx.now) for row in form.rows):
            every = FREQUENCY_LABELS[frequency]
            errors["tenant"] = f"This tenant already has a limit {every}. Change that one."
        elif not fields["new_tenant"] and not ctx.store.tenants(TenantQuery(tenant_id=tenant_id), ctx.now).rows:
            form.offer_new_tenant = True
            errors["tenant"] = f"Nothing is known of tenant “{tenant_id}” yet. Check that the id is right."
    if form.before is not None:
        frequency = form.before.frequency
    if amount is None or mode is None or begins is None:
        return None
    new = Limit(tenant_id, amount, frequency, mode, effective_from=begins)
    return new if form.before is None else replace(new, filter=form.before.filter, unit=form.before.unit)


def _attempt(errors: dict[str, str], name: str, parse: Callable[[], T]) -> T | None:
    try:
        return parse()
    except (ValueError, OverflowError) as error:
        errors[name] = str(error)
        return None


def _amount(text: str) -> int:
    if not text:
        raise ConfigurationError("Expected an amount in US dollars, for example 25 or 9.99. 0 refuses every call.")
    return parse_typed_amount(text, "Amount")


def _begins(text: str, now: float) -> float:
    if not text:
        return now
    try:
        begins = parse_effective_date(text, now)
    except ConfigurationError:
        raise ConfigurationError(f"“{text}” is not a date and time such as 2027-01-31T09:00.") from None
    if begins <= now:
        raise ConfigurationError("This date is in the past. Expected a later date, or nothing to begin now.")
    return begins


def _look(ctx: Context, form: LimitForm, number: str) -> None:
    """Return the row that is edited, and all rows of its identity."""
    found = ctx.store.limits(form.fields["tenant"])
    form.before = _by_number(found, number)
    if form.before is not None:
        form.rows = [row for row in found if row.identity == form.before.identity]


def _by_number(rows: Sequence[Limit], number: str) -> Limit | None:
    return next((row for row in rows if str(row.id) == number), None)


def _rows(ctx: Context, tenant_id: str, frequency: str) -> list[Limit]:
    wanted = Limit(tenant_id, 0, frequency).identity
    return [row for row in ctx.store.limits(tenant_id) if row.identity == wanted]


def _changed(rows: Sequence[Limit], now: float) -> str:
    shown = ", ".join(f"{exact_usd(row.amount)} ({row.mode})" for row in rows if row.in_force(now)) or "gone"
    return f"Another person has changed this limit: it is {shown} now. Save again to replace it."


def _gone(ctx: Context) -> Response:
    if not ctx.store.limits(ctx.params.get("tenant", ctx.request.form.get("tenant", ""))):
        return unknown_tenant(ctx)
    return ctx.message(404, "This limit does not exist any more", "It was removed or replaced.")


def _typed(seconds: float) -> str:
    return f"{moment(seconds):%Y-%m-%dT%H:%M}"
