"""Forms that create, change and remove limits. A form is saved only if it is valid and its row is unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import LimitChanged
from ..limits import ENFORCE, Limit
from ..management import edits
from ..windows import PER_MONTH
from .context import Context
from .pages import unknown_tenant
from .web import Response, redirect

MOST_TEXT = 300
KEYWORDS = {"tenant": "tenant_id", "frequency": "frequency", "amount": "amount", "mode": "mode",
            "effective_date": "effective_date"}  # fmt: skip
"""The keyword of `set_limit` that each field of the form is for."""
FIELDS = (*KEYWORDS, "id", "version", "new_tenant")
WHOLE = "form"
"""The key of an error that belongs to no single field."""


@dataclass
class LimitForm:
    """A limit as typed: the texts of the fields, their errors, the row that is edited, and the version of its rows."""

    fields: dict[str, str]
    before: Limit | None = None
    version: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    offer_new_tenant: bool = False


def limit(ctx: Context) -> Response:
    """Show the form of a new limit, or of a limit to edit."""
    tenant_id, number = ctx.params.get("tenant", ""), ctx.params.get("id", "")
    form = LimitForm(dict.fromkeys(FIELDS, "") | {"tenant": tenant_id, "frequency": PER_MONTH, "mode": ENFORCE})
    if number:
        form.before = edits.find_limit(ctx.store, tenant_id, number)
        if form.before is None:
            return _gone(ctx)
        form.version = edits.version_of(edits.rows_of(ctx.store, form.before))
        known = edits.keywords_of(form.before, ctx.now)
        form.fields |= {"id": number, **{name: known[keyword] for name, keyword in KEYWORDS.items()}}
    return ctx.page("limit.html", form=form)


def save_limit(ctx: Context) -> Response:
    """Save a limit, or show the form again with its errors and everything that was typed."""
    posted = ctx.request.form
    form = LimitForm({name: posted.get(name, "").strip()[:MOST_TEXT] for name in FIELDS})
    form.fields["tenant"] = posted.get("tenant", "")[:MOST_TEXT]  # spaces may be part of an id
    draft = _checked(ctx, form)
    if not form.errors:
        try:
            saved = edits.save(ctx.store, draft, ctx.now, ctx.actor)
        except LimitChanged:
            draft = _checked(ctx, form, changed=True)
        else:
            return redirect(ctx.url("tenant", id=saved.tenant_id, said="saved"))
    return ctx.page("limit.html", 409 if WHOLE in form.errors else 400, form=form)


def _checked(ctx: Context, form: LimitForm, changed: bool = False) -> edits.Draft:
    """Check every field, and put what is wrong into the form; `changed` tells that a save has failed meanwhile."""
    fields = form.fields
    if fields["id"]:
        form.before = edits.find_limit(ctx.store, fields["tenant"], fields["id"])
    draft = edits.draft(ctx.store, {kw: fields[name] for name, kw in KEYWORDS.items()}, ctx.now, form.before)
    names = {keyword: name for name, keyword in KEYWORDS.items()} | {edits.WHOLE: WHOLE}
    form.errors = {names.get(keyword, WHOLE): message for keyword, message in draft.errors.items()}
    if not fields["tenant"] and form.before is None:
        form.errors["tenant"] = "Expected the id of a tenant: a text of 1 to 255 characters."
    if fields["id"] and form.before is None:
        form.errors[WHOLE] = "This limit was removed since the form was shown. Save again to create it."
        fields["id"] = ""
    elif changed or (form.before is not None and draft.version != fields["version"]):
        form.errors[WHOLE] = edits.changed(draft.rows, ctx.now)
    elif draft.new_tenant and not fields["new_tenant"]:
        form.offer_new_tenant = True
        form.errors["tenant"] = f"Nothing is known of tenant “{fields['tenant']}” yet. Check that the id is right."
    form.version = draft.version
    return draft


def confirm_removal(ctx: Context) -> Response:
    """Ask for confirmation before a limit is removed."""
    found = edits.find_limit(ctx.store, ctx.params.get("tenant", ""), ctx.params.get("id", ""))
    if found is None:
        return _gone(ctx)
    return ctx.page("remove.html", limit=found, state=edits.version_of([found]))


def remove_limit(ctx: Context) -> Response:
    """Remove a limit if it is unchanged since it was shown."""
    posted = ctx.request.form
    found = edits.find_limit(ctx.store, posted.get("tenant", ""), posted.get("id", ""))
    if found is None:
        return _gone(ctx)
    try:
        edits.cancel(ctx.store, found, posted.get("version", ""), ctx.now, ctx.actor)
    except LimitChanged:
        hint = "Another person has changed this limit since the page was shown."
        return ctx.message(409, "Nothing was removed", hint)
    return redirect(ctx.url("tenant", id=found.tenant_id, said="removed"))


def _gone(ctx: Context) -> Response:
    if not ctx.store.limits(ctx.params.get("tenant", ctx.request.form.get("tenant", ""))):
        return unknown_tenant(ctx)
    return ctx.message(404, "This limit does not exist any more", "It was removed or replaced.")
