"""Forms that create, change and remove limits. A form is saved only if it is valid and its row is unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import LimitChanged
from ..limits import Limit
from ..management import edits
from ..runtime.language import translate
from .context import Context
from .fields import COMMON, LIMIT_FIELDS, MORE, MOST_TEXT, blank, filled, is_used, texts_of
from .pages import unknown_tenant
from .previews import preview_of
from .web import Response, redirect

KEYWORDS = {"tenant": "tenant_id"} | {name: name for name in LIMIT_FIELDS}
"""The keyword of `set_limit` that each field of the form is for."""
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

    @property
    def is_stale(self) -> bool:
        """Whether the form was made of rows that are others by now."""
        return self.before is not None and self.version != self.fields.get("version")


def limit(ctx: Context) -> Response:
    """Show the form of a new limit, or of a limit to edit."""
    form = _form(ctx, ctx.params.get("tenant", ""), ctx.params.get("id", ""))
    if form.before is not None:
        form.version = edits.version_of(edits.rows_of(ctx.store, form.before))
    elif form.fields["id"]:
        return _gone(ctx)
    return _page(ctx, form)


def save_limit(ctx: Context) -> Response:
    """Save a limit, show what it would have done, or show the form again with its errors and all that was typed."""
    posted = {name: value[:MOST_TEXT] for name, value in ctx.request.form.items()}
    form = _form(ctx, posted.pop("tenant", ""), posted.get("id", ""))  # spaces may be part of a tenant's id
    form.fields |= {name: value.strip() for name, value in posted.items()}
    draft = _checked(ctx, form)
    if not form.errors and draft.limit is not None and "preview" in posted:
        return _page(ctx, form, preview=preview_of(ctx.store, draft.limit, ctx.now))
    if not form.errors:
        try:
            saved = edits.save(ctx.store, draft, ctx.now, ctx.actor)
        except LimitChanged:
            draft = _checked(ctx, form, changed=True)
        else:
            return redirect(ctx.url("tenant", id=saved.tenant_id, said="saved"))
    return _page(ctx, form, 409 if WHOLE in form.errors else 400)


def _form(ctx: Context, tenant_id: str, number: str) -> LimitForm:
    """Make the form of a new limit, or with a number of the limit that has it, as it is now."""
    before = edits.find_limit(ctx.store, tenant_id, number) if number else None
    texts = blank() if before is None else texts_of(before, ctx.now)
    return LimitForm({"tenant": tenant_id, "id": number, "new_tenant": "", **texts}, before)


def _page(ctx: Context, form: LimitForm, status: int = 200, preview: str = "") -> Response:
    fixed = edits.IDENTITY if form.before is not None else ()
    common, more = (
        filled({name: each for name, each in part.items() if name not in fixed}, form.fields) for part in (COMMON, MORE)
    )
    hidden = {name: form.fields[name] for name in LIMIT_FIELDS if name in fixed}
    is_open = is_used(more, form.errors)
    return ctx.page(
        "limit.html", status, form=form, common=common, more=more, is_open=is_open, hidden=hidden, preview=preview
    )


def _checked(ctx: Context, form: LimitForm, changed: bool = False) -> edits.Draft:
    """Check every field, and put what is wrong into the form; `changed` tells that a save has failed meanwhile."""
    texts = form.fields
    if changed and texts["id"]:
        form.before = edits.find_limit(ctx.store, texts["tenant"], texts["id"])
    draft = edits.draft(ctx.store, {kw: texts[name] for name, kw in KEYWORDS.items()}, ctx.now, form.before)
    names = {keyword: name for name, keyword in KEYWORDS.items()} | {edits.WHOLE: WHOLE}
    form.errors = {names.get(keyword, WHOLE): message for keyword, message in draft.errors.items()}
    form.version = draft.version
    if not texts["tenant"] and form.before is None:
        form.errors["tenant"] = translate("Expected the id of a tenant: a text of 1 to 255 characters.")
    if texts["id"] and form.before is None:
        form.errors[WHOLE] = translate("This limit was removed since the form was shown. Save again to create it.")
        texts["id"] = ""
    elif changed or form.is_stale:
        form.errors[WHOLE] = edits.changed(draft.rows, ctx.now)
    elif draft.new_tenant and not texts["new_tenant"]:
        form.offer_new_tenant = True
        unknown = translate("Nothing is known of tenant “{tenant}” yet. Check that the id is right.")
        form.errors["tenant"] = unknown.format(tenant=texts["tenant"])
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
