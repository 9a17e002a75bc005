"""Creating, changing and removing limits: saved only if every field is right and the row is as it was shown."""

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
from .context import Visit
from .pages import unknown_tenant
from .web import Response, redirect

T = TypeVar("T")
MOST_TEXT = 300
FIELDS = ("tenant", "frequency", "amount", "mode", "effective_date", "id", "version", "new_tenant")
WHOLE = "form"
"""The name under which an error stands that belongs to no single field."""


@dataclass
class LimitForm:
    """A limit as it is typed: the texts of the fields, what is wrong with them, and the row that is changed."""

    fields: dict[str, str]
    rows: Sequence[Limit] = ()
    before: Limit | None = None
    errors: dict[str, str] = field(default_factory=dict)
    offer_new_tenant: bool = False

    @property
    def version(self) -> str:
        """What the form was made from; another version means that somebody else has changed the limit."""
        return version_of(self.rows)


def version_of(rows: Sequence[Limit]) -> str:
    """Name the state of some rows."""
    return sha256(repr(sorted(map(astuple, rows), key=repr)).encode()).hexdigest()[:24]


def limit(visit: Visit) -> Response:
    """Show the form of a new limit, or of one to change."""
    tenant_id, number = visit.params.get("tenant", ""), visit.params.get("id", "")
    fields = dict.fromkeys(FIELDS, "") | {"tenant": tenant_id, "frequency": PER_MONTH, "mode": ENFORCE}
    form = LimitForm(fields)
    if number:
        _look(visit, form, number)
        if form.before is None:
            return _gone(visit)
        waits = form.before.effective_from > visit.now
        fields |= {
            "id": number,
            "frequency": form.before.frequency,
            "amount": f"{editable_usd(form.before.amount):f}",
            "mode": form.before.mode,
            "effective_date": _typed(form.before.effective_from) if waits else "",
        }
    return visit.page("limit.html", form=form)


def save_limit(visit: Visit) -> Response:
    """Save a limit, or show the form again with what is wrong and all that was typed."""
    posted = visit.request.form
    form = LimitForm({name: posted.get(name, "").strip()[:MOST_TEXT] for name in FIELDS})
    form.fields["tenant"] = posted.get("tenant", "")[:MOST_TEXT]  # spaces may be part of an id
    new = _checked(visit, form)
    if new is None or form.errors:
        return visit.page("limit.html", 409 if WHOLE in form.errors else 400, form=form)
    try:
        visit.store.set_limit(new, visit.now, by=visit.actor, expected=form.rows)
    except LimitChanged:
        form.rows = _rows(visit, new.tenant_id, new.frequency)
        form.errors[WHOLE] = _changed(form.rows, visit.now)
        return visit.page("limit.html", 409, form=form)
    return redirect(visit.url("tenant", id=new.tenant_id, said="saved"))


def confirm_removal(visit: Visit) -> Response:
    """Ask before a limit is removed."""
    found = _by_number(visit.store.limits(visit.params.get("tenant", "")), visit.params.get("id", ""))
    if found is None:
        return _gone(visit)
    return visit.page("remove.html", limit=found, state=version_of([found]))


def remove_limit(visit: Visit) -> Response:
    """Remove a limit that is still as it was shown."""
    posted = visit.request.form
    found = _by_number(visit.store.limits(posted.get("tenant", "")), posted.get("id", ""))
    if found is None:
        return _gone(visit)
    try:
        if version_of([found]) != posted.get("version"):
            raise LimitChanged
        visit.store.cancel_limit(found, visit.now, by=visit.actor)
    except LimitChanged:
        hint = "Somebody else has changed this limit since the page was shown."
        return visit.message(409, "Nothing was removed", hint)
    return redirect(visit.url("tenant", id=found.tenant_id, said="removed"))


def _checked(visit: Visit, form: LimitForm) -> Limit | None:
    """Check every field; None when there is no limit to save."""
    fields, errors = form.fields, form.errors
    tenant_id = _attempt(errors, "tenant", lambda: check_tenant(fields["tenant"]))
    frequency = _attempt(errors, "frequency", lambda: parse_choice(fields["frequency"], FREQUENCIES, "Window"))
    amount = _attempt(errors, "amount", lambda: _amount(fields["amount"]))
    mode = _attempt(errors, "mode", lambda: parse_choice(fields["mode"], MODES, "Mode"))
    begins = _attempt(errors, "effective_date", lambda: _begins(fields["effective_date"], visit.now))
    if tenant_id is None or frequency is None:
        return None
    if fields["id"]:
        _look(visit, form, fields["id"])
        if form.before is None:
            errors[WHOLE] = "This limit was removed since the form was shown. Save again to set it anew."
            fields["id"] = ""
        elif form.version != fields["version"]:
            errors[WHOLE] = _changed(form.rows, visit.now)
        elif form.before.effective_from > visit.now and not fields["effective_date"]:
            errors["effective_date"] = "This limit has yet to begin: give its date. To change what applies, open that."
    else:
        form.rows = _rows(visit, tenant_id, frequency)
        if not all(row.ended(visit.now) for row in form.rows):
            every = FREQUENCY_LABELS[frequency]
            errors["tenant"] = f"This tenant already has a limit {every}. Change that one."
        elif not fields["new_tenant"] and not visit.store.tenants(TenantQuery(tenant_id=tenant_id), visit.now).rows:
            form.offer_new_tenant = True
            errors["tenant"] = f"Nothing is known of tenant “{tenant_id}” so far. Make sure that this is its id."
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
        raise ConfigurationError("Give an amount in US dollars, such as 25 or 9.99; 0 refuses every call.")
    return parse_typed_amount(text, "Amount")


def _begins(text: str, now: float) -> float:
    if not text:
        return now
    try:
        begins = parse_effective_date(text, now)
    except ConfigurationError:
        raise ConfigurationError(f"“{text}” is not a date and time such as 2027-01-31T09:00.") from None
    if begins <= now:
        raise ConfigurationError("This is in the past. Give a time to come, or leave it empty to begin now.")
    return begins


def _look(visit: Visit, form: LimitForm, number: str) -> None:
    """Find the row that is changed, and all of its identity."""
    found = visit.store.limits(form.fields["tenant"])
    form.before = _by_number(found, number)
    if form.before is not None:
        form.rows = [row for row in found if row.identity == form.before.identity]


def _by_number(rows: Sequence[Limit], number: str) -> Limit | None:
    return next((row for row in rows if str(row.id) == number), None)


def _rows(visit: Visit, tenant_id: str, frequency: str) -> list[Limit]:
    identity = (tenant_id, frequency, "")
    return [row for row in visit.store.limits(tenant_id) if row.identity == identity]


def _changed(rows: Sequence[Limit], now: float) -> str:
    shown = ", ".join(f"{exact_usd(row.amount)} ({row.mode})" for row in rows if row.in_force(now)) or "gone"
    return f"Somebody else has changed this limit meanwhile: it is {shown} now. Save again to replace it."


def _gone(visit: Visit) -> Response:
    if not visit.store.limits(visit.params.get("tenant", visit.request.form.get("tenant", ""))):
        return unknown_tenant(visit)
    return visit.message(404, "This limit is not there any more", "Somebody may have removed or replaced it.")


def _typed(seconds: float) -> str:
    return f"{moment(seconds):%Y-%m-%dT%H:%M}"
